"""OAuth on real Postgres and HTTP: one refresh for everybody, rotation and crashes, expiry, revocation, no traces."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import structlog
from pydantic import SecretStr
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import OperationalError

from integration.config import ConnectionConfig
from integration.connectors import oauth
from integration.connectors.crm.hubspot import HubSpot
from integration.errors import ConnectionBroken, Reason, RetryLater
from integration.model.tokens import Grant
from integration.security.seal import IndexKeys, KeyRing, new_key
from integration.storage import credentials
from integration.storage.base import engine_for
from integration.storage.credentials import Grants
from integration.storage.statement import execute
from scripts.sandbox.faults import fault
from scripts.sandbox.hubspot import HubSpotSandbox
from tests.db.test_pipeline import rows

Worker = Callable[..., HubSpot]
APP = {"client_id": "sandbox-app", "client_secret": "sandbox-app-secret"}
SEED = "sandbox-seed"


class Crash(BaseException):
    """The end of a process: nothing of ours runs after it."""


@pytest.fixture(scope="module")
def portal() -> Iterator[HubSpotSandbox]:
    """One sandbox CRM for all tests of this file; it takes OAuth tokens only."""
    with HubSpotSandbox(token="nobody-has-this-one", rate=100_000) as sandbox:
        yield sandbox


@pytest.fixture
def crm(portal: HubSpotSandbox) -> HubSpotSandbox:
    """The sandbox with the app installed anew."""
    portal.reset()
    portal.oauth(revoke=True, rotation="none", lifetime=1800, refreshes=0, refused=0)
    portal.oauth(refresh_token=SEED, **APP)
    return portal


@pytest.fixture
def seed(tmp_path: Path) -> Path:
    """The file in which people put the refresh token."""
    path = tmp_path / "refresh-token"
    path.write_text(SEED, "utf-8")
    return path


@pytest.fixture
def worker(
    crm: HubSpotSandbox,
    seed: Path,
    database_url: str,
    keyring: KeyRing,
    keys: IndexKeys,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Worker]:
    """Make a worker as each process has one: its own pool, and its own idea of the token."""
    for name, value in APP.items():
        monkeypatch.setenv(f"TEST_{name.upper()}", value)
    engines: list[Engine] = []

    def make(ring: KeyRing = keyring) -> HubSpot:
        engines.append(engine_for(database_url, pool_size=2))
        grants = Grants(engines[-1], ring, lambda: keys)
        named = {name: {"env": f"TEST_{name.upper()}"} for name in APP} | {"refresh_token": {"file": str(seed)}}
        settings = {"name": "crm", "system": "hubspot", "base_url": crm.url, "credentials": named}
        return HubSpot(ConnectionConfig.model_validate(settings), grants=lambda: grants)

    yield make
    for engine in engines:
        engine.dispose()


def read(hubspot: HubSpot) -> None:
    """Make any call."""
    hubspot.read("email", ["nobody@example.com"], [])


def all_at_once(workers: list[HubSpot]) -> None:
    """Let every worker make a call in the same moment."""
    gate = threading.Barrier(len(workers))

    def one(hubspot: HubSpot) -> None:
        gate.wait()
        read(hubspot)

    with ThreadPoolExecutor(len(workers)) as pool:
        list(pool.map(one, workers))


def counts(crm: HubSpotSandbox) -> tuple[int, int]:
    """Return how often the token endpoint gave tokens, and refused."""
    said = crm.oauth()
    return said["refreshes"], said["refused"]


def age(engine: Engine, seconds: float) -> None:
    """Let the stored token end in so many seconds."""
    with engine.begin() as db:
        sql = "UPDATE credentials SET expires_at = now() + %(seconds)s * interval '1 second'"
        db.exec_driver_sql(sql, {"seconds": seconds})


def end_lease(engine: Engine) -> None:
    """Let the lease of whoever was fetching be over."""
    with engine.begin() as db:
        db.exec_driver_sql("UPDATE credentials SET lease_until = now() - interval '1 second'")


def crash_before_commit(monkeypatch: pytest.MonkeyPatch, hubspot: HubSpot) -> None:
    """Have a worker die when it has its answer and has not stored it."""

    def die(*_: object) -> bool:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(Grants, "keep", die)
        with pytest.raises(Crash):
            read(hubspot)


@pytest.mark.parametrize("rotation", ["none", "strict"])
def test_four_workers_at_once_fetch_one_token(
    engine: Engine, crm: HubSpotSandbox, worker: Worker, rotation: str
) -> None:
    """Nothing stored, then ended, then refused: each time there is one refresh for all, and every call works."""
    crm.oauth(rotation=rotation)
    crm.set_faults(fault("processed_then_hang", operations=("oauth.token",), seconds=0.3))
    all_at_once([worker() for _ in range(4)])
    assert counts(crm) == (1, 0)
    age(engine, -1)
    workers = [worker() for _ in range(4)]
    all_at_once(workers)
    assert counts(crm) == (2, 0)
    crm.oauth(expire=True)
    all_at_once(workers)
    assert counts(crm) == (3, 0)


def test_threads_of_one_worker_fetch_one_token(crm: HubSpotSandbox, worker: Worker) -> None:
    """The same for threads that share everything."""
    all_at_once([worker()] * 4)
    assert counts(crm) == (1, 0)


def test_a_token_is_fetched_early_by_one_while_others_go_on(
    engine: Engine, crm: HubSpotSandbox, worker: Worker
) -> None:
    """Five minutes before the end one fetches; the others do not wait for it, and no call is refused."""
    read(worker())
    age(engine, 310)
    read(worker())
    assert counts(crm) == (1, 0)
    age(engine, 290)
    crm.set_faults(fault("hang", operations=("oauth.token",), seconds=60, times=1))
    with ThreadPoolExecutor(1) as pool:
        fetching = pool.submit(read, worker())
        while not rows(engine, "SELECT 1 FROM credentials WHERE lease IS NOT NULL"):
            assert not fetching.done()
        read(worker())  # not held up: it would run into its patience
        assert not fetching.done()
        fetching.exception()  # it took too long for its call, or went on with the old token
    assert crm.stats()["calls"]["contacts.batch_read"].keys() == {"207"}


def test_the_refresh_token_is_stored_before_the_new_access_token_is_used(
    engine: Engine, crm: HubSpotSandbox, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that dies before the commit has called nothing with the new token."""
    crash_before_commit(monkeypatch, worker())
    assert [one["operation"] for one in crm.calls()] == ["oauth.token"]
    assert rows(engine, "SELECT sealed IS NULL, lease IS NOT NULL FROM credentials") == [(True, True)]


