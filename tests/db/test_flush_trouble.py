"""Trouble on the other side: what rests, what is tried, what is given up, and that nobody dies of an outage."""

from collections.abc import Sequence
from dataclasses import replace
from threading import BoundedSemaphore
from typing import Any

import pytest
from sqlalchemy import Connection, Engine

from integration.delivery import lease as leases
from integration.delivery import policy
from integration.errors import Reason, RetryLater, UnknownOutcome
from integration.model.contacts import WRITE_CONTACT, ContactWrite
from integration.pipeline import Pipeline
from integration.storage import breakers, sync_state
from scripts.sandbox.faults import fault
from scripts.sandbox.hubspot import HubSpotSandbox
from tests.db.conftest import Put, event
from tests.db.test_flush import Make, crm, hurry, make, no_waiting, people, portal, states, sync
from tests.db.test_pipeline import rows

__all__ = ["crm", "make", "no_waiting", "portal"]  # fixtures


class Failing:
    """A store in front of another one; `fails` says what a batch with these keys meets instead of its answer."""

    def __init__(self, store: Any, fails: Any) -> None:
        self.capabilities = store.capabilities
        self.asked: list[list[str]] = []
        self._store, self._fails = store, fails

    def read(self, by: str | None, values: Sequence[str], fields: Sequence[str]) -> Any:
        return self._store.read(by, values, fields)

    def update(self, writes: Sequence[ContactWrite]) -> Any:
        return self._send(writes, lambda: self._store.update(writes))

    def upsert(self, by: str, writes: Sequence[ContactWrite]) -> Any:
        return self._send(writes, lambda: self._store.upsert(by, writes))

    def _send(self, writes: Sequence[ContactWrite], send: Any) -> Any:
        names = [write.fields.get("email") or write.key or write.id or "" for write in writes]
        self.asked.append(names)
        error = self._fails(names)
        if error:
            raise error
        return send()


def broken(_: object) -> Exception:
    """Fail every batch."""
    return UnknownOutcome(Reason.SERVER_ERROR, "500")


def test_five_failures_open_the_breaker_and_one_record_is_the_probe(
    engine: Engine, pipeline: Pipeline, put: Put, make: Make, crm: HubSpotSandbox
) -> None:
    """While it is open nobody calls; then one record is tried, and its success lets everybody through."""
    trouble = [True]
    store = Failing(make().store, lambda names: broken(names) if trouble else None)
    flusher = make(store=store)
    sync(pipeline, put, people(30))
    for _ in range(breakers.TRIP):
        hurry(engine)
        flusher.flush()
    assert len(store.asked) == breakers.TRIP
    with engine.begin() as db:
        [breaker] = breakers.overview(db)
    assert (breaker.state, breaker.failures, breaker.reason) == ("open", breakers.TRIP, "server_error")
    flusher.flush()
    assert len(store.asked) == breakers.TRIP
    hurry(engine)
    flusher.flush()
    assert [len(names) for names in store.asked[breakers.TRIP :]] == [1]
    trouble.clear()
    hurry(engine)
    flusher.flush()
    assert len(store.asked[breakers.TRIP + 1]) == 1
    assert set(states(engine)) == {("in_step", "written")}
    with engine.begin() as db:
        assert [one.state for one in breakers.overview(db)] == ["closed"]


def test_probes_take_turns(engine: Engine, pipeline: Pipeline, put: Put, make: Make, crm: HubSpotSandbox) -> None:
    """A record that fails as the probe goes behind the others, so that it alone never keeps a breaker open."""
    store = Failing(make().store, broken)
    flusher = make(store=store)
    sync(pipeline, put, people(3))
    with engine.begin() as db:
        for _ in range(breakers.TRIP):
            breakers.fail(db, "crm", WRITE_CONTACT, Reason.SERVER_ERROR, [0.0])
    for _ in range(3):
        flusher.flush()
        with engine.begin() as db:
            db.exec_driver_sql("UPDATE breakers SET open_until = now()")
    assert sorted(name for [name] in store.asked) == [f"u{n}@example.com" for n in range(3)]


