"""An activity in the words of HubSpot: properties of a custom event, or a note. Pure; cut to what HubSpot takes."""

import html
import re
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

from integration.connectors.crm.hubspot_event_definitions import EVENTS
from integration.model.activities import Activity

LONGEST: Final = 256
"""Characters that a text of a custom event may have; one more fails the call. Source: HubSpot docs, define-events."""

_LONGEST_NAME: Final = 1_000
"""Of a name in a note, whose whole text may have 65,536 characters. Source: HubSpot docs, notes."""

_EXACT: Final = 2.0**53

MARKER: Final = re.compile(r"\[coursewire:[0-9a-f]+\]")


def moment(at: datetime) -> str:
    """Return a time as HubSpot writes it: UTC, with milliseconds."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def properties(activity: Activity, zone: ZoneInfo) -> dict[str, str]:
    """Return what the custom event says; what is not known is left out."""
    said = {
        "course_id": activity.course_id,
        "course_name": activity.course_name,
        "item_id": activity.item_id,
        "item_name": activity.item_name,
        "product": activity.product,
        "score": _number(activity.score),
        "score_max": _number(activity.score_max),
        "completion_date": _day(activity.occurred_at, zone),
        "valid_until": _day(activity.expires_at, zone),
        "lms_source": activity.source,
    }
    return {name: fitted(value, LONGEST) for name, value in said.items() if value}


def note(activity: Activity, zone: ZoneInfo) -> str:
    """Return the note as HTML, with the marker by which it is known again; names cannot become markup."""
    course = _named(activity.course_name, activity.course_id)
    item = _named(activity.item_name, activity.item_id)
    about = (course or item) if activity.kind == "course_completed" else (item or course)
    score = _number(activity.score)
    of = f" of {_number(activity.score_max)}" if activity.score_max is not None else ""
    lines = [
        f"Course: {course}" if course and about != course else "",
        f"Module: {item}" if item and about != item else "",
        f"Product: {_cut(activity.product)}" if activity.product else "",
        f"Score: {score}{of}" if score else "",
        f"Completed: {_day(activity.occurred_at, zone)}",
        f"Valid until: {_day(activity.expires_at, zone)}" if activity.expires_at else "",
    ]
    said = "<br>".join(html.escape(line) for line in lines if line)
    head = html.escape(f"{EVENTS[activity.kind][1]}: {about}" if about else EVENTS[activity.kind][1])
    return f"<p><strong>{head}</strong></p><p>{said}</p><p>{html.escape(activity.source)} {activity.marker}</p>"


def fitted(text: str, longest: int) -> str:
    """Return `text` cut to `longest` characters, counted as 16-bit units: whoever counts otherwise counts fewer."""
    if len(text) * 2 <= longest or len(text.encode("utf-16-le")) // 2 <= longest:
        return text
    return text.encode("utf-16-le")[: (longest - 1) * 2].decode("utf-16-le", "ignore") + "…"


def _named(name: str | None, identifier: str | None) -> str:
    if name and identifier and name != identifier:
        return f"{_cut(name)} ({_cut(identifier)})"
    return _cut(name or identifier)


def _cut(text: str | None) -> str:
    return fitted(text or "", _LONGEST_NAME)


def _number(value: float | None) -> str | None:
    if value is None:
        return None
    return str(int(value)) if value.is_integer() and abs(value) < _EXACT else repr(value)


def _day(at: datetime | None, zone: ZoneInfo) -> str | None:
    return at.astimezone(zone).date().isoformat() if at else None
