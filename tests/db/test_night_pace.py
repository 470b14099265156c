"""What a night spares a CRM: repairs are written together, calls have an end, lists too."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from integration.reconciliation import sweep as sweeping
from integration.storage import comparisons, reconciliation_findings, reconciliations
from tasks import nights
from tests.db.conftest import event
from tests.db.firm import Firm, ground
from tests.db.test_pipeline import rows
from tests.db.test_reconciliation import PEOPLE, field, findings, firm, reconcile

__all__ = ["firm", "ground"]

NIGHT = datetime(2026, 11, 21, 2, 30, tzinfo=UTC)
RUN = "SELECT id, status FROM reconciliations ORDER BY id DESC LIMIT 1"


@pytest.fixture(autouse=True)
def small_pages(firm: Firm) -> None:
    """Five contacts a page, two pages a chunk."""
    store: Any = firm.process.sweeps["crm"].store
    store.capabilities = store.capabilities._replace(batch_size=5)


def begin(firm: Firm, **said: Any) -> int | None:
    """Begin a run, or go on with one that rests."""
    with firm.engine.begin() as db:
        return reconciliations.begin(db, "crm", said.pop("at", datetime.now(UTC)), **{"actor": "user:test", **said})


def broken_off(firm: Firm) -> None:
    """Let a run come as far as the first of its chunks."""
    for n in (0, 1, 12, 23):
        firm.edit(f"p{n}@example.com", courses_completed_count="7")
    firm.crm.set_faults(script=[None, None, {"kind": "error", "status": 503}])
    begin(firm)
    firm.process.sweeps["crm"].run()
    assert rows(firm.engine, RUN)[0][1] == "running"
    with firm.engine.begin() as db:
        db.exec_driver_sql("DELETE FROM breakers")
        db.exec_driver_sql("UPDATE connections SET paused_until = NULL")


def written(firm: Firm) -> list[str]:
    """Flush once; return which calls were made."""
    before = len(firm.crm.calls())
    firm.process.flushers["crm", "contact.upsert"].flush()
    return [one["operation"] for one in firm.crm.calls()[before:]]


def test_what_a_run_repairs_is_written_together(firm: Firm) -> None:
    """Nothing while it goes on; when it is over one call reads all four, and one writes them."""
    broken_off(firm)
    assert rows(firm.engine, "SELECT count(*) FROM sync_state WHERE status = 'due'") == [(2,)]
    assert written(firm) == []
    firm.process.sweeps["crm"].run()
    assert rows(firm.engine, RUN)[0][1] == "done"
    assert written(firm) == ["contacts.batch_read", "contacts.batch_update"]
    assert all(field(firm, f"p{n}@example.com", "courses_completed_count") == "1" for n in (0, 1, 12, 23))


def test_news_of_somebody_who_waits_to_be_repaired_is_written_at_once(firm: Firm) -> None:
    """Live events go first; the other one waits on."""
    broken_off(firm)
    ids = firm.put([event(user="u-0", email="p0@example.com", course="second")])
    firm.process.pipeline.sync("completion", ids)
    assert written(firm) == ["contacts.batch_read", "contacts.batch_update"]
    assert field(firm, "p0@example.com", "courses_completed_count") == "2"
    assert field(firm, "p1@example.com", "courses_completed_count") == "7"


def test_a_night_that_has_made_its_calls_rests_and_the_next_one_goes_on(firm: Firm) -> None:
    """Everybody is compared within some nights, each is well, and the run counts everybody once."""
    firm.edit("p0@example.com", courses_completed_count="7")
    firm.edit("p24@example.com", courses_completed_count="7")
    run, seen = begin(firm, at=NIGHT, actor="coursewire", most_calls=2), []
    for night in range(1, 5):
        firm.process.sweeps["crm"].run()
        [(now, status)] = rows(firm.engine, RUN)
        with firm.engine.begin() as db:
            standing = comparisons.standings(db)["crm"]
        seen.append((now == run, status, standing.succeeded_at is not None))
        if status == "done":
            break
        at = NIGHT + timedelta(days=night)
        assert begin(firm, at=at, actor="coursewire", most_calls=2) == run
        with firm.engine.begin() as db:
            assert reconciliations.last_scheduled(db, "crm") == at
    assert seen == [(True, "resting", True), (True, "resting", True), (True, "done", True)]
    [(counts,)] = rows(firm.engine, "SELECT counts FROM reconciliations")
    assert (counts["contacts"], counts["drifted"], counts["calls"]) == (PEOPLE, 2, 5)
    assert findings(firm) == {"drifted": {"p0@example.com", "p24@example.com"}}


def test_what_a_night_found_is_repaired_though_the_run_rests(firm: Firm) -> None:
    """It does not wait for the rest."""
    firm.edit("p0@example.com", courses_completed_count="7")
    begin(firm, most_calls=1)
    firm.process.sweeps["crm"].run()
    assert rows(firm.engine, RUN)[0][1] == "resting"
    assert written(firm) == ["contacts.batch_read", "contacts.batch_update"]


def test_a_run_that_rests_holds_nothing_up(firm: Firm) -> None:
    """A dry run can be made meanwhile, whoever asks by hand goes on with it to the end, and it can be stopped."""
    resting = begin(firm, most_calls=1)
    firm.process.sweeps["crm"].run()
    assert reconcile(firm, is_dry=True)["contacts"] == PEOPLE
    assert begin(firm, most_calls=None) == resting
    firm.process.sweeps["crm"].run()
    assert rows(firm.engine, "SELECT status FROM reconciliations ORDER BY id") == [("done",), ("done",)]
    begin(firm, most_calls=1)
    firm.process.sweeps["crm"].run()
    with firm.engine.begin() as db:
        assert reconciliations.finish(db, rows(firm.engine, RUN)[0][0], "stopped")
    assert rows(firm.engine, "SELECT count(*) FROM reconciliation_chunks") == [(0,)]


def test_whoever_still_has_a_chunk_when_a_run_comes_to_rest_settles_it(firm: Firm) -> None:
    """Two workers read, and the first one makes the last call of the night."""
    begin(firm, most_calls=1)
    with firm.engine.begin() as db:
        mine = reconciliations.claim(db, "crm", lease := uuid4())
        assert mine is not None
        assert reconciliations.follow(db, mine, lease, "x")
        db.exec_driver_sql("UPDATE reconciliations SET status = 'resting'")
        before = reconciliations.counts(db, mine)
        assert not reconciliations.settle(db, mine, lease, {"contacts": 10}, before)
        assert reconciliations.claim(db, "crm", uuid4()) is None


def test_the_settings_say_how_many_calls_a_night_makes(firm: Firm) -> None:
    """As the clock begins it."""
    config = firm.process.config
    with firm.engine.begin() as db:
        db.exec_driver_sql("UPDATE rule_sets SET published_at = now() - interval '3 days'")
        [run] = nights.begin_due(db, config, ["crm"])
        [(most,)] = db.exec_driver_sql("SELECT rests_at FROM reconciliations WHERE id = %s", (run,))
    assert most == config.connections["crm"].reconcile.calls == 20_000


def test_a_list_of_what_nobody_repairs_has_an_end(firm: Firm, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand copies are counted and the first of them named; all that is repaired is, or nobody could undo it."""
    monkeypatch.setattr(sweeping, "LISTED", 2)
    firm.hire([f"orphan{n}@example.com" for n in range(5)], lms_source="academy", courses_completed_count="1")
    for n in range(5):
        firm.edit(f"p{n}@example.com", courses_completed_count="7")
    counts = reconcile(firm)
    assert (counts["orphan"], counts["drifted"]) == (5, 5)
    assert {kind: len(names) for kind, names in findings(firm).items()} == {"orphan": 2, "drifted": 5}


def test_a_dry_run_counts_a_role_once_though_its_chunk_was_repeated(firm: Firm) -> None:
    """Whoever was killed had counted it already."""
    firm.publish(
        {
            "pathways": {"ae": {"title": "AE", "buckets": {"demo": {"required": ["academy:demo"]}}}},
            "roles": {"ae": {"role": "Account Executive", "pathway": "ae", "settle": 0}},
        }
    )
    firm.settle()
    firm.edit("p0@example.com", jobtitle="Account Executive")
    begin(firm, is_dry=True)
    with firm.engine.begin() as db:
        mine = reconciliations.claim(db, "crm", lease := uuid4())
        assert mine is not None
        reconciliation_findings.see(db, mine, [firm.ids["p0@example.com"]])
        reconciliations.give_back(db, mine, lease)
        db.exec_driver_sql("""UPDATE reconciliations SET counts = '{"roles": 1, "contacts": 1}'""")
    firm.process.sweeps["crm"].run()
    assert rows(firm.engine, "SELECT (counts ->> 'roles')::int FROM reconciliations") == [(1,)]
