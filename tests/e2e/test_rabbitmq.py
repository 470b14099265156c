"""RabbitMQ by its URL alone: quorum queues, the whole way to the CRM, and a broker that is killed and comes back.

Needs `rabbitmq-server` on this machine, which no wheel brings; without it these tests are skipped. What the settings
for it are is tested everywhere, in tests/unit/test_settings.py.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Self

import amqp
import psycopg
import pytest
import requests
from sqlalchemy import Engine

from integration.observability import books, probe
from scripts.sandbox.hubspot import HubSpotSandbox
from tasks.app import DELIVER, PERIODIC, SYNC
from tasks.embedded.process import free_port
from tasks.embedded.servers import EmbeddedServers
from tests.processes import Web, environment, event, frozen, until, write_connections

HOST = socket.gethostname()
# The program itself: Debian's `rabbitmq-server` of the path changes to an account that may not read our folders.
PROGRAM = next(
    (
        path
        for path in (Path("/usr/lib/rabbitmq/bin/rabbitmq-server"), shutil.which("rabbitmq-server"))
        if path and Path(path).exists()
    ),
    None,
)

pytestmark = pytest.mark.skipif(not (PROGRAM and shutil.which("epmd")), reason="there is no rabbitmq-server here")


class RabbitMQ:
    """A broker of its own on loopback, with all its files in one folder."""

    def __init__(self, place: Path) -> None:
        """`place` is an empty folder."""
        place.mkdir()
        (place / "plugins").write_text("[].")
        self.port, names, between = free_port(), free_port(), free_port()
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}//"
        self._log = place / "log"
        self._env = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("RABBITMQ_", "ERL_"))},
            "HOME": str(place),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(names),
            "RABBITMQ_NODENAME": f"test{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(between),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_MNESIA_BASE": str(place / "mnesia"),
            "RABBITMQ_LOG_BASE": str(place / "logs"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(place / "plugins"),
            "RABBITMQ_CONFIG_FILE": str(place / "rabbitmq"),
        }
        self._names = subprocess.Popen(["epmd", "-port", str(names), "-address", "127.0.0.1"], env=self._env)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The leader of its processes."""
        assert self._process
        return self._process.pid

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End it and the register of names that it needs."""
        self.kill()
        self._names.kill()
        self._names.wait()

    def start(self) -> None:
        """Start it on what it has kept, and return when it takes connections."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(PROGRAM)], env=self._env, stdout=log, stderr=log, start_new_session=True
            )
        until(self._answers, 90, 0.2)

    def kill(self) -> None:
        """End it as a power cut does; harmless when it does not run."""
        if self._process:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        assert self._process
        assert self._process.poll() is None, self._log.read_text("utf-8", "replace")[-3000:]
        try:
            with self.connect():
                return True
        except (OSError, amqp.AMQPError):
            return False

    def connect(self) -> amqp.Connection:
        """Return a connection to it, to be used as a context."""
        return amqp.Connection(host=f"127.0.0.1:{self.port}", connect_timeout=2, read_timeout=5)

    def type_of(self, queue: str) -> str:
        """Return which type a queue is: the one under which it may be declared again."""
        for kind in ("quorum", "classic"):
            with suppress(amqp.PreconditionFailed), self.connect() as connection:
                channel = connection.channel()
                channel.queue_declare(queue, durable=True, auto_delete=False, arguments={"x-queue-type": kind})
                return kind
        return "another"


@pytest.fixture
def rabbitmq(tmp_path: Path) -> Iterator[RabbitMQ]:
    """A broker that was just installed."""
    with RabbitMQ(tmp_path / "rabbitmq") as running:
        yield running


