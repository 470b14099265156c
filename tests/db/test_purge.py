"""Retention: what is old goes, what is needed stays, the books stay balanced, and a purge may be stopped anywhere."""

from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine

from integration.config import Config
from integration.observability import books
from integration.pipeline import Pipeline
from integration.storage import purge, received
from tasks.schedule import JOBS, tick
from tests.db.conftest import Put, event

KEPT = {"payload_days": 30, "failed_payload_days": 180, "history_days": 90}


def age(engine: Engine, table: str, column: str, days: float, where: str = "true") -> None:
    """Make rows as old as if they had been written so many days ago."""
    with engine.begin() as db:
        db.exec_driver_sql(f"UPDATE {table} SET {column} = {column} - interval '{days} days' WHERE {where}")  # noqa: S608


def run(engine: Engine, rows: int = 1_000) -> dict[str, int]:
    """Purge to the end, slice by slice; returns what was removed."""
    removed: dict[str, int] = {}
    while True:
        with engine.begin() as db:
            done = purge.step(db, **KEPT, rows=rows)
        if not done:
            return removed
        for name, number in done.items():
            assert number <= rows
            removed[name] = removed.get(name, 0) + number


def payloads(engine: Engine) -> set[int]:
    """Return the ids of the events whose payload is there."""
    with engine.begin() as db:
        return {row.id for row in db.exec_driver_sql("SELECT id FROM inbox WHERE payload IS NOT NULL")}


def settled(engine: Engine, put: Put, status: str, days: float) -> int:
    """Put an event that reached a state so many days ago; returns its id."""
    (made,) = put([event()])
    with engine.begin() as db:
        db.exec_driver_sql(
            "UPDATE inbox SET status = %s, settled_at = now() - %s * interval '1 day', original_payload = payload"
            " WHERE id = %s",
            (status, days, made),
        )
    return made


@pytest.mark.parametrize(("status", "days"), [("done", 30), ("ignored", 30), ("dead", 180), ("parked", 180)])
def test_payloads_go_when_their_time_has_come(engine: Engine, put: Put, status: str, days: int) -> None:
    """Each state has its time; the row stays and says that its payload was purged."""
    old, young = settled(engine, put, status, days + 0.1), settled(engine, put, status, days - 0.1)
    assert run(engine) == {"payloads": 1}
    assert payloads(engine) == {young}
    with engine.begin() as db:
        (shown,) = received.by_id(db, [old])
        kept = db.exec_driver_sql("SELECT original_payload FROM inbox WHERE id = %s", (old,)).scalar_one()
    assert (shown.status, shown.has_payload, kept) == (status, False, None)


def test_what_is_not_settled_keeps_its_payload(engine: Engine, put: Put) -> None:
    """However long an event waits, its payload is needed."""
    (waiting,) = put([event()])
    age(engine, "inbox", "received_at", 1000)
    assert run(engine) == {}
    assert payloads(engine) == {waiting}


def test_the_books_balance_and_duplicates_are_refused_after_a_purge(
    engine: Engine, pipeline: Pipeline, put: Put
) -> None:
    """Purged events are counted as before, and one that is sent again years later is still a duplicate."""
    ids = put([event(user=f"u-{n}", email=f"ada.{n}@example.com") for n in range(5)], ids=[f"m-{n}" for n in range(5)])
    pipeline.sync("completion", ids)
    age(engine, "inbox", "settled_at", 1000)
    with engine.begin() as db:
        before = books.balance(db)
    assert run(engine, rows=2) == {"payloads": 5}
    with engine.begin() as db:
        assert books.balance(db) == before
        assert before.unaccounted == 0
    assert put([event()], ids=["m-3"]) == []


