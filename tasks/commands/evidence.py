"""Everything known of one event, person, activity or enrolment that is dead or parked, without what is personal."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from integration.model.enrollments import ENROLLMENT
from integration.observability.reasons import words
from integration.security import redact
from integration.storage import dead, deliveries, enrollments, received, story
from integration.storage.dead import Action
from integration.storage.deliveries import Told
from integration.storage.enrollments import Standing
from integration.storage.received import Event
from integration.storage.story import SyncRow
from tasks import payload
from tasks.names import ActivityName, EnrollmentName, EventName, PersonName
from tasks.saying import no, say, say_table, shown

_TRIES = 20


class Tried(NamedTuple):
    """One try, and how it ended; field names, never values."""

    at: datetime
    outcome: str
    reason: str
    detail: str | None
    fields: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a person needs to decide; `waiting` events are not written because of it, `oldest` names some of them."""

    id: str
    connection: str
    status: str
    reason: str | None
    detail: str | None
    happened: str | None
    next: str | None
    about: dict[str, object]
    tries: list[Tried] = field(default_factory=list)
    actions: list[Action] = field(default_factory=list)
    waiting: int = 0
    oldest: list[str] = field(default_factory=list)


def find_event(db: Connection, name: EventName, status: str) -> Event:
    """Return an event that is in a status; ends the command with a sentence where it is not."""
    found = received.by_id(db, [name.id])
    if not found:
        raise no(f"There is no {name}; it never was, or its row was purged.")
    if found[0].status != status:
        now = found[0].status
        see = f"{now} show {name}" if now in ("dead", "parked") else f"events show {name.id}"
        raise no(f"{name} is not {status}: it is {now}. See `coursewire {see}`.")
    return found[0]


def find_person(db: Connection, name: PersonName, status: str) -> list[SyncRow]:
    """Return the rows of a person in a connection that are in a status; ends the command where there are none."""
    rows = [row for row in story.sync_rows(db, name.person) if row.connection == name.connection]
    if story.person(db, name.person) is None:
        raise no(f"There is no person {name.person}. `coursewire person show EMAIL` tells a person's number.")
    if not rows:
        raise no(f"{name.connection} is to hold nothing of person {name.person}. See `coursewire connections list`.")
    found = [row for row in rows if row.status == status]
    if not found:
        now = ", ".join(sorted({row.status.replace("_", " ") for row in rows}))
        raise no(f"{name} is not {status}: it is {now}. See `coursewire person show {name.person}`.")
    return found


def of_event(db: Connection, event: Event) -> Evidence:
    """Return what is known of an event that rests."""
    name, known = EventName(event.id), words(event.reason)
    before = dead.history(db, event.id, limit=_TRIES)
    now = [Tried(event.settled_at or event.received_at, event.status, event.reason or "", _veiled(event.detail))]
    return Evidence(
        id=str(name),
        connection=event.connection,
        status=event.status,
        reason=event.reason,
        detail=_veiled(event.detail),
        happened=known.happened if known else None,
        next=known.next_for(str(name)) if known else None,
        about={
            "kind": event.kind,
            "received": event.received_at,
            "settled": event.settled_at,
            "attempts": event.attempts,
            "origin": event.origin,
            "request": event.request_id,
            "payload": payload.kept(event),
        },
        tries=now + [Tried(one.at, one.outcome, one.reason, _veiled(one.detail)) for one in before],
        actions=dead.actions(db, ("inbox", event.id), event.connection),
    )


def of_person(db: Connection, name: PersonName, row: SyncRow) -> Evidence:
    """Return what is known of a person whose fields rest in one system."""
    known, (waiting, oldest) = words(row.reason), dead.behind(db, row.id)
    tries = story.tries(db, [row.id], limit=_TRIES)[row.id]
    return Evidence(
        id=str(name),
        connection=row.connection,
        status=row.status,
        reason=row.reason,
        detail=_veiled(row.detail),
        happened=known.happened if known else None,
        next=known.next_for(str(name)) if known else None,
        about={
            "operation": row.operation,
            "wanted_since": row.wanted_since,
            "version": f"{row.written} of {row.wanted} written",
            "attempts": row.attempts,
            "looked_at_again": row.not_before,
            "contact": row.remote_id,
            "rule_set": row.rule_set,
        },
        tries=[Tried(t.started_at, t.outcome, t.reason, _veiled(t.detail), t.fields) for t in tries],
        actions=dead.actions(db, ("person", name.person), row.connection),
        waiting=waiting,
        oldest=[str(EventName(one)) for one in oldest],
    )


