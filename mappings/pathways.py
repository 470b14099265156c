"""Which pathways people deserve: a pure function of what CRMs say of them, the rules, the overrides, and the clock."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from itertools import chain
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

from integration.model.deals import Stay
from integration.model.enrollments import CourseRef
from integration.model.patterns import meets
from mappings.deals import DealCondition

Enroll = Literal["required", "all"]
OnLeave = Literal["keep", "conclude", "remove"]
InProgress = Literal["keep", "same"]
Leavers = Literal["keep", "withdraw"]
OverrideKind = Literal["add", "exempt", "deadline"]

SETTLE = 30
"""Seconds that a role must be left alone where no rule says otherwise."""

_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)


class PathwayCourse(NamedTuple):
    """A course of a pathway, the competency bucket it counts in, and whether the pathway asks for it."""

    course: CourseRef
    bucket: str
    required: bool


@dataclass(frozen=True, slots=True)
class Pathway:
    """What somebody in a role is to learn; `enroll` says which of the courses people are put into."""

    name: str
    title: str
    courses: tuple[PathwayCourse, ...]
    enroll: Enroll = "required"


@dataclass(frozen=True, slots=True)
class RoleRule:
    """Who deserves a pathway: contacts of `connection` ('' = any CRM) whose role meets one of `roles` (none = any).

    `where`: further properties of the contact -> patterns, one of which each must meet; the pattern '' is a blank one.
    `deal`: a deal of the contact must have reached one of its stages.
    `onboarding_days`: from the assignment on, None = no deadline. `settle`: seconds. `starts` and `ends` are days,
    both included. `in_progress`: what `on_leave` does to people who have begun. `leavers`: whether the rule goes on to
    mean people who have left the company.
    """

    name: str
    roles: tuple[str, ...]
    pathway: str
    connection: str = ""
    where: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    priority: int = 0
    onboarding_days: int | None = None
    settle: int = SETTLE
    starts: date | None = None
    ends: date | None = None
    on_leave: OnLeave = "keep"
    in_progress: InProgress = "keep"
    leavers: Leavers = "keep"
    deal: DealCondition | None = None

    def is_for(self, connection: str) -> bool:
        """Return whether contacts of this connection are looked at."""
        return self.connection in ("", connection)

    def counts_on(self, day: date) -> bool:
        """Return whether the rule is in effect on a day."""
        return (self.starts is None or self.starts <= day) and (self.ends is None or day <= self.ends)

    def meets_role(self, role: str) -> bool:
        """Return whether a role is meant, in whatever case and with whatever blanks around it."""
        return not self.roles or meets(role, self.roles)

    def may_mean(self, contact: "ContactSeen") -> bool:
        """Return whether a contact is meant, whatever the day, and however long its deals were where they are."""
        return (
            self.is_for(contact.connection)
            and self.meets_role(contact.role)
            and all(meets(contact.properties.get(name, ""), patterns) for name, patterns in self.where.items())
            and (self.deal is None or any(map(self.deal.is_about, contact.deals)))
        )

    def means(self, contact: "ContactSeen", now: datetime) -> bool:
        """Return whether a contact is meant at this moment, whatever the day."""
        return self.may_mean(contact) and (self.deal is None or self.reached(contact.deals, now) is not None)

    def reached(self, deals: Iterable[Stay], now: datetime) -> Stay | None:
        """Return by which deal a contact with these deals is meant; None where no deal is asked for, or none counts."""
        return self.deal.reached(deals, self.settle, now) if self.deal else None


@dataclass(frozen=True, slots=True)
class PathwayRules:
    """The pathways by name, and who deserves them."""

    pathways: Mapping[str, Pathway] = field(default_factory=dict)
    roles: tuple[RoleRule, ...] = ()


class ContactSeen(NamedTuple):
    """What one CRM says of a person: their role, and the properties that rules ask about; '' is blank. Personal.

    `deals`: wherever the deals of the contact were.
    """

    connection: str
    role: str
    properties: Mapping[str, str]
    deals: Sequence[Stay] = ()


class Override(NamedTuple):
    """What somebody decided for one person: `add` or `exempt` from a pathway, or another `deadline` for it.

    It counts until `until`, for ever where that is None. `due_at` of an `add` may be None: no deadline.
    """

    id: int
    kind: OverrideKind
    pathway: str
    due_at: datetime | None
    until: datetime | None


@dataclass(frozen=True, slots=True)
class Deserved:
    """A pathway that a person is to have, and why: `cause` is `rule:NAME` or `override:ID`.

    `connection` is the CRM whose contact caused it, '' for an override. `due_at` is fixed by an override and counts
    instead of `onboarding_days`.
    """

    pathway: str
    cause: str
    connection: str
    priority: int
    onboarding_days: int | None
    due_at: datetime | None
    on_leave: OnLeave
    in_progress: InProgress


def deserved(
    contacts: Sequence[ContactSeen],
    rules: PathwayRules,
    overrides: Sequence[Override],
    now: datetime,
    zone: ZoneInfo,
    *,
    has_left: bool = False,
) -> dict[str, Deserved]:
    """Return what a person with these contacts deserves, by name of the pathway; `has_left`: the company, says HR.

    All rules that match and are in effect on the day that `now` is in `zone` count. Of two for one pathway the greater
    priority says what becomes of it, then the rule's name, then the connection's. Overrides win over rules, the later
    one over the earlier; a deadline changes what is deserved, however it is.
    """
    roles = [rule for rule in rules.roles if not (has_left and rule.leavers == "withdraw")]
    found = {one.pathway: one for one in reversed(_by_rules(contacts, replace(rules, roles=tuple(roles)), now, zone))}
    live = sorted(o for o in overrides if o.pathway in rules.pathways and (o.until is None or now < o.until))
    for override in live:
        if override.kind == "add":
            found[override.pathway] = _added(override, found.get(override.pathway))
        elif override.kind == "exempt":
            found.pop(override.pathway, None)
    for override in live:
        if override.kind == "deadline" and override.pathway in found:
            found[override.pathway] = replace(found[override.pathway], due_at=override.due_at)
    return found


def _by_rules(contacts: Iterable[ContactSeen], rules: PathwayRules, now: datetime, zone: ZoneInfo) -> list[Deserved]:
    """Return everything that rules give, what counts most first."""
    day = now.astimezone(zone).date()
    found = [
        (-rule.priority, rule.name, contact.connection, rule)
        for rule in rules.roles
        if rule.pathway in rules.pathways and rule.counts_on(day)
        for contact in contacts
        if rule.means(contact, now)
    ]
    return [
        Deserved(
            pathway=rule.pathway,
            cause=f"rule:{name}",
            connection=connection,
            priority=rule.priority,
            onboarding_days=rule.onboarding_days,
            due_at=None,
            on_leave=rule.on_leave,
            in_progress=rule.in_progress,
        )
        for _, name, connection, rule in sorted(found, key=lambda one: one[:3])
    ]


def _added(override: Override, known: Deserved | None) -> Deserved:
    """Return what an `add` gives. Where a rule gives the pathway too, its deadline and its rank are not lost."""
    return Deserved(
        pathway=override.pathway,
        cause=f"override:{override.id}",
        connection="",
        priority=known.priority if known else 0,
        onboarding_days=known.onboarding_days if known else None,
        due_at=override.due_at or (known.due_at if known else None),
        on_leave="keep",
        in_progress="keep",
    )


def properties_read(rules: PathwayRules, connection: str) -> frozenset[str]:
    """Return the properties of a contact that must be read beside the role."""
    return frozenset(chain.from_iterable(rule.where for rule in rules.roles if rule.is_for(connection)))


def settle_seconds(rules: PathwayRules, connection: str, role: str | None) -> int:
    """Return how many seconds a role must be left alone: the longest that any rule that it meets asks for, else 0.

    For a role that is not known yet (None) it is the shortest of all: then it is read, and waits on where it must.
    """
    own = [rule for rule in rules.roles if rule.is_for(connection)]
    if role is None:
        return min((rule.settle for rule in own), default=SETTLE)
    return max((rule.settle for rule in own if rule.meets_role(role)), default=0)


def asks_for(rules: PathwayRules, connection: str, stays: Iterable[Stay]) -> bool:
    """Return whether any rule could mean a contact of this connection because of these stays of a deal."""
    conditions = [rule.deal for rule in rules.roles if rule.deal and rule.is_for(connection)]
    return any(condition.is_about(stay) for stay in stays for condition in conditions)


def asks_deals(rules: PathwayRules, connection: str) -> bool:
    """Return whether any rule asks for a deal of this connection's contacts."""
    return any(rule.deal and rule.is_for(connection) for rule in rules.roles)


