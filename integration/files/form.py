"""How a file is written: what a mapping declares of it, because it cannot be told from the file for sure."""

import codecs
import csv
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, StrictBool, model_validator

from integration.files.source import UTF8_BOM
from integration.files.trailer import Trailer

_ASCII = bytes(range(128))
_ESCAPED = rb"\u0041\x41"
"""What is another text where an encoding is a notation, which can name what is no character."""


def _encoding(name: str) -> str:
    """Return the name of an encoding whose lines can be told apart. Raises ValueError where it is none."""
    try:
        known = codecs.lookup(name).name
        is_ascii = all(some.decode(known) == some.decode("ascii") for some in (_ESCAPED, _ASCII))
    except (LookupError, UnicodeError):
        raise ValueError(f"{name!r} is no encoding; write utf-8, latin-1, cp1252") from None
    if not is_ascii:
        raise ValueError(f"files in {name} are not read; save them as UTF-8")
    return known


def _one_character(value: str) -> str:
    if len(value) > 1 or value in ("\n", "\r", "\0") or ord(value or "a") >= len(_ASCII):
        raise ValueError("must be one ASCII character, in quotes")
    return value


class Form(BaseModel):
    """The dialect of a file. `format` None = by its name; `quote` and `escape` '' = there is none.

    A byte order mark says UTF-8, whatever `encoding` says. `skip_spaces`: blanks behind a delimiter are no value.
    `trailer`: what the last row is, which counts the others.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["csv", "jsonl"] | None = None
    encoding: Annotated[str, AfterValidator(_encoding)] = "utf-8"
    delimiter: Annotated[str, AfterValidator(_one_character)] = ","
    quote: Annotated[str, AfterValidator(_one_character)] = '"'
    escape: Annotated[str, AfterValidator(_one_character)] = ""
    doubled_quotes: StrictBool = True
    skip_spaces: StrictBool = False
    trailer: Trailer | None = None

    @model_validator(mode="after")
    def _can_be_told_apart(self) -> Self:
        chosen = [one for one in (self.delimiter, self.quote, self.escape) if one]
        if not self.delimiter or len(set(chosen)) < len(chosen):
            raise ValueError("delimiter, quote and escape must be different characters, and there must be a delimiter")
        if self.skip_spaces and self.delimiter == " ":
            raise ValueError("skip_spaces leaves nothing of a file that is delimited by spaces")
        if self.trailer and self.format == "jsonl":
            raise ValueError("a trailer is a row of CSV; JSON Lines have none")
        return self

    def decoded_by(self, head: bytes) -> str:
        """Return the encoding of a file that begins like this."""
        return "utf-8" if head.startswith(UTF8_BOM) else self.encoding

    def dialect(self) -> type[csv.Dialect]:
        """Return the dialect for the csv module, which refuses what is not quoted properly."""

        class Declared(csv.Dialect):
            delimiter = self.delimiter
            quotechar = self.quote or None
            escapechar = self.escape or None
            doublequote = self.doubled_quotes
            skipinitialspace = self.skip_spaces
            quoting = csv.QUOTE_MINIMAL if self.quote else csv.QUOTE_NONE
            lineterminator = "\n"
            strict = True

        return Declared


AS_USUAL = Form()
