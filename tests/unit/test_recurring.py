"""Times that come again, in zones whose clocks are changed: each of them once, and none left out."""

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from itertools import pairwise
from typing import Literal, get_args
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integration.config import AT_ONCE, Pace, Poll
from tasks import occasions
from tasks.paces import TIMES
from tasks.recurring import Recurring

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "Pacific/Apia")
Every = Literal["hour", "day", "week", "month"]
EVERY: tuple[Every, ...] = ("hour", "day", "week", "month")
MOMENTS = st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)).map(lambda at: at.replace(tzinfo=UTC))  # noqa: DTZ001


@given(every=st.sampled_from(EVERY), at=st.times(), zone=st.sampled_from(ZONES), now=MOMENTS)
def test_what_comes_next_is_what_was_last_then(every: Every, at: time, zone: str, now: datetime) -> None:
    """Backward and forward agree: whoever asks a moment later hears no other time."""
    schedule = Recurring(every, at.replace(tzinfo=None), zone)
    last, following = schedule.latest(now), schedule.following(now)
    assert last <= now < following
    assert schedule.latest(following) == following
    assert schedule.latest(following - timedelta(microseconds=1)) == last
    assert schedule.following(last) == following


@pytest.mark.parametrize(("every", "days"), [("day", (0, 2)), ("week", (6, 8)), ("month", (27, 32))])
@pytest.mark.parametrize("zone", ZONES)
def test_each_local_day_week_and_month_has_one(every: Every, days: tuple[int, int], zone: str) -> None:
    """A year of them, with both changes of the clock: at the local time, but in the night that leaves it out."""
    schedule, times = Recurring(every, time(2, 30), zone), [datetime(2026, 1, 1, tzinfo=UTC)]
    while times[-1] < datetime(2027, 1, 1, tzinfo=UTC):
        times.append(schedule.following(times[-1]))
    local = [one.astimezone(ZoneInfo(zone)) for one in times[1:]]
    assert sum((one.hour, one.minute) != (2, 30) for one in local) <= 1
    assert all(days[0] < (two.date() - one.date()).days < days[1] for one, two in pairwise(local))
    if every != "day":
        assert all(one.weekday() == 6 if every == "week" else one.day == 1 for one in local)


@pytest.mark.parametrize(
    ("now", "following"),
    [
        ("2026-03-28T12:00", "2026-03-29T01:30"),  # 02:30 does not come: the same moment by the clock of before
        ("2026-10-24T12:00", "2026-10-25T00:30"),  # 02:30 comes twice: the first one
        ("2026-10-25T00:30", "2026-10-26T01:30"),  # and not the second one
    ],
)
def test_the_nights_of_the_change(now: str, following: str) -> None:
    """In Berlin."""
    schedule = Recurring("day", time(2, 30), "Europe/Berlin")
    assert schedule.following(datetime.fromisoformat(now).replace(tzinfo=UTC)).isoformat()[:16] == following


def test_hours_are_counted_in_utc() -> None:
    """The night with two hours of the same name has a time in each of them."""
    schedule, at = Recurring("hour", time(1, 15), "Europe/Berlin"), datetime(2026, 10, 24, 23, 0, tzinfo=UTC)
    times = []
    for _ in range(4):
        at = schedule.following(at)
        times.append(at.strftime("%H:%M"))
    assert times == ["23:15", "00:15", "01:15", "02:15"]


def test_never_is_never() -> None:
    """No time at all."""
    assert occasions.latest(Poll(every="never"), "UTC", datetime.now(UTC)) is None


def test_each_pace_that_gathers_has_its_time() -> None:
    """At two in the night of the zone, and each full hour."""
    assert TIMES.keys() | AT_ONCE == set(get_args(Pace))
    now = datetime(2026, 11, 18, 12, 20, tzinfo=UTC)
    due = {name: replace(one, zone="Europe/Berlin").following(now).isoformat()[:16] for name, one in TIMES.items()}
    assert due == {
        "hourly": "2026-11-18T13:00",
        "nightly": "2026-11-19T01:00",
        "weekly": "2026-11-22T01:00",
        "monthly": "2026-12-01T01:00",
    }
