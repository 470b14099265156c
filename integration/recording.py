"""Facts of learners and words of HR become known: who they are about, what is new, and what is due where.

One place for what webhooks tell, what an LMS was asked for, and what files say.
"""

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from integration import activities, hr_news, identity
from integration.config import AT_ONCE, Config, Pace
from integration.errors import Ignored, NeedsAttention
from integration.model.contacts import CONTACT, WRITE_CONTACT
from integration.model.employees import Employment
from integration.model.events import LearningEvent
from integration.model.results import ASKED, Word, is_news
from integration.security.seal import IndexKeys, KeyRing
from integration.sighting import Sighting, learner_key
from integration.storage import audit, courses, enrollments, events, people, roles, sync_state, words
from integration.storage.courses import CourseSeen
from integration.storage.events import Fact
from integration.storage.sync_state import BACKFILL, LIVE, Want
from integration.storage.words import Known


class Heard(NamedTuple):
    """An event or a word of HR, and where it was heard: in a row of the inbox, or on a line of an import.

    `content` is the event's hash, where it is known.
    """

    connection: str
    event: LearningEvent | Employment
    received_at: datetime
    origin: str
    inbox_id: int | None = None
    import_id: int | None = None
    line: int | None = None
    content: bytes | None = None


class Noted(NamedTuple):
    """What came of some events: whose each is or why that is open, who changed, where somebody is due now.

    `facts` counts what is new; `opened` are the keys behind which parked rows wait no longer.
    """

    sightings: list[Sighting]
    found: list[int | NeedsAttention | Ignored]
    news: set[int]
    facts: int
    due_at: frozenset[str]
    opened: list[bytes]


@dataclass(frozen=True)
class Recorder:
    """What recording needs; the fields are those of the pipeline."""

    config: Config
    ring: KeyRing
    keys: IndexKeys
    later: Callable[[str, Pace], datetime]
    rules: identity.Rules
    knows_users: frozenset[str]

    def record(
        self,
        db: Connection,
        heard: Sequence[Heard],
        *,
        rest_until: datetime | None = None,
        holding: Callable[[], None] = lambda: None,
    ) -> Noted:
        """Record events in the transaction of the caller.

        Nobody is due before `rest_until` because of them. `holding` is called as soon as everybody whom they are about
        is held: whoever begins then comes after. Raises RetryLater as `identity.identify` does.
        """
        sightings = [Sighting.of(one.connection, one.event, one.received_at) for one in heard]
        rules = self.rules(db)
        seen, place = _distinct(sightings)
        who = identity.identify(db, seen, self.ring, self.keys, rules)
        holding()
        found = [who.found[number] for number in place]
        known = [
            (one, sighting, person)
            for one, sighting, person in zip(heard, sightings, found, strict=True)
            if isinstance(person, int)
        ]
        facts = [
            self._fact(one, sighting, sighting.event, person)
            for one, sighting, person in known
            if isinstance(sighting.event, LearningEvent)
        ]
        courses.see(db, _courses(facts))
        appended = events.append(db, _news(db, facts))
        of_hr = hr_news.hear(db, [(sighting, person) for _, sighting, person in known], who, self.ring, self.keys)
        news = {fact.person_id for fact in appended} | who.readdressed | of_hr.changed
        people.bump(db, news | of_hr.reports)
        left_out = identity.left_out(seen, who, rules)
        shown = [fact for fact in appended if (fact.connection, fact.person_id) not in left_out]
        activities.plan(db, self.config, shown, self.later)

        wants = self._wants(known, rest_until)
        wants += self._others(db, news, wants) + self._of_reports(db, of_hr.reports - news)
        due_at = sync_state.want(db, CONTACT, WRITE_CONTACT, wants)
        roles.again(db, of_hr.turned)
        for lms in sorted(self.knows_users):
            newly = {person_id for (connection, _), person_id in who.new_links.items() if connection == lms}
            enrollments.wake(db, lms, newly)
        for person_id in sorted(who.email_conflicts):
            audit.append(db, actor="coursewire", action="email.change", outcome="parked", subject=("person", person_id))
        return Noted(sightings, found, news, len(appended), due_at, identity.opened_keys(who, self.keys))

    def _fact(self, heard: Heard, sighting: Sighting, event: LearningEvent, person_id: int) -> Fact:
        return Fact(
            inbox_id=heard.inbox_id,
            connection=heard.connection,
            person_id=person_id,
            learner=learner_key(sighting, self.keys),
            event=event,
            received_at=heard.received_at,
            origin=heard.origin,
            import_id=heard.import_id,
            import_line=heard.line,
            hashed=heard.content,
        )

    def _wants(self, known: Sequence[tuple[Heard, Sighting, int]], rest_until: datetime | None) -> list[Want]:
        wants: list[Want] = []
        routes = {name: self.config.routes_from(name) for name in self.config.connections}
        # Of a learner with many facts one of each flow is enough.
        places = {(one.connection, sighting.flow, one.origin, person_id): None for one, sighting, person_id in known}
        for connection, flow, origin, person_id in places:
            for route in routes.get(connection, ()):
                pace = route.flows.get(flow)
                if pace in AT_ONCE:
                    wants.append(Want(route.target, person_id, LIVE if origin == "live" else BACKFILL, rest_until))
                elif pace is not None:
                    wants.append(Want(route.target, person_id, BACKFILL, self.later(route.target, pace)))
        return wants

    def _others(self, db: Connection, news: set[int], wants: Sequence[Want]) -> list[Want]:
        """Return the systems that hold something of these people, though no route of the news leads there.

        What they show is computed from all facts, so it must not depend on which of them came last.
        """
        told = {(want.connection, want.person_id) for want in wants}
        return [
            Want(connection, person_id, BACKFILL, self.later(connection, "nightly"))
            for connection, person_id in sync_state.holders(db, sorted(news), WRITE_CONTACT)
            if (connection, person_id) not in told and connection in self.config.connections
        ]

    def _of_reports(self, db: Connection, reports: AbstractSet[int]) -> list[Want]:
        """Return the systems that show these people, of whom HR said nothing but whose manager is called otherwise."""
        held = sync_state.holders(db, sorted(reports), WRITE_CONTACT) if reports else []
        return [Want(connection, who, BACKFILL) for connection, who in held if connection in self.config.connections]