@pytest.mark.parametrize("rotation", ["none", "lenient"])
def test_a_crash_between_answer_and_commit_locks_nobody_out(
    engine: Engine, crm: HubSpotSandbox, worker: Worker, monkeypatch: pytest.MonkeyPatch, rotation: str
) -> None:
    """The next worker asks with the former refresh token, which is good until the lost one was used."""
    crm.oauth(rotation=rotation)
    read(worker())
    age(engine, -1)
    crash_before_commit(monkeypatch, worker())
    end_lease(engine)
    read(worker())
    age(engine, -1)
    read(worker())
    assert counts(crm) == (4, 0)


def test_after_such_a_crash_a_strict_vendor_needs_a_new_seed_and_heals_by_itself(
    engine: Engine, crm: HubSpotSandbox, worker: Worker, monkeypatch: pytest.MonkeyPatch, seed: Path
) -> None:
    """Where the lost token was the only good one the connection says what to do, and a new seed is enough."""
    crm.oauth(rotation="strict")
    read(worker())
    age(engine, -1)
    crash_before_commit(monkeypatch, worker())
    end_lease(engine)
    survivor = worker()
    with pytest.raises(ConnectionBroken, match="install the app in the account again"):
        read(survivor)
    crm.oauth(refresh_token="sandbox-seed-2")
    seed.write_text("sandbox-seed-2", "utf-8")
    read(survivor)


def test_the_seed_is_tried_when_what_is_stored_is_refused(engine: Engine, crm: HubSpotSandbox, worker: Worker) -> None:
    """A seed that is good again, though nobody changed it, ends a lock-out."""
    crm.oauth(rotation="strict")
    read(worker())
    age(engine, -1)
    crm.oauth(refresh_token=SEED)
    read(worker())
    assert counts(crm) == (2, 1)


def test_a_token_that_ends_during_a_batch(crm: HubSpotSandbox, worker: Worker) -> None:
    """A call in the middle that is refused is made again with a new token; no call is lost, none is made twice."""
    hubspot = worker()
    read(hubspot)
    crm.set_faults(fault("token_expired", operations=("contacts.batch_read",), times=1))
    read(hubspot)
    read(hubspot)
    calls = [(one["operation"], one["status"]) for one in crm.calls()]
    read_, token = "contacts.batch_read", "oauth.token"
    assert calls == [(token, 200), (read_, 207), (read_, 401), (token, 200), (read_, 207), (read_, 207)]


def test_revoked_and_renewed(crm: HubSpotSandbox, worker: Worker, seed: Path) -> None:
    """An app that was removed breaks the connection; a new refresh token in the file heals it, in old workers too."""
    workers = [worker(), worker()]
    all_at_once(workers)
    crm.oauth(revoke=True)
    for hubspot in workers:
        with pytest.raises(ConnectionBroken) as raised:
            read(hubspot)
        assert raised.value.reason is Reason.CREDENTIALS_REFUSED
        assert "credentials.refresh_token points" in str(raised.value)
    crm.oauth(refresh_token="sandbox-seed-2", refreshes=0)
    seed.write_text("sandbox-seed-2\n", "utf-8")
    all_at_once(workers)
    assert crm.oauth()["refreshes"] == 1


def test_a_changed_seed_counts_at_once(crm: HubSpotSandbox, worker: Worker, seed: Path) -> None:
    """What is stored for another seed is not used by a worker that starts, though it would still be good."""
    read(worker())
    crm.oauth(refresh_token="of-another-account")
    seed.write_text("of-another-account", "utf-8")
    read(worker())
    assert counts(crm) == (2, 0)


