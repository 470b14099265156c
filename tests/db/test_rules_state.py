"""Rules about what each system should hold of each person: wants that wait, sure skips, late finishes.

`docs/correctness.md` says which rule each of these proves.
"""

import json
import threading
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy import Engine

from integration.errors import Reason
from integration.model.contacts import CONTACT, WRITE_CONTACT
from integration.model.events import Kind
from integration.observability import books
from integration.pipeline import Pipeline
from integration.storage import connections, people, sync_state
from integration.storage.sync_state import BACKFILL, LIVE, Want
from mappings import store
from mappings.rules import FieldRule, RuleSet
from tests.db.conftest import Put, event
from tests.db.memory_crm import TAMPERED
from tests.db.test_pipeline import rows
from tests.db.world import World, world
from tests.processes import until

__all__ = ["world"]  # a fixture

LATER = datetime.now(UTC) + timedelta(hours=5)


def tell(world: World, minute: int = 0, course: str = "a", kind: str = "course.completed", who: int = 1) -> None:
    """Let a learner do something, and leave the ring for it lying."""
    body = event(kind, user=f"a-{who}", email=f"p{who}@example.com", course=course, at=minute)
    world.deliver("academy", f"id-{minute}-{who}", json.dumps(body).encode(), kind=Kind.COMPLETION)


def test_a_want_waits_for_whoever_holds_the_row(engine: Engine, pipeline: Pipeline, put: Put) -> None:
    """A new fact about somebody whose write is just being settled waits for that, and is wanted afterwards (rule 1)."""
    pipeline.sync("completion", put([event()]))
    [(person,)] = rows(engine, "SELECT id FROM people")
    lease, wanted = uuid4(), threading.Event()

    def want() -> None:
        with engine.begin() as db:
            people.bump(db, [person])
            sync_state.want(db, CONTACT, WRITE_CONTACT, [Want("crm", person)])
        wanted.set()

    with engine.begin() as db:
        [row] = sync_state.claim(db, "crm", WRITE_CONTACT, lease, limit=10, first=LIVE, suspects=None)
    with engine.begin() as db:
        done = sync_state.Settled(row.id, "in_step", Reason.WRITTEN, written=row.wanted)
        sync_state.settle(db, lease, [done], rule_set=1)
        asking = threading.Thread(target=want)
        asking.start()
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        until(lambda: rows(engine, query) == [(1,)])
        assert not wanted.is_set()
    asking.join(20)
    assert rows(engine, "SELECT status, wanted, written FROM sync_state") == [("due", 2, 1)]


def test_a_claim_is_on_the_disk_before_its_call(engine: Engine, pipeline: Pipeline, put: Put) -> None:
    """Forgotten in a crash of the server, a write would leave no trace, and a false belief of what the CRM holds."""
    pipeline.sync("completion", put([event()]))
    with engine.begin() as db:
        assert sync_state.claim(db, "crm", WRITE_CONTACT, uuid4(), limit=10)
        assert db.exec_driver_sql("SHOW synchronous_commit").scalar_one() == "on"


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("together", [True, False], ids=["one batch", "two batches"])
def test_the_sooner_and_the_live_want_win(
    engine: Engine, pipeline: Pipeline, put: Put, order: tuple[int, int], *, together: bool
) -> None:
    """A live want for now and a backfill one for the night make a live one for now, in any order (rule 4)."""
    pipeline.sync("completion", put([event()], connection="academy"))
    [(person,)] = rows(engine, "SELECT id FROM people")
    rows(engine, "DELETE FROM sync_state RETURNING id")
    wants = [Want("crm", person, LIVE), Want("crm", person, BACKFILL, LATER)]
    chosen = [wants[place] for place in order]
    for batch in [chosen] if together else [[one] for one in chosen]:
        with engine.begin() as db:
            people.bump(db, [person])
            sync_state.want(db, CONTACT, WRITE_CONTACT, batch)
    assert rows(engine, "SELECT lane, not_before <= now() FROM sync_state") == [(LIVE, True)]


def test_a_late_finish_leaves_its_try_and_its_contact(world: World) -> None:
    """Whose lease ended before the settle changes no state, but the try is on record and the contact is known (rule 3).

    The worker sleeps after its last call; another one takes the person over, finds the contact, and goes on.
    """

    def take_over() -> None:
        world.clock.advance(3_600)
        world.sweep(1)
        world.answer_all(1)

    tell(world)
    world.between.extend([("answered", lambda: None), ("answered", lambda: None), ("answered", take_over)])
    world.answer_all(0)
    assert not world.between
    assert len(world.crm.contacts) == 1
    assert world.crm.wrongs == []
    tries = world.rows("SELECT outcome, reason FROM attempts ORDER BY id")
    assert tries.count(("in_step", "written")) == 1
    assert len(world.rows("SELECT DISTINCT batch FROM attempts")) == 2
    assert world.rows("SELECT status, remote_id FROM sync_state") == [("in_step", next(iter(world.crm.contacts)))]


