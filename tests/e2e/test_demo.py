"""`coursewire demo` as a process: it keeps its promises, and it leaves nothing running however it ends."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import psutil
import pytest

from tests.embedded import passable_folder
from tests.processes import ROOT, until

PATIENCE = 300.0  # seconds for a whole demo on a machine that has other things to do
BURST = "signed webhooks"
END = "promises held"


class Demo:
    """A running demo, what it printed, and every process that was ever below it."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        """Start it as a person does who has settings of another installation about."""
        (folder / ".env").write_text("COURSEWIRE_DATABASE_URL=postgresql://127.0.0.1:9/elsewhere\n")
        (folder / "coursewire.yaml").write_text("connections: {}\n")
        # Coverage and the like must not follow into the processes: they would be measured instead of the demo.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("COURSEWIRE_")}
        environment |= {"PYTHONPATH": str(ROOT), "COURSEWIRE_BROKER_URL": "redis://127.0.0.1:9/0"}
        self._out = folder / f"output-{time.monotonic_ns()}.txt"
        with self._out.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tasks.cli", "demo", *arguments],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.family: set[psutil.Process] = set()
        self._watching = threading.Thread(target=self._watch, daemon=True)
        self._watching.start()

    def __enter__(self) -> Self:
        """Nothing more to do."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it if the test has not; what it started ends with it."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._watching.join()

    @property
    def output(self) -> str:
        """Everything it printed so far."""
        return self._out.read_text("utf-8")

    def says(self, text: str) -> None:
        """Wait until it prints this; fail when it ends before."""
        until(lambda: text in self.output or self.process.poll() is not None, PATIENCE, every=0.1)
        assert text in self.output, self.output

    def end(self, number: signal.Signals, seconds: float = 60) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(seconds)

    def left(self) -> list[str]:
        """What still runs of all that it ever started."""
        return [f"{one.pid} {one.name()}" for one in self.family if _runs(one)]

    def _watch(self) -> None:
        while self.process.poll() is None:
            try:
                self.family.update(psutil.Process(self.process.pid).children(recursive=True))
            except psutil.NoSuchProcess:
                return
            time.sleep(0.25)


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the database's account can pass through."""
    with passable_folder() as made:
        yield made


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., Demo]]:
    """Starts demos in one folder, and ends what the test has not."""
    demos: list[Demo] = []

    def begin(*arguments: str) -> Demo:
        demos.append(Demo(folder, *arguments))
        return demos[-1]

    yield begin
    for demo in demos:
        demo.__exit__()
    until(lambda: not any(demo.left() for demo in demos), 30)


def test_the_demo_keeps_its_promises(start: Callable[..., Demo], folder: Path) -> None:
    """With --once it ends by itself with 0, every promise ticked, plainly printed, and nothing left running."""
    demo = start("--once")
    assert demo.process.wait(PATIENCE) == 0, demo.output
    output = demo.output
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", output)
    assert len(re.findall("^✓ ", output, re.MULTILINE)) == 22
    assert "✗" not in output
    assert "22 of 22 promises held" in output
    for said in (
        "2,115 answers of 202",
        "The CRM is the truth: 199 contacts",
        "Live completions arrive: 20 of 20",
        "firstname (1 read, no writes)",
        "courses_completed_count (1 read, 1 write)",
        "Two merged contacts are one person after",
        "An SDR becomes an AE in the CRM: in her 4 courses",
        "4 role changes, each told twice, made 7 enrolments, the last none",
        "A partner who passes is Certified, and Lapsed",
        "1 invalid_event",
        "1 unknown_type",
    ):
        assert said in output
    # Which of the two learners with one e-mail comes first is the network's choice, and so is how many events wait.
    assert re.search(r"\b[1-9] email_taken", output)
    assert max(len(line.rstrip()) for line in output.splitlines()) <= 100
    assert demo.left() == []
    assert len(demo.family) > 8, "PostgreSQL, Valkey, the sandbox, two watchdogs and four roles were to be seen"
    assert not (folder / ".coursewire" / "demo" / "run.json").exists()


def test_a_demo_that_was_killed_leaves_nothing_and_the_next_one_stays_up(
    start: Callable[..., Demo], folder: Path
) -> None:
    """After kill -9 nothing runs; the next demo takes over at once, answers commands, and ends with 0 on Ctrl-C."""
    killed = start()
    killed.says(BURST)
    killed.end(signal.SIGKILL)
    demo = start()
    until(lambda: not killed.left(), 30)
    demo.says(END)
    assert "22 of 22" in demo.output, demo.output
    command = str(folder / ".coursewire" / "demo" / "coursewire")
    assert ".coursewire/demo/coursewire person show" in demo.output
    email, merged, promoted = re.findall(r"person show (\S+@\S+)", demo.output)
    for arguments, expected in (
        (["person", "show", email], "courses_completed_count"),
        (["person", "show", merged], "merged into"),
        (["person", "show", promoted], "ae-onboarding"),
        (["events", "list", "--status", "dead"], "invalid_event"),
        (["parked", "list"], "email_taken"),
        (["rules", "plan", "--offline"], "Nothing changes"),
        (["check"], "contacts can be read"),
    ):
        asked = subprocess.run([command, *arguments], cwd="/", capture_output=True, text=True, timeout=60, check=False)
        assert asked.returncode == 0, asked.stderr
        assert expected in asked.stdout
    assert demo.end(signal.SIGINT) == 0, demo.output
    assert demo.left() == []


def test_ctrl_c_in_the_middle_stops_everything(start: Callable[..., Demo]) -> None:
    """Interrupted in the burst it says so, ends with 130, and leaves nothing running."""
    demo = start("--once")
    demo.says(BURST)
    time.sleep(1)
    assert demo.end(signal.SIGINT) == 130, demo.output
    assert "Stopped before the end" in demo.output
    assert "Traceback" not in demo.output
    assert demo.left() == []


def test_two_demos_at_once_do_not_disturb_each_other(start: Callable[..., Demo]) -> None:
    """The second one says who is there, ends with 2, and the first goes on."""
    first = start("--once")
    first.says("Starting PostgreSQL")
    second = start("--once")
    assert second.process.wait(60) == 2
    assert first.process.poll() is None
    assert first.end(signal.SIGTERM) == 143
