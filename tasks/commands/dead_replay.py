"""`coursewire dead replay` and what steers it: dead work sent once more, a few at once or many in slices."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Annotated

import typer
from sqlalchemy import Connection

from integration.storage import replays
from integration.storage.dead import Chosen, Kind
from integration.storage.replays import By, PutBack, Replay, Turn
from tasks.actor import actor
from tasks.assembly import Assembly, this_process
from tasks.commands import replaying
from tasks.commands.evidence import find_activity, find_enrollment, find_event, find_person
from tasks.commands.options import (
    AsJson,
    ByConnection,
    ByKind,
    ByReason,
    Yes,
    back_to,
    kinds,
    time_span,
)
from tasks.commands.ring import ring_back
from tasks.names import ActivityName, EnrollmentName, EventName, Name, PersonName, parse
from tasks.saying import count, no, quiet, say, say_json, say_table, sentences

Which = Annotated[int, typer.Argument(metavar="REPLAY", help="The number of the replay, as `dead replays` prints it.")]


def replay(  # noqa: PLR0913 - each is an option of the command
    which: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ID]...", help="What to replay: event:17, person:45@crm, activity:9, or enrollment:7."),
    ] = None,
    reason: ByReason = None,
    connection: ByConnection = None,
    since: Annotated[
        str | None,
        typer.Option(help="Take only what died within this time: 30m, 24h, 7d, or all.", callback=time_span),
    ] = None,
    kind: ByKind = None,
    rate: replaying.Rate = f"{replays.RATE}/min",
    *,
    detach: replaying.Detach = False,
    yes: Yes = False,
) -> None:
    """Send dead work once more: what is named at once, what a filter takes in slices that survive any kill.

    Tries count anew, and the work goes behind all live news. It says how much it is and asks before it begins.
    """
    quiet()
    filters = (reason, connection, since, kind)
    if bool(which) == any(one is not None for one in filters):
        raise typer.BadParameter("Name what to replay, or give a filter: --reason, --connection, --since, --kind.")
    pace = replaying.rows_a_minute(rate)
    with sentences():
        process = this_process()
        if which:
            _at_once(process, [parse(one) for one in dict.fromkeys(which)], yes=yes)
        else:
            chosen = Chosen(connection=connection, reason=reason, since=back_to(since))
            replaying.begin(process, chosen, kinds(kind), rate=pace, detach=detach, yes=yes)


def show_list(
    limit: Annotated[int, typer.Option(help="Show at most this many, the newest first.", min=1, max=10_000)] = 20,
    *,
    as_json: AsJson = False,
) -> None:
    """List the replays: what each takes, how far it is, and who began it."""
    quiet()
    with sentences(), this_process().engine.begin() as db:
        found = replays.overview(db, limit=limit)
    if as_json:
        say_json({"replays": found})
        return
    rows = [
        (r.id, r.status, f"{r.replayed} of {r.total}", r.kind, replaying.described(r), r.actor, r.created_at)
        for r in found
    ]
    say_table(["replay", "status", "put back", "kind", "takes", "by", "began (UTC)"], rows)
    if not found:
        say("There was no replay yet.")


def watch(which: Which) -> None:
    """Show how far a replay is until it ends; Ctrl-C ends only the watching."""
    quiet()
    with sentences():
        process = this_process()
        replaying.watch(process, _found(process, which))


def pause(which: Which) -> None:
    """Let a replay rest; what it has put back stays so."""
    _turn(which, "pause")


def resume(which: Which) -> None:
    """Let a paused replay go on where it was."""
    _turn(which, "resume")


def cancel(which: Which) -> None:
    """End a replay for good; what it has put back stays so, the rest stays dead."""
    _turn(which, "cancel")


def _at_once(process: Assembly, names: Sequence[Name], *, yes: bool) -> None:
    with process.engine.begin() as db:
        chosen = {name: _rows(db, name) for name in names}
    say(f"This is replayed: {', '.join(map(str, chosen))}.")
    if not yes:
        typer.confirm("Do it?", abort=True)
    by_kind: dict[Kind, list[int]] = defaultdict(list)
    for name, ids in chosen.items():
        by_kind[_KINDS[type(name)]] += ids
    done = PutBack()
    for kind, ids in by_kind.items():
        with process.engine.begin() as db:
            done += replays.put_back(db, kind, ids, By(actor(), "dead.replay"))
    ring_back(done)
    say(f"Done. Put back: {done.number}.")


_KINDS: dict[type[Name], Kind] = {
    EventName: "event",
    PersonName: "person",
    ActivityName: "activity",
    EnrollmentName: "enrollment",
}


def _rows(db: Connection, name: Name) -> list[int]:
    if isinstance(name, EventName):
        return [find_event(db, name, "dead").id]
    if isinstance(name, ActivityName):
        return [find_activity(db, name, "dead").id]
    if isinstance(name, EnrollmentName):
        return [find_enrollment(db, name, "dead").id]
    return [row.id for row in find_person(db, name, "dead")]


def _turn(which: int, how: Turn) -> None:
    quiet()
    with sentences():
        process = this_process()
        found = _found(process, which)
        with process.engine.begin() as db:
            if not replays.turn(db, which, how, actor=actor()):
                raise no(f"Replay {which} cannot {how}: it is {found.status}.")
        now = _found(process, which)
    left = now.total - now.replayed
    say(f"Replay {which} is {now.status}: {now.replayed} put back, {count(left, 'row')} left.")


def _found(process: Assembly, which: int) -> Replay:
    with process.engine.begin() as db:
        found = replays.get(db, which)
    if found is None:
        raise no(f"There is no replay {which}. See `coursewire dead replays`.")
    return found
