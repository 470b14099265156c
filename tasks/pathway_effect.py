"""What a publish does to people's courses: who is enrolled, concluded, removed or kept in, and why. Reads only.

Everybody is judged as a worker will judge them, by what was read of their contacts last.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from sqlalchemy import Connection

from integration.model.enrollments import CourseRef
from integration.model.roles import READ_ROLE
from integration.storage import crowd, deals, people, roles
from integration.storage.shares import Share, divide
from mappings import overrides
from mappings.rules import RuleSet
from tasks.effect import uncollected
from tasks.pathways import Curriculum
from tasks.saying import count, say, say_table
from tasks.verdict import Courses, Judge, Stored, Verdict, asked, lives, taught

InCourse = Literal["enrolled", "concluded", "removed", "kept"]
OnPathway = Literal["starts", "ends", "deadlines"]

IN_COURSE: tuple[InCourse, ...] = ("enrolled", "concluded", "removed", "kept")
ON_PATHWAY: tuple[OnPathway, ...] = ("starts", "ends", "deadlines")

NAMED = 5
"""Courses that a refusal names."""


@dataclass(slots=True)
class PathwayEffect:
    """What a publish does to people who were read: numbers of people, each once.

    Of `people`, `enrolled` are put into a course and `withdrawn` concluded or removed in one; `concerned` are either.
    `unread` are judged when their contact has been read, which is after the publish. `courses` counts people per
    course: `kept` stay in it though no pathway asks for it any more. `pathways` counts assignments that start, end, or
    go on with another deadline.
    """

    people: int = 0
    enrolled: int = 0
    withdrawn: int = 0
    concerned: int = 0
    unread: int = 0
    courses: Counter[tuple[CourseRef, InCourse]] = field(default_factory=Counter)
    pathways: Counter[tuple[str, OnPathway]] = field(default_factory=Counter)

    def __add__(self, other: "PathwayEffect") -> "PathwayEffect":
        """Return this effect for the people of the other one too."""
        return PathwayEffect(
            self.people + other.people,
            self.enrolled + other.enrolled,
            self.withdrawn + other.withdrawn,
            self.concerned + other.concerned,
            self.unread + other.unread,
            self.courses + other.courses,
            self.pathways + other.pathways,
        )

    def add(self, verdict: Verdict, was_taught: Courses, stored: Stored, who: int) -> None:
        """Count what becomes of one more person; `was_taught` are the courses by the rules that count until now."""
        live, there = stored.live.get(who, {}), stored.enrolled.get(who, {})
        is_in = {course for course, row in there.items() if row.desired == "enrolled"}
        changed = {
            CourseRef(one.connection, one.course_id): one.desired
            for one in verdict.enrollments
            if not (one.desired == "enrolled" and CourseRef(one.connection, one.course_id) in is_in)
        }
        was_asked = asked(live.values(), was_taught).keys() - stored.completed.get(who, {}).keys()
        kept = (was_asked & is_in) - verdict.asked.keys() - changed.keys()
        self.people += 1
        self.enrolled += "enrolled" in changed.values()
        self.withdrawn += any(state != "enrolled" for state in changed.values())
        self.concerned += bool(changed)
        self.courses.update((course, state) for course, state in changed.items())
        self.courses.update((course, "kept") for course in kept)
        for one in verdict.put:
            before = live.get(one.pathway)
            if before is None:
                self.pathways[one.pathway, "starts"] += 1
            elif before.due_at != one.due_at:
                self.pathways[one.pathway, "deadlines"] += 1
        self.pathways.update((one.pathway, "ends") for one in verdict.ended)

    def for_programs(self) -> dict[str, object]:
        """Return it for programs, courses and pathways by name."""
        return {
            "people": self.people,
            "enrolled": self.enrolled,
            "withdrawn": self.withdrawn,
            "concerned": self.concerned,
            "unread": self.unread,
            "courses": [
                {"connection": course.connection, "course": course.id}
                | {way: self.courses[course, way] for way in IN_COURSE}
                for course in self._courses()
            ],
            "pathways": [
                {"pathway": name} | {turn: self.pathways[name, turn] for turn in ON_PATHWAY}
                for name in self._pathways()
            ],
        }

    def guarded(self) -> int:
        """Return how many people a guard counts: who is not read yet may be enrolled like anybody."""
        return self.concerned + self.unread

    def sentence(self) -> str:
        """Return what happens to how many people, and in which courses the most."""
        said = [f"enrol {count(self.enrolled, 'person', 'people')} and withdraw {self.withdrawn}"]
        by_course: Counter[CourseRef] = Counter()
        for (course, what), number in self.courses.items():
            if what != "kept":
                by_course[course] += number
        first = sorted(by_course, key=lambda course: (-by_course[course], course))
        named = ", ".join(f"{course} ({by_course[course]})" for course in first[:NAMED])
        if named:
            more = f" and {count(len(first) - NAMED, 'further course')}" if len(first) > NAMED else ""
            said.append(f", in {named}{more}")
        if self.unread:
            said.append(f"; {count(self.unread, 'person is', 'people are')} judged once their contact is read")
        return "".join(said)

    def tell(self) -> None:
        """Say it for people."""
        if self.pathways or self.courses or self.unread:
            say(f"\nCourses: of {count(self.people, 'person', 'people')} this would {self.sentence()}.")
        rows = [[name, *(self.pathways[name, turn] or None for turn in ON_PATHWAY)] for name in self._pathways()]
        say_table(["pathway", "starts", "ends", "other deadline"], rows, indent=2)
        places = [[*course, *(self.courses[course, way] or None for way in IN_COURSE)] for course in self._courses()]
        say_table(["connection", "course", "enrolled", "concluded", "removed", "kept in"], places, indent=2)

    def _courses(self) -> list[CourseRef]:
        return sorted({course for course, _ in self.courses})

    def _pathways(self) -> list[str]:
        return sorted({name for name, _ in self.pathways})


def pathway_effect(db: Connection, curriculum: Curriculum, old: RuleSet, new: RuleSet) -> PathwayEffect:
    """Return what going from `old` to `new`, now, does to everybody whose role is known.

    Also what a publish brings about that its rules do not say, such as a course retired since: it has all judged anew.
    """
    watched = {
        name: watch.properties
        for name in sorted(curriculum.config.connections)
        if (watch := curriculum.watch_by(new.pathways, name)) is not None
    }
    catalogue = lives(db)
    was_taught = taught(old.pathways, catalogue)
    found = PathwayEffect()
    with uncollected():
        for connection in watched:
            judge = curriculum.judge(new.pathways, connection, catalogue, old.read_at)
            crowd_there = _Crowd(curriculum, connection, watched, was_taught, judge)
            found = sum(divide(db, crowd.size(db, connection, READ_ROLE), crowd_there.effect), found)
    return found


@dataclass(frozen=True, slots=True)
class _Crowd:
    """The people who are judged in one CRM; whoever is in several is judged in the last of them, by name.

    `watched`: CRM -> the properties without which nobody is judged there.
    """

    curriculum: Curriculum
    connection: str
    watched: Mapping[str, frozenset[str]]
    was_taught: Courses
    judge: Judge

    def effect(self, db: Connection, share: Share) -> PathwayEffect:
        """Return what happens to a share of them."""
        found = PathwayEffect()
        for ids in crowd.slices(db, self.connection, READ_ROLE, share):
            self._count(db, ids, found)
        return found

    def _count(self, db: Connection, ids: Sequence[int], found: PathwayEffect) -> None:
        known = [one for one in roles.known(db, ids) if one.is_there and one.connection in self.watched]
        home = {one.person_id: one.connection for one in known}  # the last by name counts, as they come in this order
        loaded = people.load(db, [who for who in ids if home.get(who) == self.connection], self.curriculum.ring)
        here = [person.id for person in loaded.values() if not person.is_gone]
        contacts = self.curriculum.contacts(known, deals.of(db, ids))
        read = {
            (contact.connection, who)
            for who, of_them in contacts.items()
            for contact in of_them
            if self.watched[contact.connection] <= contact.properties.keys()
        }
        unread = {one.person_id for one in known if (one.connection, one.person_id) not in read}
        judged = [who for who in here if who not in unread]
        found.unread += len(here) - len(judged)
        chosen, stored = overrides.live(db, judged, self.judge.now), Stored.read(db, judged)
        for who in judged:
            verdict = self.judge.verdict(who, contacts.get(who, ()), chosen.get(who, ()), stored)
            found.add(verdict, self.was_taught, stored, who)
