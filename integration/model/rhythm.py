"""The rhythm of a stream of events: what it usually tells, and whether a silence is longer than its pauses are.

Hours are counted from 1970 in UTC. A silence is judged by its whole hours only: events that always come at the end of
an hour are not missed at its beginning. Pure: it knows neither the clock nor the database.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo

WEEKS = 4
"""How many weeks are looked back."""
LEAST_WEEKS = 2
"""How many must be known before anything is said."""
ENOUGH = 16
"""Fewest events that must be missed; more where they come in lumps, and where pauses miss some. Where events come
independently of each other, nothing is heard of sixteen that are due with the probability exp(-16), 1 in 9 million."""
FORGIVEN = 3
"""Pauses in which nothing was missed that are taken for granted: of a few pauses no mean is known."""
HABIT = 2
"""How many times more must be missed than in the second longest pause: longer than what it has done twice."""
WINDOW = 144
"""Hours of a silence that are judged, from its beginning: with a whole week the last one would be no measure."""
DEAF = 15
"""Minutes without an endpoint of ours that make an hour one in which nothing can be missed."""
HOUR = 3600
_MINUTES, _DAY, _WEEK = 60, 24, 168


def hour_of(moment: datetime) -> int:
    """Return the hour that a moment lies in."""
    return int(moment.timestamp()) // HOUR


@dataclass(frozen=True, slots=True)
class Attendance:
    """When an endpoint of ours could take events: of each hour one bit per minute. All is attended before the first."""

    minutes: Mapping[int, int]
    first: int | None = None

    def missed(self, since: datetime, until: datetime) -> int:
        """Return how many minutes between two moments nobody listened."""
        begin, end = int(since.timestamp()) // 60, int(until.timestamp()) // 60
        if self.first is None:
            return 0
        begin = max(begin, (self.first + 1) * _MINUTES)  # of the first hour nobody knows how it began
        return sum(
            high - low - (self.minutes.get(hour, 0) >> low & (1 << high - low) - 1).bit_count()
            for hour in range(begin // _MINUTES, -(-end // _MINUTES))
            for low, high in [(max(0, begin - hour * _MINUTES), min(_MINUTES, end - hour * _MINUTES))]
            if high > low
        )

    def is_deaf(self, hour: int) -> bool:
        """Say whether what came in an hour may not have been heard, because of us."""
        if self.first is None or hour <= self.first:
            return False
        return _MINUTES - self.minutes.get(hour, 0).bit_count() > DEAF

    def heard(self, hours: Iterable[int]) -> list[int]:
        """Return those of the hours in which an endpoint listened."""
        return [hour for hour in hours if not self.is_deaf(hour)]


class Verdict(NamedTuple):
    """What is said of a silence: `hours` were judged, in which the last weeks told `usual`, the newest first.

    `missed` is what is surely missed of that; `is_known` says whether there was enough to judge by.
    """

    is_known: bool
    is_silent: bool
    hours: int
    missed: int
    usual: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Rhythm:
    """What a stream told, by hour, from its `first` hour up to the one it was `last` heard in.

    `silent` are spans of hours, the end excluded, in which it did not talk though it should: nothing is learned there.
    """

    events: Mapping[int, int]
    first: int
    last: int
    attendance: Attendance = field(default_factory=lambda: Attendance({}))
    silent: Sequence[tuple[int, int]] = ()
    zone: str = "UTC"

    def judge(self, since: datetime, until: datetime) -> Verdict:
        """Judge the silence between two moments."""
        begin, end = -(-int(since.timestamp()) // HOUR), hour_of(until)
        hours = self.attendance.heard(range(begin, min(end, begin + WINDOW)))
        weeks = range(1, WEEKS + 1)
        told = self._told(hours, weeks)
        missed = _second_least(told)
        is_known = len(told) >= LEAST_WEEKS if hours else self.last - self.first >= LEAST_WEEKS * _WEEK
        is_silent = is_known and missed >= ENOUGH and missed >= ENOUGH * self._lump() and self._is_new(missed)
        usual = tuple(self._told(hours, weeks, surely=False)) if is_known else ()
        return Verdict(is_known, is_silent, len(hours), missed if is_known else 0, usual)

    def _is_new(self, missed: int) -> bool:
        """Say whether its own pauses are no explanation. The longest of them is left out: once is no habit."""
        pauses = sorted(filter(None, self._pauses()))[:-1]
        ordinary = sum(pauses) / (len(pauses) + FORGIVEN)
        return missed >= ENOUGH * ordinary and missed >= HABIT * max(pauses, default=0)

    def _lump(self) -> float:
        """Return how many events come at once, as it were: 1 where each comes by itself, 50 where batches of 50 come.

        That is the index of dispersion, between days that are a week apart. The two greatest differences are left out:
        one day that was like no other, with a holiday or an import, differs from the one before and the one after.
        """
        begin = max(self.first, self.last - WEEKS * _WEEK)
        days = [self._day(hour) for hour in range(begin, self.last - _DAY, _DAY)]
        both = [
            (one, other) for one, other in zip(days, days[7:], strict=False) if one is not None and other is not None
        ]
        pairs = sorted(both, key=lambda pair: abs(pair[0] - pair[1]))[:-2]
        return sum((one - other) ** 2 for one, other in pairs) / max(1, sum(map(sum, pairs)))

    def _day(self, begin: int) -> int | None:
        """Return what was told from an hour on for a day; None where it was silent or we were deaf."""
        hours = range(begin, begin + _DAY)
        if self._is_silence(begin, begin + _DAY) or any(map(self.attendance.is_deaf, hours)):
            return None
        return sum(self.events.get(hour, 0) for hour in hours)

    def _pauses(self) -> Iterator[int]:
        """Yield what was missed in each pause of the last weeks, measured by the weeks before and after it."""
        begin = max(self.first, self.last - WEEKS * _WEEK)
        around = [week for week in range(1 - WEEKS, WEEKS) if week]
        spoken = sorted(hour for hour, events in self.events.items() if events and begin <= hour <= self.last)
        for before, after in pairwise(spoken):
            if after - before > 1 and not self._is_silence(before, after):
                hours = self.attendance.heard(range(before + 1, min(after, before + 1 + WINDOW)))
                told = self._told(hours, around)
                if len(told) >= LEAST_WEEKS:
                    yield _second_least(told)

    def _told(self, hours: Sequence[int], weeks: Iterable[int], *, surely: bool = True) -> list[int]:
        """Return what was told in the same hours some weeks earlier, for each week that is known.

        `surely`: of the first and of the last hour the least of it and its neighbours, because the whole rhythm may
        come an hour earlier or later, as by the summer time of another zone.
        """
        if not hours:
            return []
        told = []
        for week in weeks:
            back = hours[0] - _earlier(hours[0], week, self.zone)
            begin, end = hours[0] - back - 1, hours[-1] - back + 1
            if begin >= self.first and end <= self.last and not self._is_silence(begin, end):
                known = sum(self.events.get(hour - back, 0) for hour in hours)
                told.append(known - sum(map(self._doubtful, {begin + 1, end - 1})) if surely else known)
        return told

    def _doubtful(self, hour: int) -> int:
        """Return how many more were told in an hour than in one of its neighbours."""
        return self.events.get(hour, 0) - min(self.events.get(near, 0) for near in (hour - 1, hour, hour + 1))

    def _is_silence(self, begin: int, end: int) -> bool:
        return any(begin < until and since < end for since, until in self.silent)


def _second_least(told: Sequence[int]) -> int:
    """Return what all weeks but one told at least: one of them may have been a holiday."""
    least = sorted(told)
    return least[1 if len(least) > LEAST_WEEKS else 0] if least else 0


@cache
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def _earlier(hour: int, weeks: int, zone: str) -> int:
    """Return the hour some weeks earlier at the same time of the clocks there."""
    local = datetime.fromtimestamp(hour * HOUR, UTC).astimezone(_zone(zone))
    return hour_of(local - timedelta(weeks=weeks))