def test_waiting_ends(engine: Engine, crm: HubSpotSandbox, worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind somebody who died at it a call gives up in time, unharmed; when the lease is over the next one fetches."""
    monkeypatch.setattr(oauth, "PATIENCE", 0.3)
    crash_before_commit(monkeypatch, worker())
    with pytest.raises(RetryLater, match="another worker is fetching"):
        read(worker())
    monkeypatch.undo()
    for name, value in APP.items():
        monkeypatch.setenv(f"TEST_{name.upper()}", value)
    end_lease(engine)
    read(worker())


def test_trouble_gives_the_lease_back(engine: Engine, crm: HubSpotSandbox, worker: Worker) -> None:
    """A token endpoint that is away is waited for; nobody waits for the lease besides."""
    crm.set_faults(fault("error", operations=("oauth.token",), times=1))
    with pytest.raises(RetryLater):
        read(worker())
    assert rows(engine, "SELECT lease FROM credentials") == [(None,)]
    read(worker())


def test_an_answer_is_stored_though_the_database_was_away(
    engine: Engine, crm: HubSpotSandbox, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a vendor that rotates has answered is not lost with a commit that fails; before it, nothing is asked."""
    crm.oauth(rotation="strict")
    failures = iter([True, True])

    def unsteady(db: Connection, sql: str, values: dict[str, Any]) -> Any:
        if sql == credentials._KEEP and next(failures, False):
            raise OperationalError(sql, None, Exception("gone"))
        return execute(db, sql, values)

    monkeypatch.setattr(credentials, "execute", unsteady)
    read(worker())
    age(engine, -1)
    read(worker())
    assert counts(crm) == (2, 0)

    def away(*_: object) -> Any:
        raise OperationalError("", None, Exception("gone"))

    monkeypatch.setattr(credentials, "execute", away)
    with pytest.raises(RetryLater) as raised:
        read(worker())
    assert raised.value.reason is Reason.DATABASE_AWAY
    assert counts(crm) == (2, 0)


def test_one_who_was_too_slow_replaces_nothing(engine: Engine, keyring: KeyRing, keys: IndexKeys) -> None:
    """Of two who fetched, the one who lost the lease stores only where nobody else has."""
    grants, origin = Grants(engine, keyring, lambda: keys), SecretStr("app\0seed")
    slow, quick = uuid4(), uuid4()
    first = Grant(SecretStr("a-1"), SecretStr("r-1"), 1800.0)
    second = Grant(SecretStr("a-2"), SecretStr("r-2"), 1800.0)
    assert grants.take("crm", slow)
    assert not grants.take("crm", quick)
    end_lease(engine)
    assert grants.take("crm", quick)
    assert grants.keep("crm", slow, origin, first, None)
    before = grants.read("crm", origin)
    assert before
    assert before.grant == first
    assert grants.keep("crm", quick, origin, second, None)
    assert not grants.keep("crm", slow, origin, first, before)
    held = grants.read("crm", origin)
    assert held
    assert held.grant == second
    assert grants.read("crm", SecretStr("app\0other")) is None


def test_tokens_that_cannot_be_opened(crm: HubSpotSandbox, worker: Worker, seed: Path) -> None:
    """A process with other master keys says so and replaces nothing; a new seed is a way out."""
    read(worker())
    stranger = worker(KeyRing({"other": new_key()}))
    with pytest.raises(ConnectionBroken, match="COURSEWIRE_MASTER_KEYS") as raised:
        read(stranger)
    assert raised.value.reason is Reason.SEAL_KEY_MISSING
    assert counts(crm) == (1, 0)
    crm.oauth(refresh_token="sandbox-seed-2")
    seed.write_text("sandbox-seed-2", "utf-8")
    read(stranger)


def test_no_token_leaves_a_trace(
    engine: Engine, crm: HubSpotSandbox, worker: Worker, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither logs nor errors nor any column of the database hold a token, a secret or the seed."""
    crm.oauth(rotation="strict")
    with structlog.testing.capture_logs() as logs:
        hubspot = worker()
        read(hubspot)
        age(engine, -1)
        read(worker())
        crm.oauth(revoke=True)
        with pytest.raises(ConnectionBroken) as raised:
            read(hubspot)
    tables = [name for (name,) in rows(engine, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
    dump = "".join(str(one) for name in tables for one in rows(engine, f'SELECT t::text FROM "{name}" t'))  # noqa: S608
    assert "credentials" in tables
    assert rows(engine, "SELECT count(*) FROM credentials WHERE sealed IS NOT NULL") == [(1,)]
    shown = dump + repr(logs) + repr(raised.value) + "".join(capfd.readouterr())
    given = crm.oauth()["given"]
    assert len(given) >= 4
    for secret in (*given, SEED, *APP.values()):
        assert secret not in shown
        assert secret.encode().hex() not in shown
    assert [one["event"] for one in logs if one["event"].startswith("oauth")] == ["oauth.refreshed"] * 2
