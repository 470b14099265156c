"""Two beats, no beat for a day, nothing kept on disk: each job runs exactly once per scheduled time."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sqlalchemy import Engine

from integration.config import Config
from integration.storage import runs
from tasks.embedded.servers import EmbeddedServers
from tasks.schedule import tick
from tests.e2e.conftest import Run
from tests.processes import environment, until, write_connections

# The shipped roles, with a tick that does not take 20 s and is written down by who ticks.
QUICK = """
import os, sys
from celery import signals
import tasks.schedule
tasks.schedule.TICK_SECONDS = 0.3
@signals.after_task_publish.connect
def note(sender=None, **_):
    if sender == "periodic.schedule":
        print("tick of", os.getpid(), flush=True)
from tasks.cli import main
main()
"""


@contextmanager
def role(name: str, env: dict[str, str], place: Path) -> Iterator[None]:
    """Run one role as a process."""
    with (place / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", QUICK, name], env=env, cwd=place, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def test_two_beats_and_a_day_without_any_end_in_one_run_each(
    engine: Engine, database_url: str, servers: EmbeddedServers, master_keys: str, tmp_path: Path
) -> None:
    """Two beats and two workers start one run; after a day without beat, one for the latest time, and no more."""
    write_connections(tmp_path)
    env = environment(
        tmp_path,
        database_url=database_url,
        broker_url=servers.broker_url,
        master_keys=master_keys,
        worker_concurrency=4,
    )

    def found() -> list[runs.Run]:
        with engine.begin() as db:
            return runs.latest(db, "purge", limit=10)

    def finished(number: int) -> bool:
        return [run.outcome for run in found()] == ["done"] * number

    def ticked(times: int) -> None:
        """Wait until each of two beats has asked so many times more."""
        seen = _ticks(tmp_path)
        until(lambda: len([one for one, n in (_ticks(tmp_path) - seen).items() if n >= times]) == 2, 60)

    with ExitStack() as roles:
        for name in ("worker", "worker"):
            roles.enter_context(role(name, env, tmp_path))
        with role("beat", env, tmp_path), role("beat", env, tmp_path):
            until(lambda: finished(1), 60)
            ticked(10)
            (first,) = found()
        with engine.begin() as db:
            db.exec_driver_sql("UPDATE runs SET scheduled_for = scheduled_for - interval '3 days'")
        with role("beat", env, tmp_path), role("beat", env, tmp_path):
            until(lambda: finished(2), 60)
            ticked(10)
    second, old = found()
    assert second.scheduled_for == first.scheduled_for
    assert (second.outcome, old.outcome) == ("done", "done")
    assert [one.name for one in tmp_path.iterdir() if "schedule" in one.name] == []


def _ticks(place: Path) -> Counter[str]:
    """Return how often each beat has asked what is due."""
    lines = (place / "beat.log").read_text("utf-8").splitlines()
    return Counter(line for line in lines if line.startswith("tick of"))


def test_runs_are_listed_and_started_by_hand(run: Run, engine: Engine) -> None:
    """Nothing yet; one asked for waits for a worker; then it says what it did. What is no job is refused by name."""
    assert "Nothing has run yet." in run("runs", "list").stdout
    wrong = run("runs", "start", "nonsense")
    assert wrong.returncode == 2
    assert "there are: purge" in wrong.stderr
    assert "was asked for" in run("runs", "start", "purge").stdout
    assert "waits" in run("runs", "list").stdout
    with engine.begin() as db:
        db.exec_driver_sql("INSERT INTO heartbeats (node, started_at) VALUES ('old', now() - interval '3 days')")
    for _ in range(2):  # the run of last night comes first
        tick(engine, Config(connections={}))
    by_hand, nightly = json.loads(run("runs", "list", "--job", "purge", "--json").stdout)["runs"]
    assert by_hand["scheduled_for"] > nightly["scheduled_for"]
    assert [one["outcome"] for one in (by_hand, nightly)] == ["done", "done"]
    assert [one["counts"] for one in (by_hand, nightly)] == [{}, {"heartbeats": 1}]
    assert "1 heartbeats" in run("runs", "list").stdout
