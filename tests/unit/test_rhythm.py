"""Rhythms of streams: what keeps its own is never called silent, and what breaks it is, soon."""

import math
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from integration.model.rhythm import HOUR, Attendance, Rhythm, Verdict, hour_of

Profile = Callable[[datetime], float]
MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
WEEK = 168
BEYOND = 12 * WEEK
"""Hours of a simulated stream: the first two weeks are not judged."""


def flat(_: datetime) -> float:
    """Talk by day and night."""
    return 1.0


def office(at: datetime) -> float:
    """Talk from Monday to Friday, 9 to 17; next to nothing otherwise."""
    return 1.0 if at.weekday() < 5 and 9 <= at.hour < 17 else 0.02


def evenings(at: datetime) -> float:
    """Talk most in the evening, least in the morning."""
    return 1 - math.cos((at.hour - 8) / 12 * math.pi)


def poisson(chance: random.Random, mean: float) -> int:
    """Return how many events come where `mean` are expected."""
    if mean > 50:
        return max(0, round(chance.gauss(mean, mean**0.5)))
    number, left = 0, chance.random()
    while left > math.exp(-mean):
        number, left = number + 1, left * chance.random()
    return number


def stream(
    chance: random.Random, profile: Profile, rate: float, *, lump: int = 1, restless: bool = False, hours: int = BEYOND
) -> dict[int, int]:
    """Return events by hour: `rate` an hour, in lumps of about so many; `restless`: each week and day has its level."""
    start, told, week, day = hour_of(MONDAY), {}, 1.0, 1.0
    for hour in range(hours):
        if restless and hour % WEEK == 0:
            week = chance.gammavariate(6, 1 / 6)
        if restless and hour % 24 == 0:
            day = chance.gammavariate(4, 1 / 4)
        came = poisson(chance, rate * profile(MONDAY + timedelta(hours=hour)) * week * day / lump)
        if came:
            told[start + hour] = (
                came if lump == 1 else sum(1 + round(chance.expovariate(1 / lump)) for _ in range(came))
            )
    return told


def silences(told: dict[int, int]) -> Iterator[Verdict]:
    """Yield what is said at the end of each pause, when it is longest: what a look within it says is said then too."""
    first = min(told)
    for before, after in pairwise(sorted(told)):
        if after - before > 1 and before - first >= 2 * WEEK:
            past = {hour: events for hour, events in told.items() if before - 5 * WEEK <= hour <= before}
            yield Rhythm(past, first, before).judge(at(before) + timedelta(minutes=50), at(after))


def at(hour: int) -> datetime:
    """Return the moment an hour begins."""
    return datetime.fromtimestamp(hour * HOUR, UTC)


def test_false_alarms_are_rare() -> None:
    """Streams that keep their rhythm, sparse or chatty: even ones never alarm, lumpy and restless ones hardly ever."""
    alarms = dict.fromkeys(["even", "lumpy", "restless"], 0)
    for profile in (flat, office, evenings):
        for rate in (0.02, 0.1, 0.5, 2, 10):
            for sort in alarms:
                chance = random.Random(f"{profile.__name__} {rate} {sort}")
                for _ in range(4):
                    lump = 20 if sort == "lumpy" else 1
                    told = stream(chance, profile, rate, lump=lump, restless=sort == "restless", hours=11 * WEEK)
                    alarms[sort] += sum(verdict.is_silent for verdict in silences(told)) if told else 0
    # 540 weeks each: of the eleven weeks of 60 streams the first two are not judged.
    assert alarms["even"] == 0
    assert sum(alarms.values()) <= 3, alarms


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    profile=st.sampled_from([flat, office, evenings]),
    rate=st.floats(0.01, 60),
)
def test_what_keeps_its_rhythm_is_never_silent(seed: int, profile: Profile, rate: float) -> None:
    """Whatever a stream usually tells: as long as events come by themselves and as ever, no pause is an alarm."""
    told = stream(random.Random(seed), profile, rate, hours=7 * WEEK)
    assert not told or not any(verdict.is_silent for verdict in silences(told))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), rate=st.floats(20, 60), hour=st.integers(10, 13), day=st.integers(0, 4))
def test_a_chatty_stream_is_missed_within_three_whole_hours(seed: int, rate: float, hour: int, day: int) -> None:
    """Some twenty an hour or more in office hours, and then nothing: that is said the same afternoon."""
    dead = hour_of(MONDAY) + 5 * WEEK + day * 24 + hour
    told = {at: events for at, events in stream(random.Random(seed), office, rate).items() if at < dead}
    rhythm = Rhythm(told, min(told), max(told))
    assert rhythm.judge(at(dead) - timedelta(minutes=2), at(dead + 3)).is_silent


def dead_at(told: dict[int, int], hour: int) -> Rhythm:
    """Return a stream's rhythm as it is known when nothing comes from an hour on."""
    past = {one: events for one, events in told.items() if one < hour}
    return Rhythm(past, min(past), max(past))


def test_a_sparse_stream_never_alarms_within_days() -> None:
    """Two events a week: six silent days, or a month, are nothing that could be told from chance."""
    told = stream(random.Random(7), flat, 2 / WEEK)
    rhythm = dead_at(told, hour_of(MONDAY) + 8 * WEEK)
    for days in (1, 3, 6, 30):
        assert not rhythm.judge(at(rhythm.last + 1), at(rhythm.last + 1 + 24 * days)).is_silent


