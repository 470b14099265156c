"""What a role deserves and which courses that is, as an LMS or a person asks: by today's rules and catalogue."""

from collections.abc import Mapping
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from integration.config import Config
from mappings import store
from mappings.pathways import ContactSeen, Leavers, deserved
from mappings.progress import courses_of, taught_today
from tasks.pathways import Curriculum
from tasks.verdict import lives


@dataclass(frozen=True, slots=True)
class Course:
    """A course of a pathway as it is taught today; `enrolled`: people are put into it because of the pathway."""

    connection: str
    id: str
    bucket: str
    required: bool
    enrolled: bool


@dataclass(frozen=True, slots=True)
class Taken:
    """A pathway that a role deserves, and why: `cause` is the rule, `connection` the CRM whose contact is meant.

    `leavers`: whether somebody who has left the company still deserves it.
    """

    pathway: str
    title: str
    cause: str
    connection: str
    priority: int
    onboarding_days: int | None
    leavers: Leavers
    courses: list[Course]


@dataclass(frozen=True, slots=True)
class Syllabus:
    """What a contact with this role deserves by a rule set; the pathway that counts most comes first."""

    rule_set: int
    role: str
    pathways: list[Taken]


def syllabus(
    db: Connection, curriculum: Curriculum, role: str, connection: str | None, properties: Mapping[str, str]
) -> Syllabus:
    """Return what a contact with this role and these further properties deserves today.

    `connection` is the CRM that the contact is in, None for one in each of them. Raises ValueError where it is no CRM
    whose roles are read, LookupError where no rules are published, RetryLater where this version cannot read them.
    """
    reading = [name for name in sorted(curriculum.config.connections) if curriculum.role_property(name)]
    if connection is not None and connection not in reading:
        raise ValueError(f"no connection whose roles are read is called {connection!r}")
    rules, catalogue = store.active(db), lives(db)
    contacts = [
        ContactSeen(name, role, {**properties, curriculum.role_property(name) or "": role})
        for name in ([connection] if connection else reading)
    ] or [ContactSeen("", role, properties)]
    zone = _zone(curriculum.config, contacts[0].connection)
    found = deserved(contacts, rules.pathways, (), rules.read_at, zone)
    kept = deserved(contacts, rules.pathways, (), rules.read_at, zone, has_left=True)
    taken = []
    for one in sorted(found.values(), key=lambda one: (-one.priority, one.pathway)):
        pathway = rules.pathways.pathways[one.pathway]
        enrolled = {course for course in courses_of(pathway, catalogue) if curriculum.may_enroll(course.connection)}
        courses = [
            Course(today.connection, today.id, part.bucket, part.required, today in enrolled)
            for part in pathway.courses
            if (today := taught_today(part.course, catalogue))
        ]
        taken.append(
            Taken(
                one.pathway,
                pathway.title,
                one.cause,
                one.connection,
                one.priority,
                one.onboarding_days,
                "keep" if one.pathway in kept else "withdraw",
                courses,
            )
        )
    return Syllabus(rules.id, role, taken)


def _zone(config: Config, connection: str) -> ZoneInfo:
    settings = config.connections.get(connection)
    return ZoneInfo(settings.options.timezone if settings else "UTC")
