"""What the two embedded servers share: one direct child process with a known pid, a log file and a port.

A server can be started again after its process was killed from outside; the dead process is reaped first,
because a server that is a zombie still holds its lock file in the eyes of its successor.
"""

import contextlib
import random
import signal
import socket
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

import psutil

from tasks.embedded.account import Account, spawn
from tasks.embedded.errors import EmbeddedUnavailable, PortTaken
from tasks.embedded.folder import DataFolder
from tasks.watchdog import Watchdog, alive

# Below the range the system hands out to outgoing connections, which could otherwise take the port of a
# server in the moment it restarts.
PORTS = range(20000, 32000)
MOMENT = 3.0  # seconds
LOG_LIMIT = 10 * 1024 * 1024  # bytes: a longer log is put aside at the next start


class Server(ABC):
    """One embedded server: start it, stop it, start it again."""

    name: ClassVar[str]
    stop_signals: ClassVar[Sequence[signal.Signals]]  # from polite to final
    failures: ClassVar[Mapping[str, type[EmbeddedUnavailable]]]  # words in its log, and what they mean

    def __init__(self, folder: DataFolder) -> None:
        self.folder = folder
        self.watchdog: Watchdog | None = None  # ends the server if we are killed
        self._turn = threading.Lock()
        self._called_off = False
        self._process: subprocess.Popen[bytes] | None = None
        self._port: int | None = None
        self._served = False

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients connect, with the password; RuntimeError before the first start."""

    @abstractmethod
    def _launch(self) -> None:
        """Start the process and return when it serves; raises EmbeddedUnavailable."""

    @abstractmethod
    def _answers(self) -> bool:
        """True if the server can be used now; raises EmbeddedUnavailable if it never will."""

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The server's own process, our direct child; RuntimeError before the first start."""
        if self._process is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._process

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        return self.process.pid

    @property
    def port(self) -> int:
        """The port on 127.0.0.1; RuntimeError before the first start."""
        if self._port is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._port

    @property
    def running(self) -> bool:
        """True while the process lives; a dead one is reaped by asking."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> Path:
        """The file the server writes its log to."""
        return self.folder.path / f"{self.name}.log"

    def start(self) -> None:
        """Start the server and return when it answers; nothing happens if it runs already.

        Raises:
            EmbeddedUnavailable: it cannot run here; the sentence says why.
        """
        self.folder.require_claim()
        with self._turn:
            if self._stays():
                return
            self._called_off = False
            try:
                self._launch_on_some_port()
            except BaseException:
                self._end(5)
                raise
            self._served = True

    def _stays(self) -> bool:
        """True if the process runs; one that was killed a moment ago gets the time to be gone."""
        return self.running and (self._answers() or self._remains())

    def _remains(self) -> bool:
        """True if the process is still there after the moment in which one that is ending would end."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(MOMENT)
        return self.running

    def _launch_on_some_port(self) -> None:
        for attempts_left in (2, 1, 0):
            try:
                return self._launch()
            except PortTaken:
                # Taken between our look and the server's; once clients know the port it must not change.
                if self._served or not attempts_left:
                    raise
                self._end(5)
        return None

    def stop(self, timeout: float = 30) -> None:
        """Stop the server politely, after `timeout` seconds less so; returns when it is gone and reaped.

        A start under way in another thread is called off.
        """
        self._called_off = True
        with self._turn:
            self._end(timeout)

    def _end(self, timeout: float) -> None:
        if self._process is None:
            return
        for step in self.stop_signals:
            if self._process.poll() is not None:
                break
            self._process.send_signal(step)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout)
            timeout = min(timeout, 5)
        self._process.wait()
        if self.watchdog:
            self.watchdog.forget(self._process.pid)

    def _spawn(self, command: Sequence[str], account: Account | None = None, cwd: Path = Path("/")) -> int:
        """Start the process with its output in the log; returns where in the log its own lines begin."""
        offset = self._rotate_log()
        with self.log.open("ab") as log:
            process = spawn(command, account, output=log, cwd=cwd)
        if self.watchdog:
            if self._process:
                self.watchdog.forget(self._process.pid)
            self.watchdog.watch(process.pid, self.stop_signals[0])
        self._process = process
        return offset

    def _await_answer(self, offset: int, timeout: float) -> None:
        """Return once the server answers; raises EmbeddedUnavailable if it ends first or takes too long."""
        deadline = time.monotonic() + timeout
        pause = 0.01  # seconds; longer and longer, because recovery takes seconds and each look costs it a process
        while not self._answers():
            if self._called_off:
                raise EmbeddedUnavailable(f"the start of {self.name} was called off")
            if not self.running or time.monotonic() > deadline:
                raise self._failure(offset)
            time.sleep(pause)
            pause = min(pause * 1.5, 0.1)

    def __enter__(self) -> Self:
        """Start the server."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the server."""
        self.stop()

    def _choose_port(self) -> int:
        """The port of last time if it is free, else a new one; a port handed out to clients never changes."""
        if self._served:
            return self.port
        kept = self.folder.port(self.name)
        port = kept if kept is not None and is_free(kept) else free_port()
        if port != kept:
            self.folder.remember_port(self.name, port)
        return port

    def _rotate_log(self) -> int:
        """Keep the log small; returns its length in bytes, from where this start's own lines begin."""
        with contextlib.suppress(FileNotFoundError):
            if self.log.stat().st_size > LOG_LIMIT:
                self.log.replace(self.log.with_suffix(".log.1"))
        self.log.touch(mode=0o600)
        return self.log.stat().st_size

    def _said(self, offset: int) -> str:
        """What the server wrote to its log since `offset`, at most the last 4 kB."""
        with contextlib.suppress(FileNotFoundError), self.log.open("rb") as file:
            file.seek(max(offset, self.log.stat().st_size - 4096))
            return file.read().decode("utf-8", "replace").strip()
        return ""

    def _failure(self, offset: int) -> EmbeddedUnavailable:
        said = self._said(offset)
        kind = next((kind for sign, kind in self.failures.items() if sign in said), EmbeddedUnavailable)
        return kind(f"{self.name} did not start; its log {self.log} says:\n{said}")


def is_free(port: int) -> bool:
    """True if nothing listens on this port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port of 127.0.0.1 on which nothing listens; raises EmbeddedUnavailable."""
    for port in random.sample(PORTS, 200):
        if is_free(port):
            return port
    raise EmbeddedUnavailable(f"no free port on 127.0.0.1 between {PORTS.start} and {PORTS.stop}")


def find_processes(wanted: Callable[[psutil.Process], bool]) -> list[psutil.Process]:
    """The processes of this machine for which `wanted` is true; those we may not look at are none of ours."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if wanted(process):
                found.append(process)
    return found


def end_processes(processes: Iterable[psutil.Process], signals: Sequence[signal.Signals], timeout: float) -> None:
    """End processes an owner left behind, politely first; `timeout` in seconds per signal."""
    left = list(processes)
    for step in signals:
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(step)  # psutil refuses if the pid was given to another process meanwhile
        deadline = time.monotonic() + timeout
        while left and time.monotonic() < deadline:
            left = [process for process in left if alive(process)]
            time.sleep(0.02)
        if not left:
            return
