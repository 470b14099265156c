"""Rules about asking before claiming: whoever may not call claims nobody, and who was claimed in vain loses nothing.

`docs/correctness.md`, rule 23.
"""

import json
from typing import Any

import pytest

from integration.delivery.budget import Budget
from integration.errors import Reason, RetryLater
from integration.model.events import Kind
from tests.db.conftest import event
from tests.db.world import World, world

__all__ = ["world"]  # a fixture

STATE = "SELECT status, attempts, claimed_with FROM sync_state"


def tell(world: World) -> None:
    """Let a learner complete a course, and let it be worked on."""
    body = event(user="a-1", email="p1@example.com")
    world.deliver("academy", "id", json.dumps(body).encode(), kind=Kind.COMPLETION)
    world.answer_all()


def test_without_a_budget_nobody_is_claimed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the calls are used up, people stay due as they were: not claimed, not tried, and the CRM not asked."""
    with monkeypatch.context() as patch:
        patch.setattr(Budget, "ask", lambda *_: 100.0)
        tell(world)
    assert world.rows(STATE) == [("due", 0, None)]
    assert world.crm.calls == 0
    world.clock.advance(60)
    world.sweep()
    world.answer_all()
    assert world.rows(STATE) == [("in_step", 1, 1)]


def test_what_was_claimed_and_not_sent_gives_its_try_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the call that was promised is gone, the row goes back with its try; nobody blames the other side."""

    def gone(*_: Any) -> None:
        patch.setattr(Budget, "ask", lambda *_: 30.0)
        raise RetryLater(Reason.BUDGET_SPENT, "the calls are used up", after=30.0)

    with monkeypatch.context() as patch:
        patch.setattr(Budget, "spend", gone)
        world.workers[0].start()
        body = event(user="a-1", email="p1@example.com")
        world.deliver("academy", "id", json.dumps(body).encode(), kind=Kind.COMPLETION)
        world.answer()
    assert world.rows("SELECT status, reason, attempts FROM sync_state") == [("due", "budget_spent", 0)]
    assert world.rows("SELECT count(*) FROM attempts WHERE reason = 'budget_spent'") == [(0,)]
    assert world.rows("SELECT status, paused_until FROM connections WHERE name = 'crm'") == [("active", None)]
    assert world.rows("SELECT count(*) FROM breakers WHERE failures > 0") == [(0,)]
    assert world.crm.calls == 0
