"""Scheduled runs: each job exactly once per scheduled time, whoever ticks, and whatever the clock does."""

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine

from integration.config import Config
from integration.storage import runs
from integration.storage.runs import RunTaken
from tasks.recurring import Recurring
from tasks.schedule import Every, Job, tick

BERLIN = ZoneInfo("Europe/Berlin")
NIGHTLY = Recurring("day", time(2, 30), "Europe/Berlin")
HOURLY = Every(timedelta(hours=1))
START = datetime(2026, 3, 27, 12, 0, tzinfo=UTC)
NO_CONNECTIONS = Config(connections={})
ABANDON = f"UPDATE runs SET heartbeat_at = now() - interval '{runs.LEASE_SECONDS + 1} seconds'"  # noqa: S608 - a number


class Jobs:
    """A nightly and an hourly job whose slices are written down in the slice's own transaction."""

    def __init__(self, engine: Engine, slices: int = 1) -> None:
        """Each run takes `slices` slices and one that finds nothing left."""
        self.engine = engine
        self.slices = slices
        self.interrupt: Callable[[], None] = lambda: None
        with engine.begin() as db:
            db.exec_driver_sql("CREATE TABLE IF NOT EXISTS effects (job text)")
            db.exec_driver_sql("TRUNCATE effects, runs")
        self.table = {
            "nightly": Job(NIGHTLY, lambda db, _: self._step(db, "nightly"), "test"),
            "hourly": Job(HOURLY, lambda db, _: self._step(db, "hourly"), "test"),
        }

    def _step(self, db: Connection, job: str) -> dict[str, int]:
        run = "SELECT count(*) FROM runs WHERE job = %s AND finished_at IS NOT NULL"
        finished = db.exec_driver_sql(run, (job,)).scalar_one()
        done = db.exec_driver_sql("SELECT count(*) FROM effects WHERE job = %s", (job,)).scalar_one()
        if done >= (finished + 1) * self.slices:
            return {}
        db.exec_driver_sql("INSERT INTO effects VALUES (%s)", (job,))
        self.interrupt()
        return {"slices": 1}

    def tick(self, now: datetime | None = None, seconds: float = 60) -> None:
        """Tick as a worker does whose clock shows `now`."""
        tick(self.engine, NO_CONNECTIONS, self.table, now=now, seconds=seconds)

    def times(self, job: str) -> list[datetime]:
        """Return for which times a job has run to its end, in order."""
        with self.engine.begin() as db:
            found = [run for run in runs.latest(db, job, limit=10_000) if run.outcome == "done"]
        return sorted(run.scheduled_for for run in found)

    def effects(self) -> Counter[str]:
        """Return how many slices of each job took effect."""
        with self.engine.begin() as db:
            return Counter(row.job for row in db.exec_driver_sql("SELECT job FROM effects"))


@pytest.fixture
def jobs(engine: Engine) -> Jobs:
    """Two jobs that have never run."""
    return Jobs(engine)


@pytest.fixture(scope="module")
def module_engine(module_database_url: str) -> Iterator[Engine]:
    """One database for all examples of the property."""
    from integration.storage.base import engine_for  # noqa: PLC0415

    engine = engine_for(module_database_url)
    yield engine
    engine.dispose()


def minutes_of(start: datetime, end: datetime, step: timedelta) -> Iterator[datetime]:
    """Count through time."""
    while start < end:
        yield start
        start += step


@pytest.mark.parametrize(
    ("night", "expected"),
    [
        (date(2026, 3, 29), datetime(2026, 3, 29, 1, 30, tzinfo=UTC)),  # 02:30 does not exist: 03:30 of summer
        (date(2026, 10, 25), datetime(2026, 10, 25, 0, 30, tzinfo=UTC)),  # 02:30 exists twice: the first
        (date(2026, 7, 1), datetime(2026, 7, 1, 0, 30, tzinfo=UTC)),
    ],
)
def test_a_nightly_job_runs_once_in_every_night(jobs: Jobs, night: date, expected: datetime) -> None:
    """Also in the two nights in which the clocks change."""
    noon = datetime.combine(night, time(12), BERLIN).astimezone(UTC)
    for now in minutes_of(noon - timedelta(days=1), noon + timedelta(hours=13), timedelta(minutes=10)):
        jobs.tick(now)
    assert len(jobs.times("nightly")) == 2  # the night before was made up for at the first tick
    assert jobs.times("nightly")[-1] == expected


def test_after_a_gap_the_latest_missed_run_alone_is_made_up_for(jobs: Jobs) -> None:
    """No beat for three days: one run, for the last of the missed times."""
    jobs.tick(START)
    jobs.tick(START + timedelta(days=3))
    assert jobs.times("hourly") == [START, START + timedelta(days=3)]
    assert len(jobs.times("nightly")) == 2
    assert jobs.effects() == {"nightly": 2, "hourly": 2}


def test_a_clock_that_is_set_back_runs_nothing_again(jobs: Jobs) -> None:
    """Ten minutes back, over a scheduled time: neither that one nor one that was skipped before it runs."""
    jobs.tick(START)
    jobs.tick(START + timedelta(hours=5, minutes=1))  # what lay in between was skipped
    jobs.tick(START + timedelta(hours=4, minutes=51))
    jobs.tick(START + timedelta(hours=5, minutes=2))
    assert jobs.times("hourly") == [START, START + timedelta(hours=5)]


