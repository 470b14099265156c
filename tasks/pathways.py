"""Where rules and rows of pathways meet: what a role deserves becomes assignments, and these become enrolments."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from integration.config import Config
from integration.connectors import registry
from integration.delivery.belief import Belief
from integration.model.contacts import CONTACT, WRITE_CONTACT, Fields
from integration.model.enrollments import WRITE_ENROLLMENT, CourseRef, EnrollmentState
from integration.model.events import EventType
from integration.model.roles import Decided, Watch
from integration.security.seal import KeyRing
from integration.storage import assignments, courses, enrollments, events, people, roles, sync_state
from integration.storage.assignments import Assigned
from integration.storage.enrollments import Wanted
from integration.storage.events import Standing
from integration.storage.sync_state import Want
from mappings import overrides, store
from mappings.pathways import (
    ContactSeen,
    Deserved,
    PathwayRules,
    deserved,
    due_at,
    next_change,
    properties_read,
    settle_seconds,
)
from mappings.progress import Assignment, CourseLife, courses_of, progress
from mappings.rules import RuleSet


@dataclass(frozen=True, slots=True)
class Curriculum:
    """Decides by the published rules; reads everything anew in the transaction it is given."""

    config: Config
    ring: KeyRing

    def watch(self, db: Connection, connection: str) -> Watch | None:
        """Return what counts of a CRM's contacts, None where nobody is enrolled because of their role."""
        role = self._role_property(connection)
        if role is None:
            return None
        rules = store.active(db).pathways
        properties = properties_read(rules, connection) | {role}

        def means_something(fields: Fields) -> bool:
            contact = ContactSeen(connection, fields.get(role, ""), fields)
            return any(rule.meets(contact) for rule in rules.roles)

        return Watch(role, properties, settle_seconds(rules, connection, None), means_something)

    def decide(self, db: Connection, connection: str, seen: Mapping[int, Fields], ages: Mapping[int, float]) -> Decided:
        """Assign what the roles read deserve, and want the enrolments that follow; holds the people."""
        rules = store.active(db)
        put_off = self._put_off(rules.pathways, connection, seen, ages)
        held = people.load(db, seen.keys() - put_off.keys(), self.ring, lock=True)
        ids = [person.id for person in held.values() if not person.is_gone]
        contacts = self._contacts(db, connection, seen, ids)
        chosen = overrides.live(db, ids, rules.read_at)
        zone = self._zone(connection)
        wanted = {
            who: deserved(contacts.get(who, ()), rules.pathways, chosen.get(who, ()), rules.read_at, zone)
            for who in ids
        }
        changed = self._assign(db, rules, wanted, zone)
        led_to = {(lms, WRITE_ENROLLMENT) for lms in self._enroll(db, rules, ids, changed)}
        if changed:
            people.bump(db, changed)
            holders = sync_state.holders(db, sorted(changed), WRITE_CONTACT)
            wants = [Want(crm, who) for crm, who in holders] + [Want(connection, who) for who in changed]
            due = sync_state.want(db, CONTACT, WRITE_CONTACT, wants)
            led_to |= {(crm, WRITE_CONTACT) for crm in due}
        again = {
            who: (at - rules.read_at).total_seconds()
            for who in ids
            if (at := next_change(rules.pathways, chosen.get(who, ()), rules.read_at, zone)) is not None
        }
        return Decided(rules.id, frozenset(led_to), put_off, again)

    def _role_property(self, connection: str) -> str | None:
        takes = any("role_change" in route.flows for route in self.config.routes_from(connection))
        settings = self.config.connections.get(connection)
        return settings.options.role_property if settings and takes else None

    def _zone(self, connection: str) -> ZoneInfo:
        return ZoneInfo(self.config.connections[connection].options.timezone)

    def _put_off(
        self, rules: PathwayRules, connection: str, seen: Mapping[int, Fields], ages: Mapping[int, float]
    ) -> dict[int, float]:
        role = self._role_property(connection) or ""
        rest = {
            who: settle_seconds(rules, connection, fields.get(role, "")) - ages[who]
            for who, fields in seen.items()
            if who in ages
        }
        return {who: seconds for who, seconds in rest.items() if seconds > 0}

    def _contacts(
        self, db: Connection, connection: str, seen: Mapping[int, Fields], ids: Collection[int]
    ) -> dict[int, list[ContactSeen]]:
        """Return what is known of people's contacts in all CRMs, this one as it was read just now."""
        found: dict[int, list[ContactSeen]] = {}
        for one in roles.known(db, ids):
            role = self._role_property(one.connection)
            belief = Belief.opened(self.ring, one.id, one.remote_values)
            fields = seen[one.person_id] if one.connection == connection else belief.known if belief else None
            if fields is not None and role is not None:
                found.setdefault(one.person_id, []).append(ContactSeen(one.connection, fields.get(role, ""), fields))
        return found

    def _assign(
        self, db: Connection, rules: RuleSet, wanted: Mapping[int, Mapping[str, Deserved]], zone: ZoneInfo
    ) -> dict[int, list[Assigned]]:
        """Start, change and end assignments; return, of people for whom anything changed, those that ended."""
        live = assignments.live(db, wanted)
        put: list[Assigned] = []
        changed: dict[int, list[Assigned]] = {}
        for who, of_them in wanted.items():
            now = {one.pathway: one for one in live.get(who, ())}
            becomes = {
                name: _assigned(who, one, now[name].assigned_at if name in now else rules.read_at, zone)
                for name, one in of_them.items()
            }
            different = [one for name, one in becomes.items() if now.get(name) != one]
            ended = [one for name, one in now.items() if name not in becomes]
            put += different
            if different or ended:
                changed[who] = ended
        assignments.end(db, [one for ended in changed.values() for one in ended])
        assignments.put(db, put, rule_set=rules.id)
        return changed

    def _enroll(
        self, db: Connection, rules: RuleSet, ids: Sequence[int], ended: Mapping[int, Sequence[Assigned]]
    ) -> frozenset[str]:
        """Want what the live assignments come to; what only ended ones wanted goes as they say (rule 15)."""
        live = assignments.live(db, ids)
        standings, there = events.standings(db, ids), enrollments.of(db, ids)
        catalogue, begun = lives(db), events.begun(db, ids)
        wanted = []
        for who in ids:
            completed = _completed(standings.get(who, ()))
            due: dict[CourseRef, datetime | None] = {}
            for one in live.get(who, ()):
                pathway = rules.pathways.pathways.get(one.pathway)
                for course in courses_of(pathway, catalogue) if pathway else ():
                    due[course] = _sooner(due[course], one.due_at) if course in due else one.due_at
            known = {CourseRef(row.connection, row.course_id): row for row in there.get(who, ())}
            wanted += [
                Wanted(who, course.connection, course.id, "enrolled", until)
                for course, until in due.items()
                if course not in completed and self._may_enroll(course.connection)
            ]
            for course, row in known.items():
                if course not in due and course not in completed and row.desired == "enrolled":
                    leave = _leave(rules.pathways, ended.get(who, ()), course, course in begun.get(who, ()), catalogue)
                    wanted += [Wanted(who, course.connection, course.id, leave)] if leave else []
        return enrollments.want(db, wanted)

    def _may_enroll(self, connection: str) -> bool:
        settings = self.config.connections.get(connection)
        return settings is not None and registry.enrolls(settings)


