"""How a command speaks: sentences instead of tracebacks, tables for people, JSON for programs."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import orjson
import typer
from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from integration.errors import ConfigError, CoursewireError
from tasks.embedded.errors import EmbeddedUnavailable, FolderInUse

_SPANS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DIGITS = 6  # 99999 weeks are still a date that exists
_WIDE = 200
_UNDEFINED_TABLE = ("42P01", "42703")


@contextmanager
def sentences() -> Iterator[None]:
    """Turn what a person can mend into one sentence and exit code 2, without a traceback."""
    try:
        yield
    except (ConfigError, EmbeddedUnavailable, FolderInUse) as error:
        raise stop(str(error)) from None
    except CoursewireError as error:
        raise stop(f"{error.detail or error} ({error.reason}).") from None
    except ValidationError as error:
        if error.title != "Settings":
            raise
        raise stop("; ".join(wrong_settings(error))) from None
    except (OperationalError, PoolTimeout):
        raise stop("the database does not answer. Run `coursewire check`.") from None
    except ProgrammingError as error:
        if _code(error) not in _UNDEFINED_TABLE:
            raise
        raise stop("the database has not the schema of this version. Run `coursewire migrate`.") from None


def no(sentence: str) -> typer.Exit:
    """Say the negative answer to a question, and return what to raise: exit code 1."""
    typer.echo(f"coursewire: {plain(sentence)}", err=True)
    return typer.Exit(1)


def stop(sentence: str) -> typer.Exit:
    """Say why nothing was done, and return what to raise: exit code 2."""
    typer.echo(f"coursewire: {plain(sentence)}", err=True)
    return typer.Exit(2)


def say(text: str = "") -> None:
    """Print one line for people, whatever characters it holds."""
    typer.echo(plain(text))


def say_json(value: object) -> None:
    """Print a value for programs: dataclasses, named tuples and times included."""
    options = orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS
    typer.echo(orjson.dumps(value, default=_as_json, option=options).decode(), nl=False)


def wrong_settings(error: ValidationError) -> list[str]:
    """Return a sentence for each variable of the environment that has a value it cannot have; without the value."""
    found = []
    for mistake in error.errors(include_input=False, include_url=False):
        name = "_".join(str(part) for part in mistake["loc"]).upper()
        found.append(f"COURSEWIRE_{name}: {mistake['msg'][:1].lower()}{mistake['msg'][1:]}")
    return found


def say_table(heads: Sequence[str], rows: Iterable[Sequence[object]], *, indent: int = 0) -> None:
    """Print rows under their heads; a column that is empty throughout is left out, and no rows are no table."""
    from rich.console import Console  # noqa: PLC0415 - a tenth of a second that a role need not spend
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    cells = [[shown(value) for value in row] for row in rows]
    filled = [place for place in range(len(heads)) if any(row[place] for row in cells)]
    if not filled:
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for place in filled:
        table.add_column(heads[place], overflow="fold")
    for row in cells:
        table.add_row(*(Text(row[place]) for place in filled))
    console = Console(highlight=False, emoji=False, markup=False)
    console.width = (console.width if console.is_terminal else max(console.width, _WIDE)) - indent
    with console.capture() as drawn:
        console.print(table)
    for line in drawn.get().splitlines():
        typer.echo(" " * indent + line.rstrip())


def count(number: int, noun: str, plural: str | None = None) -> str:
    """Return `1 event` or `3 events`."""
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"


def shown(value: object) -> str:
    """Return a value as people read it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    return plain(str(value))


def plain(text: str) -> str:
    """Return a text without what could steer a terminal: it may come from another system."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "\N{REPLACEMENT CHARACTER}" for letter in text)


def span(text: str) -> timedelta:
    """Return `90s`, `30m`, `24h`, `7d` or `2w` as a time span. Raises typer.BadParameter."""
    number, unit = text[:-1], text[-1:]
    if number.isascii() and number.isdigit() and len(number) < _DIGITS and unit in _SPANS:
        return timedelta(**{_SPANS[unit]: int(number)})
    raise typer.BadParameter(f"{text!r} is no time span; write for example 30m, 24h or 7d.")


def quiet() -> None:
    """Let nothing but errors reach the terminal from logs: the answer of a command is what it prints."""
    import logging  # noqa: PLC0415

    from integration.observability import logs  # noqa: PLC0415 - before anything may log to standard output

    logs.configure("console", logging.ERROR)
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # a terminal that knows no UTF-8


def _code(error: DBAPIError) -> str:
    return str(getattr(error.orig, "sqlstate", ""))


def _as_json(value: Any) -> object:
    if isinstance(value, tuple):
        return value._asdict() if hasattr(value, "_asdict") else list(value)
    if isinstance(value, bytes):
        return value.hex()
    return list(value)
