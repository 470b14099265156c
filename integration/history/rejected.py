"""The file of rejected rows: each with its line, why, and the row as it stood, to be mended and imported."""

import csv
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkstemp
from typing import IO, Any

import orjson

from integration.errors import Reason, Rejected
from integration.files.form import Form
from integration.files.row import BadRow, Row, fold

HEADS = ("rejected.line", "rejected.reason", "rejected.sentence")
"""The columns before those of the row itself; no mapping names them, so the file can be imported as it is."""


def form_of(form: Form, header: Sequence[str]) -> Form:
    """Return the form of a file with this header: one of rejected rows has no trailer, so that rows can be left out."""
    return form.model_copy(update={"trailer": None}) if header[:1] == HEADS[:1] else form


class RejectedRows:
    """Writes rows beside the file that they are from, readable by its owner alone; nothing rejected is no file.

    The file is that of one look, which replaces or removes that of an earlier one; `goes_on`: it is added to.
    """

    def __init__(self, source: Path, form: Form, header: Sequence[str] | None, *, goes_on: bool = False) -> None:
        """`header` names the columns of a CSV file in their order; None = JSON Lines."""
        self.path = source.with_name(source.name + (".rejected.jsonl" if header is None else ".rejected.csv"))
        self._form, self._header, self._goes_on = form, header, goes_on
        self.lines = self._lines() if goes_on else set[int]()
        self._out: IO[str] | None = None
        self._part = self.path
        self._writer: Any = None

    def add(self, row: Row | BadRow, reason: Reason, sentence: str) -> None:
        """Write one row, unless it is there. Raises Rejected(FILE_UNREADABLE) where there can be no such file."""
        if self._goes_on and row.line in self.lines:
            return
        if self._out is None:
            self._open()
        assert self._out is not None  # noqa: S101 - opened above
        why = dict(zip(HEADS, (row.line, reason.value, sentence), strict=True))
        if self._header is None:
            said = dict(row.values) if isinstance(row, Row) else {"rejected.text": row.text}
            self._out.write(orjson.dumps(why | said).decode() + "\n")
        else:
            values = [row.values.get(fold(name), "") for name in self._header] if isinstance(row, Row) else [row.text]
            self._writer.writerow([*why.values(), *values])

    def _open(self) -> None:
        try:
            # A name of its own, as two may look at one file at a time; mkstemp makes it with mode 0600.
            place, name = mkstemp(prefix=f".{self.path.name}.", suffix=".part", dir=self.path.parent)
        except OSError as error:
            sentence = f"the rejected rows cannot be written beside the file: {error.strerror}"
            raise Rejected(Reason.FILE_UNREADABLE, sentence) from None
        self._part = Path(name)
        self._out = os.fdopen(place, "w", encoding="utf-8", errors="replace", newline="")
        is_begun = self._goes_on and self.path.exists()
        if is_begun:
            with self.path.open(encoding="utf-8", newline="") as before:
                shutil.copyfileobj(before, self._out)
        if self._header is not None:
            self._writer = csv.writer(self._out, **self._dialect())
            if not is_begun:
                self._out.write("\ufeff")  # says that it is UTF-8, whatever the mapping declares
                self._writer.writerow([*HEADS, *self._header])

    def _dialect(self) -> dict[str, Any]:
        form = self._form
        return {
            "delimiter": form.delimiter,
            "quotechar": form.quote or None,
            "escapechar": form.escape or ("\\" if not (form.quote and form.doubled_quotes) else None),
            "doublequote": form.doubled_quotes,
            "quoting": csv.QUOTE_MINIMAL if form.quote else csv.QUOTE_NONE,
        }

    def _lines(self) -> set[int]:
        """Return the lines of the rows that are in the file already; somebody may have mended it meanwhile."""
        if not self.path.exists():
            return set()
        with self.path.open(encoding="utf-8-sig", newline="") as read, suppress(ValueError, AttributeError, csv.Error):
            if self._header is None:
                return {int(orjson.loads(one).get(HEADS[0], 0)) for one in read}
            return {int(row[0]) for row in csv.reader(read, **self._dialect()) if row and row[0].isdigit()}
        return set()

    @contextmanager
    def whole(self) -> Iterator["RejectedRows"]:
        """Give the file its name once everything is in it; where nothing was rejected, that of an earlier look goes."""
        try:
            yield self
            if self._out is not None:
                self._out.close()
                self._part.replace(self.path)
            elif not self._goes_on:
                self.path.unlink(missing_ok=True)
        finally:
            if self._out is not None and not self._out.closed:
                self._out.close()
                self._part.unlink(missing_ok=True)
