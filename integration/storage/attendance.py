"""Attendance: the minutes in which an endpoint of ours could take events. What nobody could hear, nobody misses."""

from datetime import datetime
from typing import Final

from sqlalchemy import Connection

from integration.model.rhythm import Attendance, hour_of
from integration.storage.statement import execute

NOTE: Final = """
INSERT INTO attendance AS a (hour, minutes, seen_at)
VALUES (date_trunc('hour', now(), 'UTC'), 1::bigint << extract(minute FROM now() AT TIME ZONE 'UTC')::int, now())
ON CONFLICT (hour) DO UPDATE SET minutes = a.minutes | excluded.minutes, seen_at = greatest(a.seen_at, excluded.seen_at)
"""
"""Note that an endpoint is here in this minute: any number of them may, any number of times."""

_KEPT = "SELECT hour, minutes FROM attendance WHERE hour >= %(since)s"

# What was noted while the clock was ahead says nothing of now.
_SEEN = "SELECT max(seen_at) FROM attendance WHERE seen_at <= now() + interval '1 minute'"


def kept(db: Connection, since: datetime) -> Attendance:
    """Return what was noted since a moment."""
    minutes = {hour_of(row.hour): row.minutes for row in execute(db, _KEPT, {"since": since})}
    first = execute(db, "SELECT min(hour) FROM attendance").scalar()
    return Attendance(minutes, None if first is None else hour_of(first))


def seen(db: Connection) -> datetime | None:
    """Return when an endpoint last said that it is here; None: it never did."""
    found: datetime | None = execute(db, _SEEN).scalar()
    return found
