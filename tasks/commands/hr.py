"""`coursewire hr`: files that HR left on its server, what became of each, and a word on those that were held."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from integration.errors import CoursewireError, Reason
from integration.hr.collector import Collected
from integration.observability.reasons import words
from integration.security.seal import KeyRing
from integration.storage import audit, hr_files, hr_looks
from integration.storage.hr_files import Filed
from tasks.actor import actor
from tasks.assembly import Assembly, this_process
from tasks.commands.options import AsJson, Yes
from tasks.saying import count, no, quiet, say, say_json, say_table, sentences

app = typer.Typer(
    help="Show the files that HR left, look for new ones, and decide about those that are held.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Connection = Annotated[str | None, typer.Argument(help="The connection; without it, all.", show_default=False)]
FileId = Annotated[
    int, typer.Argument(metavar="FILE", help="The number of the file, as `coursewire hr list` shows it.")
]


@app.command("collect")
def collect(connection: Connection = None, *, as_json: AsJson = False) -> None:
    """Look for files now. A file without a marker is taken once it has stood still; run this again, or let a worker."""
    quiet()
    with sentences():
        process = this_process()
        done = {name: process.collectors[name].run(only_due=False) for name in _named(process, connection)}
        if as_json:
            say_json({name: _collected(one, process.ring) for name, one in done.items()})
        else:
            for name, one in done.items():
                _say_collected(name, one, process.ring)
    if any(one.trouble or one.is_busy for one in done.values()):
        raise typer.Exit(1)


@app.command("list")
def show_list(
    connection: Connection = None,
    limit: Annotated[int, typer.Option(help="Show at most this many files.", min=1, max=10_000)] = 20,
    *,
    as_json: AsJson = False,
) -> None:
    """List the newest files, and what became of each."""
    quiet()
    with sentences():
        process = this_process()
        with process.engine.begin() as db:
            found = hr_files.latest(db, connection, limit=limit)
        if as_json:
            say_json({"files": [_data(one, process.ring) for one in found]})
            return
        _say_files(found, process.ring)
        if not found:
            say("No file was seen yet. `coursewire hr collect` looks for some.")


@app.command("show")
def show(file: FileId, *, as_json: AsJson = False) -> None:
    """Show one file: what it would do or did, as numbers, and what to do next."""
    quiet()
    with sentences():
        process = this_process()
        one = _find(process, file)
        if as_json:
            say_json(_data(one, process.ring))
            return
        _say_files([one], process.ring)
        for name, number in one.counts.items():
            say(f"  {number:,} {_COUNTED.get(name, name)}")
        if one.detail:
            say(f"{one.detail[:1].upper()}{one.detail[1:]}.")
        known = words(one.reason)
        if known:
            say(f"{known.happened} {known.next_for(one.id)}")


@app.command("release")
def release(file: FileId, *, yes: Yes = False) -> None:
    """Let a held file be applied after all; a worker fetches it again within seconds."""
    _decide(file, "released", None, "Apply this file?", yes=yes)


@app.command("reject")
def reject(file: FileId, *, yes: Yes = False) -> None:
    """Let a held file be left alone; it is moved to the rejected ones, and nothing of it is applied."""
    _decide(file, "rejected", Reason.IGNORED_BY_DECISION, "Reject this file?", yes=yes)


def _decide(file: int, status: str, reason: Reason | None, question: str, *, yes: bool) -> None:
    quiet()
    with sentences():
        process = this_process()
        one = _find(process, file)
        if one.status != "held":
            raise no(f"file {file} is {one.status}, not held, so there is nothing to decide.")
        _say_files([one], process.ring)
        say(f"{one.detail}.")
        if not (yes or typer.confirm(question)):
            raise no("Nothing was changed.")
        with process.engine.begin() as db:
            decided = hr_files.decide(db, file, status, reason.value if reason else None, actor())
            if decided is None:
                raise no(f"file {file} is not held any more.")
            hr_looks.due(db, one.connection)
            audit.append(
                db,
                actor=actor(),
                action="hr.file",
                outcome=status,
                connection=one.connection,
                reference=f"hr_file:{file}",
            )
        say(f"File {file} is {status}. See `coursewire hr show {file}`." + ("" if one.lies else _SENT_AGAIN))


_SENT_AGAIN = " It is not in its folder any more: have it sent again."

_COUNTED = {
    "rows": "rows",
    "rejected": "rows that cannot be taken",
    "employees": "employees or certificates named",
    "new": "of them not named before",
    "changed": "of them said otherwise than before",
    "leavers": "of them leave",
    "absent": "known from earlier files and not in this one (nothing is done about these)",
    "told": "told as news",
}


def _named(process: Assembly, connection: str | None) -> list[str]:
    known = sorted(process.collectors)
    if connection is not None and connection not in known:
        raise no(f"{connection!r} is no connection with files of HR; those are: {', '.join(known) or 'none'}.")
    return [connection] if connection else known


def _find(process: Assembly, file: int) -> Filed:
    with process.engine.begin() as db:
        found = hr_files.find(db, file)
    if found is None:
        raise no(f"there is no file {file}; see `coursewire hr list`.")
    return found


def _say_files(files: Sequence[Filed], ring: KeyRing) -> None:
    heads = ["file", "connection", "name", "bytes", "seen (UTC)", "status", "reason", "employees", "told", "rejected"]
    rows = [
        (
            *(one.id, one.connection, _name(one, ring), one.size, one.seen_at, one.status, one.reason),
            *(one.counts.get(name) for name in ("employees", "told", "rejected")),
        )
        for one in files
    ]
    say_table(heads, rows)


def _say_collected(name: str, done: Collected, ring: KeyRing) -> None:
    if done.is_busy:
        say(f"{name}: somebody is looking at this moment.")
    _say_files(done.files, ring)
    for one in done.files:
        if one.detail:
            say(f"File {one.id}: {one.detail}.")
    if done.waiting:
        say(
            f"{name}: {count(done.waiting, 'file')} must stand still for a while first; a worker looks again by itself."
        )
    if done.trouble:
        say(f"{name}: {done.trouble.detail} ({done.trouble.reason}).")
    elif not (done.files or done.waiting or done.is_busy):
        say(f"{name}: nothing new.")


def _name(one: Filed, ring: KeyRing) -> str:
    try:
        return one.called(ring)
    except CoursewireError:
        return "(sealed by a key that is not here)"


def _data(one: Filed, ring: KeyRing) -> dict[str, Any]:
    return {**one._asdict(), "name": _name(one, ring)}


def _collected(done: Collected, ring: KeyRing) -> dict[str, Any]:
    trouble = {"reason": done.trouble.reason, "detail": done.trouble.detail} if done.trouble else None
    return {
        "files": [_data(one, ring) for one in done.files],
        "waiting": done.waiting,
        "busy": done.is_busy,
        "trouble": trouble,
    }
