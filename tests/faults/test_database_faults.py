"""Postgres killed, cut, read-only and busy under a whole installation: it is the record, and stays one."""

import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest
from sqlalchemy.exc import DBAPIError

from integration.storage import inbox
from tests.faults.installation import sending
from tests.faults.mischief import backends
from tests.faults.wired import Wired, wired
from tests.processes import frozen, until


@pytest.fixture(scope="module")
def home(master_keys: str) -> Iterator[Wired]:
    """One installation for all tests of this file."""
    with wired(master_keys) as made:
        yield made


def fresh_worker(home: Wired) -> None:
    """Start the worker anew, so that no statement of it is prepared and each goes over the wire as text."""
    home.kill_worker()
    mark = len(home.output)
    until(lambda: '"role.started"' in home.output[mark:], 30)


def test_a_web_process_killed_between_commit_and_answer_keeps_one_row(home: Wired) -> None:
    """Stored, then killed before it could say so: the resend is a duplicate, and one row is left (F2)."""
    first, *rest = home.tell(601)
    home.to_database.cut_on(inbox.key_of(first.webhook_id).hex().encode(), silently=True)
    with sending(home.lms(), [first]) as reports:
        until(home.to_database.tripped.is_set)
        home.waits("SELECT count(*) FROM inbox")
        assert reports == []
        home.signal("web")
    assert json.loads(reports[0].attempts[-1].body) == {"accepted": 0, "duplicates": 1}
    home.accept(rest)
    home.judged()


@pytest.mark.parametrize(("seed", "statement"), [(602, b"UPDATE inbox i"), (603, b"UPDATE sync_state s SET")])
def test_a_worker_that_never_hears_of_its_commit_does_nothing_twice(home: Wired, seed: int, statement: bytes) -> None:
    """The answer to a commit is lost, of facts recorded or of a write settled: all of it happened once (F25)."""
    fresh_worker(home)
    home.to_database.cut_on(statement, b"COMMIT")
    home.accept(home.tell(seed))
    until(home.to_database.tripped.is_set, 30)
    mark = len(home.output)
    until(lambda: '"flush.settled"' in home.output[mark:], 30)  # it comes back to what it never heard of
    home.judged()


def test_a_postgres_killed_in_the_middle_of_work_loses_and_doubles_nothing(home: Wired) -> None:
    """Kill -9 of the server while events come in and contacts are written (F22)."""
    home.crm.configure(latency_ms=50)
    with sending(home.lms(), home.tell(604, learners=10)):
        home.waits("SELECT count(*) > 0 FROM sync_state WHERE status = 'sending'", True)
        for process in [server(home), *server(home).children(recursive=True)]:
            process.kill()
        home.postgres.start()
    home.crm.configure(latency_ms=0)
    home.judged()


def test_a_killed_backend_loses_and_doubles_nothing(home: Wired) -> None:
    """Kill -9 of one backend, which ends all sessions, three times while events come in (F23)."""
    dice = random.Random(605)
    with sending(home.lms(), home.tell(605, learners=10)):
        for _ in range(3):
            found: list[psutil.Process] = []
            until(lambda found=found: found.extend(backends(server(home))) or found)  # type: ignore[misc]
            dice.choice(found).kill()
            until(lambda: answers(home))
    home.judged()


def test_a_frozen_postgres_holds_everything_up_and_loses_nothing(home: Wired) -> None:
    """Frozen while events come in and contacts are written, for longer than the endpoint waits (F24)."""
    with sending(home.lms(), home.tell(606, learners=8)):
        until(lambda: backends(server(home)))
        with frozen(home.postgres.pid):
            until(lambda: home.get("/readyz").status_code == 503, 30)
    home.judged()


def test_a_postgres_that_takes_no_writes_kills_no_event(home: Wired) -> None:
    """Read-only, as after a failover, again and again while the worker records: no row is blamed for it (F26)."""
    with home.database() as db:
        db.rollback()
        db.autocommit = True
        db.execute("SET default_transaction_read_only = off")
        with sending(home.lms(), home.tell(607, learners=10)):
            for setting in ("on", "off") * 3:
                db.execute(f"ALTER SYSTEM SET default_transaction_read_only = {setting}".encode())
                db.execute("SELECT pg_reload_conf()")
                until(lambda setting=setting: home.ask("SHOW default_transaction_read_only") == setting)  # type: ignore[misc]
                time.sleep(0.3)
    home.judged()


def test_a_long_transaction_elsewhere_changes_no_outcome(home: Wired) -> None:
    """While a report reads for long and vacuum can clean nothing, events go all the way (F27)."""
    with home.database() as db:
        db.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        before = db.execute("SELECT count(*) FROM inbox").fetchone()
        home.accept(home.tell(608, learners=10))
        home.judged()
        assert db.execute("SELECT count(*) FROM inbox").fetchone() == before


def test_two_beats_and_none_double_nothing(home: Wired) -> None:
    """A second beat ticks as well, then both are killed in the middle of a burst (F28)."""
    command = [sys.executable, "-m", "tasks.cli", "beat"]
    second = subprocess.Popen(command, env=home.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        home.accept(home.tell(609, learners=8))
        home.judged()
        with sending(home.lms(), home.tell(610, learners=8)):
            second.kill()
            home.signal("beat")
        home.judged()
    finally:
        second.kill()
        second.wait()


def server(home: Wired) -> psutil.Process:
    """Return the database server."""
    return psutil.Process(home.postgres.pid)


def answers(home: Wired) -> bool:
    """Say whether the database answers."""
    try:
        return home.ask("SELECT 1") == 1
    except DBAPIError:
        return False
