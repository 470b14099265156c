"""One role as a child process of the supervisor: how it is described, watched, asked to stop and reaped."""

import contextlib
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import psutil

FIRST_DELAY = 0.2  # seconds before the first restart; doubled each time
LONGEST_DELAY = 5.0  # seconds
HEALTHY_AFTER = 10.0  # seconds of life after which a death is a first one again
PROBE_TIMEOUT = 5.0  # seconds


@dataclass(frozen=True)
class Probe:
    """A sign of life to ask for: a function of the process id, or a URL that must answer with a status below 400."""

    check: Callable[[int], bool] | str
    interval: float = 5.0  # seconds
    failures: int = 3  # in a row, then the role is restarted
    grace: float = 30.0  # seconds after a start in which it is not asked

    def passes(self, pid: int) -> bool:
        """Ask once about this process; anything but a clear yes is a no."""
        try:
            return _answers(self.check) if isinstance(self.check, str) else self.check(pid)
        except Exception:  # noqa: BLE001 - whatever goes wrong in a check, it did not pass
            return False


@dataclass(frozen=True)
class Role:
    """A program to keep running; `env` is its whole environment, ours if None."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] | None = None
    phase: int = 0  # roles of the lowest phase are stopped first
    patience: float = 10.0  # seconds to end by itself after the stop signal
    stop_signal: signal.Signals = signal.SIGTERM
    probe: Probe | None = None


class Child:
    """One role and its process of the moment."""

    def __init__(self, role: Role) -> None:
        self.role = role
        self.process: subprocess.Popen[bytes] | None = None
        self.started = 0.0
        self.due = 0.0  # when to start it (again)
        self.kill_at: float | None = None
        self.unwell = False  # its probe says so
        self._delay = FIRST_DELAY

    def start(self) -> subprocess.Popen[bytes]:
        """Start the program with both outputs in one pipe; raises OSError if it cannot be run."""
        self.started = time.monotonic()
        env = dict(os.environ if self.role.env is None else self.role.env)
        env.setdefault("PYTHONUNBUFFERED", "1")  # a line belongs on the terminal when it is said
        self.process = subprocess.Popen(  # noqa: S603 - the roles are ours
            self.role.argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            env=env,
            start_new_session=True,
        )
        return self.process

    def ended(self) -> bool:
        """True if the process has ended; it is not reaped, so that its numbers stay reserved."""
        return self.process is not None and has_ended(self.process.pid)

    def ask_to_stop(self) -> None:
        """Send the stop signal to the process alone: it knows how to end its own children."""
        if self.process and self.kill_at is None:
            os.kill(self.process.pid, self.role.stop_signal)
            self.kill_at = time.monotonic() + self.role.patience

    def overdue(self) -> bool:
        """True if it was asked to stop and has had its time."""
        return self.kill_at is not None and time.monotonic() > self.kill_at

    def reap(self) -> str:
        """Kill what is left of its group and take it off the system's list; returns how it ended."""
        if self.process is None:
            return "not running"
        # Before the leader is reaped: only until then is the group certain to be ours.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        code = self.process.wait()
        self.process = None
        self.kill_at = None
        self.unwell = False
        return how_it_ended(code)

    def postpone(self) -> float:
        """Set when to start it again; returns in how many seconds."""
        if time.monotonic() - self.started >= HEALTHY_AFTER:
            self._delay = FIRST_DELAY
        delay, self._delay = self._delay, min(self._delay * 2, LONGEST_DELAY)
        self.due = time.monotonic() + delay
        return delay


def how_it_ended(code: int) -> str:
    """The exit code of a process in words."""
    if code >= 0:
        return f"ended with exit code {code}"
    with contextlib.suppress(ValueError):
        return f"was ended by {signal.Signals(-code).name}"
    return f"was ended by signal {-code}"


def has_ended(pid: int) -> bool:
    """True if this child of ours has ended; it is not reaped by asking."""
    # Not there on macOS before Python 3.13.
    if waitid := getattr(os, "waitid", None):
        try:
            return waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _answers(url: str) -> bool:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # it is on this machine
    with direct.open(url, timeout=PROBE_TIMEOUT) as answer:
        return int(answer.status) < 400  # noqa: PLR2004 - where errors begin in HTTP
