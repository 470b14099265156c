"""Files of HR on an SFTP server: real SSH, to the server whose key is pinned and to no other.

Source: SSH as of RFC 4251 to 4254, SFTP version 3 as OpenSSH speaks it.
"""

import logging
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Final

import paramiko

from integration.config import ConnectionConfig
from integration.connectors.hr.address import Address, address_of, credentials_of
from integration.connectors.interface import EMPLOYMENT, Interface
from integration.errors import ConfigError, ConnectionBroken, Reason, Rejected, RetryLater
from integration.files.pickup import Pickup, fingerprint
from integration.ports import Capabilities, Folder, RemoteFile

CAPABILITIES = Capabilities()

CONNECT_SECONDS: Final = 15.0
ANSWER_SECONDS: Final = 60.0
_BLOCK: Final = 1 << 18
_RSA: Final = ("ssh-rsa", "rsa-sha2-256", "rsa-sha2-512")
"""The names under which a server offers one and the same key (RFC 8332)."""

_AWAY = (paramiko.SSHException, EOFError, OSError)


def interface(config: ConnectionConfig) -> Interface:
    """Return how one server with files of HR is talked to."""
    is_called = config.base_url is not None
    return Interface(
        kind="HR",
        owns=EMPLOYMENT,
        page="hr-files.md",
        api="SFTP version 3 (OpenSSH), CSV or JSON Lines" if is_called else None,
        auth="SSH key; the server's key is pinned" if is_called else None,
        address=config.base_url,
    )


class Sftp:
    """One folder on one server. Nothing connects before `open`."""

    def __init__(self, config: ConnectionConfig) -> None:
        """Raises ConfigError where the address is none of an SFTP server."""
        self._config = config
        self.address: Address = address_of(config)
        if config.files is None:
            raise ConfigError(f"connections.{config.name}: hr_files needs files: with host_key and mapping")
        self.pickup: Pickup = config.files

    @contextmanager
    def open(self) -> Iterator[Folder]:
        """Connect and yield the folder. Raises ConnectionBroken, RetryLater or Rejected."""
        logging.getLogger("paramiko").setLevel(logging.CRITICAL)  # what it says of failures, our errors say
        transport = self._proven()
        try:
            self._log_in(transport)
            with _told("the server ended the connection"):
                client = paramiko.SFTPClient.from_transport(transport)
                if client is None:
                    raise RetryLater(Reason.NETWORK_ERROR, "the server offers no SFTP at this moment")
                channel = client.get_channel()
                if channel is not None:
                    channel.settimeout(ANSWER_SECONDS)
            yield SftpFolder(client, self.address.folder)
        finally:
            transport.close()

    def _proven(self) -> paramiko.Transport:
        """Return a connection to the server whose key is pinned; of all its keys one must be."""
        seen: dict[str, str] = {}
        refused: list[str] = []
        while True:
            transport = self._connected(refused, seen)
            key = transport.get_remote_server_key()
            shown = fingerprint(key.asbytes())
            if shown in self.pickup.host_key:
                return transport
            transport.close()
            kind = key.get_name()
            if kind in seen:
                raise _another(seen)
            seen[kind] = shown
            refused += _RSA if kind == "ssh-rsa" else (kind,)

    def _connected(self, refused: list[str], seen: dict[str, str]) -> paramiko.Transport:
        where = self.address
        try:
            wire = socket.create_connection((where.host, where.port), CONNECT_SECONDS)
        except OSError as error:
            said = f"{where.host}:{where.port} does not answer ({error.strerror or type(error).__name__})"
            raise RetryLater(Reason.NETWORK_ERROR, said) from None
        transport = paramiko.Transport(wire, disabled_algorithms={"keys": list(refused)})
        transport.banner_timeout = transport.auth_timeout = CONNECT_SECONDS
        transport.set_keepalive(15)
        try:
            transport.start_client(timeout=CONNECT_SECONDS)
        except _AWAY as error:
            transport.close()
            if seen and isinstance(error, paramiko.SSHException):
                raise _another(seen) from None  # it has no key of another kind
            said = f"{where.host}:{where.port} does not speak SSH with us ({type(error).__name__})"
            raise RetryLater(Reason.NETWORK_ERROR, said) from None
        return transport

    def _log_in(self, transport: paramiko.Transport) -> None:
        who = credentials_of(self._config, self.address)
        try:
            if who.key is not None:
                transport.auth_publickey(who.user, who.key)
            else:
                transport.auth_password(who.user, who.password or "", fallback=False)
        except paramiko.AuthenticationException:
            what = "key" if who.key is not None else "password"
            advice = f"the server refuses the {what}; have it permitted for this user, or put another one in its place"
            raise ConnectionBroken(Reason.CREDENTIALS_REFUSED, advice) from None
        except _AWAY as error:
            said = f"the server went away while we logged in ({type(error).__name__})"
            raise RetryLater(Reason.NETWORK_ERROR, said) from None
        if not transport.is_authenticated():
            raise ConnectionBroken(Reason.CREDENTIALS_REFUSED, "the server asks for more than a key or a password")


