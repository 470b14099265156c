"""What the figures were measured on; nothing that names this machine or a place on it."""

import os
import platform
import re
from collections.abc import Mapping

import psutil
import psycopg

from scripts.bench.arena import Arena

__all__ = ["facts"]

DURABLE = "SELECT current_setting('fsync') || ', ' || current_setting('synchronous_commit')"


def facts(arena: Arena) -> Mapping[str, str]:
    """Cores, memory, kernel and versions, by name."""
    with psycopg.connect(arena.servers.database_url) as db:
        row = db.execute("SHOW server_version").fetchone()
        durable = db.execute(DURABLE).fetchone()
    with arena.broker() as broker:
        told = broker.info("server")
    server = "Valkey" if "valkey_version" in told else "Redis"
    return {
        "cores": str(_cores()),
        "CPU": _model(),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "Python": platform.python_version(),
        "PostgreSQL": f"{row[0] if row else '?'} (fsync, synchronous_commit: {durable[0] if durable else '?'})",
        server: str(told.get("valkey_version") or told.get("redis_version")),
        "load before": f"{os.getloadavg()[0]:.1f} processes wanted a core in the last minute",
    }


def _cores() -> int:
    """The cores this process may use, which in a container are fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _model() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - not a file of ours
            found = re.search(r"^model name\s*:\s*(.+)$", file.read(), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or "unknown"
