"""Both embedded servers of one data folder, for as long as one process wants them.

`coursewire up`, `coursewire demo` and the tests hold one of these; other commands find the addresses through
`DataFolder.running()`.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from tasks.embedded.folder import DataFolder
from tasks.embedded.postgres import PostgresServer
from tasks.embedded.process import Server
from tasks.embedded.valkey import ValkeyServer
from tasks.watchdog import Watchdog


class EmbeddedServers:
    """Owns a data folder and runs PostgreSQL and Valkey in it, or only one of them.

    If this process is killed, its watchdog ends the servers.
    """

    def __init__(self, folder: Path, *, durable: bool = True, database: bool = True, broker: bool = True) -> None:
        """`durable=False` gives up safety against a power cut, for clusters that are thrown away."""
        self.folder = DataFolder(folder)
        self.postgres = PostgresServer(self.folder, durable=durable) if database else None
        self.valkey = ValkeyServer(self.folder, durable=durable) if broker else None
        self.watchdog = Watchdog()
        for server in self.servers:
            server.watchdog = self.watchdog

    @property
    def servers(self) -> list[Server]:
        """The servers in the order in which they are to be stopped."""
        return [server for server in (self.valkey, self.postgres) if server is not None]

    @property
    def database_url(self) -> str:
        """The address of PostgreSQL; RuntimeError if it was not asked for or not started."""
        if self.postgres is None:
            raise RuntimeError("the embedded PostgreSQL was not asked for")
        return self.postgres.url

    @property
    def broker_url(self) -> str:
        """The address of Valkey; RuntimeError if it was not asked for or not started."""
        if self.valkey is None:
            raise RuntimeError("the embedded Valkey was not asked for")
        return self.valkey.url

    def start(self) -> None:
        """Claim the folder and start the servers; raises FolderInUse, EmbeddedUnavailable, OSError."""
        self.folder.claim()
        try:
            self.watchdog.start()
            with ThreadPoolExecutor(len(self.servers) or 1) as pool:
                for started in [pool.submit(server.start) for server in self.servers]:
                    started.result()
            self.folder.announce(
                database_url=self.postgres.url if self.postgres else None,
                broker_url=self.valkey.url if self.valkey else None,
                ports={server.name: server.port for server in self.servers},
            )
        except BaseException:
            self.stop(5)
            raise

    def stop(self, timeout: float = 30) -> None:
        """Stop the servers, `timeout` seconds for each to end politely, and give the folder up."""
        try:
            self.folder.withdraw()
            for server in self.servers:
                server.stop(timeout)
        finally:
            self.watchdog.close()
            self.folder.release()

    def __enter__(self) -> Self:
        """Start the servers."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the servers."""
        self.stop()
