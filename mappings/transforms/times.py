"""Moments and days as CRMs take them. A moment becomes a day by the zone of the customer, never by ours."""

from datetime import UTC, date, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from mappings.transforms.values import unfit

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def iso_date(value: datetime | date, zone: ZoneInfo) -> str:
    """Return the calendar day as `2026-11-22`."""
    return day(value, zone).isoformat()


def iso_datetime(value: datetime) -> str:
    """Return the moment in UTC as `2026-11-22T08:30:00.000Z`."""
    return _moved(value, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def epoch_ms(value: datetime) -> int:
    """Return the moment as whole milliseconds since 1970."""
    return (_moved(value, UTC) - _EPOCH) // timedelta(milliseconds=1)


def epoch_day_ms(value: datetime | date, zone: ZoneInfo) -> int:
    """Return midnight UTC of the calendar day in milliseconds: HubSpot's date properties refuse any other moment.

    Source: ../shared/reference/hubspot.md, section 3 (`INVALID_DATE`, "not midnight").
    """
    return (day(value, zone) - _EPOCH.date()) // timedelta(milliseconds=1)


def day(value: datetime | date, zone: ZoneInfo) -> date:
    """Return the calendar day of a moment in `zone`. Raises Unfit at the ends of the calendar."""
    return _moved(value, zone).date() if isinstance(value, datetime) else value


def _moved(value: datetime, zone: tzinfo) -> datetime:
    try:
        return value.astimezone(zone)
    except OverflowError:
        raise unfit("the date lies outside the calendar (years 1 to 9999)") from None