def find_activity(db: Connection, name: ActivityName, status: str) -> Told:
    """Return an activity that is in a status; ends the command with a sentence where it is not."""
    found = deliveries.by_id(db, name.id)
    if found is None:
        raise no(f"There is no {name}. `coursewire person show EMAIL` lists a person's activities.")
    if found.status != status:
        raise no(f"{name} is not {status}: it is {found.status}. See `coursewire person show {found.person_id}`.")
    return found


def of_activity(db: Connection, name: ActivityName, row: Told) -> Evidence:
    """Return what is known of an activity that rests."""
    known, tries = words(row.reason), story.tries(db, [row.id], limit=_TRIES, subject_type="delivery")[row.id]
    return Evidence(
        id=str(name),
        connection=row.connection,
        status=row.status,
        reason=row.reason,
        detail=_veiled(row.detail),
        happened=known.happened if known else None,
        next=known.next_for(str(name)) if known else None,
        about={
            "person": f"`coursewire person show {row.person_id}`",
            "what": row.type,
            "of": row.subject_name or row.subject_id,
            "occurred": row.occurred_at,
            "planned": row.created_at,
            "attempts": row.attempts,
            "looked_at_again": row.not_before,
        },
        tries=[Tried(t.started_at, t.outcome, t.reason, _veiled(t.detail)) for t in tries],
        actions=dead.actions(db, ("delivery", row.id), row.connection),
    )


def find_enrollment(db: Connection, name: EnrollmentName, status: str) -> Standing:
    """Return an enrolment that is in a status; ends the command with a sentence where it is not."""
    found = enrollments.by_id(db, name.id)
    if found is None:
        raise no(f"There is no {name}. `coursewire person show EMAIL` lists a person's courses.")
    if found.status != status:
        now = found.status.replace("_", " ")
        raise no(f"{name} is not {status}: it is {now}. See `coursewire person show {found.person_id}`.")
    return found


def of_enrollment(db: Connection, name: EnrollmentName, row: Standing) -> Evidence:
    """Return what is known of an enrolment that rests."""
    known, tries = words(row.reason), story.tries(db, [row.id], limit=_TRIES, subject_type=ENROLLMENT)[row.id]
    return Evidence(
        id=str(name),
        connection=row.connection,
        status=row.status,
        reason=row.reason,
        detail=_veiled(row.detail),
        happened=known.happened if known else None,
        next=known.next_for(str(name)) if known else None,
        about={
            "person": f"`coursewire person show {row.person_id}`",
            "course": row.course_id,
            "wanted": row.desired,
            "there": row.state,
            "by_us": row.is_ours,
            "due": row.due_at,
            "looked_at_again": row.not_before,
        },
        tries=[Tried(t.started_at, t.outcome, t.reason, _veiled(t.detail)) for t in tries],
        actions=dead.actions(db, (ENROLLMENT, row.id), row.connection),
    )


def resting(db: Connection, name: PersonName | ActivityName | EnrollmentName, status: str) -> list[Evidence]:
    """Return what is known of something else than an event; ends the command with a sentence where it does not rest."""
    if isinstance(name, ActivityName):
        return [of_activity(db, name, find_activity(db, name, status))]
    if isinstance(name, EnrollmentName):
        return [of_enrollment(db, name, find_enrollment(db, name, status))]
    return [of_person(db, name, row) for row in find_person(db, name, status)]


def say_evidence(evidence: Evidence) -> None:
    """Print it for people."""
    say(f"{evidence.id}, {evidence.connection}: {evidence.status} ({evidence.reason})")
    if evidence.happened:
        say(f"  {evidence.happened}")
    if evidence.detail:
        say(f"  Detail: {evidence.detail}")
    if evidence.next:
        say(f"  Next: {evidence.next}")
    say()
    width = max(map(len, evidence.about))
    for label, value in evidence.about.items():
        if value is not None:
            say(f"  {label.replace('_', ' '):<{width}}  {shown(value)}{' UTC' if isinstance(value, datetime) else ''}")
    if evidence.waiting:
        more = ", ..." if evidence.waiting > len(evidence.oldest) else ""
        say(f"  {'waiting':<{width}}  {evidence.waiting}: {', '.join(evidence.oldest)}{more}")
    if evidence.tries:
        say("\nTries")
        rows = [(t.at, t.outcome, t.reason, ", ".join(t.fields), t.detail) for t in evidence.tries]
        say_table(["at (UTC)", "outcome", "reason", "fields", "detail"], rows, indent=2)
    if evidence.actions:
        say("\nWhat people did")
        acts = [(a.at, a.actor, a.action, a.outcome, ", ".join(a.fields), a.reference) for a in evidence.actions]
        say_table(["at (UTC)", "who", "did", "it was", "fields", "with"], acts, indent=2)


def _veiled(detail: str | None) -> str | None:
    return redact.text(detail) if detail else None
