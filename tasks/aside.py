"""Work that can wait, in a process of its own: it takes the cores when nothing else wants them.

A comparison of many contacts computes as long as it waits for the CRM. In the worker's own process it would take the
interpreter's lock from live events, and no priority of a thread could give it back (docs/performance.md). The process
lives for one turn; who ends it, or the worker, repeats one chunk.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import structlog

from integration.model.reconciliation import RECONCILE_CONTACTS

log = structlog.get_logger(__name__)

NICE = 10
"""How far it stands behind live work: beside it, it gets about a tenth of a core."""

THREADS = {RECONCILE_CONTACTS: 2}
"""One compares while the other one reads; every other operation is done by one."""

MORE = 3
"""The exit code that says: there is more to do at once. What Python says itself is 0, 1 and 2."""

FAILED = 4
"""The exit code of a turn that an error ended; the log has said which."""

LONGEST_SECONDS = 540.0
"""How long a turn may take: it ends itself after TURN_SECONDS and a chunk, and one that hangs would keep its place."""

IDLE_SECONDS = 0.1
"""How long a thread waits that finds nothing to do, while another one may soon have more."""

LOOK_SECONDS = 1.0
"""How often it looks whether the worker that started it is still there."""

_busy: dict[tuple[str, str], "subprocess.Popen[bytes] | None"] = {}
_lock = threading.Lock()


def work(connection: str, operation: str) -> bool:
    """Do a turn of an operation of one connection, and return whether there is more to do at once.

    Where a turn of it is under way here already, there is nothing to do.
    """
    place = (connection, operation)
    with _lock:
        if place in _busy:
            return False
        _busy[place] = None
    try:
        command = [sys.executable, "-m", "tasks.aside", connection, operation, str(os.getpid())]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:  # noqa: S603 - our own module
            _busy[place] = process
            code = _ended(process)
    except OSError as error:
        log.warning("aside.refused", connection=connection, operation=operation, error=str(error))
        return False  # the sweeper rings again
    finally:
        with _lock:
            _busy.pop(place)
    if code not in (0, MORE, -signal.SIGTERM):
        log.warning("aside.died", connection=connection, operation=operation, code=code)
    return code == MORE


def _ended(process: "subprocess.Popen[bytes]") -> int:
    """Wait until a process has ended, or end it when its time is up; return its exit code, below 0 for a signal."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(LONGEST_SECONDS)
    process.kill()  # nothing, where it has ended
    return process.wait()


def end() -> None:
    """End what is under way: a worker that stops waits for its calls, and not for a turn of work that can wait."""
    for process in list(_busy.values()):
        if process is not None:
            process.terminate()


def main(connection: str, operation: str, parent: str) -> int:
    """Do a turn in this process, for the worker of this number; return the exit code."""
    os.nice(NICE)  # first: what is imported below costs a second of a core
    threading.Thread(target=_leave_with, args=(int(parent),), name="parent", daemon=True).start()
    from integration.observability import logs  # noqa: PLC0415 - the worker needs none of these from here
    from tasks import app, flow, memory  # noqa: PLC0415
    from tasks.assembly import this_process  # noqa: PLC0415

    memory.bound()
    assert app  # noqa: S101 - the app that rings
    logs.configure(this_process().settings.log_format)
    turn = _Turn(connection, operation, flow.TURNS[operation])
    threads = [threading.Thread(target=turn.work, name=f"turn-{n}") for n in range(THREADS.get(operation, 1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return MORE if turn.is_more else FAILED if turn.has_failed else 0


@dataclass
class _Turn:
    """What the threads of a turn know of each other."""

    connection: str
    operation: str
    do: Callable[[str], bool]
    is_more: bool = False
    has_failed: bool = False
    at_work: set[int] = field(default_factory=set)
    over: threading.Event = field(default_factory=threading.Event)

    def work(self) -> None:
        """Work until there is nothing more to do, or time is up; while somebody reads there will be more."""
        me = threading.get_ident()
        while not self.over.is_set():
            self.at_work.add(me)
            is_more = self._once()
            self.at_work.discard(me)
            self.is_more |= is_more
            if is_more or self.has_failed or not self.at_work:
                self.over.set()
            self.over.wait(IDLE_SECONDS)

    def _once(self) -> bool:
        try:
            return self.do(self.connection)
        except Exception:
            log.exception("aside.failed", connection=self.connection, operation=self.operation)
            self.has_failed = True
            return False


def _leave_with(parent: int) -> None:
    """End at once when the worker is gone: what it would have been asked to end goes with it."""
    while os.getppid() == parent:
        time.sleep(LOOK_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
