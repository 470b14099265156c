"""A comparison begun from the command line: worked on in this process too, watched, and told when it ends."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import typer

from integration.errors import ConfigError
from integration.model.contacts import WRITE_CONTACT
from integration.model.events import Kind
from integration.model.reconciliation import RECONCILE_CONTACTS
from integration.storage import audit, comparisons, outlook, reconciliations, runs
from integration.storage.base import single
from integration.storage.comparisons import Comparison
from tasks.actor import actor
from tasks.assembly import Assembly
from tasks.commands.ring import ring
from tasks.saying import count, no, say, stop

LOOK_SECONDS = 0.25
"""How often a watcher looks, and how long a worker here waits for another chunk."""
SPEAK_SECONDS = 5.0
"""How often progress is printed where there is no terminal to draw a bar on."""

Says = Callable[[str], None]


def chosen(process: Assembly, connection: str | None) -> list[str]:
    """Return the connections that are meant. Ends the command where there is none."""
    names = sorted(process.sweeps)
    if not names:
        raise no("No connection of the connections file holds contacts, so there is nothing to compare.")
    if connection is not None and connection not in names:
        raise stop(f"{connection!r} is no connection that holds contacts; there are: {', '.join(names)}.")
    return names if connection is None else [connection]


def begin(process: Assembly, names: Sequence[str], *, is_dry: bool, tell: Says) -> list[int]:
    """Begin a run of each connection, or find the one that is under way; return their ids."""
    found = []
    for name in names:
        with process.engine.begin() as db:
            run = reconciliations.begin(db, name, runs.clock(db), actor=actor(), is_dry=is_dry)
            if run is not None:
                what = "dry" if is_dry else "repairs"
                audit.append(
                    db,
                    actor=actor(),
                    action="reconcile.begin",
                    outcome=what,
                    connection=name,
                    reference=f"reconciliation:{run}",
                )
            under_way = reconciliations.running(db, name)
            for one in under_way:  # whoever asks by hand is told of all contacts
                reconciliations.work_through(db, one.id)
        if run is not None:
            tell(f"Comparison {run} of {name} has begun.")
        elif under_way:
            kind = "a dry run" if under_way[0].is_dry else "one that repairs"
            tell(f"Comparison {under_way[0].id} of {name} is under way, {kind}; this follows it.")
        found += [one.id for one in under_way]
    if found:
        ring(places=[(name, RECONCILE_CONTACTS) for name in names])
    return found


def follow(process: Assembly, ids: Mapping[str, int], *, is_quiet: bool) -> None:
    """Work on runs (id by connection) until they have ended, drawing how far they are; Ctrl-C ends only the command."""
    ended, failures = threading.Event(), list[BaseException]()
    workers = [
        threading.Thread(target=_work, args=(process, name, ended, failures), name=f"reconcile-{name}", daemon=True)
        for name in ids
    ]
    try:
        with _progress(is_quiet=is_quiet) as draw:
            for worker in workers:
                worker.start()
            _watch(process, ids, draw, failures)
    except KeyboardInterrupt:
        numbers = ", ".join(str(run) for run in ids.values())
        say(f"\nComparison {numbers} goes on where a worker runs. `coursewire reconcile` follows it again.")
        raise typer.Exit(130) from None
    finally:
        ended.set()
    for worker in workers:
        worker.join()


def _work(process: Assembly, connection: str, ended: threading.Event, failures: list[BaseException]) -> None:
    """Work on chunks as a worker does, and tell the workers what follows."""
    sweep, may_ring = process.sweeps[connection], _has_broker(process)
    try:
        while not ended.is_set():
            swept = sweep.run()
            if may_ring:
                events = [(row_id, Kind.ROLE_CHANGE.value) for row_id in swept.told]
                ring(events, [(connection, WRITE_CONTACT)] if swept.is_due else [])
            if not swept.is_more:
                ended.wait(LOOK_SECONDS)
    except Exception as error:  # noqa: BLE001 - told by the thread that the user sees
        failures.append(error)


def _watch(
    process: Assembly,
    ids: Mapping[str, int],
    draw: Callable[[Comparison, str], None],
    failures: Sequence[BaseException],
) -> None:
    left = dict(ids)
    while left:
        for name, run in list(left.items()):
            with single(process.engine) as db:
                now, look = comparisons.get(db, run), outlook.look(db, name, RECONCILE_CONTACTS)
            if now is None or now.status != "running":
                del left[name]
            elif look.status in ("paused", "removed"):
                goes_on = f"it goes on after `coursewire connections resume {name}`"
                raise no(f"{name} is {look.status}, so comparison {run} waits; {goes_on}.")
            if now is not None:
                draw(now, f", {name} rests {look.wait:.0f} s" if look.wait else "")
        if failures:
            raise failures[0]
        if left:
            time.sleep(LOOK_SECONDS)


def _has_broker(process: Assembly) -> bool:
    try:
        return bool(process.broker_url)
    except ConfigError:
        return False  # which `begin` has said


@contextmanager
def _progress(*, is_quiet: bool) -> Iterator[Callable[[Comparison, str], None]]:
    """Yield what shows progress: a bar on a terminal, a line now and then elsewhere."""
    from rich.console import Console  # noqa: PLC0415 - slow to import
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    console, spoken = Console(stderr=True), dict[int, float]()
    if not console.is_terminal or is_quiet:

        def speak(now: Comparison, rests: str) -> None:
            if is_quiet or time.monotonic() - spoken.setdefault(now.id, time.monotonic()) < SPEAK_SECONDS:
                return
            spoken[now.id] = time.monotonic()
            say(f"Comparison {now.id}: {_so_far(now)}{rests}")

        yield speak
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[said]}"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        tasks = dict[int, object]()

        def update(now: Comparison, rests: str) -> None:
            if now.id not in tasks:
                tasks[now.id] = bar.add_task(f"Comparison {now.id} of {now.connection}", total=None, said="")
            seen = now.counts.get("contacts", 0)
            total = max(seen, now.expected) if now.expected else None
            bar.update(tasks[now.id], completed=seen, total=total, said=_so_far(now) + rests)  # type: ignore[arg-type]

        yield update


def _so_far(now: Comparison) -> str:
    seen = now.counts.get("contacts", 0)
    of = f" of about {now.expected:,}" if now.expected else ""
    return f"{count(seen, 'contact')}{of}, {seen / max(now.seconds, 0.001):,.0f}/s"
