"""What people call a piece of work: `event:17`, `activity:9`, `enrollment:7`, or `person:45@crm` in one system."""

import re
from typing import NamedTuple

import typer

_EVENT = re.compile(r"(?:event:)?(\d{1,18})", re.ASCII)
_ACTIVITY = re.compile(r"activity:(\d{1,18})", re.ASCII)
_ENROLLMENT = re.compile(r"enrollment:(\d{1,18})", re.ASCII)
_PERSON = re.compile(r"person:#?(\d{1,18})@(.+)", re.ASCII)


class EventName(NamedTuple):
    """An event in the inbox, by its number."""

    id: int

    def __str__(self) -> str:
        """Return it as people type it."""
        return f"event:{self.id}"


class PersonName(NamedTuple):
    """What one connection is to hold of a person."""

    person: int
    connection: str

    def __str__(self) -> str:
        """Return it as people type it."""
        return f"person:{self.person}@{self.connection}"


class ActivityName(NamedTuple):
    """An activity that is to stand on a contact's timeline, by its number."""

    id: int

    def __str__(self) -> str:
        """Return it as people type it."""
        return f"activity:{self.id}"


class EnrollmentName(NamedTuple):
    """What a person is to be in one course, by its number."""

    id: int

    def __str__(self) -> str:
        """Return it as people type it."""
        return f"enrollment:{self.id}"


Name = EventName | PersonName | ActivityName | EnrollmentName


def name_of(kind: str, subject: int, connection: str) -> str:
    """Return the name of a row of one kind, `event`, `person`, `activity` or `enrollment`."""
    if kind == "enrollment":
        return str(EnrollmentName(subject))
    if kind == "activity":
        return str(ActivityName(subject))
    return str(EventName(subject) if kind == "event" else PersonName(subject, connection))


def parse(text: str) -> Name:
    """Return what a name means; a bare number is an event's. Raises typer.BadParameter."""
    event, person = _EVENT.fullmatch(text.strip()), _PERSON.fullmatch(text.strip())
    if event:
        return EventName(int(event[1]))
    if person:
        return PersonName(int(person[1]), person[2])
    activity = _ACTIVITY.fullmatch(text.strip())
    if activity:
        return ActivityName(int(activity[1]))
    enrollment = _ENROLLMENT.fullmatch(text.strip())
    if enrollment:
        return EnrollmentName(int(enrollment[1]))
    raise typer.BadParameter(
        f"{text!r} names nothing; write event:17, or person:45@crm with the connection behind it, "
        "or activity:9, or enrollment:7."
    )


def parse_event(text: str) -> EventName:
    """Return the event that is meant. Raises typer.BadParameter, also where a person is named."""
    name = parse(text)
    if isinstance(name, EventName):
        return name
    raise typer.BadParameter(f"{text!r} is no event; write event:17 or 17.")
