"""An installation as a customer runs it: `coursewire up` in a folder of its own, and what may be done to it."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import redis
import requests
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from integration.observability import books
from integration.observability.books import Books
from integration.security.seal import KeyRing
from integration.storage import inbox, reconciliations, rings, sync_state
from integration.storage.base import engine_for
from integration.storage.statement import execute
from scripts.sandbox.deliveries import Delivery
from scripts.sandbox.lms import LmsSandbox, SendReport
from tasks.embedded.folder import DataFolder
from tasks.embedded.process import free_port
from tasks.watchdog import Watchdog
from tests.processes import SECRET, environment, gone, until, write_connections

ROLES = ("web", "worker", "beat", "flower")
SERVERS = ("postgres", "valkey-server")
ACADEMY, CRM, TIMEZONE = "academy", "crm", "Europe/Berlin"
FLOWER_LOGIN = ("ops", "long-enough-password")
LOOK = 0.1
"""Seconds between two looks at all processes of this machine, of which each costs milliseconds of a core."""
HELD = 8.0
"""Seconds after which a claim is nobody's any more: nothing in these tests takes half as long."""


class Installation:
    """One machine on which somebody runs `coursewire up`, with embedded servers unless URLs are given."""

    def __init__(self, place: Path, crm_url: str, **settings: Any) -> None:
        """`place` is the folder it lives in; `settings` are those of `integration.settings`."""
        self._place = place
        self._data = DataFolder(place / "data")
        self._up: subprocess.Popen[bytes] | None = None
        self._watchdog = Watchdog()  # ends it when the tests are killed
        self._port, self._flower_port = free_port(), free_port()
        self._settings = {"worker_concurrency": 4, "flower_basic_auth": ":".join(FLOWER_LOGIN), **settings}
        write_connections(place, crm_url)
        self.environment = environment(
            place, data_dir=self._data.path, port=self._port, flower_port=self._flower_port, **self._settings
        )

    @property
    def log(self) -> Path:
        """The file in which is everything that all its processes have said."""
        return self._place / "up.log"

    @property
    def output(self) -> str:
        """Everything all its processes have said."""
        return self.log.read_text("utf-8", "replace")

    @property
    def url(self) -> str:
        """Where its endpoint listens."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def flower_url(self) -> str:
        """Where its Flower listens."""
        return f"http://127.0.0.1:{self._flower_port}"

    @property
    def database_url(self) -> str:
        """Where its database is."""
        return str(self._settings.get("database_url") or self._announced("database_url"))

    @property
    def broker_url(self) -> str:
        """Where its broker is."""
        return str(self._settings.get("broker_url") or self._announced("broker_url"))

    @property
    def keyring(self) -> KeyRing:
        """Its sealing keys: those it was given, or made for itself."""
        return KeyRing.parse(str(self._settings.get("master_keys") or self._data.master_keys()))

    @property
    def secrets(self) -> list[str]:
        """What opens something of it, and must stand nowhere."""
        parts = [self.database_url.split("@")[0].rpartition(":")[2], self.broker_url.split("@")[0].rpartition(":")[2]]
        keys = str(self._settings.get("master_keys") or self._data.master_keys()).partition(":")[2]
        return [SECRET, "sandbox-token", FLOWER_LOGIN[1], keys, *parts]

    def _announced(self, name: str) -> str:
        running = self._data.running()
        assert running
        return str(getattr(running, name))

    def start(self) -> None:
        """Run `up` and return when it takes events."""
        self.launch()
        until(self.ready, 90, 0.1)

    def launch(self) -> None:
        """Run `up` and do not wait for it."""
        with self.log.open("ab") as log:
            self._up = subprocess.Popen(
                [sys.executable, "-m", "tasks.cli", "up"],
                env=self.environment,
                cwd=self._place,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._watchdog.start()
        self._watchdog.watch(self._up.pid)

    def ready(self) -> bool:
        """Say whether it takes events and every role runs."""
        assert self._up
        assert self._up.poll() is None, self.output[-4000:]
        try:
            return self.get("/readyz").ok and set(ROLES) <= set(self.pids())
        except requests.RequestException:
            return False

    def stop(self) -> None:
        """End it politely; harmless when it does not run."""
        if self._up and self._up.poll() is None:
            self._up.send_signal(signal.SIGTERM)
            try:
                self._up.wait(60)
            finally:
                self._up.kill()  # its own watchdog then ends the rest
                self._up.wait()
        if self._up:
            self._watchdog.forget(self._up.pid)
        self._watchdog.close()

    def kill(self) -> None:
        """Kill the supervisor alone, as a system out of memory does; return when its watchdog has ended the rest."""
        assert self._up
        left = [child.pid for child in psutil.Process(self._up.pid).children(recursive=True)]
        self._watchdog.forget(self._up.pid)
        self._up.kill()
        self._up.wait()
        until(lambda: all(gone(pid) for pid in left), 60, 0.1)

    def children(self) -> dict[str, psutil.Process]:
        """Its roles and servers that run now, all of them children of the supervisor."""
        assert self._up
        found: dict[str, psutil.Process] = {}
        for child in psutil.Process(self._up.pid).children():
            try:
                command = child.cmdline()
            except psutil.Error:
                continue
            if command[-2:-1] == ["tasks.cli"]:
                found[command[-1]] = child
            for server in SERVERS:
                if command and Path(command[0].split(" ")[0]).name == server:
                    found[server] = child
        return found

    def pids(self) -> dict[str, int]:
        """The process ids of its roles and servers that run now."""
        return {name: child.pid for name, child in self.children().items()}

    def pid(self, name: str) -> int:
        """The process id of a role or server; waits for it to be started again."""
        until(lambda: name in self.pids(), 60, LOOK)
        return self.pids()[name]

    def signal(self, name: str, number: int = signal.SIGKILL) -> int:
        """Send a signal to one process of it (default: kill -9); return which one that was."""
        pid = self.pid(name)
        os.kill(pid, number)
        return pid

    def kill_one(self, name: str) -> None:
        """Kill -9 one process of it, and wait until the supervisor has started another in its place."""
        killed = self.signal(name)
        until(lambda: self.pids().get(name, killed) != killed, 30, LOOK)

    def engine(self) -> Engine:
        """A pool on its database."""
        return engine_for(self.database_url)

    def broker(self) -> redis.Redis:
        """A client of its broker."""
        return redis.Redis.from_url(self.broker_url, socket_timeout=5)

    def get(self, path: str) -> requests.Response:
        """Ask its endpoint for a page."""
        return requests.get(f"{self.url}{path}", timeout=20)

    def lms(self, **patience: Any) -> LmsSandbox:
        """The LMS that is connected to it, which tries again for long."""
        patient = {"max_attempts": 1_000_000, "first_wait": 0.5, "longest_wait": 2.0, **patience}
        return LmsSandbox(self.url, ACADEMY, SECRET, **patient)


@contextmanager
def sending(lms: LmsSandbox, deliveries: list[Delivery]) -> Iterator[list[SendReport]]:
    """Let an LMS deliver while the body of the `with` does its worst; it goes on until everything is accepted."""
    reports: list[SendReport] = []
    thread = threading.Thread(target=lambda: reports.append(lms.send(deliveries, concurrency=4)))
    thread.start()
    try:
        yield reports
    finally:
        thread.join()
    assert reports[0].given_up == []


def bury(engine: Engine, held: float = HELD) -> None:
    """Let the leases of the dead end now, as the clock would: theirs are those older than `held` seconds."""
    leases = (
        ("inbox", "status = 'claimed'", inbox.LEASE_SECONDS),
        ("sync_state", "status = 'sending'", sync_state.LEASE_SECONDS),
        ("enrollments", "status = 'sending'", sync_state.LEASE_SECONDS),
        ("reconciliation_chunks", "status = 'claimed'", reconciliations.LEASE_SECONDS),
        ("rings", "lease IS NOT NULL", rings.DRAIN_SECONDS),
    )
    with engine.begin() as db:
        for table, is_held, lasts in leases:
            db.exec_driver_sql(
                f"UPDATE {table} SET lease_until = now() - interval '1 second' "  # noqa: S608 - our own names
                f"WHERE {is_held} AND lease_until < now() + interval '{lasts - held} seconds'"
            )


IN_MOTION = """
SELECT EXISTS (SELECT FROM quarantined_fields WHERE back_at IS NOT NULL)
    OR EXISTS (SELECT FROM rule_sets WHERE status = 'published' AND rolled_out_at IS NULL)
    OR EXISTS (SELECT FROM sync_state WHERE status = 'sending' OR (status = 'due' AND not_before <= now()))
"""
"""Whether people are due, or will be, whom no news concerns: a property is back, or rules are being rolled out."""


def settled(engine: Engine, seconds: float = 150, *, hasten: bool = True) -> Books:
    """Wait until nothing is on its way any more and return the books; `hasten` ends the leases of the dead early."""
    found: list[Books] = []

    def quiet() -> bool:
        try:
            if hasten:
                bury(engine)
            with engine.begin() as db:
                found.append(books.balance(db))
                is_moving = execute(db, IN_MOTION).scalar_one()
        except DBAPIError:
            return False  # it is on its way back
        return found[-1].waiting == 0 and not is_moving

    until(quiet, seconds, 0.25)
    return found[-1]
