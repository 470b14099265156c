"""One row that ends whatever process works on it, as a bug in a C library would: it ends alone."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine

from scripts.sandbox.catalogue import COURSES
from scripts.sandbox.deliveries import Learner, compose
from tasks.embedded.servers import EmbeddedServers
from tests.faults.installation import bury
from tests.faults.poisoned_worker import POISON
from tests.processes import Web, environment, event, until

Settings = dict[str, str]


@pytest.fixture
def settings(servers: EmbeddedServers, database_url: str, master_keys: str) -> Settings:
    """Where the processes of this test find what they need."""
    return {"database_url": database_url, "broker_url": servers.broker_url, "master_keys": master_keys}


@contextmanager
def role(folder: Path, settings: Settings, *program: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run one program of an installation and end it."""
    with (folder / "roles.log").open("ab") as log:
        command = [sys.executable, "-m", *program]
        # One thread: what another one works on dies along, and three such deaths would count against it as well.
        env = environment(folder, worker_concurrency=1, **settings)
        process = subprocess.Popen(command, env=env, cwd=folder, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def states(engine: Engine) -> dict[str, int]:
    """Return how many events are in which state, with the reason where it is not the usual one."""
    query = """SELECT status || coalesce(' ' || nullif(reason, 'applied'), '') AS state, count(*) AS rows
               FROM inbox GROUP BY 1"""
    with engine.connect() as db:
        return {row.state: row.rows for row in db.exec_driver_sql(query)}


def ring_again(engine: Engine) -> None:
    """Let the sweeper's patience with its own rings be over: the dead worker has taken some along."""
    with engine.begin() as db:
        db.exec_driver_sql("UPDATE inbox SET rung_at = NULL WHERE status = 'received'")


def test_a_row_that_kills_its_worker_is_found_and_put_aside(engine: Engine, tmp_path: Path, settings: Settings) -> None:
    """It takes its neighbours along, then half of them, then dies alone three times: dead; all others done (F8)."""
    poison = compose("course.completed", Learner(POISON.decode(), "p@x.example", "P X"), COURSES[1], passed=True)
    with Web(tmp_path, **settings) as web:
        for body in (event(1), poison.body, event(2), event(3)):
            assert web.post(body).status_code == 202
    deaths = 0
    with role(tmp_path, settings, "tasks.cli", "beat"):
        while "dead crash_loop" not in states(engine):
            with role(tmp_path, settings, "tests.faults.poisoned_worker") as worker:
                until(lambda: worker.poll() is not None or "dead crash_loop" in states(engine), 60)
            deaths += 1
            bury(engine, held=0)
            ring_again(engine)
        with Web(tmp_path, **settings) as web, role(tmp_path, settings, "tests.faults.poisoned_worker"):
            assert web.post(event(4)).status_code == 202
            until(lambda: states(engine) == {"done": 4, "dead crash_loop": 1}, 60)
    assert 4 <= deaths <= 7  # with three neighbours or fewer, then alone; the last worker only finds it dead
    with engine.connect() as db:
        assert db.exec_driver_sql("SELECT deaths FROM inbox WHERE status = 'dead'").scalar_one() == 3
