"""The endpoint while what it stands on is away, frozen or killed: no 202 without a commit, no wait without end."""

import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
import redis
import requests

from integration.security.seal import KeyRing
from integration.storage import inbox, index_keys
from integration.storage.base import engine_for
from scripts.migrations import upgrade
from scripts.sandbox.deliveries import Delivery
from scripts.sandbox.lms import LmsSandbox
from scripts.sandbox.story import tell
from tasks.embedded.process import free_port
from tasks.embedded.servers import EmbeddedServers
from tests.faults.installation import sending
from tests.faults.proxy import ChaosProxy
from tests.processes import ROOT, SECRET, Web, event, frozen, signed, until

PATIENCE = 3.0
"""Seconds within which a sender is told 503."""


@pytest.fixture(scope="module")
def own(keyring: KeyRing) -> Iterator[EmbeddedServers]:
    """Durable servers that may be frozen and killed, because nobody else uses them."""
    place = Path(tempfile.mkdtemp(prefix="coursewire-"))
    place.chmod(0o711)
    try:
        with EmbeddedServers(place / "data") as servers:
            engine = engine_for(servers.database_url)
            with engine.begin() as db:
                upgrade(db)
                index_keys.load(db, keyring)
            engine.dispose()
            yield servers
    finally:
        shutil.rmtree(place)


@pytest.fixture(scope="module")
def web(own: EmbeddedServers, tmp_path_factory: pytest.TempPathFactory, master_keys: str) -> Iterator[Web]:
    """A web process on these servers, the same for all tests that leave it alive."""
    urls = {"database_url": own.database_url, "broker_url": own.broker_url}
    with Web(tmp_path_factory.mktemp("web"), master_keys=master_keys, **urls) as running:
        yield running


def kept(own: EmbeddedServers, ring: KeyRing) -> dict[bytes, list[bytes]]:
    """Return every payload in the inbox by its key, having checked that each key has its row and each row its key."""
    query = (
        "SELECT k.key, i.connection, i.request_id, i.payload FROM inbox_keys k FULL JOIN inbox i ON i.id = k.inbox_id"
    )
    found: dict[bytes, list[bytes]] = {}
    with psycopg.connect(own.database_url) as db:
        for key, connection, request_id, payload in db.execute(query):
            assert key is not None
            assert payload is not None
            found.setdefault(key, []).append(ring.open(payload, inbox.payload_context(connection, request_id)))
    return found


def assert_kept(own: EmbeddedServers, ring: KeyRing, accepted: Iterable[Delivery]) -> None:
    """Each of these is in the inbox exactly once, byte for byte (I1)."""
    found = kept(own, ring)
    for one in accepted:
        assert found.get(inbox.key_of(one.webhook_id)) == [one.body], one.webhook_id


def pace(web: Web, seconds: float) -> list[float]:
    """Deliver fresh events over four connections for so long; return the seconds each answer took, all of them 202."""
    ends = time.monotonic() + seconds

    def one(_: int) -> list[float]:
        took = []
        with requests.Session() as session:
            session.trust_env = False
            while time.monotonic() < ends:
                body = event(random.randrange(10**9))
                started = time.perf_counter()
                answer = session.post(web.webhooks, data=body, headers=signed(body), timeout=20)
                took.append(time.perf_counter() - started)
                assert answer.status_code == 202
                time.sleep(0.01)
        return took

    with ThreadPoolExecutor(4) as pool:
        return [seconds for took in pool.map(one, range(4)) for seconds in took]


def patient(web: Web) -> LmsSandbox:
    """Return an LMS that tries again for long."""
    return LmsSandbox(web.url, "academy", SECRET, max_attempts=40, first_wait=0.5, longest_wait=2.0)


def burst(seed: int) -> list[Delivery]:
    """Return a story's deliveries under ids of their own, each id once."""
    return list({one.webhook_id: one for one in tell(seed, learners=45).deliveries}.values())


def refused(web: Web) -> None:
    """A delivery is told 503 with Retry-After, in time; the process itself is healthy and says it is not ready."""
    body = event(random.randrange(10**9))
    started = time.monotonic()
    answer = web.post(body)
    assert time.monotonic() - started < PATIENCE
    assert (answer.status_code, answer.json()["reason"]) == (503, "database_away")
    assert int(answer.headers["retry-after"]) > 0
    assert web.get("/healthz").status_code == 200
    started = time.monotonic()
    assert web.get("/readyz").status_code == 503
    assert time.monotonic() - started < PATIENCE


def accepts(web: Web) -> bool:
    """Say whether a delivery is accepted now."""
    return web.post(event(random.randrange(10**9))).status_code == 202