@contextmanager
def role(name: str, env: dict[str, str], place: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run one role as a process."""
    with (place / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tasks.cli", name],
            env=env,
            cwd=place,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Installation:
    """Web, worker, beat and Flower on RabbitMQ, and the CRM they write to."""

    def __init__(self, web: Web, crm: HubSpotSandbox, engine: Engine, env: dict[str, str]) -> None:
        """`env` is what the other roles are given; they are started by who uses this."""
        self.web, self.crm, self.engine, self.env = web, crm, engine, env
        self.flower = f"http://127.0.0.1:{env['COURSEWIRE_FLOWER_PORT']}"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.sent = 0

    def post(self, number: int) -> None:
        """Deliver so many events, each of another learner; each is accepted."""
        for _ in range(number):
            self.sent += 1
            assert self.web.post(event(self.sent)).status_code == 202

    def arrived(self) -> bool:
        """Say whether the CRM holds what was delivered, and the books balance."""
        with self.engine.begin() as db:
            found = books.balance(db)
        assert found.unaccounted == 0
        return found.written == self.sent and len(self.crm.contacts()) == self.sent

    def ask(self, what: str) -> int:
        """Run the health check of a container; returns the exit code."""
        command = [sys.executable, "-m", "integration.observability.probe", what]
        return subprocess.run(command, env=self.env, check=False, timeout=60).returncode


@pytest.fixture
def installation(
    rabbitmq: RabbitMQ, tmp_path: Path, engine: Engine, database_url: str, master_keys: str, servers: EmbeddedServers
) -> Iterator[Installation]:
    """Everything, started as containers start it, with the URL of RabbitMQ and nothing else said of it."""
    given = {"database_url": database_url, "broker_url": rabbitmq.url, "master_keys": master_keys}
    with ExitStack() as running:
        crm = running.enter_context(HubSpotSandbox(rate=10_000))
        web = running.enter_context(Web(tmp_path, **given))
        write_connections(tmp_path, crm.url)
        env = environment(tmp_path, **given, worker_concurrency=4, flower_port=free_port())
        made = Installation(web, crm, engine, env)
        for name in ("worker", "beat", "flower"):
            made.processes[name] = running.enter_context(role(name, env, tmp_path))
        until(lambda: heard(database_url), 60)
        yield made


def heard(database_url: str) -> bool:
    """Say whether the worker has heard a canary."""
    with psycopg.connect(database_url) as db:
        return db.execute("SELECT FROM heartbeats WHERE heard_at IS NOT NULL").fetchone() is not None


def test_the_whole_way_and_a_broker_that_is_killed(installation: Installation, rabbitmq: RabbitMQ) -> None:
    """Events reach the CRM; what is accepted while RabbitMQ is dead arrives when it is back, and nobody has ended."""
    installation.post(20)
    until(installation.arrived, 60, 0.2)
    assert {rabbitmq.type_of(name) for name in (SYNC, DELIVER, PERIODIC)} == {"quorum"}
    with rabbitmq.connect() as connection, pytest.raises(amqp.NotFound):
        connection.channel().queue_declare("celery_delayed_0", passive=True)
    assert [installation.ask(what) for what in ("worker", "beat")] == [0, 0]

    rabbitmq.kill()
    installation.post(20)
    assert [installation.ask(what) for what in ("worker", "beat")] == [0, 0]
    rabbitmq.start()
    installation.post(20)
    until(installation.arrived, 90, 0.2)
    until(lambda: installation.ask("beat") == 0, 60)
    shown = requests.get(f"{installation.flower}/workers?json=1", timeout=10).json()["data"]
    assert [one["hostname"] for one in shown] == [f"celery@{HOST}"]
    assert {name: process.poll() for name, process in installation.processes.items()} == dict.fromkeys(
        installation.processes
    )


def test_a_frozen_broker_holds_nobody_up(installation: Installation, rabbitmq: RabbitMQ) -> None:
    """Webhooks are answered while RabbitMQ confirms nothing, and everything arrives when it goes on."""
    installation.post(5)
    until(installation.arrived, 60, 0.2)
    with frozen(rabbitmq.pid):
        installation.post(20)
        assert installation.ask("worker") == 0
        with pytest.raises(probe.Away):
            probe.ask_broker(rabbitmq.url)
    until(installation.arrived, 90, 0.2)
