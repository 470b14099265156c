"""What one person is to learn: their pathways and what caused them, how far they are, their courses and their role."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby

from sqlalchemy import Connection

from integration.config import Config
from integration.delivery.belief import Belief
from integration.model.deals import Stay
from integration.model.enrollments import WRITE_ENROLLMENT
from integration.model.roles import READ_ROLE
from integration.observability.reasons import about, words
from integration.observability.whynot import LATE, WhyNot, moment
from integration.security.seal import KeyRing
from integration.storage import assignments, breakers, connections, deals, enrollments, story
from integration.storage.assignments import Told
from integration.storage.events import Standing as Word
from integration.storage.story import SyncRow
from mappings import overrides
from mappings.overrides import Decision
from mappings.pathways import PathwayRules
from mappings.progress import Assignment
from mappings.rules import RuleSet
from tasks.holdings import Veil
from tasks.names import EnrollmentName
from tasks.pathways import learned


@dataclass(frozen=True, slots=True)
class OnPathway:
    """A pathway that a person has; `stage`, percents and `readiness` are None where the rules do not know it any more.

    `due_because` says whose decision the deadline is, where it is somebody's.
    """

    pathway: str
    title: str | None
    since: datetime
    due_at: datetime | None
    because: str
    due_because: str | None
    stage: str | None
    buckets: Mapping[str, int] | None
    readiness: int | None


@dataclass(frozen=True, slots=True)
class Left:
    """A pathway that a person had once."""

    pathway: str
    since: datetime
    ended_at: datetime | None
    because: str


@dataclass(frozen=True, slots=True)
class InCourse:
    """An enrolment as it is wanted and as it is known; `state` None = what the LMS has is not known."""

    id: int
    connection: str
    course: str
    wanted: str
    state: str | None
    is_ours: bool
    status: str
    reason: str | None
    happened: str | None
    detail: str | None
    due_at: datetime | None
    not_before: datetime | None


@dataclass(frozen=True, slots=True)
class RoleSeen:
    """What was read last of a contact to know its role; a value that is not to be shown is None."""

    connection: str
    contact: str | None
    status: str
    reason: str | None
    happened: str | None
    detail: str | None
    read_at: datetime | None
    values: Mapping[str, str | None]
    next_at: datetime | None


@dataclass(frozen=True, slots=True)
class Learning:
    """Everything about one person's pathways; `overrides` are the ones that count now."""

    pathways: list[OnPathway]
    left: list[Left]
    overrides: list[Decision]
    courses: list[InCourse]
    roles: list[RoleSeen]
    why_not: list[WhyNot]


@dataclass(frozen=True, slots=True)
class Learner:
    """Looks at one person within one transaction; `veil` is what is done to a text before it is shown."""

    db: Connection
    config: Config
    ring: KeyRing
    rules: RuleSet
    veil: Veil
    reveal: bool = False
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def tell(self, person_id: int, standings: Sequence[Word]) -> Learning:
        """Return what a person of these standings is to learn, and what keeps it from being so."""
        told = assignments.told(self.db, person_id)
        decisions = [one._replace(comment=self.veil(one.comment)) for one in overrides.of(self.db, person_id)]
        counting = [one for one in decisions if one.counts_at(self.now)]
        in_rules = learned(self.db, self.rules.pathways, {person_id: standings}, [person_id], self.now)
        shown = {one.pathway.name: one for one in in_rules.get(person_id, ([], set()))[0]}
        by_id = {f"override:{one.id}": one for one in decisions}
        courses = self._courses(person_id)
        because = Causes(self.rules.pathways, deals.of(self.db, [person_id]), by_id, person_id, self.now)
        roles = [self._role(row) for row in story.sync_rows(self.db, person_id) if row.operation == READ_ROLE]
        return Learning(
            pathways=[_on(one, shown.get(one.pathway), because, counting) for one in told if one.status == "live"],
            left=[
                Left(one.pathway, one.assigned_at, one.ended_at, because.of(one))
                for one in told
                if one.status == "ended"
            ],
            overrides=counting,
            courses=courses,
            roles=roles,
            why_not=[*self._roles_held(roles), *self._courses_held(courses)],
        )

    def _courses(self, person_id: int) -> list[InCourse]:
        return [
            InCourse(
                id=one.id,
                connection=one.connection,
                course=one.course_id,
                wanted=one.desired,
                state=one.state,
                is_ours=one.is_ours,
                status=one.status,
                reason=one.reason,
                happened=_happened(one.reason),
                detail=self.veil(one.detail) if one.detail else None,
                due_at=one.due_at,
                not_before=one.not_before,
            )
            for one in enrollments.of(self.db, [person_id]).get(person_id, [])
        ]

    def _role(self, row: SyncRow) -> RoleSeen:
        belief = Belief.opened(self.ring, row.id, row.remote_values)
        values = belief.known if belief else {}
        return RoleSeen(
            connection=row.connection,
            contact=self.veil(row.remote_id) if row.remote_id else None,
            status=row.status,
            reason=row.reason,
            happened=_happened(row.reason),
            detail=self.veil(row.detail) if row.detail else None,
            read_at=row.remote_at,
            values={name: value if self.reveal else None for name, value in sorted(values.items())},
            next_at=row.not_before,
        )

    def _roles_held(self, roles: Sequence[RoleSeen]) -> Iterator[WhyNot]:
        """Yield what keeps roles from being read and decided."""
        for one in roles:
            if one.status == "in_step":
                continue
            if (held := self._held(one.connection, READ_ROLE)) is not None:
                yield held
            else:
                yield _open(f"The role in {one.connection}", one, self.now)

    def _courses_held(self, courses: Sequence[InCourse]) -> Iterator[WhyNot]:
        """Yield what keeps enrolments from being as they are wanted, each cause once."""
        waiting = [one for one in courses if one.status != "in_step"]
        alike = sorted(
            waiting, key=lambda one: (one.connection, one.status, one.reason or "", one.detail or "", one.id)
        )
        for (connection, _, _, _), found in groupby(
            alike, key=lambda one: (one.connection, one.status, one.reason, one.detail)
        ):
            same = list(found)
            if (held := self._held(connection, WRITE_ENROLLMENT)) is not None and same[0].status == "due":
                yield held
            else:
                what = f"{', '.join(one.course for one in same)} in {connection}"
                cause = _open(what, same[0], self.now)
                yield WhyNot(cause.happened, about(cause.next, str(EnrollmentName(same[0].id))))

    def _held(self, name: str, operation: str) -> WhyNot | None:
        """Return what holds a whole connection back, None where nothing does."""
        if name not in self.config.connections:
            return WhyNot(
                f"{name} is not in the connections file, so nothing is done there.",
                "Add it to the connections file again, if it should be.",
            )
        state = next((one for one in connections.overview(self.db) if one.name == name), None)
        breaker = next(
            (b for b in breakers.overview(self.db) if (b.connection, b.operation) == (name, operation) and b.failures),
            None,
        )
        if state and state.status == "paused":
            then = f"Run `coursewire connections resume {name}` when it is time."
            return WhyNot(f"A person has paused {name}; what is due there waits.", then)
        reason = state.reason if state and state.status == "broken" else breaker.reason if breaker else None
        known = words(reason)
        return WhyNot(f"{name} rests ({operation}). {known.happened}", about(known.next, name)) if known else None


