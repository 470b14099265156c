"""HubSpot's limits: what it allows until an answer says better, and where its answers say it."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from integration.ports import ANY_CALL, Rate, Seen

SEARCH: Final = "search"
"""The class of the search endpoints: a limit of their own, per second, and no headers."""

EVENTS: Final = "custom_events"
"""The class of custom events that are sent: a limit of their own. Source: HubSpot docs, send-event-data."""

RATES: Final[Mapping[str, Rate]] = MappingProxyType(
    {ANY_CALL: Rate(100, 10.0), SEARCH: Rate(5, 1.0), EVENTS: Rate(1250, 1.0)}
)
"""The least that any account may call. Source: HubSpot docs, usage-guidelines."""

_PREFIX: Final = "x-hubspot-ratelimit-"
_DIGITS: Final = 9
_LONGEST_MS: Final = 86_400_000


def seen(headers: Mapping[str, str]) -> Seen:
    """Return what the headers of an answer (names in lower case) say; whatever is absent or no number is None.

    `-max` calls in any `-interval-milliseconds`, of which `-remaining` are left; the daily ones are absent with OAuth,
    all of them on search answers. Source: HubSpot docs, usage-guidelines.
    """
    most = _number(headers, "max")
    window = _number(headers, "interval-milliseconds")
    return Seen(
        rate=Rate(most, window / 1000) if most and window and window <= _LONGEST_MS else None,
        remaining=_number(headers, "remaining"),
        daily_limit=_number(headers, "daily") or None,
        daily_remaining=_number(headers, "daily-remaining"),
    )


def _number(headers: Mapping[str, str], name: str) -> int | None:
    text = headers.get(_PREFIX + name, "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _DIGITS else None
