"""A worker that is alive but no longer consumes is noticed and restarted; one whose broker is away is left alone."""

import io
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
import redis
from celery import Celery
from sqlalchemy import Engine

from integration.observability import books, probe
from integration.settings import Settings
from integration.storage import heartbeats
from integration.storage.base import engine_for, single
from tasks import roles
from tasks.app import DELIVER, PERIODIC, SYNC
from tasks.embedded.servers import EmbeddedServers
from tasks.supervisor import Probe, Role, Supervisor
from tests.processes import environment, frozen, gone, until, write_connections

HOST = socket.gethostname()
# The shipped worker with a faster heart, and a task that holds a thread for as long as told.
QUICK = """
import sys, time
from celery import shared_task
import tasks.canary
tasks.canary.EVERY, tasks.canary.RETRY = 0.3, 0.3
@shared_task(name="periodic.hold")
def hold(seconds): time.sleep(seconds)
from tasks.cli import main
sys.argv = ["coursewire", "worker"]
main()
"""
DEAF = 4.0
"""Seconds a worker may be deaf in these tests, instead of 180."""


class Watched:
    """A worker that the supervisor keeps alive with the probe of `up`, its patience shortened."""

    def __init__(self, env: dict[str, str], quick: Probe, *, patience: float = 1.0) -> None:
        """`env` is what the worker is given; `patience` is for how many seconds it may end by itself."""
        self.env = env
        self.database_url = env["COURSEWIRE_DATABASE_URL"]
        self.broker_url = env["COURSEWIRE_BROKER_URL"]
        self.out = io.StringIO()
        role = Role("worker", [sys.executable, "-c", QUICK], env, patience=patience, probe=quick)
        self.supervisor = Supervisor([role], out=self.out)

    @property
    def pid(self) -> int:
        """The process id of the moment; 0: none runs."""
        return self.supervisor.pids().get("worker", 0)

    def heard(self) -> bool:
        """Say whether the process of the moment has just heard a canary."""
        with psycopg.connect(self.database_url) as db:
            query = "SELECT heard_at > now() - interval '2 seconds' FROM heartbeats WHERE node = %s"
            row = db.execute(query, (f"celery@{HOST}:{self.pid}",)).fetchone()
        return bool(row and row[0])

    def later(self, seconds: float) -> None:
        """Let all signs of life grow older, as the clock would do."""
        with psycopg.connect(self.database_url) as db:
            db.execute(
                "UPDATE heartbeats SET started_at = started_at - %(s)s * interval '1 second',"
                " sent_at = sent_at - %(s)s * interval '1 second', heard_at = heard_at - %(s)s * interval '1 second'",
                {"s": seconds},
            )

    def ask(self, *words: str, deaf: float = probe.DEAF_SECONDS, end: float = probe.END_SECONDS) -> int:
        """Run the health check of its container, with these limits; returns the exit code."""
        limits = f"probe.DEAF_SECONDS, probe.END_SECONDS = {deaf}, {end}"
        code = f"import sys; from integration.observability import probe; {limits}; sys.exit(probe.main())"
        command = [sys.executable, "-c", code, "worker", *words]
        return subprocess.run(command, env=self.env, check=False, timeout=60).returncode

    def publish(self, name: str, seconds: float, times: int) -> None:
        """Put messages that hold a thread of the worker into its queue."""
        with Celery(broker=self.broker_url, set_as_current=False) as app:
            for _ in range(times):
                app.send_task(name, args=[seconds], queue=PERIODIC, ignore_result=True)

    def stop_consuming(self) -> None:
        """Make the worker, alive and well, take no more from any of its queues."""
        with Celery(broker=self.broker_url, set_as_current=False) as app:
            for queue in (SYNC, DELIVER, PERIODIC, f"canary.celery@{HOST}:{self.pid}"):
                said = app.control.cancel_consumer(queue, destination=[f"celery@{HOST}"], reply=True, timeout=10)
                assert said


Start = Callable[..., Watched]


