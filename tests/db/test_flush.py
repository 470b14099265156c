"""Writing contacts: real Postgres, real HTTP against the strict sandbox CRM, one drain at a time."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from integration.config import Config, ConnectionConfig
from integration.connectors import registry
from integration.delivery import policy
from integration.delivery.buckets import Buckets
from integration.delivery.budget import Budget
from integration.delivery.flush import Flusher
from integration.delivery.limits import Limits
from integration.errors import BatchRejected, Reason
from integration.model.contacts import WRITE_CONTACT, ContactWrite
from integration.observability.books import balance
from integration.pipeline import Pipeline
from integration.ports import ANY_CALL, Rate
from integration.security.seal import IndexKeys, KeyRing
from integration.storage import connections, quarantine, rings, sync_state
from scripts.sandbox.faults import fault
from scripts.sandbox.hubspot import HubSpotSandbox
from tasks.calls import CallLog
from tasks.projection import Projector
from tests.db.conftest import CONFIG, Put, event
from tests.db.test_pipeline import rows

Make = Callable[..., Flusher]


def plenty() -> Budget:
    """Return a budget that nobody in these tests can spend."""
    return Budget("crm", Limits("crm", {ANY_CALL: Rate(10_000_000, 1.0)}), Buckets(None))


@pytest.fixture(scope="module")
def portal() -> Iterator[HubSpotSandbox]:
    """One sandbox CRM for all tests of this file."""
    with HubSpotSandbox(token="t0ken", rate=100_000, products="alpha") as sandbox:
        yield sandbox


@pytest.fixture
def crm(portal: HubSpotSandbox, monkeypatch: pytest.MonkeyPatch) -> HubSpotSandbox:
    """The sandbox as new."""
    monkeypatch.setenv("TEST_TOKEN", "t0ken")
    portal.reset()
    portal.configure(rate=100_000, token="t0ken")
    return portal


@pytest.fixture
def make(engine: Engine, keyring: KeyRing, keys: IndexKeys, crm: HubSpotSandbox) -> Make:
    """Build a flusher for a route's policy about people the CRM does not know."""

    def build(unknown_person: str = "create", store: Any = None, url: str = "") -> Flusher:
        settings = {
            **CONFIG["connections"]["crm"],
            "name": "crm",
            "base_url": url or crm.url,
            "credentials": {"token": {"env": "TEST_TOKEN"}},
        }
        routes = [{**route, "unknown_person": unknown_person} for route in CONFIG["routes"]]
        config = Config.model_validate({"connections": {**CONFIG["connections"], "crm": settings}, "routes": routes})
        log = CallLog()
        made = store or registry.contacts(ConnectionConfig.model_validate(settings), on_call=log.note)
        assert made is not None
        with engine.begin() as db:
            connections.register(db, {"crm": "hubspot"})
        projector = Projector(config, keyring)
        return Flusher(engine, "crm", WRITE_CONTACT, made, keyring, keys, projector.contacts, log.take, plenty())

    return build


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave every pause to the test, which says when it is over."""
    monkeypatch.setattr(policy, "SHORT_PAUSE", 0.1)


def people(count: int, **data: Any) -> list[dict[str, Any]]:
    """Return one completion each of `count` learners."""
    return [event(user=f"u-{n}", email=f"u{n}@example.com", **data) for n in range(count)]


def sync(pipeline: Pipeline, put: Put, bodies: Sequence[dict[str, Any]]) -> None:
    """Take events to what is due."""
    pipeline.sync("completion", put(bodies))


def states(engine: Engine) -> list[tuple[Any, ...]]:
    """Return (status, reason) of every person's contact."""
    return rows(engine, "SELECT status, reason FROM sync_state ORDER BY id")


def hurry(engine: Engine) -> None:
    """Let every wait be over."""
    with engine.begin() as db:
        db.exec_driver_sql("UPDATE sync_state SET not_before = now() WHERE not_before IS NOT NULL")
        db.exec_driver_sql("UPDATE connections SET paused_until = now() WHERE paused_until IS NOT NULL")
        db.exec_driver_sql("UPDATE breakers SET open_until = now() WHERE open_until IS NOT NULL")