def test_attempts_go_and_facts_and_audit_stay(engine: Engine) -> None:
    """History older than 90 days is removed from the oldest on."""
    with engine.begin() as db:
        for days in (200, 91, 89, 0):
            db.exec_driver_sql(
                "INSERT INTO attempts (subject_type, subject_id, connection, operation, batch, started_at, finished_at,"
                " outcome, reason, version, fields) VALUES ('sync_state', 1, 'crm', 'x', gen_random_uuid(), now(),"
                " now() - %s * interval '1 day', 'written', 'written', 1, '{}')",
                (days,),
            )
        db.exec_driver_sql(
            "INSERT INTO audit (at, actor, action, outcome) VALUES (now() - interval '9 years', 'a', 'b', 'c')"
        )
    assert run(engine, rows=1) == {"attempts": 2}
    with engine.begin() as db:
        assert db.exec_driver_sql("SELECT count(*) FROM attempts").scalar_one() == 2
        assert db.exec_driver_sql("SELECT count(*) FROM audit").scalar_one() == 1


def test_counters_of_calls_never_shrink(engine: Engine) -> None:
    """Old minutes are added up into one row: a counter that fell would look like one that began again."""
    sums = (
        "SELECT connection, operation, outcome, sum(calls), sum(records), sum(seconds) FROM api_calls GROUP BY 1, 2, 3"
    )
    with engine.begin() as db:
        db.exec_driver_sql(
            "INSERT INTO api_calls SELECT 'crm', 'contact.write',"
            " date_trunc('minute', now()) + interval '1 hour' - n * interval '1 day',"
            " outcome, n, 2 * n, 0.5 FROM generate_series(0, 120) n, unnest(ARRAY['200', '429']) outcome"
        )
        before = sorted(map(tuple, db.exec_driver_sql(sums)))
    assert run(engine, rows=7)["api_calls"] == 2 * 30
    with engine.begin() as db:
        assert sorted(map(tuple, db.exec_driver_sql(sums))) == before
        assert db.exec_driver_sql("SELECT count(*) FROM api_calls").scalar_one() == 2 * 91 + 2


def test_finished_replays_old_runs_and_dead_workers_go(engine: Engine) -> None:
    """What is still under way, and the newest run of each job, stays."""
    with engine.begin() as db:
        for status, days in (("done", 91), ("done", 89), ("active", None)):
            db.exec_driver_sql(
                "INSERT INTO replays (kind, filter, actor, status, total, up_to_id, finished_at)"
                " VALUES ('event', '{}', 'test', %s, 1, 1, now() - %s * interval '1 day')",
                (status, days),
            )
        db.exec_driver_sql(
            "INSERT INTO runs (job, scheduled_for, finished_at) SELECT job, now() - n * interval '1 day',"
            " now() - n * interval '1 day' FROM unnest(ARRAY['a', 'b']) job, unnest(ARRAY[200, 100]) n"
        )
        db.exec_driver_sql(
            "INSERT INTO heartbeats (node, started_at, sent_at) VALUES ('old', now() - interval '3 days',"
            " now() - interval '2 days'), ('young', now() - interval '3 days', now())"
        )
    assert run(engine) == {"replays": 1, "runs": 2, "heartbeats": 1}
    with engine.begin() as db:
        assert [row.status for row in db.exec_driver_sql("SELECT status FROM replays ORDER BY id")] == [
            "done",
            "active",
        ]
        assert db.exec_driver_sql("SELECT node FROM heartbeats").scalar_one() == "young"


def test_the_nightly_job_purges_and_counts(engine: Engine, config: Config, put: Put) -> None:
    """The job that is shipped, with the retention of the connections file, says in its run what it did."""
    settled(engine, put, "done", 31)
    settled(engine, put, "done", 12)
    tick(engine, config, JOBS, now=datetime(2026, 11, 21, 1, 31, tzinfo=UTC))
    with engine.begin() as db:
        found = db.exec_driver_sql("SELECT scheduled_for, outcome, counts FROM runs WHERE job = 'purge'").one()
    assert tuple(found) == (datetime(2026, 11, 21, 1, 30, tzinfo=UTC), "done", {"payloads": 1})
