"""The supervisor, its output and its watchdog, with small real processes."""

import contextlib
import io
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tasks import child
from tasks.signals import SAME_PRESS
from tasks.supervisor import ManagedServer, Probe, Role, Supervisor
from tasks.watchdog import Watchdog
from tests.processes import gone, until

SLEEP = "import time; time.sleep(600)"
WITH_GRANDCHILD = f"""
import subprocess, sys, time
grandchild = subprocess.Popen([sys.executable, "-S", "-c", {SLEEP!r}])
open(sys.argv[1], "a").write(f"{{grandchild.pid}}\\n")
time.sleep(600)
"""
NOTES_ITS_END = """
import signal, sys, time
def end(*_):
    time.sleep(float(sys.argv[3]))
    open(sys.argv[1], "a").write(sys.argv[2] + "\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
print("ready", flush=True)
time.sleep(600)
"""
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(600)
"""
SUPERVISE = """
import json, sys, threading, time
from tasks.supervisor import Role, Supervisor
supervisor = Supervisor([Role(**role) for role in json.loads(sys.argv[1])])
def report():
    shown = None
    while True:
        pids = supervisor.pids() | {"watchdog": supervisor._watchdog.pid}
        if pids != shown:
            open(sys.argv[2], "a").write(json.dumps(pids) + "\\n")
            shown = pids
        time.sleep(0.02)