# --- the broker: a doorbell


def test_without_a_broker_everything_is_accepted(own: EmbeddedServers, tmp_path: Path, master_keys: str) -> None:
    """A web process that has never seen its broker serves, is ready, and ends when it is told to (F20)."""
    nobody = f"redis://127.0.0.1:{free_port()}/0"
    with Web(tmp_path, database_url=own.database_url, broker_url=nobody, master_keys=master_keys) as web:
        assert max(pace(web, 2)) < 2
        assert web.get("/readyz").status_code == 200
        until(lambda: '"ring.lost"' in web.output)
        web.terminate(10)


def test_a_frozen_broker_holds_up_nobody(own: EmbeddedServers, web: Web) -> None:
    """While the broker hangs, answers take as long as before, and it is rung again as soon as it goes on (F16)."""
    assert own.valkey
    pace(web, 0.5)
    before = pace(web, 3)
    with frozen(own.valkey.pid):
        meanwhile = pace(web, 7)
    assert max(meanwhile) < 2
    assert statistics.median(meanwhile) < statistics.median(before) * 3 + 0.1
    assert statistics.quantiles(meanwhile, n=20)[-1] < statistics.quantiles(before, n=20)[-1] * 3 + 0.5
    with redis.Redis.from_url(own.broker_url) as broker:
        rung = int(broker.llen("completion") or 0) + int(broker.llen("sync") or 0)
        until(lambda: accepts(web) and int(broker.llen("sync") or 0) > rung, every=0.2)


def test_a_frozen_broker_does_not_keep_the_process_alive(
    own: EmbeddedServers, tmp_path: Path, master_keys: str
) -> None:
    """Told to end while the broker hangs, the process ends; what was not rung the sweeper rings."""
    assert own.valkey
    urls = {"database_url": own.database_url, "broker_url": own.broker_url}
    with Web(tmp_path, master_keys=master_keys, **urls) as web:
        assert accepts(web)
        with frozen(own.valkey.pid):
            assert accepts(web)
            web.terminate(10)


# --- Postgres: the record


def test_a_frozen_postgres_is_503_and_recovers(own: EmbeddedServers, web: Web, keyring: KeyRing) -> None:
    """While the database hangs, senders are told so in time, nothing is half-stored, and it passes by itself (F24)."""
    assert own.postgres
    until(lambda: accepts(web), 5)
    with frozen(own.postgres.pid), ThreadPoolExecutor(20) as pool:
        for _ in range(2):
            list(pool.map(lambda _: refused(web), range(20)))
    until(lambda: accepts(web), 15)
    assert web.get("/readyz").status_code == 200
    kept(own, keyring)


def test_a_frozen_postgres_does_not_keep_the_process_alive(
    own: EmbeddedServers, tmp_path: Path, master_keys: str
) -> None:
    """Told to end while the database hangs, the process answers who waits and ends."""
    assert own.postgres
    urls = {"database_url": own.database_url, "broker_url": own.broker_url}
    with Web(tmp_path, master_keys=master_keys, **urls) as web, ThreadPoolExecutor(5) as pool:
        assert accepts(web)
        with frozen(own.postgres.pid):
            waiting = [pool.submit(web.post, event(n)) for n in range(5)]
            until(lambda: web.get("/healthz").ok)
            web.terminate(10)
            assert {one.result().status_code for one in waiting} == {503}


def test_a_stopped_postgres_is_503_and_recovers(own: EmbeddedServers, web: Web) -> None:
    """Without a database nothing is accepted; with it again, everything is, without a restart."""
    assert own.postgres
    until(lambda: accepts(web), 5)
    own.postgres.stop()
    refused(web)
    own.postgres.start()
    until(lambda: accepts(web), 5)
    assert web.get("/readyz").status_code == 200


def test_a_web_process_starts_before_its_database(own: EmbeddedServers, tmp_path: Path, master_keys: str) -> None:
    """Started while Postgres is away it answers 503, and serves as soon as Postgres is there."""
    assert own.postgres
    own.postgres.stop()
    urls = {"database_url": own.database_url, "broker_url": own.broker_url}
    with Web(tmp_path, master_keys=master_keys, **urls) as web:
        refused(web)
        own.postgres.start()
        until(lambda: accepts(web), 5)