def properties(crm: HubSpotSandbox, email: str) -> dict[str, str]:
    """Return a contact's properties."""
    contact = crm.contact(email)
    assert contact is not None
    return dict(contact["properties"])


def test_a_new_person_is_created_and_a_known_one_updated(
    engine: Engine, pipeline: Pipeline, put: Put, make: Make, crm: HubSpotSandbox
) -> None:
    """Ten people, five of them known to the CRM, take two reads, one update and one upsert."""
    crm.seed([{"email": f"u{n}@example.com", "firstname": "Known"} for n in range(5)])
    sync(pipeline, put, people(10))
    make().flush()
    assert set(states(engine)) == {("in_step", "written")}
    assert properties(crm, "u3@example.com")["courses_completed_count"] == "1"
    assert properties(crm, "u3@example.com")["firstname"] == "Known"
    assert properties(crm, "u8@example.com")["lms_user_id"] == "academy:u-8"
    calls = {operation: sum(by.values()) for operation, by in crm.stats()["calls"].items()}
    assert calls == {"contacts.batch_read": 2, "contacts.batch_update": 1, "contacts.batch_upsert": 1}


def test_a_known_id_skips_the_reads_and_only_changes_go(
    engine: Engine, pipeline: Pipeline, put: Put, make: Make, crm: HubSpotSandbox
) -> None:
    """The second completion of a known person is one update call with the changed fields alone."""
    flusher = make()
    sync(pipeline, put, people(1))
    flusher.flush()
    crm.reset(contacts=False)
    sync(pipeline, put, people(1, course="other", at=60))
    flusher.flush()
    assert list(crm.stats()["calls"]) == ["contacts.batch_update"]
    [(fields,)] = rows(engine, "SELECT fields FROM attempts ORDER BY id DESC LIMIT 1")
    assert set(fields) == {"courses_completed_count", "last_course_completed", "lms_last_synced_at"}


def test_nothing_changed_means_no_call(
    engine: Engine, pipeline: Pipeline, put: Put, make: Make, crm: HubSpotSandbox
) -> None:
    """A fact that changes no field settles the person without asking the CRM anything."""
    flusher = make()
    sync(pipeline, put, people(1))
    flusher.flush()
    crm.reset(contacts=False)
    sync(pipeline, put, [event("assessment.graded", user="u-0", email="u0@example.com", at=1, score=80)])
    flusher.flush()
    assert crm.stats()["total"] == 0
    assert states(engine) == [("in_step", "unchanged")]
    with engine.begin() as db:
        assert balance(db).written == 2


def test_an_unknown_person_is_held_and_found_later(
    engine: Engine, pipeline: Pipeline, put: Put, make: Make, crm: HubSpotSandbox
) -> None:
    """With `hold` nobody is created; when sales creates the contact, the fields arrive by themselves."""
    flusher = make("hold")
    sync(pipeline, put, people(1))
    flusher.flush()
    assert states(engine) == [("parked", "unknown_person")]
    assert crm.contacts() == []
    crm.seed([{"email": "u0@example.com"}])
    hurry(engine)
    flusher.flush()
    assert properties(crm, "u0@example.com")["courses_completed_count"] == "1"


def test_an_unknown_person_is_ignored_where_the_route_says_so(
    engine: Engine, pipeline: Pipeline, put: Put, make: Make, crm: HubSpotSandbox
) -> None:
    """With `ignore` the person is in no CRM, and the books count the event as ignored."""
    sync(pipeline, put, people(1))
    make("ignore").flush()
    assert states(engine) == [("in_step", "person_ignored")]
    assert crm.contacts() == []
    with engine.begin() as db:
        assert balance(db).ignored == 1


def test_a_lost_answer_creates_nobody_twice(
    engine: Engine, pipeline: Pipeline, put: Put, make: Make, crm: HubSpotSandbox
) -> None:
    """A create that was processed though its answer was lost is found again by reading, and not repeated."""
    crm.set_faults(script=[None, None, fault("processed_then_drop")])
    flusher = make()
    sync(pipeline, put, people(5))
    flusher.flush()
    assert set(states(engine)) == {("waiting", "unknown_outcome")}
    hurry(engine)
    flusher.flush()
    assert set(states(engine)) == {("in_step", "unchanged")}
    contacts = crm.contacts()
    assert len(contacts) == 5
    assert {contact["writes"] for contact in contacts} == {1}


