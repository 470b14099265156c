"""Numbers: read from text, rounded as people round, and as a share of a whole."""

import re
from decimal import ROUND_HALF_UP, Decimal

from mappings.transforms.values import shortest, unfit

_NUMBER = {mark: re.compile(rf"([+-]?)([0-9]+)(?:[{mark}]([0-9]+))?") for mark in ".,"}
_EXACT_DIGITS = 15


def number(given: str | float, decimal: str) -> float:
    """Return a text as a number; `decimal` is the mark before the fraction, and there is no other mark.

    Raises Unfit for any other text: of `1.234` and `1,234` nobody knows what the sender meant.
    """
    if not isinstance(given, str):
        return given
    found = _NUMBER[decimal].fullmatch(given.strip())
    if found is None:
        raise unfit(f"the text is not a number of digits with `{decimal}` before the fraction and no other mark")
    sign, whole, fraction = found[1], found[2].lstrip("0"), (found[3] or "").rstrip("0")
    if len(whole) + len(fraction) > _EXACT_DIGITS:
        raise unfit("the number has more than 15 digits, which number properties do not keep; map it to a text")
    return shortest(Decimal(f"{sign}{whole or 0}.{fraction or 0}"))


def round_half_away(value: float, digits: int) -> float:
    """Return the number with so many digits after the point; a half goes away from zero: 2.5 to 3, -2.5 to -3."""
    return shortest(Decimal(repr(value)).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP))


def percent(value: float, whole: int) -> float:
    """Return a number from 0 to `whole` as one from 0 to 100. Raises Unfit outside of it."""
    if not 0 <= value <= whole:
        raise unfit(f"the number is not between 0 and {whole}")
    return shortest(Decimal(repr(value)) * 100 / whole)
