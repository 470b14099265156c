"""The embedded PostgreSQL: the only record of everything Coursewire accepted.

The server is our direct child, so that its death is seen at once and it can be started again on the same
port; whatever an earlier owner left running on the same files is stopped first.
"""

import contextlib
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import psutil
import psycopg

from tasks.embedded.cluster import Cluster, prepare
from tasks.embedded.errors import EmbeddedUnavailable, MemoryHeld, PortTaken
from tasks.embedded.folder import DataFolder
from tasks.embedded.process import Server, end_processes, find_processes

START_TIMEOUT = 120.0  # seconds, crash recovery included
LEFTOVER_TIMEOUT = 10.0  # seconds for processes of a killed server to notice and end
DATABASE = "coursewire"
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # a folder of ours may be too deep for the name of a socket
    "max_connections": "100",  # a worker takes its threads and four, web ten
    "max_locks_per_transaction": "256",  # a batch holds up to 200 advisory locks while it decides who is who
    "shared_buffers": "128MB",  # the queues and their indexes stay in memory, on a small machine too
    "fsync": "on",  # with the next two: what was answered with 202 is on disk
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "max_wal_size": "1GB",  # a burst is not slowed down by checkpoints
    "jit": "off",  # statements of milliseconds would wait for a compiler
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    "logging_collector": "off",
}
BUSY = ("too many clients", "connection slots")  # clients were quicker than we: it serves
THROWAWAY = {"fsync": "off", "full_page_writes": "off"}


class PostgresServer(Server):
    """PostgreSQL on 127.0.0.1 with a password only this data folder knows."""

    name: ClassVar[str] = "postgres"
    stop_signals: ClassVar[Sequence[signal.Signals]] = (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL)
    failures: ClassVar[Mapping[str, type[EmbeddedUnavailable]]] = {
        "Address already in use": PortTaken,
        "pre-existing shared memory block": MemoryHeld,
    }

    def __init__(self, folder: DataFolder, *, durable: bool = True) -> None:
        super().__init__(folder)
        self._durable = durable

    @property
    def url(self) -> str:
        """`postgresql://postgres:password@127.0.0.1:port/coursewire`; RuntimeError before the first start."""
        return f"postgresql://postgres:{self._password}@127.0.0.1:{self.port}/{DATABASE}"

    @property
    def _password(self) -> str:
        return self.folder.secret("postgres.password")

    def _launch(self) -> None:
        cluster = prepare(self.folder, lambda: self._password, durable=self._durable)
        end_processes(_postmasters(cluster), self.stop_signals, 10)
        self._port = self._choose_port()
        deadline = time.monotonic() + LEFTOVER_TIMEOUT
        while True:
            try:
                return self._run(cluster)
            except MemoryHeld:
                if self._called_off or time.monotonic() > deadline + LEFTOVER_TIMEOUT:
                    raise
            if time.monotonic() > deadline:  # busy with a long query, they do not notice
                end_processes(_leftovers(cluster), (signal.SIGKILL,), 5)
            time.sleep(0.1)

    def _run(self, cluster: Cluster) -> None:
        # Whoever it names is not our server any more: that one was just ended or never lived past a crash.
        (cluster.data / "postmaster.pid").unlink(missing_ok=True)
        offset = self._spawn(self._command(cluster), cluster.account)
        self._await_answer(offset, START_TIMEOUT)

    def _command(self, cluster: Cluster) -> list[str]:
        settings = SETTINGS | ({} if self._durable else THROWAWAY)
        settings |= {"port": str(self.port), "cluster_name": cluster.label}
        command = [str(cluster.binaries.bindir / "postgres"), "-D", str(cluster.data)]
        for key, value in settings.items():
            command += ["-c", f"{key}={value}"]
        return command

    def _answers(self) -> bool:
        """True once our database can be used, which is made if it is absent; raises EmbeddedUnavailable."""
        try:
            self._connect(DATABASE).close()
        except psycopg.OperationalError as refused:
            if f'database "{DATABASE}" does not exist' in str(refused):
                self._create_database()
                return True
            if any(sign in str(refused) for sign in BUSY):
                return True
            if "password authentication failed" in str(refused) and self._remains():
                raise EmbeddedUnavailable(
                    f"the password in {self.folder.path / 'postgres.password'} does not open its database"
                ) from refused
            return False
        return True

    def _create_database(self) -> None:
        with contextlib.closing(self._connect("postgres")) as db:
            db.autocommit = True
            db.execute(f"CREATE DATABASE {DATABASE}")

    def _connect(self, database: str) -> psycopg.Connection:
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user="postgres",
            password=self._password,
            dbname=database,
            connect_timeout=5,
            sslmode="disable",
            gssencmode="disable",
        )


def _postmasters(cluster: Cluster) -> list[psutil.Process]:
    """Live servers on exactly our files, by their command line; a process id alone may have been reused."""

    def serves(process: psutil.Process) -> bool:
        match process.cmdline():
            case [program, "-D", data, *_]:
                return Path(program).name == "postgres" and data == str(cluster.data)
        return False

    return find_processes(serves)


def _leftovers(cluster: Cluster) -> list[psutil.Process]:
    """Processes that outlived their killed server, by the name it gave them."""
    title = f"postgres: {cluster.label}: "
    return find_processes(lambda process: " ".join(process.cmdline()).startswith(title))