def test_an_outage_of_any_length_ends_nobody(
    engine: Engine, pipeline: Pipeline, put: Put, make: Make, crm: HubSpotSandbox
) -> None:
    """After a month of lost answers and server errors everybody is still waiting, and is written when it is over."""
    trouble = [broken]
    flusher = make(store=Failing(make().store, lambda names: trouble[0](names) if trouble else None))
    sync(pipeline, put, people(4))
    for _ in range(12):
        flusher.flush()
        hurry(engine)
        with engine.begin() as db:
            db.exec_driver_sql("UPDATE sync_state SET failing_since = now() - interval '30 days', attempts = 50")
    assert {status for status, _ in states(engine)} <= {"due", "waiting"}
    trouble.clear()
    for _ in range(3):
        hurry(engine)
        flusher.flush()
    assert set(states(engine)) == {("in_step", "written")}


def test_a_record_the_system_fails_on_is_found(
    engine: Engine, pipeline: Pipeline, put: Put, make: Make, crm: HubSpotSandbox
) -> None:
    """A record that makes the CRM answer 500 holds its neighbours up for a few rounds; then it is alone, and parked."""
    poison = "u5@example.com"
    store = Failing(make().store, lambda names: broken(names) if poison in names else None)
    flusher = make(store=store)
    sync(pipeline, put, people(20))
    for _ in range(40):
        hurry(engine)
        flusher.flush()
    assert sorted(states(engine)) == [*[("in_step", "written")] * 19, ("parked", "server_error")]
    assert len(store.asked) < 60


def test_a_read_that_fails_blames_nobody_at_first(
    engine: Engine, pipeline: Pipeline, put: Put, make: Make, crm: HubSpotSandbox
) -> None:
    """A server error on a look-up costs no attempt, halves nobody, and lets the records rest a moment."""
    crm.set_faults(script=[fault("error", status=500)])
    sync(pipeline, put, people(3))
    make().flush()
    found = rows(engine, "SELECT status, reason, attempts, max_batch, failing_since IS NOT NULL FROM sync_state")
    assert found == [("waiting", "server_error", 0, None, True)] * 3


@pytest.mark.parametrize(("age", "state"), [("71 hours", "due"), ("73 hours", "dead")])
def test_a_record_that_fails_for_three_days_is_given_up(
    engine: Engine, pipeline: Pipeline, put: Put, make: Make, crm: HubSpotSandbox, age: str, state: str
) -> None:
    """Its own trouble ends it after 72 hours, with the last trouble in the detail; not a moment before."""
    flusher = make()
    sync(pipeline, put, people(1))
    flusher.flush()
    sync(pipeline, put, people(1, course="b", at=5))
    with engine.begin() as db:
        db.exec_driver_sql("UPDATE sync_state SET failing_since = now() - %(age)s::interval", {"age": age})
    contact = crm.contact("u0@example.com")
    assert contact is not None
    crm.archive(contact["id"])
    replace(flusher, store=Once(flusher.store)).flush()
    [(status, reason, detail)] = rows(engine, "SELECT status, reason, detail FROM sync_state")
    assert status == state
    if state == "dead":
        assert reason == "gave_up"
        assert "contact_gone" in detail


class Once(Failing):
    """Answers one write; then the connection asks for a pause, so that what the answer led to can be seen."""

    def __init__(self, store: Any) -> None:
        super().__init__(store, lambda _: None)

    def read(self, by: str | None, values: Sequence[str], fields: Sequence[str]) -> Any:
        if self.asked:
            raise RetryLater(Reason.RATE_LIMITED, "pause", after=60)
        return super().read(by, values, fields)

    def page(self, after: str | None, fields: Sequence[str]) -> Any:
        return self._store.page(after, fields)


def test_a_success_forgets_what_failed_before(
    engine: Engine, pipeline: Pipeline, put: Put, make: Make, crm: HubSpotSandbox
) -> None:
    """Three days are counted from the first failure in a row, not from the first one ever."""
    crm.set_faults(script=[None, None, fault("processed_then_drop")])
    flusher = make()
    sync(pipeline, put, people(1))
    flusher.flush()
    assert rows(engine, "SELECT failing_since IS NULL FROM sync_state") == [(False,)]
    hurry(engine)
    flusher.flush()
    assert rows(engine, "SELECT failing_since IS NULL FROM sync_state") == [(True,)]


