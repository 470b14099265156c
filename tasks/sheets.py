"""Rows for others to read: what a sheet is, and the CSV that spreadsheets take without running it."""

import csv
import io
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import BinaryIO, NamedTuple, Protocol

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What makes a spreadsheet take a text for a formula, when it comes first."""

GUARD = "'"
"""What is put before such a text. A text that begins with it gets one as well: whoever reads takes off the first."""

_GUARDED = (*FORMULA, GUARD)

BOM = "\N{ZERO WIDTH NO-BREAK SPACE}"

Cell = str | int | float | bool | datetime | None
Kind = type[str] | type[int] | type[float] | type[bool] | type[datetime]


class Column(NamedTuple):
    """A column and what its cells are, where there is something."""

    name: str
    kind: Kind


class Sheet(Protocol):
    """A file that rows are added to."""

    def add(self, rows: Sequence[Sequence[Cell]]) -> None:
        """Write rows, each with a cell for each column."""

    def close(self) -> None:
        """Write what is left. The file itself stays open."""


class CsvSheet:
    """RFC 4180 in UTF-8, a line of heads first. Times are ISO 8601 in UTC; nothing is empty, like a text of no length.

    `bom` begins it with the mark by which Excel knows UTF-8.
    """

    def __init__(self, out: BinaryIO, columns: Iterable[Column], *, bom: bool = False) -> None:
        self._out, self._text = out, io.StringIO(newline="")
        self._csv = csv.writer(self._text, lineterminator="\r\n")
        self._text.write(BOM if bom else "")
        self._csv.writerow([column.name for column in columns])

    def add(self, rows: Sequence[Sequence[Cell]]) -> None:
        """Write rows."""
        self._csv.writerows([_written(cell) for cell in row] for row in rows)
        self._pass_on()

    def close(self) -> None:
        """Write the heads, where there were no rows."""
        self._pass_on()
        self._out.flush()

    def _pass_on(self) -> None:
        self._out.write(self._text.getvalue().encode())
        self._text.seek(0)
        self._text.truncate()


def _written(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, str):
        return GUARD + cell if cell.startswith(_GUARDED) else cell
    if isinstance(cell, datetime):
        return cell.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(cell, bool):
        return "true" if cell else "false"
    return str(cell)