def _on(one: Told, shown: Assignment | None, because: "Causes", counting: Sequence[Decision]) -> OnPathway:
    progress = shown.progress if shown else None
    due = max((o for o in counting if o.kind == "deadline" and o.pathway == one.pathway), default=None)
    return OnPathway(
        pathway=one.pathway,
        title=shown.pathway.title if shown else None,
        since=one.assigned_at,
        due_at=one.due_at,
        because=because.of(one),
        due_because=_decided(due) if due else None,
        stage=progress.stage if progress else None,
        buckets=dict(progress.buckets) if progress else None,
        readiness=progress.readiness if progress else None,
    )


@dataclass(frozen=True, slots=True)
class Causes:
    """What causes the assignments of one person: rules, the stays of their deals by CRM, and overrides by cause."""

    rules: PathwayRules
    stays: Mapping[tuple[str, int], Sequence[Stay]]
    decisions: Mapping[str, Decision]
    person_id: int
    now: datetime

    def of(self, one: Told) -> str:
        """Return what caused an assignment, in words; the deal only as long as the rule asks for it."""
        if (decision := self.decisions.get(one.cause)) is not None:
            return _decided(decision)
        kind, _, name = one.cause.partition(":")
        if kind != "rule":
            return f"{kind} {name}"
        contact = f", by the contact in {one.connection}" if one.connection else ""
        rule = next((rule for rule in self.rules.roles if rule.name == name), None)
        by = rule.reached(self.stays.get((one.connection, self.person_id), ()), self.now) if rule else None
        deal = f", because deal {by.deal} reached {by.stage} at {moment(by.since)}" if by else ""
        return f"rule {name} of rule set {one.rule_set}{contact}{deal}"


def _decided(decision: Decision) -> str:
    return f"override {decision.id} by {decision.actor}: {decision.comment}"


def _happened(reason: str | None) -> str | None:
    known = words(reason)
    return known.happened if known else None


def _open(what: str, one: InCourse | RoleSeen, now: datetime) -> WhyNot:
    """Return why something that is not in step is not yet."""
    known, at = words(one.reason), one.not_before if isinstance(one, InCourse) else one.next_at
    detail = f" Detail: {one.detail.rstrip('.')}." if one.detail else ""
    because = (f" {known.happened}" if known else "") + detail
    then = known.next if known else "Nothing to do: a worker takes it next."
    if one.status == "sending":
        return WhyNot(f"{what} is being worked on now.", "Look again in a moment.")
    if one.status == "dead":
        return WhyNot(f"{what}: given up.{because}", then)
    if one.status == "parked":
        again = f" It is looked at again at {moment(at)}." if at else ""
        return WhyNot(f"{what}: parked.{because}{again}", then)
    if at is not None and at > now:
        return WhyNot(f"{what} waits until {moment(at)}.{because}", then)
    if at is not None and now - at > LATE:
        then = "See that `coursewire worker` and `coursewire beat` run, then `coursewire check`."
        return WhyNot(f"{what} is due since {moment(at)}, and no worker has taken it.{because}", then)
    return WhyNot(f"{what} is due.{because}", then)
