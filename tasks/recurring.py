"""Times that come again: by the hour, the day, the week or the month, in a time zone whose clocks are changed."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

_SUNDAY = 6


@dataclass(frozen=True, slots=True)
class Recurring:
    """Each day at a local time, of a week on Sunday, of a month on the first; each hour at the minute of that time.

    In the night in which that time comes twice the first one counts; in the one that leaves it out, the same moment by
    the clock of before the change. Hours are counted in UTC: a day has 23, 24 or 25 of them.
    """

    every: Literal["hour", "day", "week", "month"]
    at: time
    zone: str = "UTC"

    def latest(self, now: datetime) -> datetime:
        """Return the last of these times up to `now`, in UTC."""
        if self.every == "hour":
            return self._of_hour(now)
        return next(one for one in self._from(now, timedelta(days=-1)) if one <= now)

    def following(self, now: datetime) -> datetime:
        """Return the first of these times after `now`, in UTC."""
        if self.every == "hour":
            return self._of_hour(now) + timedelta(hours=1)
        return next(one for one in self._from(now, timedelta(days=1)) if one > now)

    def _of_hour(self, now: datetime) -> datetime:
        this = now.astimezone(UTC).replace(minute=self.at.minute, second=0, microsecond=0)
        return this if this <= now else this - timedelta(hours=1)

    def _from(self, now: datetime, step: timedelta) -> Iterator[datetime]:
        """Yield the times one after the other, beginning on the other side of `now`."""
        zone = ZoneInfo(self.zone)
        day = now.astimezone(zone).date() - step
        while True:
            if self._is_meant(day):
                yield datetime.combine(day, self.at, zone).astimezone(UTC)
            day += step

    def _is_meant(self, day: date) -> bool:
        return self.every == "day" or (day.weekday() == _SUNDAY if self.every == "week" else day.day == 1)
