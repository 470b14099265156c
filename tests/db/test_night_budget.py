"""The nightly comparison lives on what live work leaves: of each window, and of the day."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from integration.delivery.buckets import Buckets
from integration.delivery.budget import Budget
from integration.delivery.limits import Limits
from integration.ports import ANY_CALL, Rate
from integration.storage import reconciliations
from integration.storage.sync_state import BACKFILL, LIVE
from tasks.embedded.servers import EmbeddedServers
from tests.db.firm import Firm, ground
from tests.db.test_pipeline import rows
from tests.db.test_reconciliation import PEOPLE, field, firm, learn

__all__ = ["firm", "ground"]

FAST, SLOW = Rate(10_000_000, 1.0), Rate(100, 100_000.0)
"""A limit that nobody reaches, and one of which nothing comes back within a quarter of an hour; eight go at once."""


KeepTo = Callable[..., Budget]


@pytest.fixture
def keep_to(firm: Firm, servers: EmbeddedServers) -> KeepTo:
    """Let this installation keep to a limit of which nothing was used yet, from now on."""

    def use(rate: Rate, **options: Any) -> Budget:
        name = uuid4().hex
        budget = Budget(name, Limits(name, {ANY_CALL: rate}, **options), Buckets(servers.broker_url))
        made = vars(firm.process)
        made["budgets"] = {**made["budgets"], "crm": budget}
        for part in ("flushers", "sweeps", "drains", "looks"):
            made.pop(part, None)
        return budget

    return use


def take(budget: Budget, lane: int, most: int = 1_000) -> int:
    """Let somebody else make all the calls that may be made at once, at most so many; return how many."""
    taken = 0
    while taken < most and budget.ask(lane) == 0:
        budget._thread.granted.clear()
        taken += 1
    return taken


def begin(firm: Firm) -> None:
    """Begin a comparison."""
    with firm.engine.begin() as db:
        assert reconciliations.begin(db, "crm", datetime.now(UTC), actor="user:test")


def calls_of(firm: Firm, work: Callable[[], object]) -> int:
    """Return how many calls the CRM got meanwhile."""
    before = len(firm.crm.calls())
    work()
    return len(firm.crm.calls()) - before


def waits(firm: Firm) -> bool:
    """Say whether the run waits, and it has cost it nothing: no try, no failure, no pause."""
    chunks = rows(firm.engine, "SELECT status, attempts FROM reconciliation_chunks")
    failures = rows(firm.engine, "SELECT count(*) FROM breakers WHERE operation = 'contact.reconcile'")
    paused = rows(firm.engine, "SELECT count(*) FROM connections WHERE paused_until IS NOT NULL OR status <> 'active'")
    return (chunks, failures, paused) == ([("open", 0)], [(0,)], [(0,)])


def test_what_is_kept_of_the_day_is_not_for_the_night(firm: Firm, keep_to: KeepTo) -> None:
    """With the last tenth of the day's calls left the run makes none, and live news are written; it goes on then."""
    where_it_is_before_noon = "UTC" if datetime.now(UTC).hour < 12 else "Etc/GMT+12"
    budget = keep_to(FAST, daily_calls=100, timezone=where_it_is_before_noon)
    assert take(budget, LIVE, most=90) == 90
    begin(firm)
    assert calls_of(firm, firm.process.sweeps["crm"].run) == 0
    assert waits(firm)
    assert calls_of(firm, lambda: learn(firm, [0], course="second")) > 0
    assert field(firm, "p0@example.com", "courses_completed_count") == "2"
    keep_to(FAST, daily_calls=100)  # the next day
    firm.process.sweeps["crm"].run()
    assert rows(firm.engine, "SELECT status, (counts ->> 'contacts')::int FROM reconciliations") == [("done", PEOPLE)]


def test_a_page_is_asked_for_behind_live_work(firm: Firm, keep_to: KeepTo) -> None:
    """Half of what may go at once is kept free for live calls, so the run does not begin where its half is used up."""
    budget = keep_to(SLOW)
    assert take(budget, BACKFILL) > 0
    begin(firm)
    assert calls_of(firm, firm.process.sweeps["crm"].run) == 0
    assert waits(firm)
    assert take(budget, LIVE) > 0


def test_a_page_whose_call_was_lost_to_others_takes_none_of_live_work(
    firm: Firm, keep_to: KeepTo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call that was asked for has grown too old and is somebody else's: the page is read in the same lane."""
    budget = keep_to(SLOW)
    sweep = firm.process.sweeps["crm"]
    real = sweep.store.page

    def late(*arguments: Any) -> Any:
        budget.give_back()
        assert take(budget, BACKFILL) > 0
        return real(*arguments)

    monkeypatch.setattr(sweep.store, "page", late)
    begin(firm)
    assert calls_of(firm, sweep.run) == 0
    assert waits(firm)
    assert take(budget, LIVE) > 0