def test_a_rate_limit_pauses_the_connection_and_costs_no_attempt(
    engine: Engine, pipeline: Pipeline, put: Put, make: Make, crm: HubSpotSandbox
) -> None:
    """After a 429 nobody calls until the pause is over, and no row has spent a try."""
    crm.set_faults(script=[fault("rate_limited", retry_after=30)])
    flusher = make()
    sync(pipeline, put, people(3))
    flusher.flush()
    flusher.flush()
    assert crm.stats()["total"] == 1
    assert rows(engine, "SELECT status, attempts FROM sync_state") == [("due", 0)] * 3
    [(wait,)] = rows(engine, "SELECT extract(epoch FROM paused_until - now()) FROM connections")
    assert 29 < wait <= 34
    hurry(engine)
    flusher.flush()
    assert set(states(engine)) == {("in_step", "written")}


def test_refused_credentials_keep_the_backlog_and_heal_by_themselves(
    engine: Engine, pipeline: Pipeline, put: Put, make: Make, crm: HubSpotSandbox
) -> None:
    """A revoked token breaks the connection; when it works again the backlog drains without a hand."""
    crm.configure(token="another")
    flusher = make()
    sync(pipeline, put, people(3))
    flusher.flush()
    assert rows(engine, "SELECT status, reason FROM connections") == [("broken", "credentials_refused")]
    assert rows(engine, "SELECT status, attempts FROM sync_state") == [("due", 0)] * 3
    crm.configure(token="t0ken")
    hurry(engine)
    flusher.flush()
    assert rows(engine, "SELECT status FROM connections") == [("active",)]
    assert set(states(engine)) == {("in_step", "written")}


def test_an_unknown_property_is_left_out_and_the_rest_arrives(
    engine: Engine, pipeline: Pipeline, put: Put, make: Make, crm: HubSpotSandbox
) -> None:
    """A property the portal lacks is quarantined for the connection; every other field is written."""
    bodies = [event(user="u-0", email="u0@example.com"), event(user="u-1", email="u1@example.com")]
    bodies.append(event("certification.issued", user="u-1", email="u1@example.com", at=3, course=None,
                        certification={"id": "c", "product": "No Such"}))  # fmt: skip
    sync(pipeline, put, bodies)
    make().flush()
    assert set(states(engine)) == {("in_step", "written")}
    assert properties(crm, "u1@example.com")["courses_completed_count"] == "1"
    assert [field for (field,) in rows(engine, "SELECT field FROM quarantined_fields")] == ["certified_no_such"]


def test_a_bare_portal_is_written_as_far_as_it_goes(
    engine: Engine, pipeline: Pipeline, put: Put, make: Make, crm: HubSpotSandbox
) -> None:
    """A portal without any of our properties refuses them one by one, and nobody is dead or parked because of it."""
    with HubSpotSandbox(token="t0ken", rate=100_000, lms_properties=False) as bare:
        flusher = make(url=bare.url)
        bare.seed([{"email": "u0@example.com"}])
        sync(pipeline, put, people(3))
        flusher.flush()
        assert {state for state, _ in states(engine)} == {"in_step"}
        assert {contact["properties"]["email"] for contact in bare.contacts()} == {
            f"u{n}@example.com" for n in range(3)
        }
    held = {(kind, name) for kind, name in rows(engine, "SELECT object_type, field FROM quarantined_fields")}
    assert ("contact.key", "lms_user_id") in held
    assert ("contact", "courses_completed_count") in held


