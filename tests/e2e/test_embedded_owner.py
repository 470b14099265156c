"""One owner of a data folder at a time, and what others see of it while it lives and after it was killed."""

import base64
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tasks.embedded import (
    DataFolder,
    EmbeddedServers,
    EmbeddedUnavailable,
    FolderInUse,
)
from tasks.embedded.postgres import PostgresServer
from tests.embedded import OWNER, Owner, execute, passable_folder
from tests.processes import gone, until


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that other accounts can pass through."""
    with passable_folder() as made:
        yield made


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