def learned(
    db: Connection,
    rules: PathwayRules,
    standings: Mapping[int, Sequence[Standing]],
    ids: Collection[int],
    now: datetime,
) -> dict[int, tuple[list[Assignment], set[str]]]:
    """Return how far people are in their pathways, and the buckets of those that they had once.

    Somebody who never had any is not in it.
    """
    live, past = assignments.live(db, ids), assignments.past(db, ids)
    if not live and not past:
        return {}
    begun, catalogue = events.begun(db, live), lives(db)
    found: dict[int, tuple[list[Assignment], set[str]]] = {}
    for who in live.keys() | past.keys():
        completed = _completed(standings.get(who, ()))
        of_them = [
            Assignment(
                pathway,
                one.assigned_at,
                one.due_at,
                one.priority,
                progress(pathway, completed, begun.get(who, ()), one.assigned_at, one.due_at, now, catalogue),
            )
            for one in live.get(who, ())
            if (pathway := rules.pathways.get(one.pathway)) is not None
        ]
        had = [rules.pathways[name] for name in past.get(who, ()) if name in rules.pathways]
        found[who] = of_them, {course.bucket for pathway in had for course in pathway.courses}
    return found


def _completed(standings: Iterable[Standing]) -> dict[CourseRef, datetime]:
    return {
        CourseRef(one.connection, one.subject): one.occurred_at
        for one in standings
        if one.type == EventType.COURSE_COMPLETED and one.passed is not False
    }


def lives(db: Connection) -> dict[CourseRef, CourseLife]:
    """Return the courses that are retired or were replaced; all others are active."""
    return {
        CourseRef(one.connection, one.external_id): CourseLife(
            one.status, CourseRef(one.connection, one.successor) if one.successor else None
        )
        for one in courses.departed(db)
    }


def _assigned(who: int, one: Deserved, since: datetime, zone: ZoneInfo) -> Assigned:
    due = one.due_at or (due_at(since, one.onboarding_days, zone) if one.onboarding_days is not None else None)
    return Assigned(
        who, one.pathway, one.cause, one.connection, one.priority, one.on_leave, one.in_progress, due, since
    )


def _sooner(one: datetime | None, other: datetime | None) -> datetime | None:
    return min((at for at in (one, other) if at is not None), default=None)


def _leave(
    rules: PathwayRules,
    ended: Iterable[Assigned],
    course: CourseRef,
    has_begun: bool,
    catalogue: Mapping[CourseRef, CourseLife],
) -> EnrollmentState | None:
    """Return what becomes of an enrolment that only ended assignments wanted; of several, the gentlest way counts."""
    said = [
        "keep" if has_begun and one.in_progress == "keep" else one.on_leave
        for one in ended
        if (pathway := rules.pathways.get(one.pathway)) and course in courses_of(pathway, catalogue)
    ]
    if not said or "keep" in said:
        return None
    return "concluded" if "conclude" in said else "removed"
