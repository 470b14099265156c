"""Ends what a process started when that process is killed and cannot do it itself.

The watchdog is a small process in a session of its own that holds the reading end of a pipe. Its owner writes
down every process it starts; when the owner is gone, however it went, the kernel closes the pipe and the
watchdog ends what is left. Run by file path, it needs only the standard library and psutil.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import psutil

GRACE = 10.0  # seconds between the polite signal and SIGKILL
TICK = 0.1  # seconds
SAME_START = 2.0  # seconds: two readings of one start time may differ when the clock was set in between


class Watchdog:
    """The owner's side: tell it what to end. Safe to use from several threads."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._watched: dict[int, int] = {}
        self._lock = threading.Lock()

    @property
    def pid(self) -> int | None:
        """The process id of the watchdog, or None when it is not running."""
        process = self._process
        return process.pid if process and process.poll() is None else None

    def start(self) -> None:
        """Start it, or start it again if it was killed; raises OSError."""
        with self._lock:
            if self._process and self._process.poll() is None:
                return
            self._drop()
            command = [sys.executable, "-P", str(Path(__file__))]
            self._process = subprocess.Popen(  # noqa: S603 - our own file
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,  # or it would hold our terminal or pipe open after us
                stderr=subprocess.DEVNULL,
                cwd="/",
                bufsize=0,
                start_new_session=True,
            )
            if self._process.stdin:
                # A stopped watchdog must never stop its owner.
                os.set_blocking(self._process.stdin.fileno(), False)
            for pid in self._watched:
                self._tell_of(pid)

    def watch(self, pid: int, stop_signal: signal.Signals = signal.SIGTERM) -> None:
        """End this child, which leads its own process group, and its group, when we are gone.

        Call it before the child is reaped, so that the process id is certain to be its own.
        """
        with self._lock:
            self._watched[pid] = stop_signal
            self._tell_of(pid)

    def forget(self, pid: int) -> None:
        """The child has ended; harmless if it was not watched."""
        with self._lock:
            if self._watched.pop(pid, None) is not None:
                self._tell({"forget": pid})

    def close(self) -> None:
        """Let it go; what is still watched is ended by it."""
        with self._lock:
            self._drop()

    def _tell_of(self, pid: int) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            started = psutil.Process(pid).create_time()
            self._tell({"watch": pid, "started": started, "signal": self._watched[pid]})

    def _tell(self, message: dict[str, float]) -> None:
        if self._process and self._process.stdin:
            # One that was killed is started again by `start`, which tells it everything anew.
            with contextlib.suppress(OSError):
                self._process.stdin.write(json.dumps(message).encode() + b"\n")

    def _drop(self) -> None:
        if self._process is None:
            return
        if self._process.stdin:
            self._process.stdin.close()
        try:
            self._process.wait(GRACE + 5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


class Target:
    """The watchdog's side: one process to end, with its group and descendants."""

    def __init__(self, pid: int, started: float, stop_signal: int) -> None:
        self.leader = psutil.Process(pid)
        if abs(self.leader.create_time() - started) > SAME_START:
            raise psutil.NoSuchProcess(pid)
        self.stop_signal = stop_signal
        self.members = {self.leader}

    def find_members(self) -> None:
        """Take in whoever belongs to it now.

        A group number is certain to be ours only while someone we know is in it: after that the system may
        give it to others.
        """
        if alive(self.leader):
            with contextlib.suppress(psutil.Error):
                self.members.update(self.leader.children(recursive=True))
        if any(alive(member) for member in self.members):
            for pid in psutil.pids():
                with contextlib.suppress(OSError, psutil.Error):
                    if os.getpgid(pid) == self.leader.pid:
                        self.members.add(psutil.Process(pid))

    def ask(self) -> None:
        """Send the polite signal to the leader alone: it knows how to end its own children."""
        with contextlib.suppress(psutil.Error):
            self.leader.send_signal(self.stop_signal)

    def kill(self) -> None:
        """Kill all of it; psutil refuses to signal a process id that was given to someone else."""
        for member in self.members:
            with contextlib.suppress(psutil.Error):
                member.kill()

    def ended(self) -> bool:
        """True when nothing of it is left; without its leader the rest is killed at once."""
        self.find_members()
        if not alive(self.leader):
            self.kill()
        return not any(alive(member) for member in self.members)


def alive(process: psutil.Process) -> bool:
    """True if this very process still runs; a zombie does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def attend(messages: Iterable[bytes]) -> list[Target]:
    """Follow what the owner writes until it is gone; returns what it left behind."""
    targets: dict[int, Target] = {}
    for line in messages:
        try:
            message = json.loads(line)
        except ValueError:
            continue  # cut off in the middle of a word
        if "forget" in message:
            targets.pop(message["forget"], None)
        else:
            pid = message["watch"]
            targets.pop(pid, None)
            with contextlib.suppress(psutil.NoSuchProcess):
                targets[pid] = Target(pid, message["started"], message["signal"])
    return list(targets.values())


def end(targets: list[Target], grace: float = GRACE) -> None:
    """Ask all of them to end, and kill after `grace` seconds what has not."""
    for target in targets:
        target.find_members()
        target.ask()
    deadline = time.monotonic() + grace
    while (targets := [target for target in targets if not target.ended()]) and time.monotonic() < deadline:
        time.sleep(TICK)
    for target in targets:
        target.kill()


def main() -> None:
    """Watch until the owner is gone, then end what it left."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)  # whoever stops everything at once stops the owner, too
    end(attend(sys.stdin.buffer))


if __name__ == "__main__":
    main()