def _another(seen: dict[str, str]) -> ConnectionBroken:
    keys = ", ".join(f"{shown} ({kind})" for kind, shown in seen.items())
    return ConnectionBroken(Reason.HOST_KEY_UNKNOWN, f"the server shows {keys}, which files.host_key does not name")


class SftpFolder:
    """A folder as long as it is open."""

    def __init__(self, client: paramiko.SFTPClient, path: str) -> None:
        self._client, self._path = client, path

    def files(self) -> list[RemoteFile]:
        """Return the files in it, in the order of their names. Raises Rejected where it cannot be listed."""
        with _told("the folder cannot be listed"):
            listed = self._client.listdir_attr(self._path)
        return sorted(
            RemoteFile(one.filename, one.st_size or 0, one.st_mtime or 0)
            for one in listed
            if stat.S_ISREG(one.st_mode or 0) and one.filename.isprintable() and "/" not in one.filename
        )

    def fetch(self, name: str, into: Path, still: Callable[[], None]) -> bytes:
        """Write a file's content to `into`, block by block, and return its SHA-256."""
        digest = sha256()
        with _told("the file cannot be read"), self._client.open(self._in(name), "rb") as file, into.open("wb") as out:
            size = file.stat().st_size or 0
            file.prefetch(size, max_concurrent_requests=32)
            while block := file.read(_BLOCK):
                digest.update(block)
                out.write(block)
                still()
        return digest.digest()

    def put(self, folder: str, name: str, content: Path) -> bool:
        """Write a file into a folder beside the files, under another name until it is whole."""
        place, part = self._in(folder, name), self._in(folder, f".{name}.part")
        try:
            self._make(folder)
            self._client.put(str(content), part)
            with suppress(OSError):
                self._client.remove(place)
            self._client.rename(part, place)
        except OSError as error:
            return _forbidden(error)
        except (paramiko.SSHException, EOFError) as error:
            raise _away(error) from None
        return True

    def move(self, name: str, folder: str, other_name: str) -> bool:
        """Move a file; what has its name already stays."""
        try:
            self._make(folder)
            for target in (name, other_name):
                if not self._is_there(folder, target):
                    self._client.rename(self._in(name), self._in(folder, target))
                    return True
        except OSError as error:
            return _forbidden(error)
        except (paramiko.SSHException, EOFError) as error:
            raise _away(error) from None
        return False

    def _in(self, *names: str) -> str:
        return "/".join((self._path.rstrip("/"), *names))

    def _is_there(self, *names: str) -> bool:
        try:
            self._client.stat(self._in(*names))
        except FileNotFoundError:
            return False
        return True

    def _make(self, folder: str) -> None:
        if not self._is_there(folder):
            self._client.mkdir(self._in(folder), 0o700)


def _forbidden(error: OSError) -> bool:
    """Return False for what the server refuses. Raises RetryLater where it is away."""
    if isinstance(error, ConnectionError | TimeoutError) or str(error) == "Socket is closed":
        raise _away(error) from None
    return False


def _away(error: BaseException) -> RetryLater:
    return RetryLater(Reason.NETWORK_ERROR, f"the server went away ({type(error).__name__})")


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Say in a sentence what went wrong, without a name."""
    try:
        yield
    except (FileNotFoundError, PermissionError) as error:
        why = "it is not there" if isinstance(error, FileNotFoundError) else "the server does not permit it"
        raise Rejected(Reason.FILE_UNREADABLE, f"{what}: {why}") from None
    except _AWAY as error:
        raise RetryLater(Reason.NETWORK_ERROR, f"{what}: the server went away ({type(error).__name__})") from None
