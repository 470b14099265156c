"""The embedded servers, for real: what survives which accident."""

import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from tasks.embedded import (
    DataFolder,
    EmbeddedServers,
    postgres,
)
from tasks.embedded.account import server_account, spawn
from tasks.embedded.postgres import PostgresServer
from tasks.embedded.valkey import ValkeyServer
from tests.embedded import OWNER, broker, execute, passable_folder
from tests.processes import gone, until


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that other accounts can pass through."""
    with passable_folder() as made:
        yield made


@pytest.fixture
def folder(place: Path) -> Iterator[DataFolder]:
    """A data folder that this test owns."""
    with DataFolder(place / "data") as claimed:
        yield claimed


def test_the_second_start_finds_the_data_at_the_same_addresses(place: Path) -> None:
    """What was stored is there after a restart, and clients need no new address."""
    with EmbeddedServers(place / "data") as first:
        execute(first.database_url, "CREATE TABLE kept AS SELECT 42 AS answer")
        with broker(first.broker_url) as client:
            client.set("kept", "yes")
        addresses = (first.database_url, first.broker_url)
    with EmbeddedServers(place / "data") as second:
        assert (second.database_url, second.broker_url) == addresses
        assert execute(second.database_url, "SELECT answer FROM kept") == [(42,)]
        with broker(second.broker_url) as client:
            assert client.get("kept") == b"yes"


def test_the_database_is_durable_checked_and_private(folder: DataFolder) -> None:
    """A commit is on disk, pages carry checksums, nobody reaches it from outside or without the password."""
    with PostgresServer(folder) as server:
        names = "fsync synchronous_commit full_page_writes data_checksums jit listen_addresses server_encoding"
        settings = execute(
            server.url,
            "SELECT setting FROM pg_settings "  # noqa: S608 - our own names
            f"WHERE name = ANY('{{{names.replace(' ', ',')}}}') ORDER BY name",
        )
        shown = dict(zip(sorted(names.split()), (value for (value,) in settings), strict=True))
        assert shown == {
            "fsync": "on",
            "synchronous_commit": "on",
            "full_page_writes": "on",
            "data_checksums": "on",
            "jit": "off",
            "listen_addresses": "127.0.0.1",
            "server_encoding": "UTF8",
        }
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(server.url.replace("postgres:", "postgres:wrong", 1))


def test_no_secret_is_on_a_command_line_or_readable_by_others(place: Path) -> None:
    """Passwords and keys are in files of their owner, and nowhere else."""
    with EmbeddedServers(place / "data", durable=False) as servers:
        servers.folder.master_keys()
        secrets = [(servers.folder.path / f"{name}.password").read_text() for name in ("postgres", "valkey")]
        for server in servers.servers:
            command = " ".join(psutil.Process(server.pid).cmdline())
            assert not any(secret in command for secret in secrets)
        names = (
            "run.json",
            "master.key",
            "valkey/valkey.conf",
            "postgres.password",
            "valkey.password",
            "postgres.log",
        )
        modes = {name: stat.S_IMODE((servers.folder.path / name).stat().st_mode) for name in names}
        assert modes == dict.fromkeys(names, 0o600)


def test_a_stale_pid_file_does_not_stop_a_start_nor_hurt_who_has_the_pid_now(folder: DataFolder) -> None:
    """After a power cut the pid in the file may belong to anyone, even to a process of the same account."""
    with PostgresServer(folder, durable=False) as server:
        pid_file = folder.path / "postgres" / "data" / "postmaster.pid"
        left = pid_file.read_text()
    account = server_account(pid_file.parent)
    with spawn(["sleep", "600"], account, output=subprocess.DEVNULL) as stranger:
        try:
            pid_file.write_text(left.replace(left.split("\n")[0], str(stranger.pid), 1))
            with server:
                assert execute(server.url, "SELECT 1") == [(1,)]
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_a_killed_postgres_starts_again_with_everything_committed(folder: DataFolder) -> None:
    """Kill -9 of the server costs nothing that was committed, and the address stays."""
    with PostgresServer(folder) as server:
        url, killed = server.url, server.pid
        execute(url, "CREATE TABLE kept (answer int)")
        execute(url, "INSERT INTO kept VALUES (42)")
        os.kill(killed, signal.SIGKILL)
        server.start()
        assert server.pid != killed
        assert server.url == url
        assert execute(url, "SELECT answer FROM kept") == [(42,)]


def test_a_killed_postgres_starts_again_while_its_children_still_compute(
    folder: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backend in a long computation outlives its server and must not keep the next one out."""
    monkeypatch.setattr(postgres, "LEFTOVER_TIMEOUT", 1.0)
    with (
        PostgresServer(folder, durable=False) as server,
        contextlib.closing(psycopg.connect(server.url)) as busy,
    ):
        backend = psutil.Process(busy.info.backend_pid)

        def compute() -> None:
            with contextlib.suppress(psycopg.Error):
                busy.execute("SELECT sum(sqrt(n)) FROM generate_series(1, 1000000000000) AS n")

        thread = threading.Thread(target=compute, daemon=True)
        thread.start()
        try:
            until(lambda: backend.cpu_times().user > 0.1)
            os.kill(server.pid, signal.SIGKILL)
            server.start()
            assert gone(backend.pid)
            assert execute(server.url, "SELECT 1") == [(1,)]
            thread.join()
        finally:
            with contextlib.suppress(psutil.NoSuchProcess):
                backend.kill()