def test_a_postgres_that_takes_no_writes_is_503_and_recovers(own: EmbeddedServers, web: Web, keyring: KeyRing) -> None:
    """A database turned read-only, as after a failover, accepts nothing and is not ready, until it is (F26)."""

    def read_only(setting: str) -> None:
        with psycopg.connect(own.database_url, autocommit=True) as db:
            db.execute("SET default_transaction_read_only = off")
            db.execute(f"ALTER SYSTEM SET default_transaction_read_only = {setting}".encode())
            db.execute("SELECT pg_reload_conf()")

    until(lambda: accepts(web), 5)
    read_only("on")
    try:
        until(lambda: not accepts(web), 5)
        before = kept(own, keyring)
        refused(web)
        assert kept(own, keyring) == before
    finally:
        read_only("off")
    until(lambda: accepts(web), 5)
    assert web.get("/readyz").status_code == 200


def test_a_lost_connection_costs_one_answer_at_most(own: EmbeddedServers, web: Web) -> None:
    """When the database ends our session, the next delivery but one is accepted at the latest (F23)."""
    until(lambda: accepts(web), 5)
    with psycopg.connect(own.database_url, autocommit=True) as db:
        query = (
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'coursewire web'"
        )
        assert db.execute(query).fetchone() == (1,)
    assert [accepts(web), accepts(web)][1]


def test_a_commit_nobody_heard_of_is_a_duplicate_when_resent(
    own: EmbeddedServers, tmp_path: Path, master_keys: str, keyring: KeyRing
) -> None:
    """Stored, but the answer got lost on its way from Postgres: 503, and the resend is known, not doubled (F25)."""
    assert own.postgres
    body = event(random.randrange(10**9))
    headers = signed(body, "msg_unheard")
    with ChaosProxy(own.postgres.port) as proxy:
        url = own.database_url.replace(f":{own.postgres.port}/", f":{proxy.port}/")
        with Web(tmp_path, database_url=url, broker_url=own.broker_url, master_keys=master_keys) as web:
            for _ in range(3):  # then the statement is prepared: it takes one message
                assert accepts(web)
            proxy.deaf.set()
            started = time.monotonic()
            assert web.post(body, headers).status_code == 503
            assert time.monotonic() - started < PATIENCE
            proxy.deaf.clear()
            started = time.monotonic()
            until(lambda: accepts(web), 20)
            assert time.monotonic() - started < PATIENCE
            answer = web.post(body, headers)
    assert (answer.status_code, answer.json()) == (202, {"accepted": 0, "duplicates": 1})
    assert kept(own, keyring)[inbox.key_of("msg_unheard")] == [body]


# --- killed in the middle of a burst


@pytest.mark.parametrize("seed", [11])
def test_a_killed_postgres_loses_nothing_accepted(own: EmbeddedServers, web: Web, keyring: KeyRing, seed: int) -> None:
    """Kill -9 of the database mid-burst, three times: everything answered 202 is there, byte for byte (F22)."""
    assert own.postgres
    dice = random.Random(seed)
    deliveries = burst(seed)
    with sending(patient(web), deliveries) as reports:
        for _ in range(3):
            time.sleep(dice.uniform(0.2, 0.5))
            os.kill(own.postgres.pid, signal.SIGKILL)
            time.sleep(dice.uniform(0, 0.5))
            own.postgres.start()
    (report,) = reports
    assert len(report.accepted) == len(deliveries)
    assert set(report.statuses) <= {"202", "503"}, report.statuses
    assert report.statuses.get("503", 0) > 0, "the kills missed the burst"
    assert_kept(own, keyring, report.accepted)


@pytest.mark.parametrize("seed", [12])
def test_a_killed_web_process_loses_nothing_accepted(
    own: EmbeddedServers, web: Web, keyring: KeyRing, seed: int
) -> None:
    """Kill -9 of the endpoint mid-burst, twice: everything answered 202 is there, byte for byte (F1)."""
    dice = random.Random(seed)
    deliveries = burst(seed)
    with sending(patient(web), deliveries) as reports:
        for _ in range(2):
            time.sleep(dice.uniform(0.2, 0.5))
            web.kill()
            web.start()
    (report,) = reports
    assert len(report.accepted) == len(deliveries)
    assert set(report.statuses) - {"202"}, "the kills missed the burst"
    assert_kept(own, keyring, report.accepted)


# --- its own logs


@pytest.mark.parametrize("form", ["json", "console"])
def test_logs_that_nobody_takes_stop_no_work(form: str) -> None:
    """With the reader of the logs gone, as when the supervisor was killed, a line is lost and nothing else is."""
    program = (
        "import structlog; from integration.observability import logs; "
        f"logs.configure({form!r}); structlog.get_logger().warning('ring.lost'); print('went on')"
    )
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=writer, cwd=ROOT, timeout=60, check=False
    )
    os.close(writer)
    assert ended.stdout == b"went on\n"
