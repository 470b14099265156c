"""The arguments of transforms as YAML gives them, checked and made hashable: a mapping becomes sorted pairs.

Each function returns the argument to keep, or raises TransformFault with the middle of a sentence: `chains.parse` puts
the transform's name before it and what to write behind it.
"""

from collections.abc import Callable
from datetime import date

import phonenumbers

from mappings.transforms.texts import Pairs
from mappings.transforms.values import TransformFault, Unfit, kind_of

Check = Callable[[object], object]

_LONGEST_TEXT = 1_000_000
_MOST_DIGITS = 10


def nothing(given: object) -> None:
    """Take no argument."""
    if given is not None:
        raise TransformFault("takes no argument")


def text(given: object) -> str:
    """Take a text that is not empty."""
    if given is None or given == "":
        raise TransformFault("needs a text")
    if not isinstance(given, str):
        raise TransformFault(f"needs a text, and YAML reads {_written(given)}; put it in quotes")
    return given


def part_of_name(given: object) -> str:
    """Take `first` or `last`."""
    if given not in ("first", "last"):
        raise TransformFault("needs the word first or last")
    return str(given)


def length(given: object) -> int:
    """Take a number of characters."""
    if isinstance(given, bool) or not isinstance(given, int) or not 1 <= given <= _LONGEST_TEXT:
        raise TransformFault(f"needs a whole number from 1 to {_LONGEST_TEXT}")
    return given


def digits(given: object) -> int | None:
    """Take a number of digits after the point; nothing means none of them."""
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, int) or not 0 <= given <= _MOST_DIGITS:
        raise TransformFault(f"needs a whole number from 0 to {_MOST_DIGITS}")
    return given


def whole(given: object) -> int | None:
    """Take the number that stands for all of it, 1 or 100; nothing means 1."""
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, int) or given not in (1, 100):
        raise TransformFault("needs the number that stands for all of it, 1 or 100")
    return given


def region(given: object) -> str | None:
    """Take a country of two letters; nothing means that numbers must name theirs."""
    if given is None:
        return None
    if given is False:
        raise TransformFault('needs a country, and YAML reads NO without quotes as a "no"; put it in quotes')
    if not isinstance(given, str) or given.upper() not in phonenumbers.SUPPORTED_REGIONS:
        raise TransformFault("needs the two letters of a country (ISO 3166), such as DE or US")
    return given.upper()


def pairs(given: object) -> Pairs:
    """Take a mapping from text to text; whole numbers as keys are taken as they are written."""
    if not isinstance(given, dict) or not given:
        raise TransformFault("needs a mapping from each value to its text")
    kept: dict[str, str] = {}
    for key, value in given.items():
        if isinstance(key, bool) or not isinstance(key, str | int):
            raise TransformFault(f"has a key that is no text: YAML reads {_written(key)}; put it in quotes")
        if not isinstance(value, str):
            raise TransformFault(f"has no text for the key {key}: YAML reads {_written(value)}; put it in quotes")
        if str(key) in kept:
            raise TransformFault(f"has the key {key} twice, with and without quotes")
        kept[str(key)] = value
    return tuple(sorted(kept.items()))


def yes_and_no(given: object) -> Pairs | None:
    """Take `{true: text, false: text}`; nothing means the words true and false."""
    if given is None:
        return None
    if not isinstance(given, dict) or sorted(map(_lower, given)) != ["false", "true"]:
        raise TransformFault("needs a text for true and one for false")
    return pairs({_lower(key): value for key, value in given.items()})


def decimal_mark(given: object) -> Pairs | None:
    """Take `{decimal: ","}` or `{decimal: "."}`; nothing means the point."""
    if given is None:
        return None
    if not isinstance(given, dict) or list(given) != ["decimal"] or given["decimal"] not in (".", ","):
        raise TransformFault("takes nothing but the mark before the fraction, a point or a comma in quotes")
    return pairs(given)


def scalar(given: object) -> str | int | float | bool:
    """Take a text, a number, true or false."""
    if given is None or given == "":
        raise TransformFault("needs a value")
    if isinstance(given, date):
        raise TransformFault("needs a text, a number, true or false, and YAML reads a date; put it in quotes")
    if not isinstance(given, str | int | float):
        raise TransformFault("needs a text, a number, true or false")
    try:
        kind_of(given)
    except Unfit as error:
        raise TransformFault(f"cannot use this value: {error.detail}") from None
    return given


def _lower(key: object) -> str:
    return str(key).lower()


def _written(given: object) -> str:
    """Return how YAML understood something that was meant to be a text."""
    match given:
        case None:
            return "nothing there"
        case bool():
            return "true or false there (yes, no, on and off are read so too)"
        case int() | float():
            return "a number there"
        case date():
            return "a date there"
        case _:
            return "a list or a mapping there"
