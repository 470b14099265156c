"""Ids, times, numbers, texts and states of enrolments as Canvas writes them.

What cannot be read raises Rejected, which names the field and never its value.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from integration.errors import Reason, Rejected

LIVE: Final = ("active", "invited", "creation_pending")
"""The states of an enrolment that stands. Source: Canvas docs, enrollments API."""

LOST: Final = ("deleted", "rejected")
"""The states of an enrolment that was taken away or turned down; one that is over is in neither."""

_SHARD: Final = 10**13
_ID_LENGTH, _NAME_LENGTH = 255, 500
_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d(?:\.\d+)?) ?([Zz]|UTC|[+-]\d\d:?\d\d)?", re.ASCII)
_NUMBER: Final = re.compile(r"[+-]?(\d{1,15}\.?\d{0,15}|\.\d{1,15})", re.ASCII)
_UNHOLDABLE: Final = re.compile("[\0\ud800-\udfff]")


def home_of(root_account_id: object) -> int | None:
    """Return the shard that an account's global id names; None where it is none: then all ids count as ours.

    Source: Canvas docs, "object ids" (a global id is shard * 10^13 + local id).
    """
    text = str(root_account_id)
    return int(text) // _SHARD or None if text.isascii() and text.isdigit() and len(text) <= _ID_LENGTH else None


def local_id(value: object, home: int | None, place: str) -> str | None:
    """Return an id in the one form that local and global ids of the shard `home` share; None where there is none.

    Ids of another shard stay global: a person of a trusted account is not the one of ours with the same local id.
    Source: Canvas docs, "object ids"; `shard~local` is the short form of a global id.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    found = text_of(value, place, longest=_ID_LENGTH)
    if found is None:
        return None
    shard, tilde, number = found.rpartition("~")
    if not (found.isascii() and number.isdigit() and (shard.isdigit() or not tilde)):
        return found
    where, local = divmod(int(number) + int(shard or 0) * _SHARD, _SHARD)
    return str(local if where in (0, home) or home is None else where * _SHARD + local)


def text_of(value: object, place: str, *, longest: int | None = None) -> str | None:
    """Return trimmed text, None for nothing; a name is cut to 500 characters, where `longest` is not given."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise Rejected(Reason.INVALID_EVENT, f"{place}: must be text")
    if _UNHOLDABLE.search(value):
        raise Rejected(Reason.INVALID_EVENT, f"{place}: holds a character that text cannot have")
    found = value.strip()
    if longest is not None and len(found) > longest:
        raise Rejected(Reason.INVALID_EVENT, f"{place}: is longer than {longest} characters")
    return found[:_NAME_LENGTH] or None


def number_of(value: object, place: str) -> float | None:
    """Return a number, also one written as text; None for nothing."""
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = float(value)
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < float("inf"):
        raise Rejected(Reason.INVALID_EVENT, f"{place}: must be a number")
    return float(value)


def moment_of(value: object, place: str) -> datetime | None:
    """Return the time in UTC, None for nothing.

    Canvas mixes `2019-11-05T13:38:00.218Z`, `2018-11-05 05:38:00 -0800` and `... UTC`; a time without a zone is as its
    database keeps it, in UTC. Source: canvas-lms, doc/api/data_services/json/canvas/event-types.
    """
    text = text_of(value, place)
    if text is None:
        return None
    match = _TIME.fullmatch(text)
    if match is None:
        raise Rejected(Reason.INVALID_EVENT, f"{place}: must be a time such as 2026-11-21T10:00:00Z")
    day, clock, zone = match.groups()
    offset = "+00:00" if zone is None or zone in "ZzUTC" else zone
    try:
        return datetime.fromisoformat(f"{day}T{clock}{offset}").astimezone(UTC)
    except (ValueError, OverflowError):
        raise Rejected(Reason.INVALID_EVENT, f"{place}: is not a time that exists") from None


def part_of(thing: Mapping[str, Any], name: str, place: str) -> Mapping[str, Any]:
    """Return the object under `name`, an empty one where there is none."""
    found = thing.get(name)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise Rejected(Reason.INVALID_EVENT, f"{place}: must be an object")
    return found
