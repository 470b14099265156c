"""`coursewire export`: training records of a period as CSV or Parquet, for the monthly report."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

import typer

from integration.errors import ConfigError
from integration.storage.records import Period, Selection
from tasks.actor import actor
from tasks.assembly import this_process
from tasks.export import Asked, columns, on_record
from tasks.new_file import new_file
from tasks.saying import count, no, quiet, sentences, stop
from tasks.sheets import Column, CsvSheet, Sheet

app = typer.Typer(add_completion=False, rich_markup_mode=None)

Form = Literal["csv", "parquet"]
STANDARD_OUTPUT = "-"


def _moment(value: str) -> datetime:
    try:
        said = datetime.fromisoformat(value)
        return (said if said.tzinfo else said.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"{value!r} is no time; write for example 2026-10-01, which is UTC, or 2026-10-01T00:00+02:00."
        ) from None


Since = Annotated[
    datetime,
    typer.Option(
        help="Take what happened from this time on; a day begins at 0:00 UTC.", parser=_moment, metavar="TIME"
    ),
]
Until = Annotated[
    datetime | None,
    typer.Option(
        help="Take what happened before this time; without it, now.", parser=_moment, metavar="TIME", show_default=False
    ),
]
What = Annotated[
    Selection,
    typer.Option(help="records: enrolments, completions, certifications; facts: progress and assessments as well."),
]
AsForm = Annotated[
    Form | None,
    typer.Option(
        "--format",
        help="The kind of file; without it, what the name of --output ends with, or csv.",
        show_default=False,
    ),
]
Output = Annotated[str, typer.Option(help="The file to write; - is standard output.", metavar="FILE")]
WithNames = Annotated[
    bool, typer.Option("--with-names", help="Show e-mail, name and employee id; whose is written to the audit log.")
]
Recorded = Annotated[
    bool, typer.Option("--recorded", help="The period is of when it was recorded here, not of when it happened.")
]
Excel = Annotated[bool, typer.Option("--excel", help="Begin the CSV with the mark by which Excel knows UTF-8.")]
Force = Annotated[bool, typer.Option("--force", help="Replace the file where there is one.")]


@app.command()
def export(  # noqa: PLR0913 - each is an option
    since: Since,
    until: Until = None,
    *,
    what: What = "records",
    form: AsForm = None,
    output: Output = STANDARD_OUTPUT,
    with_names: WithNames = False,
    recorded: Recorded = False,
    excel: Excel = False,
    force: Force = False,
) -> None:
    """Export training records of a period; who did, and how many, is written to the audit log.

    Exit code 1: written, but without the names of people whose key is gone. 2: nothing was written.
    """
    quiet()
    period = Period(since, until or datetime.now(UTC), recorded)
    if period.since >= period.until:
        end = "--until" if until else "this moment, where there is no --until"
        raise typer.BadParameter(f"The period is empty: --since must be before {end}.")
    if output.lower().endswith((".xlsx", ".xls")):
        raise typer.BadParameter("A workbook is not written: name a .csv file, with --excel for Excel.")
    chosen: Form = form or ("parquet" if output.endswith(".parquet") else "csv")
    if chosen == "parquet" and excel:
        raise typer.BadParameter("--excel is about CSV.")
    if chosen == "parquet" and output == STANDARD_OUTPUT:
        raise typer.BadParameter("Parquet needs a file: name it by --output.")
    with sentences(), _written(output):
        make = _maker(chosen, excel=excel)
        process = this_process()
        asked = Asked(period, what, with_names, actor(), chosen)
        ring = process.ring if with_names else None
        with (
            on_record(process.engine, ring, asked) as done,
            _file(output, force=force) as out,
            _watched() as told,
        ):
            done.write(make(out, columns(with_names=with_names)), told)
    typer.echo(
        f"{count(done.rows, 'record')} of {count(done.people, 'person', 'people')} exported; "
        f"this is export {done.number} of the audit log.",
        err=True,
    )
    if done.unreadable:
        who = count(done.unreadable, "person", "people")
        raise no(f"no master key opens the names of {who}: their cells are empty (seal_key_missing, docs/reasons.md).")


def _maker(form: Form, *, excel: bool) -> Callable[[BinaryIO, Sequence[Column]], Sheet]:
    if form == "csv":
        return partial(CsvSheet, bom=excel)
    try:
        from tasks.parquet import ParquetSheet  # noqa: PLC0415 - takes a while, and its package may be missing
    except ImportError:
        raise ConfigError(
            "Parquet needs the package pyarrow, which is not installed. Run `pip install 'coursewire[parquet]'`, or "
            "export with --format csv."
        ) from None
    return ParquetSheet


def _file(output: str, *, force: bool) -> AbstractContextManager[BinaryIO]:
    return nullcontext(sys.stdout.buffer) if output == STANDARD_OUTPUT else new_file(Path(output), force=force)


@contextmanager
def _written(output: str) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise  # whoever reads has enough
    except OSError as error:
        raise stop(f"{output} could not be written: {error.strerror}. Nothing is left of it.") from None


@contextmanager
def _watched() -> Iterator[Callable[[int], None]]:
    """Say on a terminal how many records there are so far."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    typer.echo("asking the database ...", err=True, nl=False)
    yield lambda rows: typer.echo(f"\r{rows:,} records       ", err=True, nl=False)
    typer.echo(err=True)
