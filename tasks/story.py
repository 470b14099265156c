"""One person's whole story: who, received, decided, written, why not. Built here because it sees facts and rules."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby

from sqlalchemy import Connection

from integration.config import Config
from integration.errors import ConfigError, Reason
from integration.model.contacts import CONTACT
from integration.model.people import LEARNER
from integration.observability.reasons import WORDS
from integration.observability.whynot import WhyNot
from integration.security import redact
from integration.security.seal import IndexKeys, KeyRing
from integration.sighting import link_key
from integration.storage import events, imports, people, received, story
from integration.storage.imports import OfPerson
from integration.storage.received import Count, Event
from integration.storage.story import PersonRow
from mappings import store
from mappings.rules import RuleSet
from tasks import timeline
from tasks.holdings import Held, Holdings, Veil
from tasks.learning import Learner, Learning
from tasks.timeline import Timeline
from tasks.work import Worked, worked
from tasks.workforce import workforce

WAITING = 20


@dataclass(frozen=True, slots=True)
class Who:
    """The person, as far as the reader may know them; `moved` are ids that a system has merged into others."""

    person: int
    email: str | None
    full_name: str | None
    known_since: datetime
    version: int
    attention: str | None
    erased_at: datetime | None
    links: list[dict[str, str]]
    former: list[dict[str, str | datetime | None]]


@dataclass(frozen=True, slots=True)
class Decided:
    """The latest word on one course or certification."""

    connection: str
    subject_type: str
    subject: str
    name: str | None
    product: str | None
    type: str
    passed: bool | None
    occurred_at: datetime
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Story:
    """Everything about one person; `dead_nearby` events of the systems that know them are dead, whosever they are."""

    who: Who
    received: list[Event]
    counts: list[Count]
    imported: list[OfPerson]
    waiting: list[Event]
    dead_nearby: int
    decided: list[Decided]
    work: list[Worked]
    rule_set: int
    written: list[Held]
    timeline: Timeline
    learning: Learning
    why_not: list[WhyNot]


@dataclass(frozen=True, slots=True)
class Teller:
    """Tells stories within one transaction."""

    db: Connection
    config: Config
    ring: KeyRing
    keys: IndexKeys

    def tell(self, row: PersonRow, *, limit: int, reveal: bool = False) -> Story:
        """Return the story of a person; raises ConfigError where no rules are published yet."""
        veil: Veil = str if reveal else redact.text
        person = people.load(self.db, [row.id], self.ring)[row.id]
        links = people.linked(self.db, [row.id], [LEARNER, CONTACT]).get(row.id, [])
        learners = [(connection, external_id) for connection, external_id, kind in links if kind == LEARNER]
        known = received.of_person(self.db, row.id, limit=limit)
        waiting = received.waiting_behind(self.db, self.park_keys(learners, person.profile.email), limit=WAITING)
        standings = events.standings(self.db, [row.id]).get(row.id, [])
        sources = {name for name, _ in learners} | {e.connection for e in known} | {s.connection for s in standings}
        sources |= workforce(self.db, [row.id], self.ring).employers(row.id)
        profile, rules = person.profile, self._rules()
        return Story(
            who=Who(
                person=row.id,
                email=profile.email if reveal or not profile.email else redact.email(profile.email),
                full_name=profile.full_name if reveal or not profile.full_name else redact.name(profile.full_name),
                known_since=row.created_at,
                version=row.version,
                attention=row.attention,
                erased_at=row.erased_at,
                links=[{"connection": c, "id": veil(external_id), "as": kind} for c, external_id, kind in links],
                former=[
                    {"connection": c, "id": veil(old), "as": kind, "merged_into": veil(new), "merged_at": at}
                    for c, kind, old, new, at in story.former(self.db, row.id)
                ],
            ),
            received=[veiled(event, veil) for event in known],
            counts=received.counts_of_person(self.db, row.id),
            imported=imports.of_person(self.db, row.id),
            waiting=[veiled(event, veil) for event in waiting],
            dead_nearby=received.dead_from(self.db, sources),
            decided=[
                Decided(
                    s.connection,
                    s.subject_type,
                    s.subject,
                    s.subject_name,
                    s.products[0] if s.products else None,
                    s.type,
                    s.passed,
                    s.occurred_at,
                    s.expires_at,
                )
                for s in standings
            ],
            work=worked(self.db, self.ring, row.id, reveal=reveal),
            rule_set=rules.id,
            written=_held(row, Holdings(self.db, self.config, self.ring).of(row.id, sources, veil)),
            timeline=timeline.of_person(self.db, self.config, row.id, veil, limit=limit),
            learning=Learner(self.db, self.config, self.ring, rules, veil, reveal).tell(row.id, standings),
            why_not=_about(row, waiting, veil),
        )

    def park_keys(self, learners: Sequence[tuple[str, str]], email: str | None) -> list[bytes]:
        """Return what events of this learner or e-mail would be parked behind."""
        behind = [link_key(link) for link in learners]
        return [*behind, *self.keys.candidates("park", email)] if email else behind

    def _rules(self) -> RuleSet:
        try:
            return store.active(self.db)
        except LookupError as missing:
            raise ConfigError(str(missing)) from None


def veiled(event: Event, veil: Veil = redact.text) -> Event:
    """Return an event whose detail may be shown."""
    return event._replace(detail=veil(event.detail) if event.detail else None)


def _held(row: PersonRow, found: list[Held]) -> list[Held]:
    """Return what systems hold; of somebody erased without causes, as a system only sees that nothing is left."""
    return found if row.erased_at is None else [replace(held, why_not=[]) for held in found]


def _about(row: PersonRow, waiting: Sequence[Event], veil: Veil) -> list[WhyNot]:
    """Return what holds the person back, whatever the system."""
    causes = []
    if row.erased_at is not None:
        causes.append(WhyNot("The person was erased, so nothing is written anywhere.", "Nothing to do."))
    if row.attention == Reason.EMPLOYEE_ID_TAKEN:
        causes.append(WhyNot(*WORDS[Reason.EMPLOYEE_ID_TAKEN]))
    elif row.attention == Reason.EMAIL_TAKEN:
        causes.append(
            WhyNot(
                "The LMS reported a new e-mail that belongs to another person, so it was not taken over.",
                "Correct it in the LMS; the next event takes it over. Everything else is written.",
            )
        )
    elif row.attention:
        causes.append(WhyNot(f"The person needs attention: {row.attention}.", "See docs/reasons.md."))
    together = sorted(waiting, key=lambda event: (event.connection, event.reason or "", event.detail or "", event.id))
    for (connection, reason, detail), found in groupby(together, key=lambda e: (e.connection, e.reason, e.detail)):
        ids = [event.id for event in found]
        named = f"Event {ids[0]}" if len(ids) == 1 else f"Events {', '.join(map(str, ids))}"
        evidence = f": {veil(detail)}" if detail else ""
        happened = f"{named} from {connection}, which may be theirs, {'is' if len(ids) == 1 else 'are'} parked"
        decide = f"Decide with `coursewire parked resolve {ids[0]} --person {row.id}`, --new-person or --ignore."
        causes.append(WhyNot(f"{happened} ({reason}){evidence}.", decide))
    return causes
