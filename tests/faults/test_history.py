"""The judge is judged: a sound history passes, and each promise broken on purpose is noticed."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, Engine

from integration.model.contacts import WRITE_CONTACT
from integration.model.events import Kind
from integration.security.seal import KeyRing
from integration.settings import Settings
from integration.storage import audit, inbox
from integration.storage.base import engine_for
from scripts.sandbox.hubspot import HubSpotSandbox
from scripts.sandbox.story import Story, tell
from tasks.assembly import Assembly
from tasks.embedded.servers import EmbeddedServers
from tests.faults.history import History, Leaks, Violation, check
from tests.processes import SECRET, write_connections

RATE = 100


@pytest.fixture(scope="module")
def story() -> Story:
    """A small story; half of its learners are strangers to the CRM."""
    return tell(42, learners=12)


@pytest.fixture(scope="module")
def crm(story: Story) -> Iterator[HubSpotSandbox]:
    """The CRM after the run."""
    with HubSpotSandbox(rate=10_000) as sandbox:
        sandbox.seed(story.contacts[::2])
        yield sandbox


@pytest.fixture(scope="module")
def lived(
    crm: HubSpotSandbox,
    story: Story,
    module_database_url: str,
    servers: EmbeddedServers,
    master_keys: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Engine]:
    """The database after the run: every delivery in, two slices of them written one after the other."""
    place = write_connections(tmp_path_factory.mktemp("history"), crm.url)
    urls = {"database_url": module_database_url, "broker_url": servers.broker_url}
    given: dict[str, Any] = {"config": place, "master_keys": master_keys, **urls}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"ACADEMY_SECRET": SECRET, "ACADEMY_OLD_SECRET": SECRET, "HUBSPOT_TOKEN": crm.token}.items():
            patch.setenv(name, value)
        assembly = Assembly(Settings(**given))
        half = len(story.deliveries) // 2
        for part in (story.deliveries[:half], story.deliveries[half:]):
            store(assembly, {one.webhook_id: one.body for one in part})
            assembly.flushers["crm", WRITE_CONTACT].flush()
        with assembly.engine.begin() as db:
            audit.seal(db)
        assembly.engine.dispose()
    engine = engine_for(module_database_url)
    yield engine
    engine.dispose()


def store(assembly: Assembly, bodies: dict[str, bytes]) -> None:
    """Take deliveries the way of the endpoint and the worker, without the processes."""
    ring = assembly.ring
    with assembly.engine.begin() as db:
        known = {bytes(row.key) for row in db.exec_driver_sql("SELECT key FROM inbox_keys")}
        fresh = [(inbox.key_of(name), body) for name, body in bodies.items() if inbox.key_of(name) not in known]
        kinds = [_kind(body) for _, body in fresh]
        rows = db.exec_driver_sql(
            inbox.STORE,
            {
                "connection": ["academy"] * len(fresh),
                "key": [key for key, _ in fresh],
                "body_hash": [inbox.hash_of(body) for _, body in fresh],
                "kind": [kind.value for kind in kinds],
                "payload": [ring.seal(body, inbox.payload_context("academy", "req_1")) for _, body in fresh],
                "request_id": ["req_1"] * len(fresh),
                "origin": "live",
                "status": "received",
                "reason": None,
            },
        )
        ids = [row.id for row in rows]
    for kind in (Kind.ENROLLMENT, Kind.COMPLETION):
        while recorded := assembly.pipeline.sync(kind.value, ids).outcomes:
            assert recorded


def _kind(body: bytes) -> Kind:
    return Kind.ENROLLMENT if b'"type":"enrollment.' in body else Kind.COMPLETION


@pytest.fixture
def db(lived: Engine) -> Iterator[Connection]:
    """A transaction in which the past may be changed; it is rolled back."""
    with lived.connect() as connection:
        yield connection
        connection.rollback()


@pytest.fixture
def history(db: Connection, crm: HubSpotSandbox, story: Story, keyring: KeyRing) -> History:
    """What really happened."""
    return History(
        accepted=story.deliveries,
        db=db,
        ring=keyring,
        contacts=crm.contacts(),
        calls=crm.calls(),
        rate=RATE,
        may_die=frozenset({story.odd["poison"].webhook_id}),
        may_park=frozenset({"invalid_email", "email_taken"}),
    )


def broken(history: History) -> set[str]:
    """Return which promises the judge holds to be broken."""
    return {violation.invariant for violation in check(history)}


def test_a_sound_history_has_no_violations(history: History) -> None:
    """What really happened passes, and it holds what the judge must look at: creates, updates, audit rows."""
    assert check(history) == []
    writes = [len(contact["traces"]) for contact in history.contacts]
    assert min(writes) >= 1
    assert max(writes) >= 2
    assert len(history.contacts) == 12
    assert len(history.calls) > 4


DAMAGE = {
    "a lost event": ("I1", "DELETE FROM inbox WHERE id = (SELECT max(id) FROM inbox WHERE status = 'done')"),
    "a lost key": ("I1", "DELETE FROM inbox_keys WHERE inbox_id = (SELECT max(id) FROM inbox)"),
    "a changed payload": ("I1", "UPDATE inbox SET payload = set_byte(payload, 60, get_byte(payload, 60) # 1)"),
    "a payload of another": (
        "I1",
        "UPDATE inbox SET payload = (SELECT payload FROM inbox WHERE id = 1) WHERE id = (SELECT max(id) FROM inbox)",
    ),
    "an event stored twice": (
        "I1",
        (
            "INSERT INTO inbox (connection, key, kind, payload, request_id, status, reason) "
            "SELECT connection, key, kind, payload, request_id, status, reason FROM inbox WHERE id = 1"
        ),
    ),
    "an event still waiting": ("I2", "UPDATE inbox SET status = 'received' WHERE id = 1"),
    "an end without a reason": ("I2", "UPDATE inbox SET reason = NULL WHERE id = 1"),
    "an innocent event dead": ("I2", "UPDATE inbox SET status = 'dead', reason = 'crash_loop' WHERE id = 1"),
    "an innocent event parked": ("I2", "UPDATE inbox SET status = 'parked', reason = 'no_identity' WHERE id = 1"),
    "a contact still due": ("I2", "UPDATE sync_state SET status = 'due' WHERE id = 1"),
    "a contact behind": ("I2", "UPDATE sync_state SET wanted = wanted + 1 WHERE id = 1"),
    "a contact quarantined": ("I2", "UPDATE sync_state SET status = 'dead', reason = 'crash_loop' WHERE id = 1"),
    "a property left out": (
        "I2",
        (
            "INSERT INTO quarantined_fields (connection, object_type, field, reason, retry_at) "
            "VALUES ('crm', 'contact', 'lms_source', 'unknown_property', now())"
        ),
    ),
    "two contacts of one person": (
        "I5",
        (
            "INSERT INTO links (connection, object_type, external_id, object_id) "
            "SELECT connection, object_type, external_id || '9', object_id FROM links WHERE object_type = 'contact'"
        ),
    ),
    "a fact kept twice": (
        "I5",
        (
            "INSERT INTO events (fact_key, revision, content_hash, connection, type, rank, person_id, person_version, "
            "subject_type, subject_id, occurred_at, inbox_id) SELECT fact_key, revision + 7, content_hash || '\\x00', "
            "connection, type, rank, person_id, person_version, subject_type, subject_id, occurred_at, inbox_id "
            "FROM events WHERE id = (SELECT min(id) FROM events)"
        ),
    ),
    "a write nobody noted": (
        "I6",
        "DELETE FROM audit WHERE id = (SELECT max(id) FROM audit WHERE action = 'contact.write')",
    ),
    "a write noted before it was made": ("I6", "UPDATE audit SET at = at - interval '1 hour' WHERE id = 1"),
    "an audit row changed": ("I6", "UPDATE audit SET outcome = 'unchanged' WHERE id = 1"),
    "an audit row outside the chain": ("I6", "INSERT INTO audit (actor, action, outcome) VALUES ('x', 'y', 'z')"),
    "an event held by the dead": (
        "I8",
        (
            "UPDATE inbox SET status = 'claimed', lease = gen_random_uuid(), lease_until = now() - interval '1 minute' "
            "WHERE id = 1"
        ),
    ),
    "a contact held by the dead": (
        "I8",
        (
            "UPDATE sync_state SET status = 'sending', lease = gen_random_uuid(), "
            "lease_until = now() - interval '1 minute' WHERE id = 1"
        ),
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_wrong_in_the_database_is_noticed(history: History, damage: str) -> None:
    """Each damage done to the database breaks the promise it belongs to."""
    invariant, statement = DAMAGE[damage]
    assert history.db.exec_driver_sql(statement).rowcount > 0
    assert invariant in broken(history)


def doctored(history: History, change: Callable[[list[Any], list[Any]], object]) -> History:
    """Return the history with the CRM's memory changed: its contacts and its calls."""
    contacts: list[Any] = [dict(one) for one in history.contacts]
    calls: list[Any] = [dict(one) for one in history.calls]
    change(contacts, calls)
    return dataclasses.replace(history, contacts=contacts, calls=calls)


