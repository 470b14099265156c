"""One program of the benchmark as a process of its own: started, waited for, measured and ended."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from tasks.watchdog import Watchdog

__all__ = ["BenchFailed", "Process", "cpu_seconds", "plain_environment", "until"]

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 90.0
END_SECONDS = 400.0
"""For a program that ends by itself: the longest fills a queue with tasks."""
PROXIES = ("http_proxy", "https_proxy", "all_proxy")


class BenchFailed(Exception):
    """A measurement could not be made, or its result was wrong; the text says which, for the person at the terminal."""


def plain_environment(**ours: str) -> dict[str, str]:
    """The environment of a measured process: nothing of an installation on this machine, and `ours`."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("COURSEWIRE_") and name.lower() not in PROXIES
    }
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**inherited, "PYTHONUNBUFFERED": "1", "PYTHONPATH": path, **ours}


def until(holds: Callable[[], object], seconds: float, what: str, every: float = 0.05) -> None:
    """Wait for a condition; raises BenchFailed when `what` has not come true in time."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise BenchFailed(f"{what}: not within {seconds:.0f} s")
        time.sleep(every)


def cpu_seconds(pid: int) -> float:
    """CPU seconds a process and its children have used so far, those that have ended included; 0 if it is gone."""
    with suppress(psutil.NoSuchProcess):
        leader = psutil.Process(pid)
        total = 0.0
        for process in (leader, *leader.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                used = process.cpu_times()
                total += used.user + used.system
                if process.pid == pid:
                    total += getattr(used, "children_user", 0.0) + getattr(used, "children_system", 0.0)
        return total
    return 0.0


class Process:
    """`python -m MODULE ARGUMENTS` in a session of its own, with its output in a log file.

    A context manager: entering starts it, leaving ends it. If the benchmark is killed, the watchdog ends it.
    """

    def __init__(
        self, name: str, command: Sequence[str], *, env: Mapping[str, str], log: Path, watchdog: Watchdog, cwd: Path
    ) -> None:
        self.name = name
        self._command = [sys.executable, "-P", "-m", *command]
        self._env = dict(env)
        self._log = log
        self._watchdog = watchdog
        self._cwd = cwd
        self._process: subprocess.Popen[bytes] | None = None
        self._from = 0

    def __enter__(self) -> Self:
        """Start it."""
        self._log.touch()
        self._from = self._log.stat().st_size
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                env=self._env,
                cwd=self._cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._watchdog.watch(self._process.pid, signal.SIGTERM)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it, politely for ten seconds."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._watchdog.forget(process.pid)

    @property
    def pid(self) -> int:
        """Its process id; RuntimeError when it does not run."""
        if self._process is None:
            raise RuntimeError(f"{self.name} does not run")
        return self._process.pid

    def await_(self, holds: Callable[[], object], what: str) -> None:
        """Wait until it is ready; raises BenchFailed, with the end of its log, where it does not come to that."""
        deadline = time.monotonic() + START_SECONDS
        while not holds():
            if self._process is None or self._process.poll() is not None or time.monotonic() > deadline:
                raise BenchFailed(f"{self.name} did not come up ({what}); it said:\n{self.said()[-2000:]}")
            time.sleep(0.02)

    def said(self) -> str:
        """What it has printed since it was started."""
        with self._log.open("rb") as log:
            log.seek(self._from)
            return log.read().decode("utf-8", "replace")

    def rss(self) -> int:
        """Bytes of memory it holds now."""
        return int(psutil.Process(self.pid).memory_info().rss)

    def wait(self, seconds: float = END_SECONDS) -> None:
        """Wait until it has ended by itself; raises BenchFailed where it failed, or has not ended in time."""
        if self._process is None:
            return
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise BenchFailed(f"{self.name} has not ended within {seconds:.0f} s; {self._last_words()}") from None
        if code != 0:
            raise BenchFailed(f"{self.name} failed; {self._last_words()}")

    def _last_words(self) -> str:
        return f"it said:\n{self.said()[-2000:]}"
