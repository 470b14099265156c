"""Which properties of a system's contacts the published rules write, as far as they can be named now."""

import re
from collections.abc import Iterable
from typing import NamedTuple

from integration.ports import Wanted
from mappings.canonical import LOOKED_UP_BY
from mappings.rules import FieldRules

KEY = "{key}"


class Named(NamedTuple):
    """The properties that can be named, and those of which only the pattern is known yet."""

    wanted: tuple[Wanted, ...]
    patterns: tuple[str, ...]


def wanted(rules: FieldRules, refused: Iterable[str], look_up: Iterable[str] = ()) -> Named:
    """Return what `rules` write; where a name holds `{key}`, those of it that the system has `refused` already.

    A refused name that fits several patterns belongs to the one with the most letters of its own. What the CRM owns is
    not ours to make, nor is an enumeration, whose options only the customer knows. `look_up` are the fields that
    contacts are found by: their properties hold unique values.
    """
    unique = {LOOKED_UP_BY, *look_up} - {"email"}  # which the CRM has already, whatever else is filled from it
    ours = [rule for rule in rules if rule.owner == "lms"]
    whole = {
        rule.property: Wanted(rule.property, rule.type, unique=rule.source in unique)
        for rule in ours
        if KEY not in rule.property and rule.type != "enumeration"
    }
    open_ones = sorted((rule for rule in ours if KEY in rule.property), key=lambda rule: -len(rule.property))
    for name in sorted(set(refused) - whole.keys()):
        place = next((one for one in open_ones if _fits(one.property, name)), None)
        if place and place.type != "enumeration":
            whole[name] = Wanted(name, place.type)
    return Named(tuple(whole.values()), tuple(sorted({one.property for one in open_ones})))


def _fits(pattern: str, name: str) -> bool:
    return bool(re.fullmatch("[a-z0-9_]+".join(map(re.escape, pattern.split(KEY))), name))
