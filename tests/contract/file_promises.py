"""What every server that keeps files for us is held to: listed, fetched whole, moved without loss, and proven first."""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

import pytest

from integration.config import ConnectionConfig
from integration.connectors import registry
from integration.errors import ConnectionBroken, RetryLater
from integration.ports import FileServer


class Host(ABC):
    """One server, and whoever leaves files on it."""

    system: ClassVar[str]

    @abstractmethod
    def serve(self, folder: Path) -> AbstractContextManager[dict[str, Any]]:
        """Serve from a new folder; yield what the connection says, its credentials included."""

    @abstractmethod
    def put(self, name: str, content: bytes) -> None:
        """Let HR leave a file."""

    @abstractmethod
    def names(self, folder: str = "") -> list[str]:
        """Return the names of the files that lie there."""

    @abstractmethod
    def stranger(self) -> dict[str, Any]:
        """Return what differs in a connection that means another server."""

    @abstractmethod
    def refuse(self) -> None:
        """Let nobody in any more."""

    @abstractmethod
    def seal(self) -> None:
        """Permit nothing but reading."""


class FilePromises:
    """The port FileServer. Fill it by `class TestFiles(FilePromises): stage = ...`, a Host."""

    stage: ClassVar[type[Host]]

    @pytest.fixture
    def laid(self, tmp_path: Path) -> Any:
        """A host that serves, and its connection."""
        host = self.stage()
        place = tmp_path / "host"
        place.mkdir()
        with host.serve(place) as said:
            yield host, {"name": "hr", "system": host.system, **said}

    @staticmethod
    def made(said: dict[str, Any]) -> FileServer:
        """As the registry makes it."""
        made = registry.files(ConnectionConfig.model_validate(said))
        assert made is not None
        return made

    def test_files_are_listed_in_order_and_fetched_whole(self, laid: tuple[Host, Any], tmp_path: Path) -> None:
        """Bytes as they are, with their hash; `still` is called on the way."""
        host, said = laid
        content = bytes(range(256)) * 4096
        host.put("b ä.csv", content)
        host.put("a.csv", b"x")
        calls: list[int] = []
        with self.made(said).open() as folder:
            listed = folder.files()
            digest = folder.fetch("b ä.csv", tmp_path / "here", lambda: calls.append(1))
        assert [(one.name, one.size) for one in listed] == [("a.csv", 1), ("b ä.csv", len(content))]
        assert (tmp_path / "here").read_bytes() == content
        assert (digest, bool(calls)) == (sha256(content).digest(), True)

    def test_what_is_moved_replaces_nothing(self, laid: tuple[Host, Any]) -> None:
        """The second one of a name gets the other name."""
        host, said = laid
        with self.made(said).open() as folder:
            for _ in range(2):
                host.put("a.csv", b"x")
                assert folder.move("a.csv", "done", "2-a.csv")
        assert (host.names(), host.names("done")) == ([], ["2-a.csv", "a.csv"])

    def test_what_is_put_replaces_what_we_put_before(self, laid: tuple[Host, Any], tmp_path: Path) -> None:
        """And leaves nothing half."""
        host, said = laid
        (tmp_path / "rows.csv").write_bytes(b"line\n")
        with self.made(said).open() as folder:
            assert all(folder.put("rejected", "a.csv", tmp_path / "rows.csv") for _ in range(2))
        assert host.names("rejected") == ["a.csv"]

    def test_what_is_forbidden_is_said_and_no_error(self, laid: tuple[Host, Any], tmp_path: Path) -> None:
        """Files are read all the same."""
        host, said = laid
        host.put("a.csv", b"x")
        host.seal()
        (tmp_path / "rows.csv").write_bytes(b"line\n")
        with self.made(said).open() as folder:
            assert not folder.move("a.csv", "done", "1-a.csv")
            assert not folder.put("rejected", "a.csv", tmp_path / "rows.csv")
            assert folder.fetch("a.csv", tmp_path / "here", lambda: None) == sha256(b"x").digest()

    def test_another_server_gets_nothing(self, laid: tuple[Host, Any]) -> None:
        """It is found out before we say who we are."""
        host, said = laid
        with pytest.raises(ConnectionBroken), self.made({**said, **host.stranger()}).open():
            pass

    def test_who_is_not_let_in_is_told(self, laid: tuple[Host, Any]) -> None:
        """It is no outage."""
        host, said = laid
        host.refuse()
        with pytest.raises(ConnectionBroken), self.made(said).open():
            pass

    def test_a_server_that_is_away_is_tried_again(self, tmp_path: Path) -> None:
        """Nothing listens there any more."""
        (tmp_path / "host").mkdir()
        with self.stage().serve(tmp_path / "host") as said:
            pass
        server = self.made({"name": "hr", "system": self.stage.system, **said})
        with pytest.raises(RetryLater), server.open():
            pass