def test_a_property_that_returns_reaches_everybody(
    engine: Engine, pipeline: Pipeline, put: Put, make: Make, crm: HubSpotSandbox
) -> None:
    """When a missing property is there again, those who were written without it get it without news of their own."""
    with HubSpotSandbox(token="t0ken", rate=100_000) as other:
        other.set_properties(remove=["last_course_completed"])
        flusher = make(url=other.url)
        sync(pipeline, put, people(3))
        flusher.flush()
        text = {"label": "Last", "type": "string", "fieldType": "text", "groupName": "lms_sync"}
        other.set_properties(add=[{"name": "last_course_completed", **text}])
        with engine.begin() as db:
            db.exec_driver_sql("UPDATE quarantined_fields SET retry_at = now()")
        assert rows(engine, "SELECT not_before > now() FROM sync_state") == [(True,)] * 3
        hurry(engine)
        flusher.flush()
        with engine.begin() as db:
            quarantine.doubt(db, limit=100)
        flusher.flush()
        with engine.begin() as db:
            quarantine.doubt(db, limit=100)
        said = {c["properties"]["email"]: c["properties"]["last_course_completed"] for c in other.contacts()}
    assert said == {
        "u0@example.com": "Course demo-101",
        "u1@example.com": "Course demo-101",
        "u2@example.com": "Course demo-101",
    }
    assert rows(engine, "SELECT field FROM quarantined_fields") == []


def test_a_refused_record_never_sinks_its_neighbours(
    engine: Engine, pipeline: Pipeline, put: Put, make: Make, crm: HubSpotSandbox
) -> None:
    """One record that the CRM refuses is dead with the reason; the others are written."""
    sync(pipeline, put, [*people(3), event(user="u-bad", email="bad@ex_ample.com")])
    make().flush()
    assert sorted(states(engine)) == [("dead", "invalid_value"), *[("in_step", "written")] * 3]
    [(detail,)] = rows(engine, "SELECT detail FROM sync_state WHERE status = 'dead'")
    assert "email" in detail
    assert "@" not in detail


def test_a_merged_contact_is_followed(
    engine: Engine, pipeline: Pipeline, put: Put, make: Make, crm: HubSpotSandbox
) -> None:
    """An id that a merge made invisible is noticed by its absence, and the survivor gets the fields."""
    flusher = make()
    sync(pipeline, put, people(1))
    flusher.flush()
    [other] = crm.seed([{"email": "old@example.com"}])
    mine = crm.contact("u0@example.com")
    assert mine is not None
    survivor = crm.merge(mine["id"], other)
    sync(pipeline, put, people(1, course="other", at=60))
    for _ in range(4):
        flusher.flush()
        hurry(engine)
    assert properties(crm, "u0@example.com")["courses_completed_count"] == "2"
    assert rows(engine, "SELECT remote_id FROM sync_state") == [(survivor,)]


def test_many_merged_contacts_make_no_twins(
    engine: Engine, pipeline: Pipeline, put: Put, make: Make, crm: HubSpotSandbox
) -> None:
    """Seven contacts merged away at once are each followed to their survivor; nobody is created a second time."""
    crm.configure(merged_ids_in_batch_read=False)
    flusher = make()
    sync(pipeline, put, people(7))
    flusher.flush()
    others = crm.seed([{"email": f"old{n}@example.com"} for n in range(7)])
    for number, other in enumerate(others):
        mine = crm.contact(f"u{number}@example.com")
        assert mine is not None
        crm.merge(other, mine["id"])
    sync(pipeline, put, people(7, course="other", at=60))
    for _ in range(5):
        flusher.flush()
        hurry(engine)
    crm.configure(merged_ids_in_batch_read=True)
    contacts = crm.contacts()
    assert len(contacts) == 7
    assert {contact["properties"]["courses_completed_count"] for contact in contacts} == {"2"}


def test_a_deleted_contact_stays_deleted_until_somebody_wants_it_back(
    engine: Engine, pipeline: Pipeline, put: Put, make: Make, crm: HubSpotSandbox
) -> None:
    """What people delete in the CRM does not come back by itself; another contact of the same address is found."""
    flusher = make()
    sync(pipeline, put, people(1))
    flusher.flush()
    contact = crm.contact("u0@example.com")
    assert contact is not None
    crm.archive(contact["id"])
    sync(pipeline, put, people(1, course="other", at=60))
    for _ in range(3):
        flusher.flush()
        hurry(engine)
    assert crm.contacts() == []
    assert states(engine) == [("parked", "contact_deleted")]
    crm.seed([{"email": "u0@example.com"}])
    flusher.flush()
    assert properties(crm, "u0@example.com")["courses_completed_count"] == "2"
    assert states(engine) == [("in_step", "written")]


