"""The last row of a file that says how many there are before it, so that one that was cut off anywhere is told."""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictInt, model_validator

from integration.errors import Reason, Rejected
from integration.files.fields import Word
from integration.files.row import fold


def _word(text: str) -> str:
    if not text.strip():
        raise ValueError("must be what stands in the first field of the last row, such as TRAILER")
    return text


_NUMBER = re.compile(r"\d{1,18}", re.ASCII)


class Trailer(BaseModel):
    """The form of that row: `word` stands in its first field, the number in its `field`, the first of which is 1.

    `counts`: the `rows` between the names of the columns and the trailer, or `all` rows, with these two.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    word: Annotated[Word, AfterValidator(_word)]
    field: Annotated[StrictInt, Field(ge=2, le=1_000)] = 2
    counts: Literal["rows", "all"] = "rows"

    @model_validator(mode="before")
    @classmethod
    def _short(cls, given: Any) -> Any:
        return given if isinstance(given, Mapping | Trailer) else {"word": given}

    def number(self, fields: Sequence[str]) -> int | None:
        """Return how many rows the trailer says are between the columns and itself, None where it says no number."""
        text = fields[self.field - 1].strip() if len(fields) >= self.field else ""
        return int(text) - (2 if self.counts == "all" else 0) if _NUMBER.fullmatch(text) else None


class Tally:
    """The rows of a file as they are read, compared with its trailer; `is_whole`: it is read from its beginning."""

    def __init__(self, trailer: Trailer, *, is_whole: bool) -> None:
        self._trailer, self._is_whole = trailer, is_whole
        self._word = fold(trailer.word)
        self._rows = 0
        self._closed_on: int | None = None

    def is_trailer(self, fields: Sequence[str], line: int) -> bool:
        """Say whether this row is the trailer, and count it where it is none.

        Raises Rejected(FILE_CUT) where the trailer counts other rows than there are, or a row follows it.
        """
        if self._closed_on is not None:
            raise _cut(line, f"a row follows the trailer, which stands on line {self._closed_on}")
        if not fields or fold(fields[0]) != self._word:
            self._rows += 1
            return False
        self._closed_on = line
        if self._is_whole:
            said = self._trailer.number(fields)
            if said is None:
                raise _cut(line, f"field {self._trailer.field} of the trailer is no number")
            if said != self._rows:
                raise _cut(line, f"the trailer counts {said} rows, there are {self._rows}")
        return True

    def end(self, line: int) -> None:
        """Note that the file ends before a line. Raises Rejected(FILE_CUT) where it had no trailer."""
        if self._closed_on is None:
            raise _cut(line - 1, "the file ends here, without its trailer")


def _cut(line: int, sentence: str) -> Rejected:
    return Rejected(Reason.FILE_CUT, f"line {line}: {sentence}")