@pytest.fixture
def start(tmp_path: Path, database_url: str, master_keys: str) -> Iterator[Start]:
    """Starts a worker on the broker at a URL, and returns when it has heard its first canary."""
    started: list[Watched] = []

    def begin(broker_url: str, *, patience: float = 1.0, deaf: float = DEAF, every: float = 0.3) -> Watched:
        write_connections(tmp_path)
        env = environment(
            tmp_path, database_url=database_url, broker_url=broker_url, master_keys=master_keys, worker_concurrency=2
        )
        settings = Settings.model_validate({"database_url": database_url, "broker_url": broker_url})
        shipped = roles.signs_of_life(settings, deaf=deaf)["worker"]
        watched = Watched(env, replace(shipped, interval=every, grace=15.0), patience=patience)
        started.append(watched)
        watched.supervisor.start()
        until(watched.heard, 40)
        return watched

    yield begin
    for watched in started:
        watched.supervisor.stop()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedServers]:
    """A broker of its own, to do harm to."""
    with EmbeddedServers(tmp_path / "broker", durable=False, database=False) as running:
        yield running


def replaced(watched: Watched, former: int) -> bool:
    """Say whether another process runs in place of this one, and consumes."""
    return watched.pid not in (0, former) and watched.heard()


def stop(watched: Watched) -> None:
    """Stop the process as it is, with all its threads."""
    os.kill(watched.pid, signal.SIGSTOP)


def hold(watched: Watched) -> None:
    """Occupy both threads for ever."""
    watched.publish("periodic.hold", 600, 2)


@pytest.mark.parametrize("wedge", [stop, Watched.stop_consuming, hold])
def test_a_worker_that_no_longer_works_is_restarted(
    start: Start, servers: EmbeddedServers, wedge: Callable[[Watched], None]
) -> None:
    """Frozen, alive but consuming nothing, or with a pool that never comes free: another one works in its place."""
    watched = start(servers.broker_url)
    former = watched.pid
    wedge(watched)
    until(lambda: replaced(watched, former), 60)
    assert "worker gave no sign of life 4 times" in watched.out.getvalue()


def test_a_busy_worker_is_left_alone(start: Start, servers: EmbeddedServers) -> None:
    """Threads that are all busy for longer than a canary may take, but end their tasks, are no reason to restart."""
    watched = start(servers.broker_url)
    former = watched.pid
    watched.publish("periodic.hold", 1.0, 2 * int(4 * DEAF))

    def done() -> bool:
        with Celery(broker=servers.broker_url, set_as_current=False) as app:
            active = app.control.inspect([f"celery@{HOST}"], timeout=2).active() or {}
        return active == {f"celery@{HOST}": []}

    until(done, 60, 0.3)
    assert watched.pid == former
    assert "no sign of life" not in watched.out.getvalue()


@contextmanager
def absent(broker: EmbeddedServers) -> Iterator[None]:
    """End the broker as a power cut does, and start it again at the end."""
    assert broker.valkey
    broker.valkey.process.kill()
    broker.valkey.process.wait()
    yield
    broker.valkey.start()


@contextmanager
def stopped(broker: EmbeddedServers) -> Iterator[None]:
    """Freeze the broker."""
    assert broker.valkey
    with frozen(broker.valkey.process.pid):
        yield


@pytest.mark.parametrize("outage", [absent, stopped])
def test_a_broker_that_is_away_restarts_no_worker(
    start: Start, broker: EmbeddedServers, outage: Callable[[EmbeddedServers], AbstractContextManager[None]]
) -> None:
    """However long the broker is away, the worker stays, and hears its canary again when it is back."""
    # Deaf for 40 s at most: Celery itself may take half a minute to look for its broker again.
    watched = start(broker.broker_url, deaf=40.0, every=3.0)
    former = watched.pid
    with outage(broker):
        watched.later(probe.END_SECONDS)
        time.sleep(15)  # longer than a deaf worker is given
        assert watched.ask("--end") == 0
    until(watched.heard, 60)
    assert watched.pid == former
    assert "no sign of life" not in watched.out.getvalue()
    with psycopg.connect(watched.database_url) as db:
        row = db.execute("SELECT started_at > now() - interval '2 minutes' FROM heartbeats").fetchone()
    assert row == (True,), "what was not heard in the outage is held against it"


def test_a_database_that_is_away_restarts_no_worker(start: Start, servers: EmbeddedServers) -> None:
    """The same for Postgres: nothing can be known of a worker meanwhile."""
    watched = start(servers.broker_url, every=3.0)
    former = watched.pid
    assert servers.postgres
    with frozen(servers.postgres.process.pid):
        time.sleep(DEAF + 15)  # as above
        assert watched.ask("--end") == 0
    until(watched.heard, 60)
    assert watched.pid == former
    assert "no sign of life" not in watched.out.getvalue()