def test_one_contact_never_stands_for_two_people(
    engine: Engine, pipeline: Pipeline, put: Put, make: Make, crm: HubSpotSandbox
) -> None:
    """When two people lead to one contact, the second one is parked instead of overwriting the first."""
    crm.configure(secondary_emails_resolve=True)
    crm.seed([{"email": "u0@example.com", "hs_additional_emails": "u1@example.com"}])
    flusher = make()
    sync(pipeline, put, people(1))
    flusher.flush()
    sync(pipeline, put, people(2, course="b", at=5))
    flusher.flush()
    crm.configure(secondary_emails_resolve=False)
    assert ("parked", "contact_shared") in states(engine)
    assert properties(crm, "u0@example.com")["lms_user_id"] == "academy:u-0"


class _Fussy:
    """A store that refuses any batch with one person in it, without saying which record it was."""

    def __init__(self, store: Any, poison: str) -> None:
        self.capabilities = store.capabilities
        self.read = store.read
        self.update = store.update
        self._store, self._poison = store, poison

    def upsert(self, by: str, writes: Sequence[ContactWrite]) -> Any:
        if any(write.key == self._poison for write in writes):
            raise BatchRejected(Reason.BATCH_REJECTED, "no record named")
        return self._store.upsert(by, writes)


def test_a_batch_without_a_named_culprit_is_halved(
    engine: Engine, pipeline: Pipeline, put: Put, make: Make, crm: HubSpotSandbox
) -> None:
    """A refusal that names nobody is halved until the bad record is alone; only that one is dead."""
    sync(pipeline, put, people(20))
    flusher = make(store=_Fussy(make().store, "u7@example.com"))
    flusher.flush()
    assert sorted(states(engine)) == [("dead", "batch_rejected"), *[("in_step", "written")] * 19]


def test_a_worker_killed_between_call_and_settle_doubles_nobody(
    engine: Engine, pipeline: Pipeline, put: Put, make: Make, crm: HubSpotSandbox
) -> None:
    """A lease that expires after the call makes the next claimant read before it writes."""
    flusher = make()
    sync(pipeline, put, people(6))
    with engine.begin() as db:
        claimed = sync_state.claim(db, "crm", WRITE_CONTACT, uuid4(), limit=100)
    batch = flusher._projected(claimed)
    batch.run(claimed)
    with engine.begin() as db:
        db.exec_driver_sql("UPDATE sync_state SET lease_until = now() - interval '1 s'")
        sync_state.expire(db)
    flusher.flush()
    flusher.flush()
    assert {state for state, _ in states(engine)} == {"in_step"}
    contacts = crm.contacts()
    assert len(contacts) == 6
    assert {contact["writes"] for contact in contacts} == {1}


def test_a_late_finish_leaves_only_what_it_created(
    engine: Engine, pipeline: Pipeline, put: Put, make: Make, crm: HubSpotSandbox
) -> None:
    """A settle whose lease is lost changes no state, but its remote id is known to the next one (rule 3)."""
    sync(pipeline, put, people(1))
    lost = uuid4()
    with engine.begin() as db:
        [row] = sync_state.claim(db, "crm", WRITE_CONTACT, lost, limit=10)
        db.exec_driver_sql("UPDATE sync_state SET lease_until = now() - interval '1 s'")
    with engine.begin() as db:
        sync_state.expire(db)
        done = sync_state.Settled(row.id, "in_step", Reason.WRITTEN, written=row.wanted, remote_id="4711")
        assert sync_state.settle(db, lost, [done], rule_set=1) == set()
    assert rows(engine, "SELECT status, written, remote_id FROM sync_state") == [("due", 0, "4711")]


def test_a_dead_drain_holds_nobody_up_for_long(
    engine: Engine, pipeline: Pipeline, put: Put, make: Make, crm: HubSpotSandbox
) -> None:
    """A drain that was killed keeps its lease; who has waited a few seconds is written by another one."""
    sync(pipeline, put, people(1))
    put(people(policy.BURST, course="on its way"))
    with engine.begin() as db:
        rings.start(db, "crm", WRITE_CONTACT, uuid4())
    make().flush()
    assert states(engine) == [("due", None)]
    with engine.begin() as db:
        db.exec_driver_sql("UPDATE sync_state SET not_before = now() - interval '16 s'")
    make().flush()
    assert states(engine) == [("in_step", "written")]