def test_nights_and_weekends_are_as_ever() -> None:
    """From Friday evening to Monday morning nothing comes, and nothing is missed before Monday noon."""
    told = {hour: 20 for hour in range(hour_of(MONDAY), hour_of(MONDAY) + 5 * WEEK) if office(at(hour)) == 1}
    rhythm = Rhythm(told, min(told), max(told))
    friday = at(rhythm.last + 1)
    assert friday == datetime(2026, 4, 3, 17, tzinfo=UTC)
    monday = datetime(2026, 4, 6, tzinfo=UTC)
    assert not rhythm.judge(friday, monday + timedelta(hours=10)).is_silent
    found = rhythm.judge(friday, monday + timedelta(hours=11))
    assert (found.is_silent, found.missed, found.usual) == (True, 40, (40, 40, 40, 40))


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin"])
@pytest.mark.parametrize("change", [datetime(2026, 3, 29, tzinfo=UTC), datetime(2026, 10, 25, tzinfo=UTC)])
def test_summer_time_is_no_silence(zone: str, change: datetime) -> None:
    """Office hours of Berlin, whichever zone the connection is said to be in: the Monday after is as ever."""
    start = hour_of(change) - 5 * WEEK
    told = {
        hour: 40
        for hour in range(start, hour_of(change) + 48)
        if office(at(hour).astimezone(ZoneInfo("Europe/Berlin"))) == 1
    }
    for before, after in pairwise(sorted(told)):
        if before - start > 3 * WEEK and after - before > 1:
            past = {hour: events for hour, events in told.items() if hour <= before}
            assert not Rhythm(past, start, before, zone=zone).judge(at(before + 1), at(after)).is_silent


def test_one_holiday_does_not_blunt_the_next_four_weeks() -> None:
    """A pause that was there once is no habit; one that was there twice is."""
    start = hour_of(MONDAY)
    whole = {hour: 30 for hour in range(start, start + 6 * WEEK) if office(at(hour)) == 1}
    dead = start + 5 * WEEK + 12
    holidays = [start + 2 * WEEK, start + 3 * WEEK + 96]
    judged = []
    for number in (0, 1, 2):
        closed = {hour + more for hour in holidays[:number] for more in range(24)}
        rhythm = dead_at({hour: events for hour, events in whole.items() if hour not in closed}, dead)
        judged.append([rhythm.judge(at(dead), at(dead + hours)).is_silent for hours in (2, 4, 28, 124)])
    assert judged == [[True] * 4, [True] * 4, [False, False, False, True]]


def test_an_import_is_not_expected_again() -> None:
    """A thousand events in an hour of last Tuesday are not missed this Tuesday."""
    start = hour_of(MONDAY)
    told = stream(random.Random(3), flat, 0.3, hours=5 * WEEK)
    told[start + 4 * WEEK + 30] = 1000
    rhythm = dead_at(told, start + 5 * WEEK + 28)
    assert not rhythm.judge(at(start + 5 * WEEK + 28), at(start + 5 * WEEK + 36)).is_silent


def test_two_weeks_are_learned_first() -> None:
    """However chatty: before two weeks are known nothing is said, and it says that it does not know."""
    start = hour_of(MONDAY)
    for days, known in ((13, False), (15, True)):
        told = dict.fromkeys(range(start, start + days * 24), 100)
        found = Rhythm(told, start, max(told)).judge(at(max(told) + 1), at(max(told) + 5))
        assert (found.is_known, found.is_silent) == (known, known)


def test_what_nobody_heard_is_not_missed() -> None:
    """Our endpoint was away: those hours count for nothing, neither now nor in the pauses that are learned from."""
    start = hour_of(MONDAY)
    told = dict.fromkeys(range(start, start + 5 * WEEK), 30)
    last = max(told)
    full = (1 << 60) - 1
    away = Attendance(dict.fromkeys(range(start, last + 6), full), start)
    assert Rhythm(told, start, last, away).judge(at(last + 1), at(last + 6)).is_silent
    deaf = Attendance(dict.fromkeys(range(start, last + 1), full), start)
    found = Rhythm(told, start, last, deaf).judge(at(last + 1), at(last + 6))
    assert (found.is_silent, found.hours) == (False, 0)


@given(
    first=st.integers(0, 300),
    noted=st.sets(st.integers(0, 400)),
    since=st.integers(0, 400),
    length=st.integers(0, 400),
)
def test_minutes_nobody_listened_are_counted_one_by_one(first: int, noted: set[int], since: int, length: int) -> None:
    """By hours and bits as by single minutes; before the hour after the first note all is taken as attended."""
    base = hour_of(MONDAY)
    minutes: dict[int, int] = {}
    for minute in noted | {first}:
        minutes[base + minute // 60] = minutes.get(base + minute // 60, 0) | 1 << minute % 60
    known = min(minutes)
    expected = sum(
        minute not in noted | {first} and base + minute // 60 > known for minute in range(since, since + length)
    )
    begin = MONDAY + timedelta(minutes=since)
    assert Attendance(minutes, known).missed(begin, begin + timedelta(minutes=length)) == expected