def twice_written(contacts: list[Any]) -> Any:
    """Return a contact that was written at two versions or more."""
    return next(one for one in contacts if len({trace for _, trace in one["traces"]}) > 1)


def go_back(contacts: list[Any], _: list[Any]) -> None:
    """Swap the writes of a contact."""
    contact = twice_written(contacts)
    contact["traces"] = contact["traces"][::-1]


def say_two_things(contacts: list[Any], _: list[Any]) -> None:
    """Let both writes of a contact name one version."""
    contact = next(
        one
        for one in contacts
        if len({call for call, _ in one["traces"]}) > 1 and len(one["history"].get("courses_completed_count", ())) > 1
    )
    contact["traces"] = [(call, "1-1") for call, _ in contact["traces"]]
    for number, entry in enumerate(contact["history"]["courses_completed_count"]):
        entry["value"] = str(number)


def write_unseen(contacts: list[Any], calls: list[Any]) -> None:
    """Add a write that nobody knows of."""
    calls.append({**calls[-1], "number": 9_999})
    contacts[0]["traces"] = [*contacts[0]["traces"], (9_999, contacts[0]["traces"][-1][1])]


def hurry(_: list[Any], calls: list[Any]) -> None:
    """Let more calls come than the limit allows, just within ten seconds, spread over two round windows."""
    calls += [{"number": n, "at": 1_000_005 + 9.9 * n / RATE, "status": 200, "injected": None} for n in range(RATE + 1)]