def test_a_killed_valkey_starts_again_with_its_queue(folder: DataFolder) -> None:
    """Kill -9 of the broker does not lose what it had acknowledged."""
    with ValkeyServer(folder) as server:
        with broker(server.url) as client:
            client.lpush("queue", "ring")
            os.kill(server.pid, signal.SIGKILL)
        server.start()
        with broker(server.url) as client:
            assert client.lrange("queue", 0, -1) == [b"ring"]
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_valkey_starts_with_a_file_cut_off_in_the_middle(folder: DataFolder) -> None:
    """A power cut leaves half a record at the end of the file: only that one is lost."""
    with ValkeyServer(folder) as server, broker(server.url) as client:
        client.set("first", "1")
        client.set("second", "2")
    log = next((folder.path / "valkey" / "appendonlydir").glob("*.incr.aof"))
    os.truncate(log, log.stat().st_size - 5)
    with server, broker(server.url) as client:
        assert client.get("first") == b"1"


def test_valkey_starts_empty_with_a_file_beyond_repair_and_keeps_it(folder: DataFolder) -> None:
    """The doorbell must ring again; what it knew is in Postgres, and the file is kept for a look."""
    with ValkeyServer(folder) as server, broker(server.url) as client:
        client.set("key", "value" * 100)
    log = next((folder.path / "valkey" / "appendonlydir").glob("*.incr.aof"))
    log.write_bytes(b"no record starts like this" + log.read_bytes())
    with server, broker(server.url) as client:
        assert client.ping()
        assert list((folder.path / "valkey").glob("appendonlydir.damaged-*"))


def test_an_interrupted_creation_of_the_cluster_is_started_over(place: Path) -> None:
    """Killed half-way through making its files, the next start makes them anew and leaves no rest."""
    path = place / "data"
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(path)], stdout=subprocess.DEVNULL)
    until(lambda: list(path.glob("postgres/init-*/data/base")))
    everything = [*psutil.Process(owner.pid).children(recursive=True), psutil.Process(owner.pid)]
    for process in everything:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    owner.wait()
    until(lambda: all(gone(process.pid) for process in everything))
    assert not (path / "postgres" / "data").exists()
    with EmbeddedServers(path, broker=False, durable=False) as servers:
        assert execute(servers.database_url, "SELECT 1") == [(1,)]
    assert not list(path.glob("postgres/init-*"))


def test_a_remembered_port_that_is_taken_is_given_up(folder: DataFolder) -> None:
    """A stranger on yesterday's port is no reason not to start."""
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        folder.remember_port("valkey", stranger.getsockname()[1])
        with ValkeyServer(folder) as server:
            assert server.port != stranger.getsockname()[1]
            assert folder.port("valkey") == server.port
