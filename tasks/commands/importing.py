"""`coursewire import`: years of learning from a file, looked at first, and taken in so that it may be killed."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from integration.errors import ConfigError, Rejected
from integration.files import mapping as mapping_files
from integration.files.csv_rows import CsvReader
from integration.files.form import AS_USUAL
from integration.files.reader import reader_of
from integration.files.source import content_hash
from integration.history.mapping import HistoryMapping, as_named
from integration.history.rejected import form_of
from integration.history.translation import Translation
from integration.storage import audit, imports
from integration.storage.imports import Import, New
from tasks import taking_in
from tasks.actor import actor
from tasks.assembly import Assembly, this_process
from tasks.commands import import_shown
from tasks.commands.options import AsJson, Yes
from tasks.saying import no, quiet, say, say_json, sentences, stop
from tasks.taking_in import File, Found

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def take_in(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="CSV or JSON Lines (.jsonl), also packed as .gz, .bz2 or .xz.")
    ],
    connection: Annotated[str, typer.Option("--connection", help="The learning system that the history is of.")],
    mapping: Annotated[
        Path | None, typer.Option("--mapping", metavar="YAML", help="What the columns mean; without it, their names.")
    ] = None,
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only look: count rows, people, facts and calls, and change nothing.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Take in a file that was taken in before; what is known stays as it is.")
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Take in the history of a learning system from a file: first all of it is looked at, then nothing is lost.

    Rejected rows are written into FILE.rejected.csv beside it. A killed import goes on where it was when it is run
    again. Exit code 1: some rows were rejected, or nothing was confirmed.
    """
    quiet()
    with sentences():
        process = this_process()
        read = _file(process, file, connection, mapping)
        with process.engine.connect() as db:
            before = imports.find(db, connection, read.sha256, read.mapping_hash)
        if before is not None and before.status == "done" and not (again or dry_run):
            _say_known(before, as_json=as_json)
            return
        if before is not None and before.status == "running" and not dry_run:
            if not as_json:
                say(f"Import {before.id} goes on at line {before.line}.")
            _take(process, read, before, as_json=as_json)
            return
        found = taking_in.look(process, read, costs=dry_run, is_quiet=as_json)
        if dry_run:
            _say_found(process, found, before, as_json=as_json)
            raise typer.Exit(bool(found.survey.rejected))
        if not as_json:
            import_shown.say_survey(found)
        if not sum(found.survey.events.values()):
            raise no("No row of the file says anything, so nothing was taken in.")
        if not (yes or as_json) and not typer.confirm(f"Take in {found.survey.rows:,} rows for {connection}?"):
            raise no("Nothing was changed.")
        _take(process, read, _begin(process, read, found), as_json=as_json)


def _file(process: Assembly, path: Path, connection: str, mapping: Path | None) -> File:
    """Return the file and what it means. Raises ConfigError, or Rejected where it cannot be what is said."""
    known = taking_in.learning_systems(process)
    if connection not in known:
        raise stop(f"{connection!r} is no learning system of the connections file; there are: {', '.join(known)}.")
    said = mapping_files.load(mapping, HistoryMapping) if mapping else None
    with _naming(path):
        stamp = taking_in.stamp_of(path)
        reader = reader_of(path, said.file if said else AS_USUAL)
        if isinstance(reader, CsvReader) and said:
            reader = reader_of(path, form_of(said.file, reader.header))
    if said is None:
        try:
            said = as_named(reader)
        except ValueError as error:
            why = str(error).partition("Value error, ")[2].partition(" [type=")[0] or str(error)
            raise ConfigError(f"{path}: {why}; or say with --mapping what its columns mean (docs/imports.md)") from None
    with _naming(path):
        reader.require(said.columns())
    sha256, mapping_hash = content_hash(path), mapping_files.mapping_hash(said)
    return File(path, stamp, connection, said, reader, Translation(said), sha256, mapping_hash)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Name the file in front of what is wrong with it: whoever typed the name may read it, a log may not."""
    try:
        yield
    except Rejected as error:
        raise Rejected(error.reason, f"{path}: {error.detail}") from error


def _begin(process: Assembly, file: File, found: Found) -> Import:
    taking_in.require_unchanged(file)  # somebody may have thought about the question for long
    size = file.path.stat().st_size
    new = New(file.connection, file.sha256, file.mapping_hash, size, found.survey.rows, actor())
    with process.engine.begin() as db:
        held = imports.begin(db, new)
        if held is None:
            raise stop("the same file is being taken in at this moment. Run this again when that has ended.")
        audit.append(
            db,
            actor=actor(),
            action="history.import",
            outcome="begun",
            connection=file.connection,
            reference=f"import:{held.id}",
        )
    return held


def _take(process: Assembly, file: File, held: Import, *, as_json: bool) -> None:
    done = taking_in.take(process, file, held, is_quiet=as_json)
    if as_json:
        say_json({"import": import_shown.as_data(done)})
    else:
        import_shown.say_done(done, file)
    raise typer.Exit(bool(done.counts.get("rejected")))


def _say_known(before: Import, *, as_json: bool) -> None:
    if as_json:
        say_json({"import": import_shown.as_data(before), "nothing_to_do": True})
        return
    say(f"{import_shown.taken_in(before)}: nothing to do.")
    say("With --again it is taken in once more; facts that are known stay as they are.")


def _say_found(process: Assembly, found: Found, before: Import | None, *, as_json: bool) -> None:
    costs = taking_in.costs(process, found)
    if as_json:
        known = {"import": import_shown.as_data(before)} if before else {}
        say_json({"survey": import_shown.survey_data(found), "costs": costs, **known})
        return
    if before:
        say(f"{import_shown.taken_in(before)}.\n")
    import_shown.say_survey(found)
    import_shown.say_costs(found, costs)
