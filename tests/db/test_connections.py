"""Pauses and breakages of a connection: who may call when, and what counts as a failure."""

from uuid import uuid4

from sqlalchemy import Engine

from integration.errors import Reason
from integration.model.contacts import WRITE_CONTACT as CONTACTS
from integration.storage import breakers, connections, outlook


def registered(engine: Engine) -> None:
    """Make one connection known."""
    with engine.begin() as db:
        connections.register(db, {"crm": "hubspot"})


def state(engine: Engine) -> outlook.Outlook:
    """Return the connection's state."""
    with engine.begin() as db:
        return outlook.look(db, "crm", CONTACTS)


def test_failures_count_only_in_a_row(engine: Engine) -> None:
    """A call that worked closes the breaker, but does not end a pause that another call was asked to make."""
    registered(engine)
    with engine.begin() as db:
        for count in range(1, breakers.TRIP + 1):
            assert breakers.fail(db, "crm", CONTACTS, Reason.SERVER_ERROR, [0.0]) == count
        connections.pause(db, "crm", 60, Reason.RATE_LIMITED)
    assert state(engine).is_tripped
    with engine.begin() as db:
        connections.heal(db, "crm")
        assert breakers.succeed(db, "crm", CONTACTS)
        assert not breakers.succeed(db, "crm", CONTACTS)
    found = state(engine)
    assert not found.is_tripped
    assert found.wait > 50
    assert not found.may_call


def test_an_open_breaker_lets_one_probe_through(engine: Engine) -> None:
    """While it is open nobody calls; once its time is over one may, and another only when that one ended silently."""
    registered(engine)
    with engine.begin() as db:
        for _ in range(breakers.TRIP):
            breakers.fail(db, "crm", CONTACTS, Reason.SERVER_ERROR, [60.0])
        assert not breakers.probe(db, "crm", CONTACTS, uuid4())
    assert state(engine).wait > 50
    with engine.begin() as db:
        db.exec_driver_sql("UPDATE breakers SET open_until = now()")
    with engine.begin() as db:
        assert breakers.probe(db, "crm", CONTACTS, uuid4())
        assert not breakers.probe(db, "crm", CONTACTS, uuid4())
    assert not state(engine).may_call
    with engine.begin() as db:
        db.exec_driver_sql("UPDATE breakers SET probe_until = now() - interval '1 s'")
    assert state(engine).may_call
    with engine.begin() as db:
        assert breakers.probe(db, "crm", CONTACTS, uuid4())


def test_one_operation_s_trouble_is_not_another_s(engine: Engine) -> None:
    """A breaker is per operation; a pause that was asked for is the connection's."""
    registered(engine)
    with engine.begin() as db:
        for _ in range(breakers.TRIP):
            breakers.fail(db, "crm", "note.create", Reason.SERVER_ERROR, [60.0])
    assert state(engine).may_call


def test_a_longer_pause_stays(engine: Engine) -> None:
    """A shorter wait asked for later does not shorten the longer one."""
    registered(engine)
    with engine.begin() as db:
        connections.pause(db, "crm", 60, Reason.RATE_LIMITED)
        connections.pause(db, "crm", 1, Reason.RATE_LIMITED)
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


def test_a_pause_for_a_time_ends_by_itself(engine: Engine) -> None:
    """A person's pause without an end lasts; one with an end is over when it is, and not before."""
    registered(engine)
    with engine.begin() as db:
        assert connections.halt(db, "crm", 3600.0)
        assert connections.end_pauses(db) == []
        db.exec_driver_sql("UPDATE connections SET paused_until = now()")
        assert connections.end_pauses(db) == ["crm"]
    assert state(engine).may_call
    with engine.begin() as db:
        assert connections.halt(db, "crm", None)
        assert connections.end_pauses(db) == []
        assert not connections.halt(db, "nowhere", None)
    assert not state(engine).may_call


def test_a_late_answer_does_not_change_a_person_s_pause(engine: Engine) -> None:
    """A call that was under way is told 429: the pause neither gets an end by that nor another reason."""
    registered(engine)
    with engine.begin() as db:
        connections.halt(db, "crm", None)
        connections.pause(db, "crm", 1, Reason.RATE_LIMITED)
        connections.pause(db, "crm", 1, Reason.DAILY_LIMIT)
        (found,) = connections.overview(db)
    assert (found.status, found.reason, found.paused_until) == ("paused", None, None)


def test_resuming_ends_whatever_holds_it(engine: Engine) -> None:
    """Broken, resting and with an open breaker: after `resume` the next call is made at once."""
    registered(engine)
    with engine.begin() as db:
        for _ in range(breakers.TRIP):
            breakers.fail(db, "crm", CONTACTS, Reason.SERVER_ERROR, [60.0])
        connections.pause(db, "crm", 60, Reason.DAILY_LIMIT)
        connections.break_off(db, "crm", Reason.CREDENTIALS_REFUSED)
    assert not state(engine).may_call
    with engine.begin() as db:
        assert connections.resume(db, "crm") == "broken"
        assert connections.resume(db, "nowhere") is None
    found = state(engine)
    assert (found.status, found.reason, found.wait, found.is_tripped) == ("active", None, 0.0, False)
    assert found.may_call
