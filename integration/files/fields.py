"""What a mapping says of one field: which column it comes from, and what the column's words mean."""

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from integration.files.row import fold


class Unfit(ValueError):
    """A value that is not of the form declared for its column; the text names the column and never the value."""


def _text(value: Any) -> Any:
    """Return what YAML read as a number or truth as the word it stands for. Raises ValueError for what is no text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and ("\0" in value or any("\ud800" <= one <= "\udfff" for one in value)):
        raise ValueError("a NUL, or half of a character, is no text that could be kept")
    return str(value) if isinstance(value, int | float) else value


# YAML reads these words as truths, and a column may say any of them.
_SPELT = {True: ("true", "yes", "on"), False: ("false", "no", "off")}


def _unfolded(words: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return words and their meanings, with every word that YAML took for a truth spelt out."""
    return {
        spelt: meant for word, meant in words.items() for spelt in (_SPELT[word] if isinstance(word, bool) else (word,))
    }


Read = Callable[[Mapping[str, str]], str | None]
Word = Annotated[str, BeforeValidator(_text)]


class MappedField(BaseModel):
    """A field of a row: the text of `column`, or `value` for all rows.

    `values`: what the column's words mean, compared without regard to case; a word that is not among them is
    `otherwise`, and a mistake of the row where nothing is said there. None = nothing is said.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    column: Annotated[str | None, Field(min_length=1)] = None
    value: Word | None = None
    values: dict[Word, Word | None] | None = None
    otherwise: Word | None = None

    @model_validator(mode="before")
    @classmethod
    def _short(cls, given: Any) -> Any:
        if isinstance(given, str):
            return {"column": given}
        if not isinstance(given, Mapping):
            raise ValueError("must be a column's name, or {column: ..., values: {...}}, or {value: ...}")  # noqa: TRY004
        if (given.get("column") is None) == (given.get("value") is None):
            raise ValueError("say either column: or value:")
        words = given.get("values")
        if (words is None and "otherwise" in given) or (words is not None and given.get("column") is None):
            raise ValueError("otherwise: belongs to values:, and both to column:")
        return {**given, "values": _unfolded(words)} if isinstance(words, Mapping) else given

    def read(self, values: Mapping[str, str]) -> str | None:
        """Return what one row says in this field, None where it says nothing. Raises Unfit. For many rows: `reader`."""
        return self.reader()(values)

    def reader(self) -> Read:
        """Return what reads this field out of a row: its text, None where the row says nothing. It raises Unfit.

        Made once and called for each row, so it looks nothing up that does not change.
        """
        if self.column is None:
            constant = self.value
            return lambda _: constant
        name, words = fold(self.column), self.values
        if words is None:
            return lambda values: values.get(name, "").strip() or None
        folded = {fold(word): meant for word, meant in words.items()}
        has_otherwise, otherwise, column = "otherwise" in self.model_fields_set, self.otherwise, self.column

        def meaning(values: Mapping[str, str]) -> str | None:
            word = fold(values.get(name, ""))
            if word in folded:
                return folded[word]
            if not word:
                return None
            if has_otherwise:
                return otherwise
            raise Unfit(f"{column}: the value is not among those that the mapping names; add it, or otherwise:")

        return meaning


def columns(fields: Iterable[MappedField | None]) -> list[str]:
    """Return the columns that these fields come from, each once."""
    return list(dict.fromkeys(one.column for one in fields if one is not None and one.column is not None))
