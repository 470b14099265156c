"""An alert where contacts are not compared as often as they should be; the last run's figures; what old runs leave."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine

from integration.config import Config, Reconcile
from integration.observability import nights
from integration.storage import comparisons, loops, purge, reconciliations
from tasks import nights as clock
from tasks.checks import nights as checks
from tests.db.test_pipeline import rows
from tests.db.test_purge import KEPT

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def ran(engine: Engine, hours: float, status: str = "done", *, is_dry: bool = False, actor: str = "coursewire") -> int:
    """Note a run that ended so many hours ago, having begun an hour before."""
    with engine.begin() as db:
        at = datetime.now(UTC) - timedelta(hours=hours)
        run = reconciliations.begin(db, "crm", at, actor=actor, is_dry=is_dry)
        assert run is not None
        reconciliations.finish(db, run, status)
        counts = '{"contacts": 200, "drifted": 3, "missing": 1, "equal": 196, "calls": 7}'
        db.exec_driver_sql(
            "UPDATE reconciliations SET counts = %s, finished_at = now() - %s * interval '1 hour',"
            " started_at = now() - (%s + 1) * interval '1 hour' WHERE id = %s",
            (counts, hours, hours, run),
        )
    return run


def config(**reconcile: Any) -> Config:
    """Return a connections file with one CRM."""
    return Config.model_validate({"connections": {"crm": {"system": "hubspot", "reconcile": reconcile}}})


def levels(engine: Engine, **reconcile: Any) -> list[str]:
    """Return what `check` says of the comparisons."""
    with engine.begin() as db:
        return [line.level for line in checks.lines(db, config(**reconcile).connections)]


@pytest.mark.parametrize(
    ("every", "hours", "is_late"),
    [
        ("day", 25.9, False),
        ("day", 26.1, True),
        ("week", 7 * 24 + 1.9, False),
        ("week", 7 * 24 + 2.1, True),
        ("month", 31 * 24 + 1.9, False),
        ("month", 31 * 24 + 2.1, True),
        ("never", 10_000, False),
    ],
)
def test_a_comparison_is_missed_two_hours_after_its_interval(every: Any, hours: float, is_late: bool) -> None:
    """A nightly one is 26 hours old then."""
    assert clock.is_late(Reconcile(every=every), NOW - timedelta(hours=hours), NOW) is is_late


def test_check_says_which_connection_is_not_compared(engine: Engine) -> None:
    """Nothing before the first run; a run that failed, was stopped or was dry is none that was well."""
    assert levels(engine) == []
    ran(engine, 40)
    assert levels(engine) == ["failed"]
    assert levels(engine, every="week") == ["ok"]
    assert levels(engine, every="never") == []
    ran(engine, 3, "failed")
    ran(engine, 2, "stopped")
    ran(engine, 1, is_dry=True)
    assert levels(engine) == ["failed"]
    ran(engine, 0.5)
    assert levels(engine) == ["ok"]


def test_who_was_never_compared_to_the_end_is_late_by_the_first_try(engine: Engine) -> None:
    """Each night it fails anew."""
    ran(engine, 24, "failed")
    assert levels(engine) == []
    ran(engine, 48, "failed")
    ran(engine, 1, "failed")
    with engine.begin() as db:
        [line] = checks.lines(db, config().connections)
    assert (line.level, "never to the end" in line.what) == ("failed", True)


def test_the_metrics_are_those_of_the_last_run_that_counts(engine: Engine) -> None:
    """With the age of the last success."""
    ran(engine, 10)
    ran(engine, 1, is_dry=True)
    ran(engine, 0.5, "failed")
    with engine.begin() as db:
        found = {one.name: one.samples[0] for one in nights.families(db)}
    assert {sample.labels["connection"] for sample in found.values()} == {"crm"}
    assert found["coursewire_reconcile_success_seconds"].value == pytest.approx(36_000, abs=60)
    assert found["coursewire_reconcile_contacts"].value == 200
    assert found["coursewire_reconcile_drift_ratio"].value == pytest.approx(0.02)
    assert found["coursewire_reconcile_seconds"].value == pytest.approx(3600)
    assert found["coursewire_reconcile_calls"].value == 7


def test_old_runs_go_and_the_last_of_each_kind_stays(engine: Engine) -> None:
    """Its findings first, slice by slice: the last run says what is due, and whether it was well."""
    old = [ran(engine, 24 * days) for days in (95, 94)]
    dry = ran(engine, 24 * 93, is_dry=True)
    with engine.begin() as db:
        db.exec_driver_sql(
            "INSERT INTO reconciliation_findings (reconciliation_id, kind, contact_id, found_at)"
            " SELECT %s, 'orphan', n::text, now() - interval '95 days' FROM generate_series(1, 25) n",
            (old[0],),
        )
    removed: dict[str, int] = {}
    while True:
        with engine.begin() as db:
            done = purge.step(db, **KEPT, rows=10)
        if not done:
            break
        for name, number in done.items():
            removed[name] = removed.get(name, 0) + number
    assert removed == {"reconciliation_findings": 25, "reconciliations": 1}
    with engine.begin() as db:
        assert [one.id for one in comparisons.latest(db, limit=9)] == [dry, old[1]]
        assert reconciliations.last_scheduled(db, "crm") is not None


def test_what_is_held_by_hand_is_counted_as_no_loop_and_purged_when_it_is_over(engine: Engine) -> None:
    """A hold outlives the count of a flush that was late; one that is over goes like any other."""
    with engine.begin() as db:
        loops.hold(db, "crm", [(1, "a"), (1, "b")], seconds=86_400)
        assert loops.count(db, "crm", [(1, "a")]) == []
        assert {one.field for one in loops.held(db, "crm", [1])} == {"a", "b"}
        loops.release(db, "crm", [(1, "b")], within=600)
        assert {one.field for one in loops.held(db, "crm", [1])} == {"a", "b"}
        loops.release(db, "crm", [(1, "b")], within=90_000)
        assert {one.field for one in loops.held(db, "crm", [1])} == {"a"}
        assert purge.step(db, **KEPT) == {}
        db.exec_driver_sql("UPDATE loops SET held_until = now() - interval '2 days', since = now() - interval '3 days'")
        assert purge.step(db, **KEPT) == {"loops": 1}
    assert rows(engine, "SELECT count(*) FROM loops") == [(0,)]
