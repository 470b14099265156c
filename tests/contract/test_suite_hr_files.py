"""The suite's stage of `hr_files`: a real SSH server on loopback."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import paramiko
import pytest

from integration.config import ConnectionConfig
from integration.connectors import registry
from integration.errors import ConfigError, ConnectionBroken
from integration.files.pickup import fingerprint
from tests.contract.suite import FilePromises, Host
from tests.sftp import Drop


class SshHost(Host):
    """An SSH server with a key, who knows ours."""

    system = "hr_files"
    drop: Drop

    @contextmanager
    def serve(self, folder: Path) -> Iterator[dict[str, Any]]:
        """On a port of its own."""
        self.drop = Drop(folder / "root")
        with self.drop.running():
            yield said_of(self.drop)

    def put(self, name: str, content: bytes) -> None:
        """Into the folder."""
        self.drop.put(name, content)

    def names(self, folder: str = "") -> list[str]:
        """As they lie on the disk."""
        return self.drop.names(folder)

    def stranger(self) -> dict[str, Any]:
        """A key that this server does not have."""
        return {"files": {"host_key": "SHA256:" + "A" * 43, "mapping": "hr.yaml"}}

    def refuse(self) -> None:
        """Our key is forgotten."""
        self.drop.permitted.clear()

    def seal(self) -> None:
        """Read only."""
        self.drop.sealed = True


def said_of(drop: Drop) -> dict[str, Any]:
    """Return what a connection says of a server."""
    return {
        "base_url": drop.url,
        "credentials": {"key": {"file": str(drop.key_file)}},
        "files": {"host_key": drop.pin, "mapping": "hr.yaml"},
    }


class TestFiles(FilePromises):
    """The port of files."""

    stage = SshHost


@pytest.fixture
def drop(tmp_path: Path) -> Iterator[Drop]:
    """A server."""
    with Drop(tmp_path / "root").running() as running:
        yield running


def connection(drop: Drop, **changes: Any) -> ConnectionConfig:
    """Return the connection to it."""
    return ConnectionConfig.model_validate({"name": "hr", "system": "hr_files", **said_of(drop), **changes})


def opens(config: ConnectionConfig) -> bool:
    """Say whether the folder can be listed."""
    server = registry.files(config)
    assert server is not None
    with server.open() as folder:
        return folder.files() == []


@pytest.mark.parametrize("form", ["fingerprint", "public key", "known_hosts", "list"])
def test_a_host_key_is_pinned_in_any_form_in_which_it_is_found(drop: Drop, form: str) -> None:
    """As `ssh-keygen -l` shows it, as the .pub file or known_hosts hold it, or several while a key is changed."""
    key = drop.host_keys[0]
    line = f"{key.get_name()} {key.get_base64()} root@hr"
    pins: dict[str, Any] = {
        "fingerprint": drop.pin,
        "public key": line,
        "known_hosts": f"hr.example.com {line}",
        "list": ["SHA256:" + "A" * 43, drop.pin],
    }
    assert opens(connection(drop, files={"host_key": pins[form], "mapping": "hr.yaml"}))


@pytest.mark.parametrize("which", [0, 1, 2])
def test_whichever_of_its_keys_is_pinned_is_asked_for(drop: Drop, which: int) -> None:
    """A server has several keys, and shows the one that both prefer; the pinned one need not be that."""
    drop.host_keys += [paramiko.ECDSAKey.generate(), paramiko.RSAKey.generate(2048)]
    pin = fingerprint(drop.host_keys[which].asbytes())
    assert opens(connection(drop, files={"host_key": pin, "mapping": "hr.yaml"}))


def test_all_keys_that_were_seen_are_said(drop: Drop) -> None:
    """So that whoever asks the server's people can compare; nobody logged in."""
    drop.host_keys.append(paramiko.RSAKey.generate(2048))
    config = connection(drop, files={"host_key": "SHA256:" + "A" * 43, "mapping": "hr.yaml"})
    with pytest.raises(ConnectionBroken) as broken:
        opens(config)
    assert all(fingerprint(key.asbytes()) in broken.value.detail for key in drop.host_keys)
    assert drop.logins == 0
    doctor = registry.doctor(config)
    assert doctor is not None
    assert [one.ok for one in doctor.check()] == [False]


def test_the_doctor_says_that_all_is_well(drop: Drop) -> None:
    """Reached, let in, and able to list."""
    doctor = registry.doctor(connection(drop))
    assert doctor is not None
    assert [one.ok for one in doctor.check()] == [True] * 3


def test_a_locked_key_opens_with_its_passphrase(drop: Drop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it the sentence says what is missing; RSA and ECDSA keys are keys as well."""
    monkeypatch.setenv("PHRASE", "open sesame")
    for key in (paramiko.RSAKey.generate(2048), paramiko.ECDSAKey.generate()):
        key.write_private_key_file(str(tmp_path / "locked"), "open sesame")
        drop.permitted.append(key)
        file = {"key": {"file": str(tmp_path / "locked")}}
        assert opens(connection(drop, credentials={**file, "passphrase": {"env": "PHRASE"}}))
        with pytest.raises(ConnectionBroken, match="passphrase"):
            opens(connection(drop, credentials=file))
        (tmp_path / "locked").unlink()


def test_what_is_no_key_is_said_without_showing_it(drop: Drop, tmp_path: Path) -> None:
    """A wrong file, and none at all."""
    (tmp_path / "wrong").write_text("hunter2")
    with pytest.raises(ConnectionBroken, match="no private key") as broken:
        opens(connection(drop, credentials={"key": {"file": str(tmp_path / "wrong")}}))
    assert "hunter2" not in str(broken.value)
    with pytest.raises(ConnectionBroken, match="could not be read"):
        opens(connection(drop, credentials={"key": {"file": str(tmp_path / "absent")}}))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"files": None}, "go together"),
        ({"base_url": "https://hr.example.com"}, "go together"),
        ({"files": {"mapping": "hr.yaml"}}, "host_key"),
        ({"files": {"host_key": "yes", "mapping": "hr.yaml"}}, "SHA256"),
        ({"credentials": {}}, "private key"),
        ({"base_url": "sftp://127.0.0.1/out"}, "user"),
    ],
)
def test_what_is_missing_in_the_connections_file_is_said(drop: Drop, changes: dict[str, Any], sentence: str) -> None:
    """Before anything is called."""
    with pytest.raises((ConfigError, ValueError), match=sentence):
        registry.files(connection(drop, **changes))
