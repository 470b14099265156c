"""Putting much back by a filter: how much it is, begun, and watched until it is through."""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated

import typer

from integration.storage import dead, replays
from integration.storage.dead import Chosen, Kind
from integration.storage.replays import Replay
from tasks.actor import actor
from tasks.assembly import Assembly
from tasks.commands.causes import say_causes
from tasks.commands.ring import ring_back
from tasks.saying import no, say

LOOK_SECONDS = 0.5
"""How often a watcher looks."""
SPEAK_SECONDS = 5.0
"""How often progress is printed where there is no terminal to draw a bar on."""
STILL_SECONDS = 15.0
"""After how long without a slice a watcher says what may be wrong; the sweeper comes every two."""

_RATE = re.compile(r"([1-9]\d{0,6})(/min)?", re.ASCII)

Rate = Annotated[
    str, typer.Option(metavar="N/min", help="Put back at most so many a minute; a filter's work goes in slices.")
]
Detach = Annotated[bool, typer.Option("--detach", help="Only begin; do not wait until all of it has been put back.")]


def rows_a_minute(rate: str) -> int:
    """Return `600/min` as a number. Raises typer.BadParameter."""
    found = _RATE.fullmatch(rate.strip())
    if found is None:
        raise typer.BadParameter(f"{rate!r} is no rate; write for example 600/min.")
    return int(found[1])


def begin(
    process: Assembly, chosen: Chosen, kinds: Sequence[Kind], *, rate: int, detach: bool = False, yes: bool = False
) -> None:
    """Say what is chosen, ask, and put it back: the first slice at once, the rest by the sweeper."""
    with process.engine.begin() as db:
        causes = dead.causes(db, chosen, kinds)
    if not causes:
        raise no(f"Nothing that is {chosen.status} is like that.")
    say_causes(causes)
    total = sum(cause.rows for cause in causes)
    if not yes:
        typer.confirm(f"Put {'it' if total == 1 else f'these {total}'} back, {rate} a minute?", abort=True)
    with _going_on() as begun:
        for kind in kinds:
            with process.engine.begin() as db:
                replay = replays.start(db, kind, chosen, actor=actor(), rate=rate)
                done = replays.advance(db, replay.id) if replay else replays.PutBack()
            if replay:
                begun.append(replay)
                say(f"Replay {replay.id} has begun: {replay.total} of kind {kind}.")
            ring_back(done)
        for replay in begun:
            if not detach:
                _watch(process, replay)
            elif _now(process, replay).status == "active":
                say(_ways(replay))


def watch(process: Assembly, replay: Replay) -> None:
    """Show how far a replay is until it is done; ends the command with exit code 1 where it is paused or cancelled."""
    with _going_on() as begun:
        begun.append(replay)
        _watch(process, replay)


def _watch(process: Assembly, replay: Replay) -> None:
    now = _now(process, replay)
    with _progress(now) as draw:
        moved = time.monotonic()
        while now.status == "active":
            time.sleep(LOOK_SECONDS)
            before, now = now, _now(process, replay)
            draw(now)
            if now.last_id != before.last_id:
                moved = time.monotonic()
            elif time.monotonic() - moved > max(STILL_SECONDS, 120 / replay.rate):
                say("Nothing moves. See that `coursewire beat` and a `coursewire worker` run.")
                moved = time.monotonic()
    if now.status == "done":
        again = "dead list --since 1h" if now.chosen.status == "dead" else "parked list"
        say(f"Replay {now.id} is done: {now.replayed} put back. What rests again: `coursewire {again}`.")
        return
    raise no(f"Replay {now.id} is {now.status}: {now.replayed} of {now.total} put back.")


@contextmanager
def _going_on() -> Iterator[list[Replay]]:
    """Let Ctrl-C end only the command: say how the replays that were begun are watched and held."""
    begun: list[Replay] = []
    try:
        yield begun
    except KeyboardInterrupt:
        for replay in begun:
            say(f"\nReplay {replay.id} goes on without you. {_ways(replay)}")
        raise typer.Exit(130) from None


def described(replay: Replay) -> str:
    """Return what a replay takes, as its filter says."""
    said = [str(replay.filter["status"])]
    said += [f"{name} {replay.filter[name]}" for name in ("connection", "reason") if replay.filter.get(name)]
    if replay.chosen.since:
        said.append(f"since {replay.chosen.since:%Y-%m-%d %H:%M}")
    return ", ".join([*said, f"{replay.rate}/min"])


def _ways(replay: Replay) -> str:
    return (
        f"Watch it with `coursewire dead watch {replay.id}`; "
        f"`coursewire dead pause {replay.id}` and `coursewire dead cancel {replay.id}` hold it."
    )


def _now(process: Assembly, replay: Replay) -> Replay:
    with process.engine.begin() as db:
        return replays.get(db, replay.id) or replay


@contextmanager
def _progress(replay: Replay) -> Iterator[Callable[[Replay], None]]:
    """Yield what shows progress: a bar on a terminal, a line now and then elsewhere."""
    from rich.console import Console  # noqa: PLC0415 - slow to import
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    console = Console()
    if not console.is_terminal:
        spoken = time.monotonic()

        def speak(now: Replay) -> None:
            nonlocal spoken
            if now.status == "active" and time.monotonic() - spoken >= SPEAK_SECONDS:
                say(f"{now.replayed} of {now.total} put back")
                spoken = time.monotonic()

        yield speak
        return
    columns = (TextColumn("Replay {task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(str(replay.id), total=replay.total, completed=replay.replayed)
        yield lambda now: bar.update(task, completed=now.replayed)
