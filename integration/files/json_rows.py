"""Rows of a JSON Lines file: one object per line, its values by dotted paths."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from integration.errors import Reason, Rejected
from integration.files import source
from integration.files.form import AS_USUAL, Form
from integration.files.row import BEGINNING, BadRow, Mark, Row, fold


class JsonReader:
    """A JSON Lines file. It has no header, so whatever a row lacks is empty there."""

    def __init__(self, path: Path, form: Form = AS_USUAL) -> None:
        """Look at the beginning; nothing else is read before `rows`. Raises Rejected where a trailer is declared."""
        if form.trailer:
            raise Rejected(
                Reason.FILE_UNREADABLE, "the mapping declares a trailer, which is a row of CSV; these are JSON Lines"
            )
        self.path = path
        with source.opened(path) as stream:
            head = stream.read(len(source.UTF8_BOM))
        self._encoding = form.decoded_by(head)
        self._start = Mark(len(head) if head == source.UTF8_BOM else 0)

    def require(self, columns: Iterable[str]) -> None:
        """Any path may be absent."""

    def may_have(self, column: str) -> bool:
        """Say that each row decides by itself what it has."""
        return True

    def rows(self, after: Mark = BEGINNING) -> Iterator[Row | BadRow]:
        """Return the rows behind a mark that a row of this file has, from the first one by default."""
        mark = max(after, self._start)
        with source.opened(self.path) as stream:
            stream.seek(mark.offset)
            for raw in source.lines(stream, at_returns=False):
                length = raw.length if isinstance(raw, source.LongLine) else len(raw)
                line, mark = mark.line, Mark(mark.offset + length, mark.line + 1)
                if isinstance(raw, source.LongLine):
                    sentence = f"the line is longer than {source.LONGEST_LINE} bytes"
                    yield BadRow(line, Reason.ROW_UNREADABLE, sentence, "", mark)
                    continue
                if raw.isspace():
                    continue
                text = raw.decode(self._encoding, "replace")
                try:
                    yield Row(line, _values(raw.decode(self._encoding)), mark)
                except (ValueError, RecursionError) as error:
                    cut = not raw.endswith(b"\n") and isinstance(error, json.JSONDecodeError)
                    reason = Reason.FILE_CUT if cut else Reason.ROW_UNREADABLE
                    yield BadRow(line, reason, _said(error, cut=cut), text, mark)


class _NotThis(ValueError):
    """JSON that can be read and is no row."""


def _refuse(name: str) -> Any:
    raise _NotThis(f"{name} is no JSON")


# Numbers stay the text that they are: an id of twenty digits is no float.
_decoder = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=_refuse)


def _values(text: str) -> dict[str, str]:
    """Return an object's values by folded dotted path; null is empty. Raises ValueError."""
    found: dict[str, str] = {}
    read = _decoder.decode(text)
    if not isinstance(read, dict):
        raise _NotThis("the line is no JSON object")
    waiting: list[tuple[str, Any]] = [(fold(name), value) for name, value in read.items()]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, dict):
            waiting += [(f"{path}.{fold(name)}", below) for name, below in value.items()]
        elif isinstance(value, list):
            waiting += [(f"{path}.{place}", below) for place, below in enumerate(value)]
        else:
            if path in found:
                raise _NotThis("the line names a value twice, in other letters")
            found[path] = _text(value)
    return found


def _text(value: str | bool | None) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if "\0" in value:
        raise _NotThis("the line holds a NUL character")
    if not value.isascii():
        value.encode()  # half of a character, as \\ud83d alone, is no text
    return value


def _said(error: Exception, *, cut: bool) -> str:
    """Return why a line is no row; it shows nothing of the line."""
    if isinstance(error, _NotThis):
        return str(error)
    if cut:
        return "the file ends within this line: it is cut off"
    if isinstance(error, UnicodeDecodeError):
        return "the line is not in the encoding of the file; JSON Lines are UTF-8"
    if isinstance(error, UnicodeEncodeError):
        return "the line holds half a character (a lone surrogate)"
    return "the line is nested too deep" if isinstance(error, RecursionError) else "the line is no JSON"