def test_a_lone_event_does_not_wait_for_another_s_call(
    engine: Engine, pipeline: Pipeline, put: Put, make: Make, crm: HubSpotSandbox
) -> None:
    """While a drain waits for the CRM and nothing else is on its way, a second one takes what has become due."""
    sync(pipeline, put, people(1))
    with engine.begin() as db:
        rings.start(db, "crm", WRITE_CONTACT, uuid4())
    make().flush()
    assert states(engine) == [("in_step", "written")]


def test_looking_again_never_goes_before_live_events(
    engine: Engine, pipeline: Pipeline, put: Put, make: Make, crm: HubSpotSandbox
) -> None:
    """Held people wait in the backfill lane, and ever longer; an event of theirs lifts them out of it."""
    flusher = make("hold")
    sync(pipeline, put, people(2))
    flusher.flush()
    hurry(engine)
    flusher.flush()
    found = rows(engine, "SELECT lane, not_before > now() + interval '90 min' FROM sync_state ORDER BY id")
    assert found == [(1, True), (1, True)]
    sync(pipeline, put, people(1, course="b", at=9))
    assert rows(engine, "SELECT lane, not_before <= now() FROM sync_state ORDER BY lane") == [(0, True), (1, False)]


def test_a_person_that_cannot_be_read_holds_nobody_up(
    engine: Engine, pipeline: Pipeline, put: Put, make: Make, crm: HubSpotSandbox
) -> None:
    """Who was sealed with a lost key is parked with that reason; the batch goes on without them."""
    sync(pipeline, put, people(3))
    with engine.begin() as db:
        lost = KeyRing({"lost": bytes(32)}).seal(b"{}", "people.profile:0")
        db.exec_driver_sql("UPDATE people SET profile = %(p)s WHERE id = (SELECT min(id) FROM people)", {"p": lost})
    make().flush()
    assert sorted(states(engine)) == [("in_step", "written"), ("in_step", "written"), ("parked", "seal_key_missing")]


def test_a_database_that_was_away_for_a_moment_is_nobody_s_fault(
    engine: Engine, pipeline: Pipeline, put: Put, make: Make, crm: HubSpotSandbox
) -> None:
    """A lone person whose projection met a lost connection is written right after, and no try is counted."""
    sync(pipeline, put, people(1))
    flusher = make()
    failures = [OperationalError("SELECT 1", {}, Exception("gone"))]

    def project(*arguments: Any) -> Any:
        if failures:
            raise failures.pop()
        return flusher.project(*arguments)

    replace(flusher, project=project).flush()
    assert states(engine) == [("in_step", "written")]
    assert rows(engine, "SELECT attempts FROM sync_state") == [(1,)]


def test_an_unforeseen_error_is_found_by_halving(
    engine: Engine, pipeline: Pipeline, put: Put, make: Make, crm: HubSpotSandbox
) -> None:
    """A record that makes us stumble ends dead alone, without waiting for leases to expire."""

    class Stumbling(_Fussy):
        def upsert(self, by: str, writes: Sequence[ContactWrite]) -> Any:
            if any(write.key == self._poison for write in writes):
                raise ZeroDivisionError
            return self._store.upsert(by, writes)

    sync(pipeline, put, people(8))
    make(store=Stumbling(make().store, "u5@example.com")).flush()
    assert sorted(states(engine)) == [("dead", "internal_error"), *[("in_step", "written")] * 7]


def test_an_expired_certificate_is_written_at_its_minute(
    engine: Engine, pipeline: Pipeline, put: Put, make: Make, crm: HubSpotSandbox
) -> None:
    """The person of a certificate with an expiry knows when their fields change by the clock alone."""
    body = event("certification.issued", user="u-0", email="u0@example.com", course=None,
                 certification={"id": "c", "product": "alpha", "expires_at": "2099-01-01T00:00:00Z"})  # fmt: skip
    sync(pipeline, put, [body])
    make().flush()
    assert properties(crm, "u0@example.com")["certified_alpha"] == "true"
    assert properties(crm, "u0@example.com")["certified_alpha_until"] == "2099-01-01"
    [(year,)] = rows(engine, "SELECT extract(year FROM next_transition_at) FROM people")
    assert year == 2099
