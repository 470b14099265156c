"""`coursewire events`: what was received, and what became of it."""

from datetime import datetime
from typing import Annotated, Any

import typer
from sqlalchemy import Connection

from integration.model.events import Kind
from integration.observability.reasons import words
from integration.storage import connections, inbox, received
from integration.storage.received import Chosen, Count, Event
from integration.storage.tables import INBOX_STATES
from tasks import payload
from tasks.assembly import Assembly, this_process
from tasks.commands.options import ALWAYS, AsJson, back_to, reason_code, time_span
from tasks.holdings import Held, Holdings
from tasks.names import parse_event
from tasks.saying import count, no, quiet, say, say_json, say_table, sentences
from tasks.story import veiled
from tasks.work import Worked, say_work, worked

app = typer.Typer(help="Show what was received and what became of it.", no_args_is_help=True, rich_markup_mode=None)


def _status(value: str | None) -> str | None:
    if value is not None and value not in INBOX_STATES:
        raise typer.BadParameter(f"{value!r} is no status; there are: {', '.join(INBOX_STATES)}.")
    return value


@app.command("list")
def show_list(
    status: Annotated[str | None, typer.Option(help="Show only events in this status.", callback=_status)] = None,
    connection: Annotated[str | None, typer.Option(help="Show only events from this connection.")] = None,
    reason: Annotated[str | None, typer.Option(help="Show only events with this reason.", callback=reason_code)] = None,
    since: Annotated[str, typer.Option(help="Go back this far: 30m, 24h, 7d, or all.", callback=time_span)] = "24h",
    limit: Annotated[int, typer.Option(help="Show at most this many events.", min=1, max=10_000)] = 50,
    sender_id: Annotated[
        str | None, typer.Option("--id", help="Show what came under this id of the sender, however old.")
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """List events, newest first, and count them by status and reason."""
    quiet()
    with sentences():
        process = this_process()
        if sender_id is not None:
            _show_one_id(process, sender_id, as_json=as_json)
            return
        chosen = Chosen(status, connection, reason, back_to(since))
        with process.engine.begin() as db:
            events = [veiled(event) for event in received.events(db, chosen, limit=limit)]
            counts = received.counts(db, chosen)
    if as_json:
        say_json({"events": events, "counts": counts})
        return
    _table(events)
    total = sum(one.events for one in counts)
    period = "" if since == ALWAYS else f" of the last {since}"
    say(f"{len(events)} of {count(total, 'event')}{period}." if total else f"There is no such event{period}.")
    _footer(counts)


@app.command("show")
def show_one(
    which: Annotated[
        str, typer.Argument(metavar="ID", help="The event: its number as `events list` prints it, or event:17.")
    ],
    *,
    reveal: Annotated[
        bool, typer.Option("--reveal", help="Open the sealed payload too; who read it is written to the audit log.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show one event: its row, its facts, and what became of it in each system."""
    quiet()
    number = parse_event(which).id
    with sentences():
        process = this_process()
        with process.engine.begin() as db:
            found = received.by_id(db, [number])
            if not found:
                raise no(f"There is no event {number}; it never was, or its row was purged.")
            event = found[0]
            facts = received.facts(db, event) if event.person_id is not None else []
            systems = _systems(db, process, event)
            work = _work(db, process, event, reveal=reveal)
            opened = payload.reveal(db, process.ring, event) if reveal else None
            if reveal and opened is None:
                raise no(f"The payload of event {number} was purged.")
    event = veiled(event)
    if as_json:
        said: dict[str, Any] = {"event": event, "facts": facts, "work": work, "systems": systems}
        say_json(said | payload.as_json(opened) if opened else said)
        return
    _describe(event)
    if facts:
        say("\nFacts")
        rows = [(f.type, f.subject_id, f.subject_name, f.score, f.passed, f.occurred_at, f.revision) for f in facts]
        say_table(["type", "about", "name", "score", "passed", "occurred (UTC)", "revision"], rows, indent=2)
    say_work(work)
    if systems:
        say("\nIn each system")
    for held in systems:
        _became(event, held)
    if opened is not None:
        payload.say_all(opened)


def _show_one_id(process: Assembly, sender_id: str, *, as_json: bool) -> None:
    with process.engine.begin() as db:
        names = {one.name for one in connections.overview(db)} | set(process.config.connections)
        places = received.by_key(db, inbox.key_of(sender_id), sorted(names))
        events = [veiled(event) for event in received.by_id(db, [event_id for _, event_id in places])]
    if as_json:
        say_json({"events": events, "received_as": [{"connection": c, "id": event_id} for c, event_id in places]})
    if not places:
        raise no("Nothing was ever accepted under this id. Ask the sender which answer it got: only a 202 is accepted.")
    if as_json:
        return
    _table(events)
    for connection, event_id in places:
        if event_id not in {event.id for event in events}:
            say(f"{connection} sent it as event {event_id}, whose row was purged since.")


def _systems(db: Connection, process: Assembly, event: Event) -> list[Held]:
    """Return what each system holds of the event's person, from this event on."""
    if event.person_id is None or event.person_version is None or event.status != "done":
        return []
    holdings = Holdings(db, process.config, process.ring)
    return holdings.of(event.person_id, {event.connection}, version=event.person_version)


def _work(db: Connection, process: Assembly, event: Event, *, reveal: bool) -> list[Worked]:
    """Return what HR says now of the employee whom an event is about."""
    if event.kind != Kind.EMPLOYEE or event.person_id is None:
        return []
    return worked(db, process.ring, event.person_id, reveal=reveal)


def _table(events: list[Event]) -> None:
    heads = ["id", "received (UTC)", "connection", "kind", "status", "reason", "person", "detail"]
    rows = [
        (e.id, e.received_at, e.connection, e.kind, e.status, e.reason, e.person_id and f"#{e.person_id}", e.detail)
        for e in events
    ]
    say_table(heads, rows)


def _footer(counts: list[Count]) -> None:
    for one in counts:
        say(f"{one.events:>9}  {one.status}{f' ({one.reason})' if one.reason else ''}")


def _describe(event: Event) -> None:
    say(f"Event {event.id}, {event.kind}, from {event.connection}")
    known = words(event.reason)
    rows = [
        ("received", event.received_at),
        ("settled", event.settled_at),
        ("status", f"{event.status} ({event.reason})" if event.reason else event.status),
        ("because", f"{known.happened} {known.next_for(event.id)}" if known else None),
        ("detail", event.detail),
        ("person", event.person_id and f"#{event.person_id}, version {event.person_version}"),
        ("attempts", event.attempts),
        ("origin", event.origin),
        ("request", event.request_id),
        ("payload", payload.kept(event)),
    ]
    for name, value in rows:
        if value is not None:
            line = f"{value:%Y-%m-%d %H:%M:%S UTC}" if isinstance(value, datetime) else value
            say(f"  {name:<9} {line}")


def _became(event: Event, held: Held) -> None:
    version = event.person_version or 0
    if held.status != "nothing due" and held.written >= version:
        known = words(held.reason)
        say(
            f"  {held.connection}: arrived; {held.connection} is at version {held.written} of this person, "
            f"the event made {version}. {known.happened if known and held.status == 'in_step' else ''}".rstrip()
        )
    for cause in held.why_not if held.written < version else ():
        say(f"  {cause}")
    rows = [(t.started_at, t.outcome, t.reason, t.version, ", ".join(t.fields), t.detail) for t in held.tries]
    say_table(["tried (UTC)", "outcome", "reason", "version", "fields", "detail"], rows, indent=4)
