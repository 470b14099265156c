"""A file of history looked at, and taken in: what is between the command and the rooms that know how."""

import gc
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import typer

from integration.connectors import registry
from integration.delivery import forecast
from integration.errors import Reason, Rejected
from integration.files.csv_rows import CsvReader
from integration.files.row import Mark, Reader
from integration.history.ahead import ahead
from integration.history.chunks import Chunk, chunks
from integration.history.cost import Cost, Ledger
from integration.history.importer import Importer, Overtaken
from integration.history.mapping import HistoryMapping
from integration.history.rejected import RejectedRows
from integration.history.survey import Survey
from integration.history.survey import look as look_through
from integration.history.translation import Translation
from integration.model.contacts import WRITE_CONTACT
from integration.storage import audit, imports
from integration.storage.imports import Import
from tasks.actor import actor
from tasks.assembly import Assembly
from tasks.commands.ring import ring
from tasks.saying import say, stop

USUAL_RATE = 5_000.0
"""Rows per second, until the first chunk has shown how many there are."""

LONGEST_REST = 900.0
"""Seconds for which nobody is written because of an import that is under way: whoever is on many lines of the file is
written once and not with each chunk."""

SPEAK_SECONDS = 5.0

ELSEWHERE = "the same file is being taken in by another process, which goes on."

SWITCH_SECONDS = 0.0005
"""How long the thread that reads may keep the one waiting that records: ten times less than usual, because that one
comes back from the database twenty times for each chunk."""

GARBAGE_AFTER = 50_000
"""Objects after which cycles are looked for. What a chunk makes has none and goes with it; looked at every 700 objects,
as usual, it took a seventh of the time of an import."""

_REFUSING = Lock()
"""Two chunks are recorded at once, and there is one file of rejected rows."""

Draw = Callable[[int], None]
Stamp = tuple[int, int, int]
"""What of a file is another once somebody has written to it, or put another in its place."""


@dataclass(frozen=True)
class File:
    """A file, whose history it is, and what its rows mean; `stamp` is from before anything of it was read."""

    path: Path
    stamp: Stamp
    connection: str
    mapping: HistoryMapping
    reader: Reader
    translation: Translation
    sha256: bytes
    mapping_hash: bytes

    def rejected(self, *, goes_on: bool = False) -> RejectedRows:
        """Return the file beside it for the rows that cannot be taken; `goes_on`: what an earlier look left stays."""
        header = self.reader.header if isinstance(self.reader, CsvReader) else None
        return RejectedRows(self.path, self.mapping.file, header, goes_on=goes_on)

    def refuse(self, before: Mark, refused: Mapping[int, str]) -> None:
        """Write rows that the database refuses to those that the look rejected. `before`: a mark before all of them."""
        left = set(refused)
        rows = self.reader.rows(before)
        with _REFUSING, self.rejected(goes_on=True).whole() as rejected:
            while left:
                row = next(rows)
                if row.line in left:
                    rejected.add(row, Reason.ROW_REFUSED, refused[row.line])
                    left.remove(row.line)


class Found(NamedTuple):
    """What a look at a file found; `rejected` is the file with the rows that cannot be taken."""

    file: File
    survey: Survey
    cost: Cost | None
    rejected: Path


class SystemCost(NamedTuple):
    """The most that an import costs in one CRM: calls in full batches, and what the account's day says of it."""

    connection: str
    contacts: int
    calls_to_read: int
    calls_to_write: int
    today: str


def learning_systems(process: Assembly) -> list[str]:
    """Return the connections of which there can be history."""
    return sorted(name for name, one in process.config.connections.items() if registry.interface(one).kind == "LMS")


def look(process: Assembly, file: File, *, costs: bool, is_quiet: bool) -> Found:
    """Read the whole file, write its rejected rows beside it, and count what it comes to."""
    _expect_many()
    rejected = file.rejected()
    with ExitStack() as stack:
        stack.enter_context(rejected.whole())
        ledger = Ledger(process.engine, file.connection, process.keys, datetime.now(UTC)) if costs else None
        hear = stack.enter_context(ledger).hear if ledger else None
        draw = stack.enter_context(progress("Looking", None, is_quiet=is_quiet))
        found = look_through(file.reader, file.translation, rejected, advance=lambda rows, _: draw(rows), hear=hear)
        return Found(file, found, ledger.cost() if ledger else None, rejected.path)


def costs(process: Assembly, found: Found) -> list[SystemCost]:
    """Return what an import costs in each CRM that it leads to."""
    assert found.cost is not None  # noqa: S101 - it was asked for
    made = []
    for target in _targets(process, found.file):
        connection = process.config.connections[target]
        batch = registry.system_of(connection).capabilities.batch_size
        to_read, to_write = found.cost.calls(batch)
        with process.engine.connect() as db:
            day = forecast.daily(db, target, connection.options.timezone, datetime.now(UTC))
        people = found.cost.people if to_write else 0
        made.append(SystemCost(target, people, to_read, to_write, day.words if day else ""))
    return made


