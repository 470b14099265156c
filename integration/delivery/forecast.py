"""When the account's daily cap is hit if calls go on as in the last hour."""

from datetime import UTC, datetime, time, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from integration.storage.statement import execute

PACE_HOURS = 1
"""The pace is that of the last hour, or of as much of it as there were calls."""

_LEAST_SECONDS = 300.0
"""A pace is never taken from less: a burst of seconds says nothing of the day."""

# What was never sent, and what was refused for being too much, is not counted by the other side.
_USE = """
SELECT c.daily_limit, c.daily_remaining, c.daily_seen_at,
       coalesce(sum(a.calls) FILTER (WHERE a.minute >= %(hour)s), 0)::bigint AS lately,
       min(a.minute) FILTER (WHERE a.minute >= %(hour)s) AS since,
       coalesce(sum(a.calls) FILTER (WHERE a.minute >= %(midnight)s), 0)::bigint AS today
FROM connections c
LEFT JOIN api_calls a ON a.connection = c.name AND a.minute >= least(%(hour)s, %(midnight)s)
    AND a.outcome NOT IN ('network_error', '429')
WHERE c.name = %(name)s AND c.daily_limit IS NOT NULL
GROUP BY c.name
"""


class Forecast(NamedTuple):
    """The account's day: its `limit` of calls, what `remaining` is of it, and our calls per hour.

    `hit_at`, in the account's time zone, is when nothing remains at this pace; None = not today.
    """

    limit: int
    remaining: int
    per_hour: float
    hit_at: datetime | None

    @property
    def words(self) -> str:
        """The forecast as a sentence for people."""
        left = f"{self.remaining:,} of {self.limit:,} calls remain today"
        if self.remaining <= 0:
            return f"{left}: the daily cap is reached"
        if self.hit_at is None:
            return f"{left}; at this pace the daily cap is not hit"
        return f"{left}; at this pace the daily cap is hit at {self.hit_at:%H:%M} {self.hit_at.tzinfo}"


def daily(db: Connection, connection: str, timezone: str, now: datetime) -> Forecast | None:
    """Return the forecast of one connection; None where nobody knows a daily cap. `timezone` is the account's."""
    local = now.astimezone(ZoneInfo(timezone))
    midnight = datetime.combine(local.date(), time.min, local.tzinfo)
    values = {"name": connection, "hour": now - timedelta(hours=PACE_HOURS), "midnight": midnight}
    row = execute(db, _USE, values).one_or_none()
    if row is None:
        return None
    is_of_today = row.daily_seen_at is not None and row.daily_seen_at >= midnight
    remaining = row.daily_remaining if is_of_today else max(0, row.daily_limit - row.today)
    seconds = max(_LEAST_SECONDS, (now - row.since).total_seconds()) if row.since else _LEAST_SECONDS
    return reckon(row.daily_limit, remaining, row.lately / seconds, local)


def reckon(limit: int, remaining: int, per_second: float, local: datetime) -> Forecast:
    """Return when `remaining` calls are used up, from `local` on (in the account's time zone)."""
    zone = local.tzinfo
    tomorrow = datetime.combine(local.date() + timedelta(days=1), time.min, zone)
    hit_at = None
    if remaining <= 0:
        hit_at = local
    elif per_second > 0 and remaining / per_second < (tomorrow.astimezone(UTC) - local.astimezone(UTC)).total_seconds():
        # Counted on the clock of UTC: a night on which the clocks change is no shorter for the calls.
        hit_at = (local.astimezone(UTC) + timedelta(seconds=remaining / per_second)).astimezone(zone)
    return Forecast(limit, remaining, per_second * 3600, hit_at)