def test_what_the_crm_made_of_a_value_is_what_counts(world: World) -> None:
    """A value that the CRM changed while it wrote it is written again with the next fact (rule 5)."""
    world.crm.tampers = True
    tell(world)
    world.answer_all()
    [contact] = world.crm.contacts.values()
    assert contact.fields["lms_sync_status"] == TAMPERED
    world.crm.tampers = False
    tell(world, 5, kind="assessment.graded")
    world.answer_all()
    assert contact.fields["lms_sync_status"] == "ok"
    calls = world.crm.calls
    tell(world, 6, course="b", kind="assessment.graded")
    world.answer_all()
    assert world.crm.calls == calls


def test_a_certificate_ends_at_its_minute(world: World) -> None:
    """Nobody reports the end of a certificate: the clock does, and the contact says so (rule 6)."""
    ends = world.clock.now() + timedelta(hours=2)
    certificate = {"id": "c", "product": "alpha", "expires_at": ends.isoformat()}
    body = event("certification.issued", user="a-1", email="p1@example.com", course=None, certification=certificate)
    world.deliver("academy", "id", json.dumps(body).encode(), kind=Kind.COMPLETION)
    world.answer_all()
    [contact] = world.crm.contacts.values()
    for seconds, held in ((7_100, "true"), (200, "false")):
        world.clock.advance(seconds)
        world.sweep()
        world.answer_all()
        assert contact.fields["certified_alpha"] == held
    assert contact.fields["certified_alpha_until"] == ""


def test_published_rules_count_from_the_next_transaction_on(world: World) -> None:
    """Rules that are published while workers run decide the next batch; no process has kept the old ones (rule 7)."""
    tell(world)
    world.answer_all()
    world.rows("UPDATE rule_sets SET status = 'retired'")
    world.rows("""
        INSERT INTO rule_sets (status, author, comment, published_at) VALUES ('published', 'test', 'another one', now())
    """)
    world.rows("""
        INSERT INTO field_maps (rule_set_id, system, object_type, field, source, property, type, passive)
        SELECT (SELECT max(id) FROM rule_sets), system, object_type, field, source,
               CASE field WHEN 'last_course_completed' THEN 'latest_course' ELSE property END, type, passive
        FROM field_maps
    """)
    tell(world, 5, course="b")
    world.answer_all()
    [contact] = world.crm.contacts.values()
    assert contact.fields["latest_course"] == "Course b"
    assert contact.fields["last_course_completed"] == "Course a"
    assert world.rows("SELECT rule_set = (SELECT max(id) FROM rule_sets) FROM sync_state") == [(True,)]


def test_published_rules_reach_whom_nothing_happens_to(world: World) -> None:
    """The sweeper rolls a publish out; no news is needed."""
    for who in range(3):
        tell(world, who, who=who)
    world.answer_all()
    with world.look() as db, db.begin():
        rules = store.active(db)
        added = FieldRule("mail", "email", "work_mail", "string")
        fields = {scope: {"contact": (*objects["contact"], added)} for scope, objects in rules.fields.items()}
        store.publish(db, RuleSet(0, rules.read_at, fields), author="test", comment="one more")
    for _ in range(2):
        world.clock.advance(1)
        world.sweep()
        world.answer_all()
    assert {bool(one.fields["work_mail"]) for one in world.crm.contacts.values()} == {True}
    assert world.rows("SELECT rolled_out_at IS NOT NULL FROM rule_sets WHERE status = 'published'") == [(True,)]


def test_no_call_is_made_inside_a_transaction(world: World) -> None:
    """While the CRM is asked or told anything, the worker holds no connection of its pool (rule 14)."""
    for who in range(3):
        tell(world, who, who=who)
    world.answer_all()
    world.crm.merge(0, ours_first=False)
    world.crm.archive(1)
    for who in range(3):
        tell(world, 10 + who, course="b", who=who)
    for _ in range(3):
        world.answer_all()
        world.clock.advance(60)
        world.sweep()
    assert world.crm.calls > 8
    assert world.crm.wrongs == []
    tell(world, 20, course="c")
    with world.workers[0].engine.connect():  # the check itself works
        world.answer_all()
    assert world.crm.wrongs


def test_an_event_is_written_when_its_version_is(world: World) -> None:
    """An event counts as written once each system has reached the version it led to, and not before (rule 24)."""

    def counted() -> tuple[int, int, int]:
        with world.look() as db:
            found = books.balance(db)
        assert found.unaccounted == 0
        return found.accepted, found.waiting, found.written

    with world.look() as db:
        connections.halt(db, "crm", None)
    tell(world)
    assert counted() == (1, 1, 0)
    world.answer_all()  # recorded, and nobody may be called
    assert counted() == (1, 1, 0)
    with world.look() as db:
        connections.resume(db, "crm")

    def another() -> None:
        tell(world, 5, course="b")
        world.answer(len(world.bells) - 1, 1)

    seen: list[tuple[int, int, int]] = []
    world.between.extend([("answered", lambda: None)] * 2)
    world.between.append(("answered", another))  # after the write, before it is settled
    world.between.append(("projected", lambda: seen.append(counted())))
    world.sweep()
    world.answer_all(0)
    assert seen == [(2, 1, 1)]
    assert counted() == (2, 0, 2)
