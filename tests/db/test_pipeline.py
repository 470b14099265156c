"""From the inbox to what is due: what the database must hold after a batch, whatever the order and the neighbours."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import InternalError

from integration.config import Config, Pace
from integration.errors import Reason
from integration.model.identity import NONE, Identity
from integration.observability.books import balance
from integration.pipeline import Pipeline
from integration.security.seal import KeyRing
from integration.storage import events, inbox, sync_state
from integration.storage.sync_state import BACKFILL, LIVE
from tasks.projection import Projector
from tests.db.conftest import CONFIG, T0, Put, event


def rows(engine: Engine, query: str, **values: Any) -> list[tuple[Any, ...]]:
    """Return what a query finds."""
    with engine.begin() as db:
        return [tuple(row) for row in db.exec_driver_sql(query, values)]


def inbox_states(engine: Engine) -> list[tuple[Any, ...]]:
    """Return (status, reason) of every inbox row, oldest first."""
    return rows(engine, "SELECT status, reason FROM inbox ORDER BY id")


def wanted_of(engine: Engine, pipeline: Pipeline, email: str) -> dict[str, str]:
    """Return the contact fields projected for the person of an e-mail."""
    key = pipeline.keys.newest("email", email)
    [(person_id,)] = rows(engine, "SELECT id FROM people WHERE email_key = %(key)s", key=key)
    with engine.begin() as db:
        projected = Projector(pipeline.config, pipeline.ring).contacts(db, "crm", [person_id])
    return dict(projected.targets[person_id].wanted)


def test_a_completion_becomes_a_fact_and_a_due_contact(engine: Engine, pipeline: Pipeline, put: Put) -> None:
    """One event leads to one person, one fact, and a contact that is due at the person's version."""
    recorded = pipeline.sync("completion", put([event(score=92.5, passed=True)]))
    assert [(o.status, o.reason) for o in recorded.outcomes] == [("done", "applied")]
    assert recorded.due_at == {"crm"}
    assert rows(engine, "SELECT type, subject_id, score, passed, revision, person_version FROM events") == [
        ("course.completed", "demo-101", 92.5, True, 1, 1)
    ]
    assert rows(engine, "SELECT connection, status, wanted, written, lane FROM sync_state") == [("crm", "due", 1, 0, 0)]


