"""Rules about rings: a backlog is announced once, and a broker that cannot follow is not buried (rule 21)."""

import json
from uuid import uuid4

import pytest
from sqlalchemy import Engine

from integration.model.contacts import WRITE_CONTACT
from integration.model.events import Kind
from integration.storage import rings
from tasks import periodic
from tests.db.conftest import event
from tests.db.world import World, world

__all__ = ["world"]  # a fixture


def deliver(world: World, count: int) -> None:
    """Let `count` learners complete a course; nobody is told."""
    for who in range(count):
        body = event(user=f"a-{who}", email=f"p{who}@example.com")
        world.deliver("academy", f"id-{who}", json.dumps(body).encode(), kind=Kind.COMPLETION)
    world.bells.clear()


def test_one_ring_is_outstanding_until_it_is_heard(engine: Engine) -> None:
    """Whoever makes somebody due rings only where nobody has; a drain that starts has heard it."""
    with engine.begin() as db:
        assert rings.ring(db, "crm", WRITE_CONTACT)
        assert not rings.ring(db, "crm", WRITE_CONTACT)
        assert rings.ring(db, "other", WRITE_CONTACT)
        lease = uuid4()
        assert rings.start(db, "crm", WRITE_CONTACT, lease)
        assert rings.ring(db, "crm", WRITE_CONTACT)
        rings.stop(db, "crm", WRITE_CONTACT, lease)
        assert not rings.ring(db, "crm", WRITE_CONTACT)


def test_a_ring_nobody_heard_is_rung_again(world: World) -> None:
    """After a broker that forgot everything the sweeper rings once for what waits, and once more only much later."""
    deliver(world, 3)
    world.clock.advance(periodic.QUIET_SECONDS + 1)
    world.sweep()
    assert [len(arguments[0]) for name, arguments in world.bells if name == "completion.sync"] == [3]
    world.bells.clear()
    world.clock.advance(periodic.UNHEARD_SECONDS - 5)
    world.sweep()
    assert not world.bells
    world.clock.advance(10)
    world.sweep()
    assert [len(arguments[0]) for name, arguments in world.bells if name == "completion.sync"] == [3]


def test_above_the_high_water_mark_the_backlog_stays_in_postgres(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where messages pile up the sweeper adds none, and stamps nothing: it rings when there is room."""
    deliver(world, 3)
    world.clock.advance(periodic.QUIET_SECONDS + 1)
    waiting = [periodic.HIGH_WATER]
    monkeypatch.setattr(periodic, "_waiting_messages", lambda _queue: waiting[0])
    world.sweep()
    assert not world.bells
    assert world.rows("SELECT count(*) FROM inbox WHERE rung_at IS NOT NULL") == [(0,)]
    waiting[0] -= 1
    world.sweep()
    assert world.bells
