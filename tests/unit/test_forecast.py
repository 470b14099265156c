"""When the daily cap is hit: in the account's time, across a change of the clocks, and not at all."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from integration.delivery.forecast import Forecast, reckon

BERLIN = ZoneInfo("Europe/Berlin")


def at(hour: int, minute: int = 0, day: int = 20, month: int = 11) -> datetime:
    """Return a time at the account."""
    return datetime(2026, month, day, hour, minute, tzinfo=BERLIN)


@pytest.mark.parametrize(
    ("remaining", "per_hour", "local", "hit_at"),
    [
        (5000, 3000, at(15), at(16, 40)),
        (5000, 500, at(15), None),  # ten hours: the day is over by then
        (4500, 500, at(15), None),  # exactly at midnight: the next day begins
        (5000, 0, at(15), None),
        (0, 3000, at(15), at(15)),
        (0, 0, at(15), at(15)),
        # The night of 25 October 2026 has two hours from two to three.
        (2000, 1000, at(1, 30, 25, 10), at(2, 30, 25, 10).replace(fold=1)),
        (24_500, 1000, at(0, 0, 25, 10), at(23, 30, 25, 10)),
    ],
)
def test_when_the_cap_is_hit(remaining: int, per_hour: float, local: datetime, hit_at: datetime | None) -> None:
    """What remains is used up after remaining / pace, if that is before the account's midnight."""
    found = reckon(10_000, remaining, per_hour / 3600, local)
    assert found.hit_at == hit_at
    assert found.per_hour == pytest.approx(per_hour)


@pytest.mark.parametrize(
    ("forecast", "words"),
    [
        (
            Forecast(250_000, 5000, 3000.0, at(16, 40)),
            "5,000 of 250,000 calls remain today; at this pace the daily cap is hit at 16:40 Europe/Berlin",
        ),
        (
            Forecast(250_000, 5000, 10.0, None),
            "5,000 of 250,000 calls remain today; at this pace the daily cap is not hit",
        ),
        (Forecast(250_000, 0, 10.0, at(15)), "0 of 250,000 calls remain today: the daily cap is reached"),
    ],
)
def test_words(forecast: Forecast, words: str) -> None:
    """A person reads what is left and when it ends, with the zone of that clock."""
    assert forecast.words == words
