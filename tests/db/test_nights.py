"""When a comparison is due: once for each scheduled time, whoever asks, and never from before there were rules."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine

from integration.config import Config, Reconcile
from integration.storage import reconciliations
from tasks.nights import begin_due
from tasks.occasions import latest

BERLIN = "Europe/Berlin"
MONDAY = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@pytest.fixture
def settled(engine: Engine, config: Config) -> Engine:
    """A database whose first rules were published long ago."""
    with engine.begin() as db:
        db.exec_driver_sql("UPDATE rule_sets SET published_at = %(at)s", {"at": MONDAY - timedelta(days=90)})
    return engine


def begun(engine: Engine, config: Config, now: datetime) -> int:
    """Return how many runs begin at a moment, and end them."""
    with engine.begin() as db:
        runs = begin_due(db, config, ["crm"], now)
        for run in runs:
            reconciliations.finish(db, run)
    return len(runs)


def test_a_night_that_nobody_was_there_for_is_made_up_for_once(settled: Engine, config: Config) -> None:
    """The newest alone: three days of silence are one comparison."""
    assert begun(settled, config, MONDAY) == 1
    assert begun(settled, config, MONDAY + timedelta(hours=1)) == 0
    assert begun(settled, config, MONDAY + timedelta(days=3)) == 1
    assert begun(settled, config, MONDAY + timedelta(days=3)) == 0


def test_nothing_is_due_from_before_there_were_rules(engine: Engine, config: Config) -> None:
    """A fresh installation waits for its first night."""
    with engine.begin() as db:
        db.exec_driver_sql("UPDATE rule_sets SET published_at = %(at)s", {"at": MONDAY})
    assert begun(engine, config, MONDAY + timedelta(minutes=1)) == 0
    assert begun(engine, config, MONDAY + timedelta(days=1)) == 1


def test_a_run_that_goes_on_is_not_joined_by_another(settled: Engine, config: Config) -> None:
    """The next one comes when it has ended, at its own time or late."""
    with settled.begin() as db:
        [run] = begin_due(db, config, ["crm"], MONDAY)
        assert begin_due(db, config, ["crm"], MONDAY + timedelta(days=1)) == []
        reconciliations.finish(db, run)
        assert len(begin_due(db, config, ["crm"], MONDAY + timedelta(days=1))) == 1


@pytest.mark.parametrize(
    ("every", "day", "at"),
    [
        ("day", "2026-11-23", "2026-11-23T02:30"),
        ("week", "2026-11-23", "2026-11-22T02:30"),
        ("week", "2026-11-21", "2026-11-15T02:30"),
        ("month", "2026-11-23", "2026-11-01T02:30"),
        ("day", "2026-10-25", "2026-10-25T02:30"),  # comes twice: the first one counts
        ("day", "2026-03-29", "2026-03-29T03:30"),  # is left out: the same moment by the clock of before
    ],
)
def test_the_time_zone_is_the_connections(every: str, day: str, at: str) -> None:
    """Nights in which the clock is changed included."""
    noon = datetime.fromisoformat(f"{day}T12:00").replace(tzinfo=ZoneInfo(BERLIN))
    found = latest(Reconcile.model_validate({"every": every}), BERLIN, noon.astimezone(UTC))
    assert found is not None
    assert found.astimezone(ZoneInfo(BERLIN)).replace(tzinfo=None) == datetime.fromisoformat(at)


def test_never_is_never() -> None:
    """A CRM that is compared by hand alone."""
    assert latest(Reconcile(every="never"), BERLIN, MONDAY) is None


@given(
    st.sampled_from(["day", "week", "month"]),
    st.times().map(lambda one: time(one.hour, one.minute)),
    st.datetimes(MONDAY.replace(tzinfo=None), MONDAY.replace(year=2028, tzinfo=None)),
)
def test_the_last_time_lies_before_now_and_is_the_same_until_the_next(every: str, at: time, now: datetime) -> None:
    """Whenever it is asked for."""
    settings = Reconcile.model_validate({"every": every, "at": at})
    moment = now.replace(tzinfo=UTC)
    found = latest(settings, BERLIN, moment)
    assert found is not None
    assert moment - timedelta(days=32) < found <= moment
    assert latest(settings, BERLIN, found) == found
