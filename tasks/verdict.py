"""What rules make of people: which assignments start, change and end, and which enrolments follow. Writes nothing.

A worker acts on a verdict, a plan counts it; neither reads the rules in its own way.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from integration.model.enrollments import CourseRef, EnrollmentState
from integration.model.events import EventType
from integration.storage import assignments, courses, employments, enrollments, events
from integration.storage.assignments import Assigned
from integration.storage.enrollments import Wanted
from integration.storage.events import Standing
from mappings.pathways import ContactSeen, Deserved, Override, PathwayRules, deserved, due_at, next_change
from mappings.progress import Catalogue, CourseLife, courses_of

Courses = Mapping[str, Sequence[CourseRef]]
"""Pathway -> the courses that people on it are enrolled in today."""


class Verdict(NamedTuple):
    """What is to become of one person.

    `put` are assignments that start or change, `ended` those that end. `asked` is every course that the pathways then
    ask for, with its deadline; `enrollments` is what is wanted because of all this, also where it is so already.
    """

    put: Sequence[Assigned]
    ended: Sequence[Assigned]
    asked: Mapping[CourseRef, datetime | None]
    enrollments: Sequence[Wanted]

    @property
    def is_change(self) -> bool:
        """Return whether any assignment starts, changes or ends."""
        return bool(self.put or self.ended)


class Stored(NamedTuple):
    """What is stored of some people: live assignments, completed and begun courses, every enrolment wanted, leavers."""

    live: Mapping[int, Mapping[str, Assigned]]
    completed: Mapping[int, Mapping[CourseRef, datetime]]
    begun: Mapping[int, Collection[CourseRef]]
    enrolled: Mapping[int, Mapping[CourseRef, enrollments.Standing]]
    left: Collection[int] = ()

    @classmethod
    def read(cls, db: Connection, ids: Sequence[int]) -> "Stored":
        """Return what is stored of these people as this transaction sees it."""
        return cls(
            {who: {one.pathway: one for one in of_them} for who, of_them in assignments.live(db, ids).items()},
            {who: completed(of_them) for who, of_them in events.standings(db, ids).items()},
            events.begun(db, ids),
            {
                who: {CourseRef(one.connection, one.course_id): one for one in of_them}
                for who, of_them in enrollments.of(db, ids).items()
            },
            employments.left(db, ids),
        )


@dataclass(frozen=True, slots=True)
class Judge:
    """Judges by the pathways of one rule set; `may_enroll` says whether a connection takes enrolments from here.

    `now` is when new assignments start, `zone` where their days end.
    """

    rules: PathwayRules
    courses: Courses
    now: datetime
    zone: ZoneInfo
    may_enroll: Callable[[str], bool]

    def verdict(
        self, who: int, contacts: Sequence[ContactSeen], overrides: Sequence[Override], stored: Stored
    ) -> Verdict:
        """Return what becomes of a person with these contacts and overrides."""
        live, done = stored.live.get(who, {}), stored.completed.get(who, {})
        becomes = {
            name: _assigned(who, one, live[name].assigned_at if name in live else self.now, self.zone)
            for name, one in self.deserves(contacts, overrides, has_left=who in stored.left).items()
        }
        ended = [one for name, one in live.items() if name not in becomes]
        due = asked(becomes.values(), self.courses)
        wanted = [
            Wanted(who, course.connection, course.id, "enrolled", until)
            for course, until in due.items()
            if course not in done and self.may_enroll(course.connection)
        ]
        for course, row in stored.enrolled.get(who, {}).items():
            if course not in due and course not in done and row.desired == "enrolled":
                leave = self._leave(ended, course, has_begun=course in stored.begun.get(who, ()))
                wanted += [Wanted(who, course.connection, course.id, leave)] if leave else []
        return Verdict([one for name, one in becomes.items() if live.get(name) != one], ended, due, wanted)

    def deserves(
        self, contacts: Sequence[ContactSeen], overrides: Sequence[Override], *, has_left: bool
    ) -> dict[str, Deserved]:
        """Return the pathways of a person with these contacts and overrides, by name."""
        return deserved(contacts, self.rules, overrides, self.now, self.zone, has_left=has_left)

    def turn(self, contacts: Sequence[ContactSeen], overrides: Sequence[Override]) -> datetime | None:
        """Return when the clock alone may change the verdict; None = never."""
        return next_change(self.rules, overrides, self.now, self.zone, contacts)

    def _leave(self, ended: Iterable[Assigned], course: CourseRef, *, has_begun: bool) -> EnrollmentState | None:
        """Return what becomes of an enrolment that only ended assignments wanted; the gentlest way counts (rule 15)."""
        said = [
            "keep" if has_begun and one.in_progress == "keep" else one.on_leave
            for one in ended
            if course in self.courses.get(one.pathway, ())
        ]
        if not said or "keep" in said:
            return None
        return "concluded" if "conclude" in said else "removed"


def taught(rules: PathwayRules, catalogue: Catalogue) -> Courses:
    """Return the courses of every pathway as they are taught today."""
    return {name: courses_of(pathway, catalogue) for name, pathway in rules.pathways.items()}


def asked(assigned: Iterable[Assigned], courses: Courses) -> dict[CourseRef, datetime | None]:
    """Return the courses that assignments ask for, each with its soonest deadline; None = it has none."""
    due: dict[CourseRef, datetime | None] = {}
    for one in assigned:
        for course in courses.get(one.pathway, ()):
            due[course] = _sooner(due[course], one.due_at) if course in due else one.due_at
    return due


def completed(standings: Iterable[Standing]) -> dict[CourseRef, datetime]:
    """Return the courses that a person has completed, and when."""
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