def test_the_health_check_of_a_container_finds_a_deaf_worker_and_ends_it(
    tmp_path: Path, database_url: str, master_keys: str, servers: EmbeddedServers
) -> None:
    """Well, then unhealthy, and ended when it stays deaf, for Docker to restart: it does not restart the unhealthy."""
    write_connections(tmp_path)
    env = environment(tmp_path, database_url=database_url, broker_url=servers.broker_url, master_keys=master_keys)
    watched = Watched(env, Probe(lambda _: True))
    watched.supervisor.start()
    try:
        until(watched.heard, 40)
        former = watched.pid
        assert watched.ask("--end", deaf=DEAF, end=DEAF) == 0
        watched.stop_consuming()
        until(lambda: watched.ask("--end", deaf=DEAF) == 1, 40)
        assert watched.ask(deaf=DEAF, end=DEAF) == 1
        assert not gone(former)
        assert watched.ask("--end", deaf=DEAF, end=DEAF) == 1
        until(lambda: replaced(watched, former), 60)
        assert watched.ask("--end", deaf=DEAF, end=DEAF) == 0
        young = watched.pid
        watched.later(probe.END_SECONDS + 60)
        stop(watched)  # before it can say that it is new
        watched.later(probe.END_SECONDS + 60)
        assert watched.ask("--end") == 1
        assert not gone(young), "ended for what was heard of another process of this number"
    finally:
        watched.supervisor.stop()


def test_nothing_is_held_against_a_worker_while_postgres_takes_no_writes_or_the_broker_no_message(
    engine: Engine, database_url: str, tmp_path: Path
) -> None:
    """Read-only, full or out of memory is as good as away: what the worker heard cannot be noted."""
    with EmbeddedServers(tmp_path / "broker", durable=False, database=False) as broker:

        def ask() -> None:
            probe.ask_worker(database_url, broker.broker_url, HOST, allowed=DEAF)

        with pytest.raises(probe.Unhealthy, match="never"):
            ask()
        with single(engine) as db:
            heartbeats.begin(db, f"celery@{HOST}:1")
        ask()
        with single(engine) as db:
            db.exec_driver_sql("UPDATE heartbeats SET started_at = now() - interval '1 hour'")
        with pytest.raises(probe.Unhealthy, match="3600 s"):
            ask()
        with redis.Redis.from_url(broker.broker_url) as client:
            client.config_set("maxmemory", 1)
            with pytest.raises(probe.Away):
                ask()
            client.config_set("maxmemory", 0)
        with single(engine) as db:
            name = db.exec_driver_sql("SELECT current_database()").scalar_one()
            db.exec_driver_sql(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        with pytest.raises(probe.Away):
            ask()


def test_the_metric_tells_how_long_no_worker_has_heard_anything(engine: Engine) -> None:
    """Of several workers the best counts; without any the metric is absent."""
    with engine.begin() as db:
        assert "\ncoursewire_worker_canary_seconds " not in books.render(engine)[0].decode()
        for node, minutes in (("celery@a:1", 50), ("celery@b:1", 4)):
            db.exec_driver_sql(
                "INSERT INTO heartbeats (node, started_at, heard_at)"
                " VALUES (%s, now() - interval '1 hour', now() - %s * interval '1 minute')",
                (node, minutes),
            )
    other = engine_for(engine.url.render_as_string(hide_password=False))  # its figures are not those of a moment ago
    lines = books.render(other)[0].decode().splitlines()
    other.dispose()
    (value,) = [line.split()[1] for line in lines if line.startswith("coursewire_worker_canary_seconds ")]
    assert 240 <= float(value) < 300


def test_a_worker_that_ends_as_it_should_leaves_no_sign(start: Start, servers: EmbeddedServers) -> None:
    """After SIGTERM no row waits to be found deaf."""
    watched = start(servers.broker_url, patience=30.0)
    watched.supervisor.stop()
    with psycopg.connect(watched.database_url) as db:
        assert db.execute("SELECT count(*) FROM heartbeats").fetchone() == (0,)
