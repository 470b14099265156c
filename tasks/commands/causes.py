"""How work that is dead or parked is listed: by cause, and one line per mistake or person."""

from collections.abc import Sequence

from integration.observability.reasons import words
from integration.security import redact
from integration.storage.dead import Cause, Item
from tasks.names import name_of
from tasks.saying import count, say, say_table

_HEADS = ["kind", "connection", "reason", "count", "that is", "oldest (UTC)", "newest (UTC)", "for example"]


def say_causes(causes: Sequence[Cause]) -> None:
    """Print one line per kind, connection and reason."""
    rows = [(c.kind, c.connection, c.reason, c.rows, subjects(c), c.oldest, c.newest, _example(c)) for c in causes]
    say_table(_HEADS, rows)


def say_items(items: Sequence[Item]) -> None:
    """Print one line per mistake that events share, one per person, activity and enrolment."""
    mistakes = [i for i in items if i.kind == "event"]
    rows = [(i.events, i.connection, i.reason, _detail(i), i.oldest, i.newest, _example(i)) for i in mistakes]
    say_table(["events", "connection", "reason", "the mistake", "oldest (UTC)", "newest (UTC)", "for example"], rows)
    people = [i for i in items if i.kind == "person"]
    if mistakes and people:
        say()
    lines = [(_example(i), i.reason, _detail(i), i.newest, i.events, i.oldest) for i in people]
    say_table(["person", "reason", "detail", "since (UTC)", "events waiting", "oldest of them (UTC)"], lines)
    activities = [i for i in items if i.kind == "activity"]
    if activities and (mistakes or people):
        say()
    shown = [(_example(i), i.connection, i.reason, _detail(i), i.newest, i.oldest) for i in activities]
    say_table(["activity", "connection", "reason", "detail", "since (UTC)", "planned (UTC)"], shown)
    enrolments = [i for i in items if i.kind == "enrollment"]
    if enrolments and len(enrolments) < len(items):
        say()
    waiting = [(_example(i), i.connection, i.reason, _detail(i), i.newest, i.oldest) for i in enrolments]
    say_table(["enrolment", "connection", "reason", "detail", "since (UTC)", "wanted since (UTC)"], waiting)


def say_next(causes: Sequence[Cause]) -> None:
    """Print in words what each reason means and what to do next, with the name of one that has it."""
    for reason in dict.fromkeys(cause.reason for cause in causes):
        known = words(reason)
        example = next(cause for cause in causes if cause.reason == reason)
        if known:
            say(f"\n{reason}: {known.happened}\n  {known.next_for(_example(example))}")


def subjects(cause: Cause) -> str:
    """Return about how many mistakes or people a cause is."""
    if cause.kind == "event":
        return count(cause.subjects, "mistake")
    if cause.kind == "activity":
        return f"{cause.subjects} {'activity' if cause.subjects == 1 else 'activities'}"
    if cause.kind == "enrollment":
        return count(cause.subjects, "enrolment")
    return "1 person" if cause.subjects == 1 else f"{cause.subjects} people"


def cause_for_programs(cause: Cause) -> dict[str, object]:
    """Return a cause as JSON shows it."""
    known = words(cause.reason)
    said: dict[str, object] = {**cause._asdict(), "example": _example(cause)}
    if known:
        said |= {"happened": known.happened, "next": known.next_for(_example(cause))}
    return said


def item_for_programs(item: Item) -> dict[str, object]:
    """Return a line as JSON shows it."""
    return {"id": _example(item), **item._asdict(), "detail": _detail(item), "example": _example(item)}


def _example(of: Cause | Item) -> str:
    return name_of(of.kind, of.example, of.connection)


def _detail(item: Item) -> str | None:
    return redact.text(item.detail) if item.detail else None