def take(process: Assembly, file: File, held: Import, *, is_quiet: bool) -> Import:
    """Take in what is left of a file, and return the import as it ended.

    Ctrl-C ends the command after the chunk that is under way; run again, it goes on there.
    """
    with imports.held(process.engine, held.id) as is_ours:
        if not is_ours:
            raise stop(ELSEWHERE)
        with process.engine.connect() as db:
            held = imports.get(db, held.id) or held  # whoever was at it before may have come further since
        if held.status == "done":
            return held
        try:
            held = _take(process, file, held, is_quiet=is_quiet)
        except Overtaken:
            raise stop(ELSEWHERE) from None
        except KeyboardInterrupt:
            with process.engine.connect() as db:
                line = (imports.get(db, held.id) or held).line
            say(f"\nImport {held.id} stopped before line {line}. Run the same command again, and it goes on there.")
            raise typer.Exit(130) from None
        require_unchanged(file)
        with process.engine.begin() as db:
            held = imports.finish(db, held)
            audit.append(
                db,
                actor=actor(),
                action="history.import",
                outcome="done",
                connection=held.connection,
                reference=f"import:{held.id}",
            )
    ring(places=[(target, WRITE_CONTACT) for target in _targets(process, file)])
    return held


def _take(process: Assembly, file: File, held: Import, *, is_quiet: bool) -> Import:
    """Take in what is left of a file that this process alone is at."""
    importer = Importer(process.engine, process.pipeline.recorder, file.refuse)
    started, begun_at = time.monotonic(), held.counts.get("rows", 0)
    _expect_many()
    sys.setswitchinterval(SWITCH_SECONDS)
    read = chunks(file.reader, file.translation, Mark(held.byte_offset, held.line))
    given_out, now = begun_at, held

    def rest_until(chunk: Chunk) -> datetime | None:
        nonlocal given_out
        given_out += chunk.rows
        done, seconds = now.counts.get("rows", 0) - begun_at, time.monotonic() - started
        return _rest(held.rows - given_out, done / seconds if done else USUAL_RATE)

    with progress("Taking in", held.rows, is_quiet=is_quiet) as draw, closing(ahead(read)) as parts:
        for now in importer.take_all(held, parts, rest_until):
            draw(now.counts.get("rows", 0))
    return now


def _expect_many() -> None:
    """Let the rest of this process make millions of objects that go as they came; the program itself stays anyway."""
    gc.freeze()
    gc.set_threshold(GARBAGE_AFTER)


def _rest(rows: int, rate: float) -> datetime | None:
    """Return when `rows` more rows are in, at most LONGEST_REST from now; None where that is at once."""
    seconds = min(rows / rate, LONGEST_REST)
    return datetime.now(UTC) + timedelta(seconds=seconds) if seconds >= 1 else None


def _targets(process: Assembly, file: File) -> list[str]:
    return sorted({route.target for route in process.config.routes_from(file.connection)})


def stamp_of(path: Path) -> Stamp:
    """Return the stamp of a file. Raises Rejected(FILE_UNREADABLE) where it cannot be looked at."""
    try:
        found = path.stat()
    except OSError as error:
        raise Rejected(Reason.FILE_UNREADABLE, f"the file cannot be read: {error.strerror}") from None
    return found.st_ino, found.st_size, found.st_mtime_ns


def require_unchanged(file: File) -> None:
    """Raise Rejected(FILE_UNREADABLE) where a file is not what it was when it was first opened."""
    if stamp_of(file.path) != file.stamp:
        sentence = "the file was changed while it was read; import it again once nobody writes to it"
        raise Rejected(Reason.FILE_UNREADABLE, sentence)


@contextmanager
def progress(what: str, total: int | None, *, is_quiet: bool) -> Iterator[Draw]:
    """Yield what shows how many rows are done: a bar on a terminal, a line now and then elsewhere."""
    from rich.console import Console  # noqa: PLC0415 - slow to import
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    console, started, first, spoken = Console(stderr=True), time.monotonic(), list[int](), [time.monotonic()]

    def so_far(rows: int) -> str:
        first.append(rows) if not first else None
        of = f" of {total:,}" if total else ""
        return f"{rows:,}{of} rows, {(rows - first[0]) / max(time.monotonic() - started, 0.001):,.0f}/s"

    if is_quiet or not console.is_terminal:

        def speak(rows: int) -> None:
            text = so_far(rows)
            if not is_quiet and time.monotonic() - spoken[0] >= SPEAK_SECONDS:
                spoken[0] = time.monotonic()
                say(f"{what}: {text}")

        yield speak
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[said]}"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=total, said="")
        yield lambda rows: bar.update(task, completed=rows, said=so_far(rows))
