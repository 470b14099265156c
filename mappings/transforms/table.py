"""Every transform there is, in one table: what it takes, gives and is told. `docs/transforms.md` shows the same."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from zoneinfo import ZoneInfo

from mappings.transforms import addresses, arguments, names, numbers, texts, times
from mappings.transforms.values import Kind, Value, plain

# A kind, or a form of one that more properties take: texts and numbers that stand for days and moments.
Form = Kind | Literal["text of a day", "text of a moment", "number of a moment", "number of a day"]

BASE: Mapping[Form, Kind] = {
    "text": "text",
    "number": "number",
    "yes or no": "yes or no",
    "date and time": "date and time",
    "day": "day",
    "list": "list",
    "text of a day": "text",
    "text of a moment": "text",
    "number of a moment": "number",
    "number of a day": "number",
}

_TEXT: tuple[Kind, ...] = ("text",)
_WORDS: tuple[Kind, ...] = ("text", "number")
_NAME: tuple[Kind, ...] = ("text", "list")
_NUMBER: tuple[Kind, ...] = ("number",)
_MOMENT: tuple[Kind, ...] = ("date and time",)
_DAY: tuple[Kind, ...] = ("date and time", "day")
_YES_OR_NO = (("false", "false"), ("true", "true"))


@dataclass(frozen=True, slots=True)
class Transform:
    """One row. `gives` is None where the kind stays; `told` is the argument in words, `example` what to write."""

    name: str
    takes: tuple[Kind, ...]
    gives: Form | None
    told: str
    example: str
    meaning: str
    check: arguments.Check
    apply: Callable[[Any, Any, ZoneInfo], Value]


def _written(value: str | float) -> str:
    return value if isinstance(value, str) else plain(value)


_ALL = (
    # --- names and where a person is reached
    Transform(
        "full_name", _NAME, "text", "", "full_name",
        "A name, or its parts in their order, as one text with single blanks.",
        arguments.nothing, lambda value, _argument, _zone: names.full_name(value),
    ),
    Transform(
        "split_name", _NAME, "text", "first or last", "{split_name: last}",
        "The first or the last name; particles (van der, de la) and Jr. go with the last, one word is a first name.",
        arguments.part_of_name, lambda value, part, _zone: names.split_name(value, part),
    ),
    Transform(
        "email", _TEXT, "text", "", "email",
        "The address trimmed and in lower case; unfit where no mail can reach it.",
        arguments.nothing, lambda value, _argument, _zone: addresses.email(value),
    ),
    Transform(
        "e164", _TEXT, "text", "the country of numbers without +; without it these are unfit", "{e164: DE}",
        "A telephone number as +4930123456, without its extension; unfit where no such number can exist.",
        arguments.region, lambda value, region, _zone: addresses.e164(value, region),
    ),
    # --- texts
    Transform(
        "lower", _TEXT, "text", "", "lower",
        "The text in lower case.",
        arguments.nothing, lambda value, _argument, _zone: value.lower(),
    ),
    Transform(
        "upper", _TEXT, "text", "", "upper",
        "The text in capitals.",
        arguments.nothing, lambda value, _argument, _zone: value.upper(),
    ),
    Transform(
        "strip", _TEXT, "text", "", "strip",
        "The text without blanks at its ends, those without width among them.",
        arguments.nothing, lambda value, _argument, _zone: texts.strip(value),
    ),
    Transform(
        "truncate", _TEXT, "text", "the most characters", "{truncate: 100}",
        "The beginning of the text; accents, flags and joined emoji are never cut apart.",
        arguments.length, lambda value, limit, _zone: texts.truncate(value, limit),
    ),
    Transform(
        "prefix", _WORDS, "text", "a text", '{prefix: "LMS "}',
        "The argument before the text.",
        arguments.text, lambda value, before, _zone: before + _written(value),
    ),
    Transform(
        "suffix", _WORDS, "text", "a text", '{suffix: " %"}',
        "The argument behind the text.",
        arguments.text, lambda value, behind, _zone: _written(value) + behind,
    ),
    Transform(
        "join", ("list",), "text", "what stands between", '{join: ";"}',
        "The entries of a list as one text; empty ones are left out.",
        arguments.text, lambda value, separator, _zone: texts.join(value, separator),
    ),
    Transform(
        "lookup", _WORDS, "text", "a mapping from text to text", "{lookup: {beginner: Bronze, default: None yet}}",
        "What the value stands for, to the letter; the key default stands for all others, which are else unfit.",
        arguments.pairs, lambda value, pairs, _zone: texts.lookup(_written(value), pairs),
    ),
    Transform(
        "bool_text", ("yes or no",), "text", "a text for true and for false; else these words",
        '{bool_text: {true: "Yes", false: "No"}}',
        "Yes or no as a text.",
        arguments.yes_and_no, lambda value, pairs, _zone: texts.bool_text(value, pairs or _YES_OR_NO),
    ),
    # --- days and moments
    Transform(
        "iso_date", _DAY, "text of a day", "", "iso_date",
        "The calendar day in the zone of the customer as 2026-11-22.",
        arguments.nothing, lambda value, _argument, zone: times.iso_date(value, zone),
    ),
    Transform(
        "iso_datetime", _MOMENT, "text of a moment", "", "iso_datetime",
        "The moment in UTC as 2026-11-22T08:30:00.000Z.",
        arguments.nothing, lambda value, _argument, _zone: times.iso_datetime(value),
    ),
    Transform(
        "epoch_ms", _MOMENT, "number of a moment", "", "epoch_ms",
        "The moment in milliseconds since 1970.",
        arguments.nothing, lambda value, _argument, _zone: times.epoch_ms(value),
    ),
    Transform(
        "epoch_day_ms", _DAY, "number of a day", "", "epoch_day_ms",
        "Midnight UTC of the calendar day in the zone of the customer, in milliseconds since 1970.",
        arguments.nothing, lambda value, _argument, zone: times.epoch_day_ms(value, zone),
    ),
    # --- numbers
    Transform(
        "number", _WORDS, "number", "the mark before the fraction, else a point", '{number: {decimal: ","}}',
        "A text of digits as a number; any other mark in it makes it unfit.",
        arguments.decimal_mark, lambda value, mark, _zone: numbers.number(value, dict(mark or ()).get("decimal", ".")),
    ),
    Transform(
        "round", _NUMBER, "number", "digits after the point, else none", "{round: 1}",
        "The nearest number with so many digits; a half goes away from zero.",
        arguments.digits, lambda value, digits, _zone: numbers.round_half_away(value, digits or 0),
    ),
    Transform(
        "percent", _NUMBER, "number", "what stands for all of it, 1 or 100; else 1", "{percent: 100}",
        "A share as a number from 0 to 100; unfit outside of it.",
        arguments.whole, lambda value, whole, _zone: numbers.percent(value, whole or 1),
    ),
    # --- what is missing
    Transform(
        "default", ("text", "number", "yes or no"), None, "a text, a number, true or false", "{default: unknown}",
        "The argument where there is no value; the others pass over what is empty.",
        arguments.scalar, lambda value, _argument, _zone: value,
    ),
)  # fmt: skip

TRANSFORMS: Mapping[str, Transform] = {transform.name: transform for transform in _ALL}