def refuse(_: list[Any], calls: list[Any]) -> None:
    """Let one call have been refused."""
    calls[-1] |= {"status": 429, "injected": None}


CRM_DAMAGE: dict[str, tuple[str, Callable[[list[Any], list[Any]], object]]] = {
    "a field that is wrong": ("I3", lambda contacts, _: contacts[0]["properties"].update(courses_completed_count="77")),
    "a contact that is missing": ("I3", lambda contacts, _: contacts.pop()),
    "a learner with two contacts": (
        "I5",
        lambda contacts, _: contacts.append({**contacts[0], "id": "9999", "properties": {"email": "x@y.example"}}),
    ),
    "two contacts with one e-mail": ("I5", lambda contacts, _: contacts.append({**contacts[0], "history": {}})),
    "an older state after a newer one": ("I4", go_back),
    "one version that says two things": ("I4", say_two_things),
    "a write without an audit row": ("I6", write_unseen),
    "a window with too many calls": ("I7", hurry),
    "a refusal of our own making": ("I7", refuse),
}


@pytest.mark.parametrize("damage", CRM_DAMAGE)
def test_what_is_wrong_in_the_crm_is_noticed(history: History, damage: str) -> None:
    """Each damage done to what the CRM remembers breaks the promise it belongs to."""
    invariant, change = CRM_DAMAGE[damage]
    assert invariant in broken(doctored(history, change))


def test_a_limit_that_is_just_kept_is_kept(history: History) -> None:
    """As many calls as the limit allows, and the next one as the window has passed: no violation."""

    def fill(_: list[Any], calls: list[Any]) -> None:
        calls += [{"number": n, "at": 1_000_000 + n / 50, "status": 200, "injected": None} for n in range(RATE)]
        calls.append({"number": RATE, "at": 1_000_010, "status": 429, "injected": "rate_limited"})

    assert "I7" not in broken(doctored(history, fill))


def test_an_event_nobody_sent_is_noticed(history: History) -> None:
    """The inbox holds what was accepted and nothing else."""
    assert broken(dataclasses.replace(history, accepted=history.accepted[5:])) >= {"I1"}


def test_leaks_are_found_in_any_text(story: Story, history: History) -> None:
    """An e-mail, a name or a secret is found wherever it stands, in any case; ids and reasons are none."""
    leaks = Leaks(story.learners, [SECRET])
    leaks.search("log", b'{"event": "sync.done", "rows": 3, "worker": "celery@host", "reason": "invalid_email"}')
    assert leaks.found == []
    learner = story.learners[3]
    for text in (learner.email.upper(), f"x{learner.email}y", learner.full_name, SECRET):
        leaks.search("page", text.encode())
    assert [violation.invariant for violation in leaks.found] == ["I9"] * 4
    assert Violation("I9", leaks.found[0].seen) in check(dataclasses.replace(history, leaks=leaks.found))
