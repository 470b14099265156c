"""How a process keeps its memory: what is there when it is ready is left alone by the collector."""

import subprocess
import sys

SETTLED = "import gc; from tasks import memory; memory.bound(); memory.settle(); print(gc.get_freeze_count() > 1000)"
READY = (
    "import gc; from celery import signals; import tasks.app;"
    "signals.worker_ready.send(sender=None); print(gc.get_freeze_count() > 1000)"
)


def said(program: str) -> str:
    """Run a program in a process of its own: what is frozen stays so."""
    return subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.strip()


def test_what_is_there_is_left_alone() -> None:
    """The imported program is frozen, and few heaps can be asked for wherever it runs."""
    assert said(SETTLED) == "True"


def test_a_worker_does_so_when_it_is_ready() -> None:
    """Not before: what it imports on its way would not be in it."""
    assert said(READY) == "True"
