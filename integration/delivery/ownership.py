"""When a property is written: whose word counts, as the field rules say, given what the CRM holds now."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from types import MappingProxyType

from integration.model.contacts import Fields

_JOINED = ";"
_REGARDLESS = ("always", "never_clear")
_EPOCH_MS = re.compile(r"-?[0-9]{1,15}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_DAY_MS = 86_400_000


def same_value(wanted: str, seen: str, kind: str = "") -> bool:
    """Say whether two values are the same to the CRM, which trims text and writes 3 as 3.0.

    `kind` is `date` or `datetime` where the property holds one: these are taken in milliseconds, too, and returned as
    ISO 8601 (HubSpot docs, properties).
    """
    if wanted.strip() == seen.strip():
        return True
    if kind:
        moment = _moment(wanted, kind)
        return moment is not None and moment == _moment(seen, kind)
    whole, point, rest = seen.strip().partition(".")
    is_number = whole.removeprefix("-").isdigit() and bool(point)
    return is_number and not rest.strip("0") and whole == wanted.strip()


def changes(
    wanted: Fields, seen: Fields, rules: Mapping[str, str], types: Mapping[str, str] = MappingProxyType({})
) -> dict[str, str]:
    """Return what must be written so that a contact is as it should be, by the rule of each property.

    `rules` names the properties that are not always written, `types` those that hold days or moments; `seen` holds what
    the CRM has ('' or absent = empty).
    """
    found = {}
    for name, value in wanted.items():
        there = seen.get(name, "")
        if value == there:
            continue
        kind = types.get(name, "")
        becomes = _RULES[rules[name]](value, there, kind) if name in rules else value
        if becomes is not None and not same_value(becomes, there, kind):
            found[name] = becomes
    return found


def must_look(changed: Mapping[str, str], rules: Mapping[str, str]) -> bool:
    """Whether a change hangs on what the CRM holds at this moment, which somebody may have edited since we saw it."""
    return any(hangs_on_theirs(name, rules) for name in changed)


def hangs_on_theirs(name: str, rules: Mapping[str, str]) -> bool:
    """Whether it depends on the CRM's value if this property is written."""
    return rules.get(name, "always") not in _REGARDLESS


def _only_if_blank(wanted: str, there: str, _: str) -> str | None:
    return None if there else wanted


def _never_clear(wanted: str, _there: str, _kind: str) -> str | None:
    return wanted or None


def _max(wanted: str, there: str, kind: str) -> str | None:
    return wanted if wanted and (not there or _after(wanted, there, kind)) else None


def _min(wanted: str, there: str, kind: str) -> str | None:
    return wanted if wanted and (not there or _after(there, wanted, kind)) else None


def _append(wanted: str, there: str, _: str) -> str | None:
    held, ours = ([one.strip() for one in text.split(_JOINED) if one.strip()] for text in (there, wanted))
    new = [one for one in dict.fromkeys(ours) if one not in held]
    return _JOINED.join([*held, *new]) if new else None


_RULES: Mapping[str, Callable[[str, str, str], str | None]] = {
    "only_if_blank": _only_if_blank,
    "never_clear": _never_clear,
    "max": _max,
    "min": _min,
    "append": _append,
}


def _after(one: str, other: str, kind: str) -> bool:
    """Whether a number, a day or a moment comes after another; what cannot be compared does not."""
    first, second = (_moment(text, kind) if kind else _number(text) for text in (one, other))
    return first is not None and second is not None and first > second


def _moment(text: str, kind: str) -> int | None:
    """Return a day as its number, a moment in milliseconds since 1970; None where it is neither."""
    try:
        if _EPOCH_MS.fullmatch(text.strip()):
            milliseconds = int(text)
        else:
            moment = datetime.fromisoformat(text.strip())
            milliseconds = ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH) // _MILLISECOND
    except ValueError:
        return None
    return milliseconds // _DAY_MS if kind == "date" else milliseconds


def _number(text: str) -> Decimal | None:
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None