def test_a_clock_that_was_far_ahead_does_not_stop_a_job(jobs: Jobs) -> None:
    """A run of next year by mistake is one run too many, and keeps nothing from running tonight."""
    jobs.tick(START + timedelta(days=365))
    jobs.tick(START)
    assert START in jobs.times("hourly")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.one_of(
            st.integers(0, 90),  # minutes on
            st.integers(-10, -1),  # minutes back
            st.integers(60, 4000),  # nobody ticks for hours or days
        ),
        max_size=30,
    ),
    start=st.datetimes(datetime(2026, 3, 27), datetime(2026, 10, 27)),  # noqa: DTZ001 - taken as UTC below
)
def test_whatever_the_clock_does_no_time_runs_twice(module_engine: Engine, steps: list[int], start: datetime) -> None:
    """Each run is for a scheduled time, once, and the latest one due at any tick has run after it."""
    jobs = Jobs(module_engine)
    now = latest = start.replace(tzinfo=UTC)
    expected: dict[str, set[datetime]] = {"nightly": set(), "hourly": set()}
    for minutes in [0, *steps]:
        now = now + timedelta(minutes=minutes)
        jobs.tick(now)
        jobs.tick(now)
        if now >= latest:  # a clock behind itself starts nothing that is new
            latest = now
            for name, job in jobs.table.items():
                expected[name].add(job.schedule.latest(now))
    for name in jobs.table:
        found = jobs.times(name)
        assert len(found) == len(set(found))
        assert set(found) >= expected[name]
        # More only where the clock went back by more than the guard believes.
        assert jobs.effects()[name] == len(found)
        if sum(-step for step in steps if step < 0) < 60:
            assert set(found) == expected[name]


def test_a_run_whose_worker_died_is_resumed_where_it_was(engine: Engine) -> None:
    """What a slice did is done once; another worker goes on when the holder has not been heard of."""
    jobs = Jobs(engine, slices=4)

    def die() -> None:
        if jobs.effects()["nightly"] == 2:  # the slice under way is not seen from outside
            raise KeyboardInterrupt

    jobs.interrupt = die
    del jobs.table["hourly"]
    with pytest.raises(KeyboardInterrupt):
        jobs.tick(START)
    jobs.interrupt = lambda: None
    jobs.tick(START)
    assert jobs.effects() == {"nightly": 2}, "taken from a holder that may be alive"
    with engine.begin() as db:
        db.exec_driver_sql(ABANDON)
    jobs.tick(START)
    assert jobs.effects() == {"nightly": 4}
    with engine.begin() as db:
        (run,) = runs.latest(db, limit=10)
    assert (run.outcome, run.counts) == ("done", {"slices": 4})


def test_a_holder_that_was_only_slow_finds_its_run_taken(engine: Engine) -> None:
    """What the former holder does after that is rolled back with its transaction."""
    with engine.begin() as db:
        now = runs.clock(db)
        assert runs.start(db, "nightly", now, now)
        (slow,) = runs.take(db, ["nightly"], now)
        db.exec_driver_sql(ABANDON)
    with engine.begin() as db:
        (other,) = runs.take(db, ["nightly"], now)
        assert runs.take(db, ["nightly"], now) == []
    with pytest.raises(RunTaken), engine.begin() as db:
        runs.advance(db, slow, {"slices": 1})
    with engine.begin() as db:
        held = runs.advance(db, other, {"slices": 1})
        runs.finish(db, held, "done")
    with pytest.raises(RunTaken), engine.begin() as db:
        runs.finish(db, held, "done")


def test_a_holder_whose_clock_was_set_back_blocks_nobody(engine: Engine) -> None:
    """A heartbeat ten minutes in the future is no sign of life."""
    with engine.begin() as db:
        now = runs.clock(db)
        runs.start(db, "nightly", now, now)
        runs.take(db, ["nightly"], now)
        db.exec_driver_sql("UPDATE runs SET heartbeat_at = now() + interval '10 minutes'")
    with engine.begin() as db:
        assert len(runs.take(db, ["nightly"], now)) == 1


def test_a_long_run_makes_room_after_its_turn(engine: Engine) -> None:
    """A tick works for a while; the next one goes on at once, and the counts add up."""
    jobs = Jobs(engine, slices=3)
    del jobs.table["hourly"]
    for done in (1, 2, 3):
        jobs.tick(START, seconds=0)
        assert jobs.effects() == {"nightly": done}
    jobs.tick(START, seconds=0)
    assert len(jobs.times("nightly")) == 1


def test_a_job_that_fails_is_over_until_its_next_time(engine: Engine) -> None:
    """A fault in a job is shown as its outcome and is not tried again every 20 s; what it did is rolled back."""
    jobs = Jobs(engine)
    del jobs.table["hourly"]

    def fail() -> None:
        raise RuntimeError

    jobs.interrupt = fail
    jobs.tick(START)
    jobs.tick(START)
    with engine.begin() as db:
        assert [run.outcome for run in runs.latest(db, limit=10)] == ["failed"]
    assert jobs.effects() == {}
    jobs.interrupt = lambda: None
    jobs.tick(START + timedelta(days=1))
    assert len(jobs.times("nightly")) == 1