threading.Thread(target=report, daemon=True).start()
sys.exit(supervisor.run())
"""


def python(code: str, *args: object) -> list[str]:
    """The command that runs this code."""
    return [sys.executable, "-S", "-c", code, *map(str, args)]


@contextlib.contextmanager
def supervised(
    *roles: Role, servers: Sequence[ManagedServer] = (), out: io.StringIO | None = None
) -> Iterator[Supervisor]:
    """A supervisor in the background, with all roles started."""
    supervisor = Supervisor(roles, servers, out or io.StringIO())
    supervisor.start()
    try:
        yield supervisor
    finally:
        supervisor.stop()


class Outside:
    """A supervisor as a process of its own, which reports the pids of its children."""

    def __init__(self, folder: Path, *roles: dict[str, object]) -> None:
        self._report = folder / "report"
        self._expected = {str(role["name"]) for role in roles} | {"watchdog"}
        command = [sys.executable, "-c", SUPERVISE, json.dumps(roles), str(self._report)]
        # With its output buffered, as it is on the machine of a user, so that the rest in the buffer counts.
        buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=buffered)
        until(lambda: self._expected <= self.pids().keys())

    def pids(self) -> dict[str, int]:
        """What it reported last."""
        lines = self._report.read_text().splitlines() if self._report.exists() else []
        with contextlib.suppress(ValueError, IndexError):
            return {name: pid for name, pid in json.loads(lines[-1]).items() if pid}
        return {}

    def finish(self) -> str:
        """Wait for its end; returns what it printed."""
        printed, _ = self.process.communicate(timeout=20)
        return printed


@pytest.fixture
def start_outside(tmp_path: Path) -> Iterator[Callable[..., Outside]]:
    """Starts supervisors as processes of their own and ends what the test has not."""
    started: list[Outside] = []

    def start(*roles: dict[str, object]) -> Outside:
        started.append(Outside(tmp_path, *roles))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
        one.process.wait()
        if one.process.stdout:
            one.process.stdout.close()
        until(lambda one=one: all(gone(pid) for pid in one.pids().values()))  # type: ignore[misc]


class FakeServer:
    """An embedded server that only sleeps."""

    def __init__(self, name: str, stopped: list[str]) -> None:
        self.name = name
        self.watchdog: Watchdog | None = None
        self._stopped = stopped
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(python(SLEEP))

    def stop(self, timeout: float) -> None:
        self.process.terminate()
        self.process.wait(timeout)
        if self.name not in self._stopped:
            self._stopped.append(self.name)


def test_a_child_that_dies_is_started_again_and_the_others_are_left_alone() -> None:
    """One role killed with kill -9 costs a moment of that role only."""
    out = io.StringIO()
    with supervised(Role("web", python(SLEEP)), Role("worker", python(SLEEP)), out=out) as supervisor:
        until(lambda: len(supervisor.pids()) == 2)
        before = supervisor.pids()
        os.kill(before["worker"], signal.SIGKILL)
        until(lambda: supervisor.pids().get("worker", before["worker"]) != before["worker"])
        assert supervisor.pids()["web"] == before["web"]
    assert "worker was ended by SIGKILL, starting it again in 0.2 s" in out.getvalue()
    assert supervisor.pids() == {}
    assert gone(before["web"])


def test_restarts_slow_down_and_recover() -> None:
    """A role that keeps dying costs ever less, one that was well for long starts again at once."""
    broken = child.Child(Role("web", ()))
    broken.started = time.monotonic()
    assert [broken.postpone() for _ in range(7)] == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    broken.started = time.monotonic() - child.HEALTHY_AFTER
    assert broken.postpone() == 0.2


def test_a_program_that_is_not_there_is_said_and_tried_again() -> None:
    """A role that cannot be started stops no other role."""
    out = io.StringIO()
    with supervised(Role("web", ["/no/such/program"]), Role("worker", python(SLEEP)), out=out) as supervisor:
        until(lambda: out.getvalue().count("web cannot be started") > 1)
        assert "worker" in supervisor.pids()


def test_what_a_dead_child_leaves_running_is_ended(tmp_path: Path) -> None:
    """The children of a role that crashed do not pile up beside the new ones."""
    seen = tmp_path / "grandchildren"
    with supervised(Role("worker", python(WITH_GRANDCHILD, seen))) as supervisor:
        until(lambda: seen.exists() and seen.read_text().count("\n") == 1)
        os.kill(supervisor.pids()["worker"], signal.SIGKILL)
        until(lambda: seen.read_text().count("\n") == 2)
        first, second = (int(pid) for pid in seen.read_text().split())
        assert gone(first)
        assert not gone(second)
    assert gone(second)


def test_a_killed_supervisor_takes_children_and_grandchildren_along(
    tmp_path: Path, start_outside: Callable[..., Outside]
) -> None:
    """Nothing keeps running unseen when the supervisor itself is killed with kill -9."""
    seen = tmp_path / "grandchildren"
    supervisor = start_outside(
        {"name": "web", "argv": python(SLEEP)},
        {"name": "worker", "argv": python(WITH_GRANDCHILD, seen)},
    )
    until(lambda: seen.exists() and seen.read_text().endswith("\n"))
    supervisor.process.kill()
    supervisor.finish()
    everyone = [*supervisor.pids().values(), int(seen.read_text())]
    until(lambda: all(gone(pid) for pid in everyone), seconds=5)


def test_a_killed_watchdog_is_replaced_and_watches_as_before(start_outside: Callable[..., Outside]) -> None:
    """The guard itself is no weak point."""
    supervisor = start_outside({"name": "web", "argv": python(SLEEP)})
    first = supervisor.pids()["watchdog"]
    os.kill(first, signal.SIGKILL)
    until(lambda: supervisor.pids().get("watchdog", first) != first)
    supervisor.process.kill()
    supervisor.finish()
    until(lambda: all(gone(pid) for pid in supervisor.pids().values()), seconds=5)


def test_a_request_to_stop_is_followed_in_order(tmp_path: Path, start_outside: Callable[..., Outside]) -> None:
    """SIGTERM: web first, the worker may finish its work and comes last, the exit code is 0."""
    ends = tmp_path / "ends"
    supervisor = start_outside(
        {"name": "worker", "argv": python(NOTES_ITS_END, ends, "worker", 0), "phase": 1},
        {"name": "web", "argv": python(NOTES_ITS_END, ends, "web", 0.5)},
    )
    printed = supervisor.process.stdout
    assert printed
    ready = (line for line in printed if "| ready" in line)
    assert len(list(itertools.islice(ready, 2))) == 2
    supervisor.process.send_signal(signal.SIGTERM)
    supervisor.finish()
    assert supervisor.process.returncode == 0
    assert ends.read_text().split() == ["web", "worker"]


def test_a_second_request_does_not_wait(start_outside: Callable[..., Outside]) -> None:
    """Whoever presses Ctrl-C twice means it; an echo of the first press does not count."""
    supervisor = start_outside({"name": "worker", "argv": python(STUBBORN), "patience": 600.0})
    assert supervisor.process.stdout
    assert any("| ready" in line for line in supervisor.process.stdout)
    supervisor.process.send_signal(signal.SIGINT)
    supervisor.process.send_signal(signal.SIGINT)
    worker = supervisor.pids()["worker"]
    asked = time.monotonic()
    until(lambda: time.monotonic() > asked + SAME_PRESS + 0.1)
    assert not gone(worker)
    supervisor.process.send_signal(signal.SIGINT)
    supervisor.finish()
    assert supervisor.process.returncode == 0
    assert gone(worker)


def test_a_role_that_does_not_stop_is_killed() -> None:
    """Patience has an end."""
    out = io.StringIO()
    with supervised(Role("worker", python(STUBBORN), patience=0.3), out=out):
        until(lambda: "| ready" in out.getvalue())
    assert "worker was ended by SIGKILL" in out.getvalue()


def test_an_embedded_server_that_dies_is_started_again_and_stopped_last() -> None:
    """Roles never lose their database for long, nor before they have ended."""
    stopped: list[str] = []
    servers = [FakeServer("valkey", stopped), FakeServer("postgres", stopped)]
    out = io.StringIO()
    with supervised(Role("web", python(SLEEP)), servers=servers, out=out) as supervisor:
        killed = servers[1].process.pid
        os.kill(killed, signal.SIGKILL)
        until(lambda: supervisor.pids().get("postgres", killed) != killed and "web" in supervisor.pids())
        assert not stopped
    assert stopped == ["valkey", "postgres"]
    assert out.getvalue().index("web was ended by SIGTERM") < out.getvalue().index("valkey was ended")


def test_a_role_without_signs_of_life_is_restarted() -> None:
    """A process that lives but does not work is replaced."""
    answers = iter([True, False, False])
    probe = Probe(lambda _: next(answers, True), interval=0.05, failures=2, grace=0)
    out = io.StringIO()
    with supervised(Role("web", python(SLEEP), probe=probe), out=out) as supervisor:
        until(lambda: "web" in supervisor.pids())
        first = supervisor.pids()["web"]
        until(lambda: supervisor.pids().get("web", first) != first)
    assert "web gave no sign of life 2 times" in out.getvalue()


def test_a_url_that_does_not_answer_is_no_sign_of_life() -> None:
    """Connection refused counts as a failure, not as an error of the supervisor."""
    assert not Probe("http://127.0.0.1:1/healthz").passes(1)


def test_long_lines_and_garbage_arrive() -> None:
    """A line of 300 kB is printed in pieces, bytes that are no text become a sign, and nothing is lost."""
    code = "import sys; sys.stdout.buffer.write(b'x' * 300_000 + b'\\n\\xff\\x00 text\\nlast'); sys.stdout.flush()"
    out = io.StringIO()
    with supervised(Role("web", python(code)), out=out):
        until(lambda: "last" in out.getvalue())
    lines = out.getvalue().splitlines()
    assert all(line.startswith(("web ", "coursewire ")) for line in lines)
    assert sum(line.count("x") for line in lines if "| x" in line) >= 300_000
    assert max(len(line) for line in lines) < 150_000
    assert any(line.endswith("| �� text") for line in lines)


def test_a_closed_output_stops_nothing(start_outside: Callable[..., Outside]) -> None:
    """`coursewire up | head -1` keeps running after head has ended, and still stops with exit code 0."""
    code = "import time\nwhile True: print('line', flush=True); time.sleep(0.01)"
    supervisor = start_outside({"name": "web", "argv": python(code)})
    assert supervisor.process.stdout
    assert supervisor.process.stdout.readline()
    supervisor.process.stdout.close()
    first = supervisor.pids()["web"]
    os.kill(first, signal.SIGKILL)
    until(lambda: supervisor.pids().get("web", first) != first)
    supervisor.process.send_signal(signal.SIGTERM)
    assert supervisor.process.wait(20) == 0