def test_live_events_go_first_and_backfill_has_its_turn(
    engine: Engine, pipeline: Pipeline, put: Put, make: Make, crm: HubSpotSandbox
) -> None:
    """Each fifth batch starts with the backfill lane; in all others live people go before it."""
    store = Failing(make().store, lambda _: None)
    store.capabilities = store.capabilities._replace(batch_size=2)
    flusher = make(store=store)
    sync(pipeline, put, people(14))
    with engine.begin() as db:
        db.exec_driver_sql("UPDATE sync_state SET lane = 1 WHERE id IN (SELECT id FROM sync_state ORDER BY id LIMIT 4)")
    live = {names[0] for names in rows(engine, "SELECT subject_id FROM sync_state WHERE lane = 0")}
    flusher.flush()
    order = [person for (person,) in rows(engine, "SELECT min(s.subject_id) FROM attempts a JOIN sync_state s "
             "ON s.id = a.subject_id GROUP BY a.batch ORDER BY min(a.id)")]  # fmt: skip
    assert [person in live for person in order] == [n != policy.BACKFILL_TURN for n in range(1, 7)] + [False]


def test_rows_that_were_taken_away_are_not_written(
    engine: Engine, pipeline: Pipeline, put: Put, make: Make, crm: HubSpotSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that was away for longer than its lease asks before each call, and leaves the rows to the next one."""
    monkeypatch.setattr(leases, "FRESH_SECONDS", 0.0)
    store = make().store
    flusher = make(store=Robbed(store, engine))
    sync(pipeline, put, people(2))
    flusher.flush()
    assert crm.contacts() == []
    assert states(engine) == [("due", "lease_expired")] * 2
    assert rows(engine, "SELECT failures FROM breakers") == []
    hurry(engine)
    make().flush()
    make().flush()
    assert len(crm.contacts()) == 2


class Robbed(Failing):
    """Between its reads and its writes the lease expires and the sweeper takes the rows."""

    def __init__(self, store: Any, engine: Engine) -> None:
        super().__init__(store, lambda _: None)
        self._engine = engine

    def read(self, by: str | None, values: Sequence[str], fields: Sequence[str]) -> Any:
        with self._engine.begin() as db:
            db.exec_driver_sql("UPDATE sync_state SET lease_until = now() - interval '1 s' WHERE status = 'sending'")
            sync_state.expire(db)
            db.exec_driver_sql("UPDATE sync_state SET not_before = now() + interval '1 h'")
        return super().read(by, values, fields)


def test_a_slow_system_leaves_threads_to_the_others(
    engine: Engine, pipeline: Pipeline, put: Put, make: Make, crm: HubSpotSandbox
) -> None:
    """When all places of a connection are taken, one more drain goes home instead of waiting in line."""
    places = BoundedSemaphore(1)
    flusher = replace(make(), places=places)
    sync(pipeline, put, [event(user="u-0", email="u0@example.com")])
    places.acquire()
    assert flusher.flush().batches == 0
    places.release()
    assert flusher.flush().batches == 1


def test_a_database_that_is_away_for_a_moment_forgets_no_write(
    engine: Engine, pipeline: Pipeline, put: Put, make: Make, crm: HubSpotSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off again and again while it settles, a worker settles all the same; the calls it made are counted once."""
    flusher, settle, cuts = make(), sync_state.settle, iter(range(3))

    def cut_off(db: Connection, *args: Any, **named: Any) -> Any:
        if next(cuts, None) is not None:
            db.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")
        return settle(db, *args, **named)

    monkeypatch.setattr(policy, "SETTLE_PAUSE", 0.01)
    monkeypatch.setattr(sync_state, "settle", cut_off)
    sync(pipeline, put, people(2))
    flusher.flush()
    assert states(engine) == [("in_step", "written")] * 2
    assert rows(engine, "SELECT sum(calls) FROM api_calls") == [(len(crm.calls()),)]


def test_a_rule_of_the_customers_own_ends_dead_with_its_text(
    engine: Engine, pipeline: Pipeline, put: Put, make: Make, crm: HubSpotSandbox
) -> None:
    """A portal that demands a property of some records refuses their write; the reason says which, and no value."""
    crm.seed([{"email": "u0@example.com", "lifecyclestage": "customer"}])
    crm.configure(validation_rules=[{"when": {"lifecyclestage": "customer"}, "requires": "jobtitle"}])
    try:
        sync(pipeline, put, people(2))
        make().flush()
        found = rows(engine, "SELECT status, reason, detail FROM sync_state ORDER BY status")
        assert [row[:2] for row in found] == [("dead", "validation_rule"), ("in_step", "written")]
        assert "jobtitle is required by a validation rule." in found[0][2]
    finally:
        crm.configure(validation_rules=[])
