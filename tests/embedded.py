"""What tests of the embedded servers share: folders, owners and clients."""

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import redis

from tests.processes import gone

OWNER = """
import sys, time
from dataclasses import dataclass
from pathlib import Path
from tasks.embedded import EmbeddedServers
with EmbeddedServers(Path(sys.argv[1]), durable=False) as servers:
    print(servers.postgres.pid, servers.valkey.pid, servers.watchdog.pid, flush=True)
    time.sleep(600)
"""


@contextlib.contextmanager
def passable_folder() -> Iterator[Path]:
    """A folder that other accounts can pass through, as /srv or /opt."""
    made = Path(tempfile.mkdtemp(prefix="coursewire-"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made)


def execute(url: str, query: str) -> list[tuple[object, ...]]:
    """Run one statement in a transaction of its own."""
    with psycopg.connect(url, autocommit=True) as db:
        cursor = db.execute(query.encode())
        return cursor.fetchall() if cursor.description else []


def broker(url: str) -> contextlib.closing[redis.Redis]:
    """A client that is closed after use."""
    return contextlib.closing(redis.Redis.from_url(url))


@dataclass
class Owner:
    """Another process that owns a folder, with the pids of what it started."""

    process: subprocess.Popen[str]
    postgres: int
    valkey: int
    watchdog: int

    def kill(self) -> None:
        """Kill the owner alone, as the system does when memory runs out."""
        self.process.kill()
        self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()

    def all_gone(self) -> bool:
        """True when nothing of it runs any more."""
        return all(gone(pid) for pid in (self.postgres, self.valkey, self.watchdog))