def _news(db: Connection, facts: Sequence[Fact]) -> list[Fact]:
    """Return the facts that are news: an answer and a file know less than a webhook did (rule 8).

    They may have waited for a decision while a webhook told the same, so it is judged when they are recorded.
    """
    asked = {fact.key for fact in facts if fact.origin in ASKED}
    if not asked:
        return list(facts)
    known, fresh = words.known(db, asked), []
    for fact in sorted(facts, key=lambda one: one.origin in ASKED):  # what a webhook said in this batch counts before
        before, at, event, is_asked = known.get(fact.key), fact.occurred_at, fact.event, fact.origin in ASKED
        if before is not None and is_asked and (fact.content in before.contents or not is_news(event, at, before.word)):
            continue
        fresh.append(fact)
        if fact.key in asked and (before is None or at >= before.word.occurred_at):
            said = Word(
                at,
                is_asked,
                event.passed,
                event.score,
                event.score_max,
                event.progress,
                event.product,
                event.expires_at,
            )
            known[fact.key] = Known(said, frozenset([fact.content]) | (before.contents if before else frozenset()))
    return fresh


def _distinct(sightings: Sequence[Sighting]) -> tuple[list[Sighting], list[int]]:
    """Return each learner once for each way they were named, when that was last, and the place of each sighting there.

    Of two words that are the same the later one counts, so the others change nothing. Words of HR say more than a name,
    so each stands for itself.
    """
    seen: list[Sighting] = []
    place: list[int] = []
    known: dict[tuple[str | None, ...], int] = {}
    for one in sightings:
        if isinstance(one.event, Employment):
            place.append(len(seen))
            seen.append(one)
            continue
        learner = one.event.learner
        named = (one.connection, learner.lms_user_id, learner.email, learner.full_name, learner.employee_id)
        number = known.setdefault(named, len(seen))
        if number == len(seen):
            seen.append(one)
        elif seen[number].at < one.at:
            seen[number] = one
        place.append(number)
    return seen, place


def _courses(facts: Sequence[Fact]) -> list[CourseSeen]:
    return [
        CourseSeen(fact.connection, course.id, course.name, fact.event.course_version, fact.occurred_at)
        for fact in facts
        if (course := fact.event.course) is not None
    ]
