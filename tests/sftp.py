"""A real SSH server on loopback: real keys, a real socket, and a folder of this machine behind SFTP."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import paramiko
from paramiko.common import AUTH_FAILED, AUTH_SUCCESSFUL, OPEN_SUCCEEDED
from paramiko.sftp import SFTP_FAILURE, SFTP_OK, SFTP_PERMISSION_DENIED

from integration.files.pickup import fingerprint

USER = "coursewire"


class Drop:
    """The server; its faults are set by tests while it runs."""

    def __init__(self, root: Path) -> None:
        """Serve `root`; nothing listens before `running`."""
        self.root = root
        self.client_key = paramiko.Ed25519Key.from_private_key_file(str(_new_key(root.parent / "client_key")))
        self.key_file = root.parent / "client_key"
        self.host_keys: list[paramiko.PKey] = [
            paramiko.Ed25519Key.from_private_key_file(str(_new_key(root.parent / "host_key")))
        ]
        self.permitted: list[paramiko.PKey] = [self.client_key]
        self.port = 0
        self.sealed = False
        """Nothing may be written, moved or made."""
        self.cut_after: int | None = None
        """Bytes of a file after which the connection breaks, once."""
        self.on_read: Any = None
        """Called with the name of each file that is opened to be read."""
        self.logins = 0
        self._transports: list[paramiko.Transport] = []
        self._listener: socket.socket | None = None

    @property
    def pin(self) -> str:
        """The fingerprint of its first key."""
        return fingerprint(self.host_keys[0].asbytes())

    @property
    def url(self) -> str:
        """The address of its folder."""
        return f"sftp://{USER}@127.0.0.1:{self.port}/out"

    def put(self, name: str, text: str | bytes, modified: int | None = None) -> Path:
        """Let HR leave a file; `modified` in seconds since 1970."""
        path = self.root / "out" / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        if modified is not None:
            os.utime(path, (modified, modified))
        return path

    def names(self, folder: str = "") -> list[str]:
        """Return the names of the files in a folder."""
        place = self.root / "out" / folder
        return sorted(one.name for one in place.iterdir() if one.is_file()) if place.exists() else []

    @contextmanager
    def running(self) -> Iterator["Drop"]:
        """Listen until the end of the block."""
        (self.root / "out").mkdir(parents=True, exist_ok=True)
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()
        try:
            yield self
        finally:
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)  # wakes whoever accepts
            self._listener.close()
            self.cut()

    def cut(self) -> None:
        """End every connection at once."""
        for transport in self._transports:
            transport.close()
        self._transports.clear()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                wire, _ = listener.accept()
            except OSError:
                return
            transport = paramiko.Transport(wire)
            for key in self.host_keys:
                transport.add_server_key(key)
            transport.set_subsystem_handler("sftp", paramiko.SFTPServer, _Files, drop=self)
            self._transports.append(transport)
            with suppress(paramiko.SSHException, EOFError, OSError):
                transport.start_server(server=_Door(self), event=threading.Event())


class _Door(paramiko.ServerInterface):
    def __init__(self, drop: Drop) -> None:
        self._drop = drop

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        is_right = username == USER and key in self._drop.permitted
        self._drop.logins += is_right
        return AUTH_SUCCESSFUL if is_right else AUTH_FAILED

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return OPEN_SUCCEEDED


class _Handle(paramiko.SFTPHandle):
    def __init__(self, drop: Drop, path: Path, flags: int) -> None:
        super().__init__(flags)
        self._drop = drop
        mode = "r+b" if flags & (os.O_WRONLY | os.O_RDWR) else "rb"
        if flags & os.O_CREAT:
            path.touch()
        self.readfile = self.writefile = path.open(mode)

    def stat(self) -> Any:
        return paramiko.SFTPAttributes.from_stat(os.fstat(self.readfile.fileno()))

    def read(self, offset: int, length: int) -> Any:
        cut = self._drop.cut_after
        if cut is not None and offset + length > cut:
            self._drop.cut_after = None
            self._drop.cut()
            return SFTP_FAILURE
        return super().read(offset, length)


class _Files(paramiko.SFTPServerInterface):
    def __init__(self, server: paramiko.ServerInterface, *args: Any, drop: Drop, **kwargs: Any) -> None:
        super().__init__(server, *args, **kwargs)
        self._drop = drop

    def _real(self, path: str) -> Path:
        return self._drop.root / self.canonicalize(path).lstrip("/")

    def list_folder(self, path: str) -> Any:
        try:
            found = []
            for one in self._real(path).iterdir():
                attributes = paramiko.SFTPAttributes.from_stat(one.lstat())
                attributes.filename = one.name
                found.append(attributes)
        except OSError as error:
            return paramiko.SFTPServer.convert_errno(error.errno or 0)
        return found

    def stat(self, path: str) -> Any:
        try:
            return paramiko.SFTPAttributes.from_stat(self._real(path).stat())
        except OSError as error:
            return paramiko.SFTPServer.convert_errno(error.errno or 0)

    lstat = stat

    def open(self, path: str, flags: int, attr: Any) -> Any:
        writes = flags & (os.O_WRONLY | os.O_RDWR)
        if writes and self._drop.sealed:
            return SFTP_PERMISSION_DENIED
        if not writes and self._drop.on_read:
            self._drop.on_read(Path(path).name)
        try:
            return _Handle(self._drop, self._real(path), flags)
        except OSError as error:
            return paramiko.SFTPServer.convert_errno(error.errno or 0)

    def _change(self, change: Any) -> int:
        if self._drop.sealed:
            return SFTP_PERMISSION_DENIED
        try:
            change()
        except OSError as error:
            return paramiko.SFTPServer.convert_errno(error.errno or 0)
        return SFTP_OK

    def rename(self, oldpath: str, newpath: str) -> int:
        if self._real(newpath).exists():
            return SFTP_FAILURE  # version 3 replaces nothing
        return self._change(lambda: self._real(oldpath).rename(self._real(newpath)))

    def remove(self, path: str) -> int:
        return self._change(lambda: self._real(path).unlink())

    def mkdir(self, path: str, attr: Any) -> int:
        return self._change(lambda: self._real(path).mkdir())

    def chattr(self, path: str, attr: Any) -> int:
        return SFTP_OK


def _new_key(path: Path) -> Path:
    from cryptography.hazmat.primitives import serialization as form  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415

    key = Ed25519PrivateKey.generate()
    path.write_bytes(key.private_bytes(form.Encoding.PEM, form.PrivateFormat.OpenSSH, form.NoEncryption()))
    path.chmod(0o600)
    return path
