"""`coursewire dead`: what failed for good, why, and how it is repaired."""

from typing import Annotated

import typer

from integration.storage import dead
from integration.storage.dead import Chosen
from tasks import payload, search
from tasks.assembly import this_process
from tasks.commands import dead_edit, dead_replay
from tasks.commands.causes import cause_for_programs, item_for_programs, say_causes, say_items, say_next
from tasks.commands.evidence import find_event, of_event, resting, say_evidence
from tasks.commands.options import ALWAYS, AsJson, ByConnection, ByKind, ByReason, back_to, kinds, time_span
from tasks.names import ActivityName, EnrollmentName, EventName, PersonName, parse
from tasks.saying import count, no, quiet, say, say_json, say_table, sentences
from tasks.story import veiled

app = typer.Typer(help="Show what failed for good, and repair it.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def show_list(
    reason: ByReason = None,
    connection: ByConnection = None,
    since: Annotated[
        str, typer.Option(help="Take only what died within this time: 30m, 24h, 7d, or all.", callback=time_span)
    ] = ALWAYS,
    kind: ByKind = None,
    limit: Annotated[int, typer.Option(help="Show at most this many lines of each kind.", min=1, max=10_000)] = 50,
    about: Annotated[
        str | None,
        typer.Option(help="Show the events that name this e-mail or user id; opens them all, which is audited."),
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """List what is dead by cause; with a filter, one line per mistake (events) or person."""
    quiet()
    chosen = Chosen(connection=connection, reason=reason, since=back_to(since))
    if about is not None:
        _show_about(chosen, about, as_json=as_json)
        return
    is_filtered = reason is not None or connection is not None or kind is not None or since != ALWAYS
    with sentences(), this_process().engine.begin() as db:
        causes = dead.causes(db, chosen, kinds(kind))
        items = dead.items(db, chosen, kinds(kind), limit=limit) if is_filtered else []
    if as_json:
        groups = [cause_for_programs(one) for one in causes]
        say_json({"causes": groups} | ({"items": [item_for_programs(one) for one in items]} if is_filtered else {}))
        return
    if not causes:
        say("Nothing is dead." if not is_filtered else "Nothing that is dead is like that.")
        return
    if is_filtered:
        say_items(items)
        if sum(one.subjects for one in causes) > len(items):
            say("There is more; see --limit.")
    else:
        say_causes(causes)
    say_next(causes)


@app.command("show")
def show(
    which: Annotated[
        str, typer.Argument(metavar="ID", help="What is dead: event:17, person:45@crm, activity:9, or enrollment:7.")
    ],
    *,
    reveal: Annotated[
        bool,
        typer.Option("--reveal", help="Open an event's sealed payload too; who read it is written to the audit log."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show everything known of one thing that is dead: its tries, what people did, and what to do next."""
    quiet()
    name = parse(which)
    if reveal and isinstance(name, PersonName):
        raise typer.BadParameter(f"A person has no payload; see `coursewire person show {name.person} --reveal`.")
    if reveal and isinstance(name, ActivityName):
        raise typer.BadParameter("An activity has no payload of its own; its event has.")
    if reveal and isinstance(name, EnrollmentName):
        raise typer.BadParameter("An enrolment has no payload.")
    with sentences():
        process = this_process()
        opened = None
        with process.engine.begin() as db:
            if isinstance(name, EventName):
                event = find_event(db, name, "dead")
                found = [of_event(db, event)]
                opened = payload.reveal(db, process.ring, event) if reveal else None
                if reveal and opened is None:
                    raise no(f"The payload of {name} was purged.")
            else:
                found = resting(db, name, "dead")
    if as_json:
        say_json({"dead": found} | (payload.as_json(opened) if opened else {}))
        return
    for evidence in found:
        say_evidence(evidence)
    if opened is not None:
        payload.say_all(opened)


def _show_about(chosen: Chosen, value: str, *, as_json: bool) -> None:
    with sentences():
        process = this_process()
        with process.engine.begin() as db:
            found = search.about(db, process.ring, chosen, value)
    events = [veiled(event) for event in found.events]
    if as_json:
        lines = [{"id": str(EventName(e.id)), **{k: v for k, v in e._asdict().items() if k != "id"}} for e in events]
        say_json({"events": lines, "opened": found.opened, "unreadable": found.unreadable})
        return
    rows = [(EventName(e.id), e.received_at, e.connection, e.reason, e.detail) for e in events]
    say_table(["event", "received (UTC)", "connection", "reason", "detail"], rows)
    if found.unreadable:
        say(f"The master keys do not open {count(found.unreadable, 'event')} (seal_key_missing).")
    if found.opened >= search.MOST:
        say(f"Only the newest {found.opened} were opened; narrow it down with --connection, --reason or --since.")
    if not events:
        raise no(
            f"Looked through {count(found.opened, 'dead event')}: no field of theirs is exactly this. Ask by the "
            "e-mail or the user id as it was sent. Parked ones: `coursewire person show`."
        )
    say(f"Next: `coursewire dead show {EventName(events[0].id)}`.")


app.command("edit")(dead_edit.edit)
app.command("replay")(dead_replay.replay)
app.command("replays")(dead_replay.show_list)
app.command("watch")(dead_replay.watch)
app.command("pause")(dead_replay.pause)
app.command("resume")(dead_replay.resume)
app.command("cancel")(dead_replay.cancel)