def test_nothing_personal_stands_open_in_any_table(engine: Engine, pipeline: Pipeline, put: Put) -> None:
    """A dump of the database shows neither e-mail nor name."""
    pipeline.sync("completion", put([event(email="ada@example.com", name="Ada Byron")]))
    tables = [name for (name,) in rows(engine, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
    dump = b"".join(
        bytes(cell) if isinstance(cell, memoryview | bytes) else str(cell).encode()
        for table in tables
        for row in rows(engine, f"SELECT * FROM {table}")  # noqa: S608 - names from the catalogue
        for cell in row
    ).lower()
    assert b"ada@example" not in dump
    assert b"byron" not in dump


def test_the_same_fact_under_another_id_changes_nothing(engine: Engine, pipeline: Pipeline, put: Put) -> None:
    """A fact that comes again under another webhook id is a duplicate: no revision, no new version."""
    pipeline.sync("completion", put([event()]))
    again = pipeline.sync("completion", put([event()]))
    assert [(o.status, o.reason) for o in again.outcomes] == [("done", "duplicate_fact")]
    assert again.due_at == frozenset()
    assert rows(engine, "SELECT version FROM people") == [(1,)]


def test_a_changed_content_is_a_new_revision(engine: Engine, pipeline: Pipeline, put: Put) -> None:
    """A completion reported again with another result is a second revision of the same fact, and the later counts."""
    pipeline.sync("completion", put([event(passed=False, at=0)]))
    pipeline.sync("completion", put([event(passed=True, at=5)]))
    assert rows(engine, "SELECT count(DISTINCT fact_key), max(revision) FROM events") == [(1, 2)]
    assert wanted_of(engine, pipeline, "ada@example.com")["courses_completed_count"] == "1"


def test_one_bad_event_never_sinks_a_batch(engine: Engine, pipeline: Pipeline, put: Put) -> None:
    """Hostile, unknown, incomplete and good events in one batch each end in their own state."""
    bodies: list[dict[str, Any] | bytes] = [
        event(user="u-1", email="a@example.com"),
        b'{"a":' * 3000 + b"1" + b"}" * 3000,
        event("course.exploded", user="u-2"),
        event(user="u-3", email="c@example.com", course=None),
        event(user="u\x004", email="d@example.com"),
        event(user="u-5", email="not an address"),
        event(user="u-6", email="f@example.com"),
    ]
    pipeline.sync("completion", put(bodies))
    assert inbox_states(engine) == [
        ("done", "applied"),
        ("dead", "hostile_json"),
        ("ignored", "unknown_type"),
        ("dead", "missing_field"),
        ("dead", "invalid_event"),
        ("parked", "invalid_email"),
        ("done", "applied"),
    ]


def test_a_row_the_database_refuses_dies_alone(
    engine: Engine, pipeline: Pipeline, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row that breaks the transaction is found by halving; its neighbours are recorded."""
    real = events.append

    def explode(db: Any, facts: Any) -> Any:
        if any(fact.event.subject.id == "poison" for fact in facts):
            db.exec_driver_sql("SELECT 1/0")
        return real(db, facts)

    monkeypatch.setattr(events, "append", explode)
    courses = ["a", "b", "poison", "c", "d"]
    pipeline.sync("completion", put([event(user=f"u-{c}", email=f"{c}@example.com", course=c) for c in courses]))
    assert [state for state, _ in inbox_states(engine)] == ["done", "done", "dead", "done", "done"]


def test_a_server_that_takes_no_writes_for_a_moment_blames_no_row(engine: Engine, pipeline: Pipeline, put: Put) -> None:
    """What fails between the claim and the end of a batch, as after a failover, leaves its rows to be taken again."""

    def without_writes(db: Connection) -> Identity:
        db.exec_driver_sql("SET TRANSACTION READ ONLY")
        return NONE

    ids = put([event(), event(user="u-bob", email="bob@example.com")])
    with pytest.raises(InternalError):
        replace(pipeline, rules=without_writes).sync("completion", ids)
    assert inbox_states(engine) == [("received", None)] * 2
    pipeline.sync("completion", ids)
    assert inbox_states(engine) == [("done", "applied")] * 2


def test_a_message_is_a_hint(engine: Engine, pipeline: Pipeline, put: Put) -> None:
    """A message that names one row takes along the older rows that wait, and a second one finds nothing."""
    ids = put([event(user=f"u-{n}", email=f"u{n}@example.com") for n in range(30)])
    assert len(pipeline.sync("completion", ids[-1:]).outcomes) == 30
    assert pipeline.sync("completion", ids).outcomes == []


def test_two_learners_with_one_email_park_with_evidence(engine: Engine, pipeline: Pipeline, put: Put) -> None:
    """Within one LMS an e-mail that belongs to another id parks the event and touches nobody."""
    pipeline.sync("completion", put([event(user="u-1", email="ada@example.com")]))
    pipeline.sync("completion", put([event(user="u-2", email="ADA@example.com ")]))
    assert inbox_states(engine)[1] == ("parked", "email_taken")
    assert rows(engine, "SELECT count(*) FROM people") == [(1,)]
    [(detail,)] = rows(engine, "SELECT detail FROM inbox WHERE status = 'parked'")
    assert "u-1" in detail
    assert "@" not in detail


def test_an_email_across_connections_is_a_match(engine: Engine, pipeline: Pipeline, put: Put) -> None:
    """The same address in another LMS is the same person; the first LMS gives the name, the second its own field."""
    pipeline.sync("completion", put([event(user="u-1")]))
    pipeline.sync("completion", put([event(user="c-9", course="other")], connection="campus"))
    wanted = wanted_of(engine, pipeline, "ada@example.com")
    assert wanted["lms_user_id"] == "academy:u-1"
    assert wanted["lms_user_id_campus"] == "campus:c-9"
    assert wanted["courses_completed_count"] == "2"


def test_parked_events_go_on_when_their_learner_becomes_known(engine: Engine, pipeline: Pipeline, put: Put) -> None:
    """Everything parked behind an unknown learner is released by the first event that says who it is."""
    nameless = [event(user="u-1", email=None, course="a"), event(user="u-1", email="", course="b")]
    pipeline.sync("completion", put(nameless))
    assert inbox_states(engine) == [("parked", "no_identity")] * 2
    recorded = pipeline.sync("completion", put([event(user="u-1", course="c")]))
    assert len(recorded.released) == 2
    pipeline.sync("completion", [row_id for row_id, _ in recorded.released])
    assert wanted_of(engine, pipeline, "ada@example.com")["courses_completed_count"] == "3"


def test_a_freed_email_releases_who_waited_for_it(engine: Engine, pipeline: Pipeline, put: Put) -> None:
    """When the owner of a contested e-mail moves to another one, the events parked for it go on."""
    pipeline.sync("completion", put([event(user="u-1", email="shared@example.com", at=0)]))
    pipeline.sync("completion", put([event(user="u-2", email="shared@example.com", at=1)]))
    recorded = pipeline.sync("completion", put([event(user="u-1", email="own@example.com", course="b", at=2)]))
    assert len(recorded.released) == 1
    pipeline.sync("completion", [row_id for row_id, _ in recorded.released])
    assert {state for state, _ in inbox_states(engine)} == {"done"}


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_who_becomes_known_in_a_batch_releases_their_own_events_in_it(
    engine: Engine, pipeline: Pipeline, put: Put, order: tuple[int, int]
) -> None:
    """An event that parks behind another one of the same batch goes on with it, whichever came first."""
    bodies = [event(user="u-1", email=None, course="a"), event(user="u-1", course="b")]
    recorded = pipeline.sync("completion", put([bodies[place] for place in order]))
    pipeline.sync("completion", [row_id for row_id, _ in recorded.released])
    assert wanted_of(engine, pipeline, "ada@example.com")["courses_completed_count"] == "2"


def test_an_email_freed_in_a_batch_releases_who_parked_for_it_there(
    engine: Engine, pipeline: Pipeline, put: Put
) -> None:
    """An event parked for an e-mail that its owner gives up later in the same batch goes on."""
    pipeline.sync("completion", put([event(user="u-1", email="m@example.com")]))
    second = event(user="u-2", email="m@example.com", course="b", at=1)
    moved = event(user="u-1", email="own@example.com", course="c", at=2)
    recorded = pipeline.sync("completion", put([second, moved]))
    pipeline.sync("completion", [row_id for row_id, _ in recorded.released])
    assert {state for state, _ in inbox_states(engine)} == {"done"}


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_revocation_need_not_repeat_the_product(
    engine: Engine, pipeline: Pipeline, put: Put, order: tuple[int, int]
) -> None:
    """A certification revoked by its id alone closes the product it was issued for, in any order of arrival."""
    issued = event("certification.issued", course=None, certification={"id": "k", "product": "sales"})
    revoked = event("certification.revoked", course=None, certification={"id": "k"}, at=5)
    for place in order:
        pipeline.sync("completion", put([[issued, revoked][place]]))
    wanted = wanted_of(engine, pipeline, "ada@example.com")
    assert wanted["certified_sales"] == "false"
    assert "certified_k" not in wanted


def test_a_clock_a_little_ahead_does_not_make_arrival_decide(engine: Engine, pipeline: Pipeline, put: Put) -> None:
    """Two events of the next seconds, told in the wrong order, count by their own times."""
    soon = (datetime.now(UTC) - T0).total_seconds() / 60
    for minutes, passed in ((soon + 2, True), (soon + 1, False)):
        pipeline.sync("completion", put([event(at=minutes, passed=passed)]))
    assert wanted_of(engine, pipeline, "ada@example.com")["courses_completed_count"] == "1"


def test_a_known_link_wins_over_a_conflicting_email(engine: Engine, pipeline: Pipeline, put: Put) -> None:
    """A completion of a known learner is applied though the e-mail it carries belongs to somebody else."""
    both = [event(user="u-1", email="a@example.com"), event(user="u-2", email="b@example.com")]
    pipeline.sync("completion", put(both))
    pipeline.sync("completion", put([event(user="u-2", email="a@example.com", course="x", at=9)]))
    assert inbox_states(engine)[-1] == ("done", "applied")
    wanted = wanted_of(engine, pipeline, "b@example.com")
    assert wanted["courses_completed_count"] == "2"
    assert wanted["lms_sync_status"] == "attention: email_taken"
    assert rows(engine, "SELECT action, outcome FROM audit") == [("email.change", "parked")]


def test_a_nightly_flow_waits_for_the_night(engine: Engine, pipeline: Pipeline, put: Put) -> None:
    """Progress that is routed nightly makes the person due at night, in the backfill lane; a completion lifts it."""
    pipeline.sync("completion", put([event("course.progressed", progress=40)]))
    assert rows(engine, "SELECT lane, not_before > now() + interval '1 day' FROM sync_state") == [(1, True)]
    pipeline.sync("completion", put([event(at=1)]))
    assert rows(engine, "SELECT lane, not_before <= now() FROM sync_state") == [(0, True)]


@pytest.mark.parametrize(
    ("pace", "hours"), [("realtime", 0), ("hybrid", 0), ("hourly", 1), ("nightly", 8), ("weekly", 72), ("monthly", 300)]
)
def test_each_pace_is_due_at_its_time(engine: Engine, pipeline: Pipeline, put: Put, pace: Pace, hours: int) -> None:
    """What gathers is in the inbox at once, recorded at once, and due behind live work at its time."""
    routed = [{**CONFIG["routes"][0], "flows": {"completion": pace}}]
    config = Config.model_validate({**CONFIG, "routes": routed})
    asked: list[tuple[str, Pace]] = []

    def later(connection: str, pace: Pace) -> datetime:
        asked.append((connection, pace))
        return datetime.now(UTC) + timedelta(hours=hours)

    replace(pipeline, config=config, later=later).sync("completion", put([event()]))
    assert asked == ([("crm", pace)] if hours else [])
    assert rows(engine, "SELECT count(*) FROM events") == [(1,)]
    [(lane, wait)] = rows(engine, "SELECT lane, extract(epoch FROM not_before - now())::float8 / 3600 FROM sync_state")
    assert lane == (BACKFILL if hours else LIVE)
    assert round(wait) == hours


def test_an_event_without_a_route_is_kept_and_says_so(engine: Engine, pipeline: Pipeline, put: Put) -> None:
    """An event no route carries is stored as a fact, and ignored with a reason instead of waiting for ever."""
    pipeline.sync("completion", put([event("course.progressed", progress=40, user="c-1")], connection="campus"))
    assert inbox_states(engine) == [("ignored", "no_route")]
    assert rows(engine, "SELECT count(*) FROM events") == [(1,)]
    with engine.begin() as db:
        assert balance(db).unaccounted == 0


def test_a_time_in_the_future_is_clamped_and_flagged(engine: Engine, pipeline: Pipeline, put: Put) -> None:
    """An event dated in the future counts from its arrival, and the fact says that it was clamped."""
    pipeline.sync("completion", put([event(at=60 * 24 * 3650)]))
    assert rows(engine, "SELECT clamped, occurred_at <= now() FROM events") == [(True, True)]


def test_an_expired_lease_is_halved_and_three_deaths_alone_end_a_row(
    engine: Engine, pipeline: Pipeline, put: Put
) -> None:
    """Rows of a dead worker come back in smaller batches; only who kills three workers alone is quarantined."""
    ids = put([event(user=f"u-{n}", email=f"u{n}@example.com") for n in range(4)])
    sizes = []
    for _ in range(5):
        with engine.begin() as db:
            limit = rows(engine, "SELECT coalesce(min(max_batch), 100) FROM inbox WHERE status = 'received'")[0][0]
            claimed = inbox.claim(db, "completion", ids[: min(limit, len(ids))], uuid4())
            sizes.append(len(claimed))
        with engine.begin() as db:
            db.exec_driver_sql("UPDATE inbox SET lease_until = now() - interval '1 s' WHERE status = 'claimed'")
        with engine.begin() as db:
            inbox.expire(db)
    assert sizes == [4, 2, 1, 1, 1]
    states = inbox_states(engine)
    assert states[0] == ("dead", "crash_loop")
    assert {state for state, _ in states[1:]} == {"received"}


def test_a_stolen_lease_settles_nothing(engine: Engine, pipeline: Pipeline, put: Put) -> None:
    """An outcome under a lease that was lost is written to no row."""
    ids = put([event()])
    with engine.begin() as db:
        inbox.claim(db, "completion", ids, uuid4())
        outcome = inbox.Settled(ids[0], "dead", Reason.CRASH_LOOP)
        assert inbox.settle(db, uuid4(), [outcome]) == 0
    assert inbox_states(engine) == [("claimed", None)]


def test_an_email_dated_in_the_future_does_not_freeze(engine: Engine, pipeline: Pipeline, put: Put) -> None:
    """An address said by an event from the year 2046 gives way to the next one that is said."""
    pipeline.sync("completion", put([event(email="old@example.com", at=60 * 24 * 7300)]))
    pipeline.sync("completion", put([event(email="new@example.com", course="b", at=60 * 24 * 7301)]))
    assert wanted_of(engine, pipeline, "new@example.com")["courses_completed_count"] == "2"


def test_attention_ends_with_its_cause(engine: Engine, pipeline: Pipeline, put: Put) -> None:
    """Once the LMS says the person's own address again, the contact is no longer marked, and hears of it."""
    both = [event(user="u-1", email="a@example.com"), event(user="u-2", email="b@example.com")]
    pipeline.sync("completion", put(both))
    pipeline.sync("completion", put([event(user="u-2", email="a@example.com", course="x", at=9)]))
    again = pipeline.sync("completion", put([event(user="u-2", email="b@example.com", course="x", at=10)]))
    assert again.due_at == {"crm"}
    assert wanted_of(engine, pipeline, "b@example.com")["lms_sync_status"] == "ok"


def test_a_profile_that_cannot_be_opened_parks_its_events_alone(engine: Engine, pipeline: Pipeline, put: Put) -> None:
    """A person sealed with a lost key parks their own events; their neighbours in the batch are applied."""
    pipeline.sync("completion", put([event(user="u-1", email="a@example.com")]))
    with engine.begin() as db:
        db.exec_driver_sql("UPDATE people SET profile = decode('0104', 'hex') || '\\x6c6f7374'::bytea || profile")
    pipeline.sync("completion", put([event(user="u-1", course="b"), event(user="u-2", email="c@example.com")]))
    assert inbox_states(engine)[1:] == [("parked", "seal_key_missing"), ("done", "applied")]


def test_a_route_added_later_takes_up_what_was_not_routed(
    engine: Engine, pipeline: Pipeline, put: Put, config: Config
) -> None:
    """A fact from before the route is written when it is told again, and the books stay balanced."""
    body = event("course.progressed", progress=40, user="c-1", email="c@example.com")
    pipeline.sync("completion", put([body], connection="campus"))
    routed = [{**route, "flows": {"progress": "realtime", "completion": "realtime"}} for route in CONFIG["routes"]]
    later = replace(pipeline, config=Config.model_validate({**CONFIG, "routes": routed}))
    assert later.sync("completion", put([body], connection="campus")).due_at == {"crm"}
    with engine.begin() as db:
        assert balance(db).unaccounted == 0


def test_every_system_hears_of_a_change_though_no_route_of_it_leads_there(
    engine: Engine, pipeline: Pipeline, put: Put
) -> None:
    """A contact that is computed from all facts is made due by facts that are not routed to it, too."""
    pipeline.sync("completion", put([event(user="u-1")]))
    with engine.begin() as db:
        db.exec_driver_sql("UPDATE sync_state SET written = wanted, status = 'in_step', not_before = NULL")
    pipeline.sync("completion", put([event("enrollment.cancelled", user="c-1", at=5)], connection="campus"))
    assert rows(engine, "SELECT status, wanted, written, lane FROM sync_state") == [("due", 2, 1, 1)]


KINDS = st.sampled_from(["done", "failed", "left", "progress", "enrolled", "issued", "revoked"])


def _story(user: str, steps: list[tuple[str, str]]) -> Iterator[dict[str, Any]]:
    """Return the events of one learner, a minute apart."""
    types = {
        "done": "course.completed",
        "failed": "course.completed",
        "left": "enrollment.cancelled",
        "progress": "course.progressed",
        "enrolled": "enrollment.created",
        "issued": "certification.issued",
        "revoked": "certification.revoked",
    }
    for minute, (kind, course) in enumerate(steps):
        more: dict[str, Any] = {"done": {"passed": True}, "failed": {"passed": False}}.get(kind, {})
        if kind in ("issued", "revoked"):
            more = {"certification": {"id": f"cert-{course}", "name": "C", "product": course}}
        yield event(types[kind], user=user, email=f"{user}@example.com", course=course, at=minute, **more)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(st.tuples(KINDS, st.sampled_from(["a", "b", "c"])), min_size=1, max_size=10),
    data=st.data(),
)
def test_order_duplicates_and_batches_never_matter(
    engine: Engine, pipeline: Pipeline, put: Put, steps: list[tuple[str, str]], data: st.DataObject
) -> None:
    """Any arrival order, any duplicates and any cut into batches end in the fields of the orderly story."""
    tag = uuid4().hex[:8]
    for body in _story(f"x{tag}", steps):
        pipeline.sync("completion", put([body]))
    shuffled = data.draw(st.permutations(list(_story(f"y{tag}", steps))))
    shuffled += data.draw(st.lists(st.sampled_from(shuffled), max_size=4))
    while shuffled:
        size = data.draw(st.integers(1, len(shuffled)))
        pipeline.sync("completion", put(shuffled[:size]))
        shuffled = shuffled[size:]
    orderly = wanted_of(engine, pipeline, f"x{tag}@example.com")
    assert wanted_of(engine, pipeline, f"y{tag}@example.com") == {
        **orderly,
        "lms_user_id": f"academy:y{tag}",
    }


@pytest.mark.parametrize("outcome", ["in_step", "parked", "dead"])
def test_whatever_a_write_ends_in_a_newer_fact_is_due(
    engine: Engine, pipeline: Pipeline, put: Put, outcome: str
) -> None:
    """Nothing final is said about a version that was not looked at (rule 1)."""
    pipeline.sync("completion", put([event()]))
    lease = uuid4()
    with engine.begin() as db:
        [row] = sync_state.claim(db, "crm", "contact.upsert", lease, limit=10)
    pipeline.sync("completion", put([event(course="later")]))
    with engine.begin() as db:
        settled = sync_state.Settled(row.id, outcome, Reason.INVALID_VALUE, projected=row.wanted)
        sync_state.settle(db, lease, [settled], rule_set=1)
    assert rows(engine, "SELECT status, not_before <= now() FROM sync_state") == [("due", True)]


def test_a_new_fact_during_a_write_leaves_the_person_due(
    engine: Engine, pipeline: Pipeline, put: Put, keyring: KeyRing
) -> None:
    """Settle writes the version that was projected, so that a fact in between is not lost (rule 1)."""
    pipeline.sync("completion", put([event()]))
    lease = uuid4()
    with engine.begin() as db:
        [row] = sync_state.claim(db, "crm", "contact.upsert", lease, limit=10)
    pipeline.sync("completion", put([event(course="later")]))
    with engine.begin() as db:
        done = sync_state.Settled(row.id, "in_step", Reason.WRITTEN, written=row.wanted)
        sync_state.settle(db, lease, [done], rule_set=1)
    found = rows(engine, "SELECT status, wanted, written, not_before IS NOT NULL FROM sync_state")
    assert found == [("due", 2, 1, True)]
