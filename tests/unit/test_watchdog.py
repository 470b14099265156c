"""The watchdog ends what it was told of, and nobody else."""

import json
import os
import signal
import subprocess
import sys

import psutil

from tasks import watchdog
from tasks.watchdog import Watchdog

SLEEP = "import time; time.sleep(600)"
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(600)
"""


def python(code: str, *args: object) -> list[str]:
    """The command that runs this code."""
    return [sys.executable, "-S", "-c", code, *map(str, args)]


def test_the_watchdog_leaves_a_reused_pid_alone() -> None:
    """A pid that now belongs to someone else, here to this very test, is never signalled."""
    message = {"watch": os.getpid(), "started": 1.0, "signal": int(signal.SIGTERM)}
    assert watchdog.attend([json.dumps(message).encode(), b'{"watch": 1, "sta']) == []


def test_the_watchdog_kills_what_does_not_end_by_itself() -> None:
    """The polite signal first, then no choice, for a whole group."""
    stubborn = subprocess.Popen(python(STUBBORN), stdout=subprocess.PIPE, start_new_session=True)
    with stubborn:
        assert stubborn.stdout
        assert stubborn.stdout.readline() == b"ready\n"
        started = psutil.Process(stubborn.pid).create_time()
        watchdog.end([watchdog.Target(stubborn.pid, started, signal.SIGTERM)], grace=0.3)
        assert stubborn.wait(5) == -signal.SIGKILL


def test_what_was_forgotten_is_not_ended() -> None:
    """Closing the watchdog ends what is still watched and nothing else."""
    kept, watched = (subprocess.Popen(python(SLEEP), start_new_session=True) for _ in range(2))
    guard = Watchdog()
    guard.start()
    guard.watch(kept.pid)
    guard.watch(watched.pid)
    guard.forget(kept.pid)
    guard.close()
    assert watched.wait(5) == -signal.SIGTERM
    assert kept.poll() is None
    kept.kill()
    kept.wait()
