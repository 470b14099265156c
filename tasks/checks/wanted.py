"""Which properties of a system's contacts the published rules write, as far as they can be named now."""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from integration.ports import Wanted
from mappings.rules import FieldMap

KEY = "{key}"
LOOKED_UP_BY = "lms_user_id"
"""The canonical field that contacts are looked up by; see `tasks.projection`."""


class Named(NamedTuple):
    """The properties that can be named, and those of which only the pattern is known yet."""

    wanted: tuple[Wanted, ...]
    patterns: tuple[str, ...]


def wanted(maps: Mapping[str, FieldMap], refused: Iterable[str]) -> Named:
    """Return what `maps` write; where a name holds `{key}`, those of it that the system has `refused` already.

    A refused name that fits several patterns belongs to the one with the most letters of its own.
    """
    whole = {
        place.property: Wanted(place.property, place.type, unique=field == LOOKED_UP_BY)
        for field, place in maps.items()
        if KEY not in place.property
    }
    open_ones = sorted((p for p in maps.values() if KEY in p.property), key=lambda p: -len(p.property))
    for name in sorted(set(refused) - whole.keys()):
        place = next((one for one in open_ones if _fits(one.property, name)), None)
        if place:
            whole[name] = Wanted(name, place.type)
    return Named(tuple(whole.values()), tuple(sorted({one.property for one in open_ones})))


def _fits(pattern: str, name: str) -> bool:
    return bool(re.fullmatch("[a-z0-9_]+".join(map(re.escape, pattern.split(KEY))), name))
