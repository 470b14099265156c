"""The embedded Valkey: the doorbell between web and worker, never the record.

It keeps its queue across restarts all the same: a bell that rings is cheaper than a sweep. If its file is
beyond repair it starts empty: every event is in Postgres and the sweeper rings again.
"""

import contextlib
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import psutil
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tasks.embedded.binaries import find_broker
from tasks.embedded.errors import EmbeddedUnavailable, FilesDamaged, PortTaken
from tasks.embedded.folder import DataFolder
from tasks.embedded.process import Server, end_processes, find_processes

START_TIMEOUT = 60.0  # seconds, loading the file included
FILES = ("appendonlydir", "appendonly.aof")


class ValkeyServer(Server):
    """Valkey (or Redis) on 127.0.0.1 with a password only this data folder knows."""

    name: ClassVar[str] = "valkey"
    stop_signals: ClassVar[Sequence[signal.Signals]] = (signal.SIGTERM, signal.SIGKILL)
    failures: ClassVar[Mapping[str, type[EmbeddedUnavailable]]] = {
        "Address already in use": PortTaken,
        "Bad file format": FilesDamaged,
        "Fatal error loading": FilesDamaged,
        "Unrecoverable error": FilesDamaged,
        "Unexpected end of file": FilesDamaged,
    }

    def __init__(self, folder: DataFolder, *, durable: bool = True) -> None:
        super().__init__(folder)
        self._durable = durable
        self._home = folder.path / "valkey"

    @property
    def url(self) -> str:
        """`redis://:password@127.0.0.1:port/0`; RuntimeError before the first start."""
        return f"redis://:{self._password}@127.0.0.1:{self.port}/0"

    @property
    def _password(self) -> str:
        return self.folder.secret("valkey.password")

    def _launch(self) -> None:
        program = find_broker()
        self._home.mkdir(mode=0o700, exist_ok=True)
        end_processes(self._orphans(), self.stop_signals, 5)
        self._port = self._choose_port()
        try:
            self._run(program)
        except FilesDamaged:
            self._put_aside()
            self._run(program)

    def _orphans(self) -> list[psutil.Process]:
        """Servers of an owner that was killed, by the folder they work in (they rewrite their titles)."""

        def works_here(process: psutil.Process) -> bool:
            name = process.name()
            return ("valkey" in name or "redis" in name) and process.cwd() == str(self._home)

        return find_processes(works_here)

    def _run(self, program: Path) -> None:
        self.folder.write("valkey/valkey.conf", self._config())
        offset = self._spawn([str(program), str(self._home / "valkey.conf")], cwd=self._home)
        self._await_answer(offset, START_TIMEOUT)

    def _answers(self) -> bool:
        once = Retry(NoBackoff(), 0)
        client = redis.Redis(host="127.0.0.1", port=self.port, password=self._password, socket_timeout=2, retry=once)
        with contextlib.closing(client):
            try:
                return bool(client.ping())
            except redis.AuthenticationError as other:
                raise PortTaken(f"port {self.port} is taken by a server with another password") from other
            except redis.RedisError:
                return False

    def _put_aside(self) -> None:
        for name in FILES:
            damaged = self._home / name
            if damaged.exists():
                damaged.rename(self._home / f"{name}.damaged-{time.time_ns()}")

    def _config(self) -> str:
        # In a file for our eyes only: a command line is there for everyone to read.
        settings = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "protected-mode": "yes",
            "requirepass": self._password,
            "daemonize": "no",
            "dir": str(self._home),
            "save": "",  # the log below is enough
            "appendonly": "yes",
            "appendfsync": "everysec" if self._durable else "no",  # a second of rings may be lost: the sweeper rings
            "aof-load-truncated": "yes",
            "maxmemory": "256mb",  # hundreds of thousands of rings; when it is full they are refused, and rung later
            "maxmemory-policy": "noeviction",  # any other policy deletes queues without a word
        }
        return "".join(f"{key} {_quoted(value)}\n" for key, value in settings.items())


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
