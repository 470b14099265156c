"""What a reader yields: a row, or why there is none, and where in the file it stood."""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, Protocol

from integration.errors import Reason


class Mark(NamedTuple):
    """A place between two rows: bytes before it, once unpacked, and the number of the line that begins there."""

    offset: int = 0
    line: int = 1


BEGINNING = Mark()


class Row(NamedTuple):
    """The values of one row by folded name, as text; the line on which it begins, and the mark after it."""

    line: int
    values: Mapping[str, str]
    after: Mark


class BadRow(NamedTuple):
    """A row that cannot be read: why, and its text as it stood. It may span lines, up to the one before `after`."""

    line: int
    reason: Reason
    sentence: str
    text: str
    after: Mark


class Reader(Protocol):
    """A file that can be read from any mark on, any number of times. Memory is that of a few blocks."""

    def require(self, columns: Iterable[str]) -> None:
        """Raise Rejected(COLUMN_MISSING) where the file lacks one of these columns, or has it twice."""

    def may_have(self, column: str) -> bool:
        """Say whether rows may have a value in this column."""

    def rows(self, after: Mark = BEGINNING) -> Iterator[Row | BadRow]:
        """Return the rows behind a mark.

        Raises Rejected: FILE_UNREADABLE where the file breaks off or is damaged, FILE_CUT where its trailer is wrong.
        """


def fold(name: str) -> str:
    """Return a column's name as names are compared: trimmed, without regard to case."""
    return name.strip().casefold()
