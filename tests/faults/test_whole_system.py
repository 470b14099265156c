"""`coursewire up` as a customer runs it, while its processes, its broker and its database are killed under load."""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import psutil
import psycopg
import pytest
import redis
import requests
from sqlalchemy import Engine

from integration.observability import books
from integration.observability.books import Books
from integration.security.seal import KeyRing
from integration.storage import inbox, rings, sync_state
from integration.storage.base import engine_for
from scripts.sandbox import truth
from scripts.sandbox.deliveries import Delivery
from scripts.sandbox.hubspot import HubSpotSandbox
from scripts.sandbox.lms import LmsSandbox, SendReport
from scripts.sandbox.story import Story, tell
from tasks.embedded.folder import DataFolder, Running
from tasks.embedded.process import free_port
from tests.processes import SECRET, environment, gone, until, write_connections

ROLES = ("web", "worker", "beat", "flower")
HELD = 8.0
"""Seconds after which a claim is nobody's any more: nothing in these tests takes half as long."""


class Installation:
    """One machine on which somebody runs `coursewire up`."""

    def __init__(self, place: Path, crm: HubSpotSandbox) -> None:
        """`place` is the folder it lives in; its CRM is the sandbox."""
        self.crm = crm
        self._place = place
        self._data = DataFolder(place / "data")
        self._up: subprocess.Popen[bytes] | None = None
        self._port = free_port()
        write_connections(place, crm.url)
        self._environment = environment(
            place, data_dir=self._data.path, port=self._port, flower_port=free_port(), worker_concurrency=4
        )

    def start(self) -> None:
        """Run `up` and return when it takes events."""
        with (self._place / "up.log").open("ab") as log:
            self._up = subprocess.Popen(
                [sys.executable, "-m", "tasks.cli", "up"],
                env=self._environment,
                cwd=self._place,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        until(self._ready, 90, 0.1)

    def _ready(self) -> bool:
        assert self._up
        assert self._up.poll() is None, self.output[-4000:]
        try:
            return self.get("/readyz").ok and set(ROLES) <= set(self.pids())
        except requests.ConnectionError:
            return False

    def stop(self) -> None:
        """End it politely; harmless when it does not run."""
        if self._up and self._up.poll() is None:
            self._up.send_signal(signal.SIGTERM)
            try:
                self._up.wait(60)
            finally:
                self._up.kill()  # its watchdog then ends the rest
                self._up.wait()

    def kill(self) -> list[int]:
        """Kill the supervisor alone, as the system does when memory runs out; return whom it leaves behind."""
        assert self._up
        left = [child.pid for child in psutil.Process(self._up.pid).children(recursive=True)]
        self._up.kill()
        self._up.wait()
        return left

    @property
    def output(self) -> str:
        """Everything all its processes have said."""
        return (self._place / "up.log").read_text("utf-8", "replace")

    @property
    def url(self) -> str:
        """Where its endpoint listens."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def running(self) -> Running:
        """Where its servers are."""
        found = self._data.running()
        assert found
        return found

    @property
    def keyring(self) -> KeyRing:
        """The keys it made for itself."""
        return KeyRing.parse(self._data.master_keys())

    def engine(self) -> Engine:
        """A pool on its database."""
        url = self.running.database_url
        assert url
        return engine_for(url)

    def get(self, path: str) -> requests.Response:
        """Ask its endpoint for a page."""
        return requests.get(f"{self.url}{path}", timeout=20)

    def lms(self) -> LmsSandbox:
        """The LMS that is connected to it."""
        return LmsSandbox(self.url, "academy", SECRET, max_attempts=60, first_wait=0.5, longest_wait=2.0)

    def pids(self) -> dict[str, int]:
        """The process ids of its roles and servers, all of them children of the supervisor."""
        assert self._up
        found: dict[str, int] = {}
        for child in psutil.Process(self._up.pid).children():
            try:
                command = child.cmdline()
            except psutil.Error:
                continue
            if command[-2:-1] == ["tasks.cli"]:
                found[command[-1]] = child.pid
            for server in ("postgres", "valkey-server"):
                if command and Path(command[0].split(" ")[0]).name == server:
                    found[server] = child.pid
        return found

    def kill_one(self, name: str) -> None:
        """Kill -9 one process of it, and wait until the supervisor has started another in its place."""
        until(lambda: name in self.pids())
        killed = self.pids()[name]
        os.kill(killed, signal.SIGKILL)
        until(lambda: self.pids().get(name, killed) != killed, 30)

    def flush_broker(self) -> None:
        """Make the broker forget everything."""
        url = self.running.broker_url
        assert url
        with redis.Redis.from_url(url) as broker:
            broker.flushall()


@pytest.fixture
def installation() -> Iterator[Installation]:
    """A new one, with a CRM that answers fast and takes every call."""
    place = Path(tempfile.mkdtemp(prefix="coursewire-"))
    place.chmod(0o711)
    try:
        with HubSpotSandbox(rate=10_000) as crm:
            made = Installation(place, crm)
            try:
                made.start()
                yield made
            finally:
                made.stop()
    finally:
        shutil.rmtree(place)


def settled(engine: Engine) -> Books:
    """Wait until nothing is on its way any more and return the books.

    Leases of the dead run for a minute or two: whoever has claimed something and was not heard of for eight seconds
    is taken for dead at once, as the clock would do.
    """
    leases = (
        ("inbox", "status = 'claimed'", inbox.LEASE_SECONDS),
        ("sync_state", "status = 'sending'", sync_state.LEASE_SECONDS),
        ("rings", "lease IS NOT NULL", rings.DRAIN_SECONDS),
    )
    found: list[Books] = []

    def quiet() -> bool:
        with engine.begin() as db:
            for table, held, lasts in leases:
                db.exec_driver_sql(
                    f"UPDATE {table} SET lease_until = now() - interval '1 second' "  # noqa: S608 - our own names
                    f"WHERE {held} AND lease_until < now() + interval '{lasts - HELD} seconds'"
                )
            found.append(books.balance(db))
        return found[-1].waiting == 0

    until(quiet, 150, 0.25)
    return found[-1]


def assert_told_right(installation: Installation, deliveries: list[Delivery]) -> None:
    """Every contact shows what the deliveries say, judged by somebody who knows nothing of the product (I3)."""
    now = datetime.now(UTC)
    expected = truth.expected_contacts(deliveries, "academy", "Europe/Berlin", now)
    contested = truth.contested_contacts(deliveries, "academy", "Europe/Berlin", now)
    assert len(expected) > 10
    assert truth.compare(expected, installation.crm.contacts(), contested) == []


def assert_kept(engine: Engine, ring: KeyRing, accepted: list[Delivery]) -> None:
    """Everything answered 202 is in the inbox, once, byte for byte (I1)."""
    with engine.begin() as db:
        query = "SELECT key, connection, request_id, payload FROM inbox"
        rows = {row.key: row for row in db.exec_driver_sql(query)}
        assert len(rows) == db.exec_driver_sql("SELECT count(*) FROM inbox_keys").scalar_one()
    for one in accepted:
        row = rows[inbox.key_of(one.webhook_id)]
        assert ring.open(row.payload, inbox.payload_context(row.connection, row.request_id)) == one.body


def endings(engine: Engine, status: str) -> dict[bytes, str]:
    """Return reason by key of the inbox rows in this state."""
    with engine.begin() as db:
        found = db.exec_driver_sql("SELECT key, reason FROM inbox WHERE status = %s", (status,))
        return {row.key: row.reason for row in found}


def storm(installation: Installation, story: Story, dice: random.Random) -> list[SendReport]:
    """Send the story while one thing after another is killed, each in the middle of deliveries."""
    names = [*ROLES, *ROLES, "postgres"]
    faults: list[Callable[[], None]] = [lambda name=name: installation.kill_one(name) for name in names]  # type: ignore[misc]
    faults += [installation.flush_broker, installation.flush_broker]
    dice.shuffle(faults)
    lms, reports = installation.lms(), []
    share = len(story.deliveries) // len(faults) + 1
    for n, fault in enumerate(faults):
        slice_ = story.deliveries[n * share : (n + 1) * share]
        sending = threading.Thread(target=lambda slice_=slice_: reports.append(lms.send(slice_, concurrency=4)))
        sending.start()
        time.sleep(dice.uniform(0, 0.2))
        fault()
        sending.join()
    return reports


@pytest.mark.parametrize("seed", [20261121])
def test_nothing_is_lost_doubled_or_wrong_when_everything_is_killed(installation: Installation, seed: int) -> None:
    """Kill -9 of each process twice and of Postgres, the broker emptied twice: every contact ends as the truth (F6)."""
    story = tell(seed, learners=60)
    installation.crm.seed(story.contacts)
    reports = storm(installation, story, random.Random(seed))
    assert [one for report in reports for one in report.given_up] == []
    assert {status for report in reports for status in report.statuses} - {"202"}, "the kills missed the burst"

    engine = installation.engine()
    try:
        found = settled(engine)
        distinct = {(one.webhook_id, one.body) for one in story.deliveries}
        assert found.unaccounted == 0
        assert found.accepted == len(distinct)
        assert_kept(engine, installation.keyring, story.deliveries)
        assert_told_right(installation, story.deliveries)
        odd = {name: inbox.key_of(one.webhook_id) for name, one in story.odd.items()}
        assert endings(engine, "dead") == {odd["poison"]: "invalid_event"}
        assert endings(engine, "ignored") == {odd["unknown_type"]: "unknown_type"}
        assert endings(engine, "parked").pop(odd["bad_email"]) == "invalid_email"
        assert set(endings(engine, "parked").values()) <= {"invalid_email", "email_taken"}
        with engine.begin() as db:
            assert db.exec_driver_sql("SELECT count(*) FROM sync_state WHERE status <> 'in_step'").scalar_one() == 0
            assert db.exec_driver_sql("SELECT count(*) FROM quarantined_fields").scalar_one() == 0
    finally:
        engine.dispose()


def test_a_killed_supervisor_ends_its_children_and_the_next_one_goes_on(installation: Installation) -> None:
    """Kill -9 of `up` leaves nothing running; `up` again on the same folder applies what was accepted before."""
    story = tell(3, learners=20)
    installation.crm.seed(story.contacts)
    installation.crm.freeze()  # so that nothing can be applied before the kill
    report = installation.lms().send(story.deliveries, concurrency=4)
    assert len(report.accepted) == len(story.deliveries)
    left = installation.kill()
    assert len(left) >= len(ROLES) + 3  # two servers and the watchdog
    until(lambda: all(gone(pid) for pid in left), 40)
    assert all(not contact["properties"].get("lms_user_id") for contact in installation.crm.contacts())

    installation.crm.freeze(frozen=False)
    installation.start()
    engine = installation.engine()
    try:
        assert settled(engine).unaccounted == 0
        assert_kept(engine, installation.keyring, report.accepted)
        assert_told_right(installation, story.deliveries)
    finally:
        engine.dispose()


def test_the_output_of_all_roles_names_nobody(installation: Installation) -> None:
    """Whatever the four roles and the supervisor print, it holds ids and reasons, no person and no secret (I9)."""
    story = tell(5, learners=15)
    installation.crm.seed(story.contacts)
    installation.lms().send(story.deliveries, concurrency=4)
    engine = installation.engine()
    settled(engine)
    engine.dispose()
    said = installation.output
    assert '"flush.settled"' in said
    words = {one.email.lower() for one in story.learners} | {one.full_name.lower() for one in story.learners}
    words |= {"product demo", "sandbox-token", SECRET.lower(), "msg_5_"}
    assert [word for word in words if word in said.lower()] == []
    with psycopg.connect(installation.running.database_url or "") as db:
        (reasons,) = db.execute("SELECT count(*) FROM inbox WHERE detail ~* '@|ada|byron'").fetchone() or (0,)
    assert reasons == 0
