"""Rows of a CSV file, each with its line and the bytes up to it, so that reading goes on exactly there."""

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path

from integration.errors import Reason, Rejected
from integration.files import source
from integration.files.form import AS_USUAL, Form
from integration.files.row import BEGINNING, BadRow, Mark, Row, fold
from integration.files.trailer import Tally

_ENCODED = "say which encoding the file is in, as encoding: latin-1 or cp1252 under file: in the mapping"


class CsvReader:
    """A CSV file whose first row names the columns. Raises Rejected where it has no such row, or is no text."""

    def __init__(self, path: Path, form: Form = AS_USUAL) -> None:
        """Read the header; nothing else is read before `rows`."""
        self.path, self.form = path, form
        with source.opened(path) as stream:
            head = stream.read(len(source.UTF8_BOM))
            self._encoding = form.decoded_by(head)
            start = len(head) if head == source.UTF8_BOM else 0
            stream.seek(start)
            tape = _Tape(source.lines(stream, at_returns=True), self._encoding, Mark(start))
            try:
                named = next((row for row in csv.reader(tape, form.dialect()) if row), None)
            except csv.Error:
                raise Rejected(
                    Reason.FILE_UNREADABLE, "the row that names the columns is not quoted as declared"
                ) from None
        if named is None:
            raise Rejected(Reason.FILE_UNREADABLE, "the file is empty; its first row must name the columns")
        if tape.fault:
            raise Rejected(Reason.FILE_UNREADABLE, f"the names of the columns are not {self._encoding}; {_ENCODED}")
        self.header = tuple(name.strip() for name in named)
        self._names = [fold(name) for name in named]
        self._start = tape.mark

    def require(self, columns: Iterable[str]) -> None:
        """Raise Rejected(COLUMN_MISSING) where the file lacks one of these columns, or has it twice."""
        for column in columns:
            there = self._names.count(fold(column))
            if there > 1:
                raise Rejected(Reason.COLUMN_MISSING, f"the file has the column {column!r} {there} times; rename one")
            if not there:
                raise Rejected(Reason.COLUMN_MISSING, f"the file has no column {column!r}; {self._advice()}")

    def may_have(self, column: str) -> bool:
        """Say whether the header names this column."""
        return fold(column) in self._names

    def _advice(self) -> str:
        only = self.header[0] if len(self.header) == 1 else ""
        for other in (";", ",", "\t", "|"):
            if other in only:
                return f"all its columns are one: say delimiter: {other!r} under file: in the mapping"
        return f"it has: {', '.join(filter(None, self.header))}"

    def rows(self, after: Mark = BEGINNING) -> Iterator[Row | BadRow]:
        """Return the rows behind a mark that a row of this file has, from the first one by default.

        Raises Rejected(FILE_CUT) at the end where a trailer is declared, and lacks or counts other rows.
        """
        begin = max(after, self._start)
        trailer = self.form.trailer
        tally = Tally(trailer, is_whole=begin == self._start) if trailer else None
        with source.opened(self.path) as stream:
            stream.seek(begin.offset)
            tape = _Tape(source.lines(stream, at_returns=True), self._encoding, begin)
            reader = csv.reader(tape, self.form.dialect())
            names, width = self._names, len(self._names)
            while True:
                tape.begin()
                try:
                    fields = next(reader)
                except StopIteration:
                    if tally:
                        tally.end(tape.mark.line)
                    return
                except csv.Error as error:
                    if tally:
                        tally.is_trailer((), tape.line)
                    yield tape.bad(*_said(str(error), tape))
                    continue
                if tally and (fields or tape.fault) and tally.is_trailer(() if tape.fault else fields, tape.line):
                    continue
                if tape.fault:
                    yield tape.bad(Reason.ROW_UNREADABLE, tape.fault)
                elif len(fields) == width:
                    yield Row(tape.line, dict(zip(names, fields, strict=True)), tape.mark)
                elif fields:  # a blank line is no row
                    sentence = f"the row has {len(fields)} fields, the header names {width}"
                    yield tape.bad(Reason.ROW_UNREADABLE, sentence)


class _Tape:
    """The lines of a file as text for the csv module, and what was taken of them for the row that is being read."""

    def __init__(self, lines: Iterator[bytes], encoding: str, mark: Mark) -> None:
        self._lines, self._encoding, self.mark = lines, encoding, mark
        self._taken: list[str] = []
        self.line = mark.line
        self.fault = ""

    def begin(self) -> None:
        """A new row begins with the next line."""
        self._taken.clear()
        self.line = self.mark.line
        self.fault = ""

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        raw = next(self._lines)
        if isinstance(raw, source.LongLine):
            self.mark = Mark(self.mark.offset + raw.length, self.mark.line + 1)
            self.fault = f"a line is longer than {source.LONGEST_LINE} bytes"
            return "\n"
        self.mark = Mark(self.mark.offset + len(raw), self.mark.line + 1)
        try:
            text = raw.decode(self._encoding)
        except UnicodeDecodeError:
            text = raw.decode(self._encoding, "replace")
            self.fault = f"the row is not {self._encoding}; {_ENCODED}"
        if "\0" in text:
            self.fault = "the row holds a NUL character"
        self._taken.append(text)
        return text

    def bad(self, reason: Reason, sentence: str) -> BadRow:
        """Return the row that was taken last as one that cannot be read."""
        return BadRow(self.line, reason, sentence, "".join(self._taken), self.mark)


def _said(error: str, tape: _Tape) -> tuple[Reason, str]:
    """Return why the csv module refused a row, in our words."""
    span = f" (lines {tape.line} to {tape.mark.line - 1})" if tape.mark.line - tape.line > 1 else ""
    if "unexpected end" in error:
        return Reason.FILE_CUT, f"the file ends within quotes that begin here{span}: cut off, or a quote is missing"
    if "field limit" in error:
        sentence = f"a field is longer than {csv.field_size_limit()} characters{span}; is a quote missing?"
        return Reason.ROW_UNREADABLE, sentence
    return Reason.ROW_UNREADABLE, f"the row is not quoted as declared{span}; a quote within a field must be doubled"