def next_change(
    rules: PathwayRules,
    overrides: Collection[Override],
    now: datetime,
    zone: ZoneInfo,
    contacts: Iterable[ContactSeen] = (),
) -> datetime | None:
    """Return when the clock alone may next change what `deserved` says, in UTC; None = never."""
    deals = (
        rule.deal.turns(contact.deals, rule.settle)
        for contact in contacts
        for rule in rules.roles
        if rule.deal and rule.is_for(contact.connection)
    )
    ends = (override.until for override in overrides if override.until)
    moments = chain(_turns(rules, zone), ends, chain.from_iterable(deals))
    return min((moment.astimezone(UTC) for moment in moments if moment > now), default=None)


def _turns(rules: PathwayRules, zone: ZoneInfo) -> Iterator[datetime]:
    for rule in rules.roles:
        if rule.starts:
            yield midnight(rule.starts, zone)
        if rule.ends:
            yield midnight(rule.ends + _DAY, zone)


def due_at(since: datetime, days: int, zone: ZoneInfo) -> datetime:
    """Return the last second, in UTC, of the day in `zone` that comes so many days after that of `since`."""
    return midnight(since.astimezone(zone).date() + (days + 1) * _DAY, zone) - _SECOND


def midnight(day: date, zone: ZoneInfo) -> datetime:
    """Return the first moment of a day in a zone, in UTC; where clocks skip midnight that is later by the clock."""
    return datetime.combine(day, time(), zone).astimezone(UTC)
