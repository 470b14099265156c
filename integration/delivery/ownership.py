"""When a property is written: whose word counts, as the field rules say, given what the CRM holds now."""

from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation

from integration.model.contacts import Fields

_JOINED = ";"
_REGARDLESS = ("always", "never_clear")


def same_value(wanted: str, seen: str) -> bool:
    """Say whether two values are the same to the CRM, which trims text and writes 3 as 3.0."""
    if wanted.strip() == seen.strip():
        return True
    whole, point, rest = seen.strip().partition(".")
    is_number = whole.removeprefix("-").isdigit() and bool(point)
    return is_number and not rest.strip("0") and whole == wanted.strip()


def changes(wanted: Fields, seen: Fields, rules: Mapping[str, str]) -> dict[str, str]:
    """Return what must be written so that a contact is as it should be, by the rule of each property.

    `rules` names the properties that are not always written; `seen` holds what the CRM has ('' or absent = empty).
    """
    found = {}
    for name, value in wanted.items():
        there = seen.get(name, "")
        becomes = _RULES[rules[name]](value, there) if name in rules else value
        if becomes is not None and not same_value(becomes, there):
            found[name] = becomes
    return found


def must_look(changed: Mapping[str, str], rules: Mapping[str, str]) -> bool:
    """Whether a change hangs on what the CRM holds at this moment, which somebody may have edited since we saw it."""
    return any(hangs_on_theirs(name, rules) for name in changed)


def hangs_on_theirs(name: str, rules: Mapping[str, str]) -> bool:
    """Whether it depends on the CRM's value if this property is written."""
    return rules.get(name, "always") not in _REGARDLESS


def _only_if_blank(wanted: str, there: str) -> str | None:
    return None if there else wanted


def _never_clear(wanted: str, _: str) -> str | None:
    return wanted or None


def _max(wanted: str, there: str) -> str | None:
    return wanted if wanted and (not there or _after(wanted, there)) else None


def _min(wanted: str, there: str) -> str | None:
    return wanted if wanted and (not there or _after(there, wanted)) else None


def _append(wanted: str, there: str) -> str | None:
    held, ours = ([one.strip() for one in text.split(_JOINED) if one.strip()] for text in (there, wanted))
    new = [one for one in dict.fromkeys(ours) if one not in held]
    return _JOINED.join([*held, *new]) if new else None


_RULES: Mapping[str, Callable[[str, str], str | None]] = {
    "only_if_blank": _only_if_blank,
    "never_clear": _never_clear,
    "max": _max,
    "min": _min,
    "append": _append,
}


def _after(one: str, other: str) -> bool:
    """Whether a number or an ISO date comes after another; what cannot be compared does not."""
    first, second = _number(one), _number(other)
    if first is not None and second is not None:
        return first > second
    return (first is None) == (second is None) and one > other


def _number(text: str) -> Decimal | None:
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None
