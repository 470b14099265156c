"""`coursewire bench` as a process: the smallest run prints its table, and leaves nothing running."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import orjson
import psutil

from tests.embedded import passable_folder
from tests.processes import ROOT, until

PATIENCE = 270.0
"""Less than after which pytest shows where every thread stands."""


def test_the_smallest_run_prints_its_table() -> None:
    """One row, once, on real processes: figures, limits and bars; figures in a file; nothing runs afterwards."""
    with passable_folder() as folder:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("COURSEWIRE_")}
        environment |= {"PYTHONPATH": str(ROOT), "COURSEWIRE_BROKER_URL": "redis://127.0.0.1:9/0"}
        environment |= {"PYTHONFAULTHANDLER": "1"}
        bench = subprocess.Popen(
            [sys.executable, "-m", "tasks.cli", "bench", "--quick", "--only", "accept", "--json", "found.json"],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        family: set[psutil.Process] = set()
        watching = threading.Thread(target=_watch, args=(bench, family), daemon=True)
        watching.start()
        output = _said(bench, family)
        watching.join()
        assert bench.returncode == 0, output  # a bar that this machine misses now is not an error
        for said in (
            "Accept: signed webhook",
            "limit: empty route",
            "Celery: published",
            "Measured on",
            "PostgreSQL: ",
        ):
            assert said in output
        figures = orjson.loads((folder / "found.json").read_bytes())["rows"]["accept"]["figures"]
        assert figures["ours"]["median"] > 0
        assert figures["ratio"]["bar"] == {"at_least": 0.45}
        assert len(family) > 5, "Postgres, Valkey, the CRM, the load generator and the web role were to be seen"
        until(lambda: not any(_runs(one) for one in family), 20)


def _said(bench: subprocess.Popen[str], family: set[psutil.Process]) -> str:
    """Return what it has printed in the end; of one that does not end, what it said, and where its threads stand."""
    try:
        return bench.communicate(timeout=PATIENCE)[0]
    except subprocess.TimeoutExpired:
        bench.send_signal(signal.SIGABRT)
        output, _ = bench.communicate(timeout=60)
        for one in family:
            with suppress(psutil.NoSuchProcess):
                one.terminate()
        raise AssertionError(f"the benchmark did not end by itself; it said:\n{output}") from None


def _watch(bench: subprocess.Popen[str], family: set[psutil.Process]) -> None:
    while bench.poll() is None:
        try:
            family.update(psutil.Process(bench.pid).children(recursive=True))
        except psutil.NoSuchProcess:
            return
        time.sleep(0.25)


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
