"""The parent's side of the load generator."""

import contextlib
import selectors
import subprocess
import sys
import time
from dataclasses import asdict
from types import TracebackType
from typing import Self

import orjson

from scripts.bench.load import CONNECT_SECONDS, FAILED, Fired, Volley
from scripts.bench.process import BenchFailed, plain_environment
from tasks.watchdog import Watchdog

__all__ = ["Gun"]

LOAD_SECONDS = CONNECT_SECONDS + 60.0
"""To compose and sign every request of a job, and to connect."""
MARGIN = 10.0
"""Within which it says by itself that its patience is over."""
END_SECONDS = 10.0


class Gun:
    """A load generator that runs; a context manager."""

    def __init__(self, watchdog: Watchdog) -> None:
        self._watchdog = watchdog
        self._process: subprocess.Popen[bytes] | None = None
        self._patience = 0.0

    def __enter__(self) -> Self:
        """Start it."""
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "scripts.bench.load"],
            env=plain_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._watchdog.watch(self._process.pid)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        process, self._process = self._process, None
        if process:
            for pipe in (process.stdin, process.stdout):
                if pipe:
                    with contextlib.suppress(BrokenPipeError):  # what it did not read before it ended
                        pipe.close()
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(END_SECONDS)
            process.kill()
            process.wait()
            self._watchdog.forget(process.pid)

    def load(self, volley: Volley) -> None:
        """Have everything composed, signed and connected; raises BenchFailed."""
        self._patience = volley.patience
        self._write(orjson.dumps(asdict(volley)))
        if self._read(LOAD_SECONDS, f"ready for port {volley.port}") != b"ready":
            raise BenchFailed("the load generator did not get ready")

    def pull(self) -> float:
        """Begin to send what was loaded; returns when that was (`time.monotonic`)."""
        self._write(b"go")
        return time.monotonic()

    def result(self) -> Fired:
        """Wait for the end and return what became of each request; raises BenchFailed."""
        return Fired(**orjson.loads(self._read(self._patience + MARGIN, "every request answered")))

    def fire(self, volley: Volley) -> Fired:
        """All of it in one."""
        self.load(volley)
        self.pull()
        return self.result()

    def _write(self, line: bytes) -> None:
        assert self._process is not None  # noqa: S101 - inside `with`
        assert self._process.stdin is not None  # noqa: S101 - it was asked for
        try:
            self._process.stdin.write(line + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise BenchFailed("the load generator ended") from None

    def _read(self, seconds: float, what: str) -> bytes:
        assert self._process is not None  # noqa: S101 - inside `with`
        assert self._process.stdout is not None  # noqa: S101 - it was asked for
        with selectors.DefaultSelector() as waiting:
            # One line is asked for at a time, so nothing waits in the pipe's buffer here; it is written in one go.
            waiting.register(self._process.stdout, selectors.EVENT_READ)
            if not waiting.select(seconds):
                raise BenchFailed(f"the load generator, {what}: not within {seconds:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            raise BenchFailed("the load generator ended")
        if line.startswith(FAILED):
            raise BenchFailed(f"the load generator, {what}: {line.removeprefix(FAILED).decode().strip()}")
        return line.strip()
