"""Pauses and breakages of a connection: who may call when, and what counts as a failure."""

from sqlalchemy import Engine

from integration.errors import Reason
from integration.storage import connections


def registered(engine: Engine) -> None:
    """Make one connection known."""
    with engine.begin() as db:
        connections.register(db, {"crm": "hubspot"})


def state(engine: Engine) -> connections.State:
    """Return the connection's state."""
    with engine.begin() as db:
        return connections.state(db, "crm")


def test_failures_count_only_in_a_row(engine: Engine) -> None:
    """A call that worked ends the row of failures, even while a pause asked for by another call is under way."""
    registered(engine)
    with engine.begin() as db:
        for _ in range(3):
            connections.pause(db, "crm", 0, Reason.UNKNOWN_OUTCOME, counts=True)
        connections.pause(db, "crm", 60, Reason.RATE_LIMITED, counts=False)
    assert state(engine).failures == 3
    with engine.begin() as db:
        connections.heal(db, "crm")
    found = state(engine)
    assert found.failures == 0
    assert found.wait > 50
    assert not found.may_call


def test_a_longer_pause_stays(engine: Engine) -> None:
    """A shorter wait asked for later does not shorten the longer one."""
    registered(engine)
    with engine.begin() as db:
        connections.pause(db, "crm", 60, Reason.RATE_LIMITED, counts=False)
        connections.pause(db, "crm", 1, Reason.RATE_LIMITED, counts=False)
    assert state(engine).wait > 50


def test_a_person_s_pause_is_nobody_else_s_to_end(engine: Engine) -> None:
    """Healing and breaking leave a connection alone that a person has paused."""
    registered(engine)
    with engine.begin() as db:
        db.exec_driver_sql("UPDATE connections SET status = 'paused'")
        connections.heal(db, "crm")
        connections.break_off(db, "crm", Reason.CREDENTIALS_REFUSED)
    assert state(engine).status == "paused"
    assert not state(engine).may_call


def test_a_broken_connection_is_tried_again_by_itself(engine: Engine) -> None:
    """Refused credentials stop the calls for a while, not for ever."""
    registered(engine)
    with engine.begin() as db:
        connections.break_off(db, "crm", Reason.CREDENTIALS_REFUSED)
    found = state(engine)
    assert (found.status, found.may_call) == ("broken", False)
    assert 0 < found.wait <= connections.PROBE_SECONDS
    with engine.begin() as db:
        db.exec_driver_sql("UPDATE connections SET paused_until = now()")
    assert state(engine).may_call
