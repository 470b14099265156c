"""Runs all roles on one machine: `coursewire up` and `coursewire demo` are this and a list of roles.

Every role is a direct child in a session of its own. One that dies is started again, and so is an embedded
server; if the supervisor itself is killed, its watchdog ends everything it started.
"""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import ParamSpec, Protocol, TextIO

from tasks.child import FIRST_DELAY, LONGEST_DELAY, Child, Probe, Role, how_it_ended
from tasks.console import Console
from tasks.signals import SAME_PRESS, listening
from tasks.watchdog import Watchdog

__all__ = ["ManagedServer", "Probe", "Role", "Supervisor"]

ME = "coursewire"
TICK = 0.1  # seconds between two looks at the children
SERVER_PATIENCE = 30.0  # seconds for a server to stop politely


P = ParamSpec("P")


class ManagedServer(Protocol):
    """What the supervisor asks of an embedded server."""

    @property
    def name(self) -> str:
        """What to call it in the output."""

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """Its process, our direct child."""

    @property
    def watchdog(self) -> Watchdog | None:
        """Who ends it if we are killed."""

    def start(self) -> None:
        """Start it again after its process died."""

    def stop(self, timeout: float) -> None:
        """Stop it, politely for `timeout` seconds; a start under way is called off."""


class Supervisor:
    """Keeps roles and embedded servers running until asked to stop.

    `run` blocks and listens to signals; `start` and `stop` do the same from a program that has its own story
    to tell. `servers` run already and come in the order in which to stop them, after all roles.
    """

    def __init__(
        self, roles: Sequence[Role], servers: Sequence[ManagedServer] | None = None, out: TextIO | None = None
    ) -> None:
        self._children = [Child(role) for role in roles]
        self._servers = list(servers or ())
        self._revivals: dict[str, threading.Thread] = {}
        self._asked = 0  # how often we were asked to stop
        self._asked_at = 0.0
        self._hurry = threading.Event()  # ends waits that nobody is interested in any more
        self._thread: threading.Thread | None = None
        self._watchdog = Watchdog()
        self._shares_watchdog = False
        for server in self._servers:
            if server.watchdog:
                self._watchdog = server.watchdog
                self._shares_watchdog = True
        names = [ME, *(role.name for role in roles), *(server.name for server in self._servers)]
        self._console = Console(sys.stdout if out is None else out, names)

    def run(self) -> int:
        """Run until SIGINT, SIGTERM or SIGHUP, and kill at a second one; returns the exit code.

        Only for the main thread (ValueError elsewhere), because only it hears signals.
        """
        with listening(self._hear):
            self._live()
        return 0

    def start(self) -> None:
        """Run in the background, once in the life of this object (RuntimeError)."""
        if self._thread or self._asked:
            raise RuntimeError("a supervisor is started once")
        self._thread = threading.Thread(target=self._live, name="supervisor")
        self._thread.start()

    def stop(self) -> None:
        """Stop everything in order and return when it is gone; harmless when nothing runs."""
        self._asked = max(self._asked, 1)
        if self._thread:
            self._thread.join()

    def kill(self) -> None:
        """Stop, and wait for nobody to end by itself any more."""
        self._asked = 2
        self.stop()

    def pids(self) -> dict[str, int]:
        """The process ids of the roles and servers that run now, by name."""
        running = {child.role.name: child.process for child in self._children}
        running |= {server.name: server.process for server in self._servers}
        return {name: process.pid for name, process in running.items() if process and process.returncode is None}

    def poll_once(self) -> None:
        """Look at everything once: start what is due, restart what died, kill what will not stop."""
        self._watchdog.start()
        for child in self._children:
            self._look_after(child)
        for server in self._servers:
            revival = self._revivals.get(server.name)
            if not (revival and revival.is_alive()) and server.process.poll() is not None:
                self._say(f"{server.name} {how_it_ended(server.process.returncode)}, starting it again")
                self._revivals[server.name] = _in_background(self._revive, server)

    def _look_after(self, child: Child) -> None:
        if child.process is None:
            if time.monotonic() >= child.due:
                self._start(child)
        elif child.unwell:
            child.unwell = False
            child.ask_to_stop()
        elif child.ended() or child.overdue():
            pid = child.process.pid
            how = child.reap()
            self._watchdog.forget(pid)
            self._say(f"{child.role.name} {how}, starting it again in {child.postpone():.1f} s")

    def _start(self, child: Child) -> None:
        name = child.role.name
        try:
            process = child.start()
        except OSError as refused:
            self._say(f"{name} cannot be started ({refused}), trying again in {child.postpone():.1f} s")
            return
        self._watchdog.watch(process.pid, child.role.stop_signal)
        if process.stdout:
            self._console.follow(name, process.stdout)
        self._say(f"{name} started (process {process.pid})")

    def _revive(self, server: ManagedServer) -> None:
        delay = FIRST_DELAY
        while not self._asked:
            try:
                server.start()
            except Exception as failure:  # noqa: BLE001 - whatever it is, giving up would leave us without
                self._say(f"{server.name} cannot be started, trying again in {delay:.1f} s: {failure}")
                self._hurry.wait(delay)
                delay = min(delay * 2, LONGEST_DELAY)
            else:
                self._say(f"{server.name} runs again (process {server.process.pid})")
                return

    def _probe(self, child: Child, probe: Probe) -> None:
        failed = 0
        while not self._hurry.wait(probe.interval):
            process = child.process
            if process is None or time.monotonic() - child.started < probe.grace or probe.passes(process.pid):
                failed = 0
                continue
            failed += 1
            if failed >= probe.failures and child.process is process:
                self._say(f"{child.role.name} gave no sign of life {failed} times, stopping it")
                child.unwell = True
                failed = 0

    def _live(self) -> None:
        for child in self._children:
            if child.role.probe:
                _in_background(self._probe, child, child.role.probe)
        try:
            while not self._asked:
                self.poll_once()
                time.sleep(TICK)
        finally:
            self._asked = max(self._asked, 1)
            self._hurry.set()
            self._stop_everything()

    def _stop_everything(self) -> None:
        try:
            for phase in sorted({child.role.phase for child in self._children}):
                self._stop_roles([child for child in self._children if child.role.phase == phase])
            for server in self._servers:
                self._stop_server(server)
            self._say("stopped")
        finally:
            if not self._shares_watchdog:
                self._watchdog.close()
            self._console.close()

    def _stop_roles(self, children: list[Child]) -> None:
        for child in children:
            child.ask_to_stop()
        while children := [child for child in children if child.process]:
            for child in children:
                self._see_off(child)
            time.sleep(TICK / 5)

    def _see_off(self, child: Child) -> None:
        if child.process and (child.ended() or child.overdue() or self._asked > 1):
            pid = child.process.pid
            self._say(f"{child.role.name} {child.reap()}")
            self._watchdog.forget(pid)

    def _stop_server(self, server: ManagedServer) -> None:
        revival = self._revivals.get(server.name)
        stopping = _in_background(self._stop_revived, server, revival)
        while stopping.is_alive():
            stopping.join(TICK)
            if self._asked > 1:
                server.process.kill()
        self._say(f"{server.name} {how_it_ended(server.process.returncode or 0)}")

    @staticmethod
    def _stop_revived(server: ManagedServer, revival: threading.Thread | None) -> None:
        server.stop(SERVER_PATIENCE)
        if revival:  # its start was called off, or won the race and is to be stopped after all
            revival.join()
            server.stop(SERVER_PATIENCE)

    def _say(self, text: str) -> None:
        self._console.say(ME, text)

    def _hear(self, _number: int, _frame: FrameType | None) -> None:
        # Plain assignments only: a lock taken here could be held by the very code that was interrupted.
        now = time.monotonic()
        if not self._asked or now - self._asked_at > SAME_PRESS:
            self._asked += 1
            self._asked_at = now


def _in_background(work: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> threading.Thread:
    thread = threading.Thread(target=work, args=args, kwargs=kwargs, daemon=True)
    thread.start()
    return thread
