"""What goes through a transform: canonical values, their kinds, and the two ways in which it goes wrong."""

import math
from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Literal

from integration.errors import CoursewireError, Reason

Value = str | int | float | bool | datetime | date | None | Sequence[str]

# A list holds texts; a day is a date without a time.
Kind = Literal["text", "number", "yes or no", "date and time", "day", "list"]

# Seventeen digits and more are no longer exact in the CRM's floating point, and 10**18 fits the database's bigint.
_LARGEST = 10**18

_SEQUENCES = (str, list, tuple)


class TransformFault(ValueError):
    """A transform that was written wrongly; the text says what is wrong and what to write."""


class Unfit(CoursewireError):
    """This one value cannot become what is asked for. Like every error of ours it never holds the value."""


def unfit(detail: str) -> Unfit:
    """Return the error of a value for which no reason of its own exists."""
    return Unfit(Reason.UNFIT_VALUE, detail)


def kind_of(value: Value) -> Kind:
    """Return the kind of a value that is not empty.

    Raises Unfit for what no field holds: a number without end, a list of other things than texts, other objects.
    """
    match value:
        case str():
            return "text"
        case bool():
            return "yes or no"
        case int() | float():
            if isinstance(value, float) and not math.isfinite(value):
                raise unfit("the number is infinite or none at all")
            if abs(value) >= _LARGEST:
                raise unfit("the number has more than 18 digits")
            return "number"
        case datetime():
            if value.utcoffset() is None:
                raise unfit("the date and time come without a time zone")
            return "date and time"
        case date():
            return "day"
        case list() | tuple() if all(isinstance(entry, str) for entry in value):
            return "list"
        case _:
            raise unfit("the value is of a kind that no field holds")


def filled(value: Value) -> Value:
    """Return the value, or None where it is empty: the text '' and a list without entries are."""
    return None if not value and isinstance(value, _SEQUENCES) else value


def plain(number: float) -> str:
    """Return a finite number with a point, without an exponent and without zeros at the end: `0.00001`, `85`."""
    text = format(Decimal(repr(number)), "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def shortest(number: Decimal) -> float:
    """Return a decimal number as an int where it is whole, else as a float."""
    return int(number) if number == number.to_integral_value() else float(number)


def a(form: str) -> str:
    """Return a kind or form with its article, as it stands in a sentence."""
    return form if form == "yes or no" else f"a {form}"


def any_of(kinds: Sequence[str]) -> str:
    """Return several kinds as a sentence offers them."""
    return " or ".join(map(a, kinds))
