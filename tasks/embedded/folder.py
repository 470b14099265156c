"""The data folder of the embedded servers: who owns it, what runs in it, and the secrets made for it.

`coursewire up` and `coursewire demo` claim it for as long as they live; every other command only asks
`running()` for the addresses. Ownership is a lock held by the kernel, so a crash leaves nothing to clean up.
"""

import base64
import contextlib
import fcntl
import json
import os
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from tasks.embedded.errors import EmbeddedUnavailable, FolderInUse

CLAIM_PATIENCE = 1.0  # seconds: `running()` of another command holds the lock for an instant


@dataclass(frozen=True)
class Running:
    """The servers of a live owner: its process id, their addresses and ports."""

    pid: int
    owner_started: float
    database_url: str | None = None
    broker_url: str | None = None
    ports: Mapping[str, int] = field(default_factory=dict)


class DataFolder:
    """One folder with everything the embedded servers keep; nothing is created before it is needed."""

    def __init__(self, path: Path) -> None:
        self.path = Path(os.path.realpath(path.expanduser()))
        self._lock: int | None = None

    @property
    def claimed(self) -> bool:
        """True while this object holds the folder."""
        return self._lock is not None

    def create(self) -> None:
        """Make the folder if it is absent; raises OSError where that is not allowed."""
        # As root the database runs under another account, which must be able to pass through but not to list.
        mode = 0o711 if os.geteuid() == 0 else 0o700
        with contextlib.suppress(FileExistsError):
            self.path.mkdir(mode=mode, parents=True)
            self.write(".gitignore", "*\n")  # the secrets in here are never to be committed by accident

    def claim(self) -> None:
        """Own the folder until `release` or the end of this process.

        Raises:
            FolderInUse: another process owns it.
            EmbeddedUnavailable: it cannot be written to.
        """
        if self._lock is not None:
            return
        try:
            self.create()
            lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as refused:
            raise EmbeddedUnavailable(
                f"the data folder {self.path} cannot be used ({refused.strerror}): "
                "set COURSEWIRE_DATA_DIR to a folder of yours"
            ) from refused
        try:
            self._take(lock)
            self.withdraw()
            os.ftruncate(lock, 0)
            os.pwrite(lock, str(os.getpid()).encode(), 0)
        except BaseException:
            os.close(lock)
            raise
        self._lock = lock

    def _take(self, lock: int) -> None:
        deadline = time.monotonic() + CLAIM_PATIENCE
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    holder = os.pread(lock, 32, 0).decode("ascii", "replace").strip()
                    raise FolderInUse(self.path, int(holder) if holder.isdigit() else None) from None
                time.sleep(0.02)
            else:
                return

    def release(self) -> None:
        """Give the folder up; harmless when it is not held."""
        if self._lock is None:
            return
        self.withdraw()
        lock, self._lock = self._lock, None
        os.close(lock)

    def __enter__(self) -> Self:
        """Claim the folder."""
        self.claim()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the folder up."""
        self.release()

    def announce(self, *, database_url: str | None, broker_url: str | None, ports: Mapping[str, int]) -> Running:
        """Tell other commands where the servers are; only the owner may (RuntimeError otherwise)."""
        self.require_claim()
        started = psutil.Process().create_time()
        running = Running(os.getpid(), started, database_url, broker_url, dict(ports))
        self.write("run.json", json.dumps(asdict(running), indent=2) + "\n")
        return running

    def withdraw(self) -> None:
        """Forget the announced addresses."""
        with contextlib.suppress(FileNotFoundError):
            (self.path / "run.json").unlink()

    def running(self) -> Running | None:
        """The servers of a live owner, or None; what a crashed owner left behind does not count."""
        try:
            running = Running(**json.loads((self.path / "run.json").read_text("utf-8")))
            # The lock says that someone owns the folder, the start time that it is the one who wrote this.
            alive = abs(psutil.Process(running.pid).create_time() - running.owner_started) < 1
        except (OSError, ValueError, TypeError, psutil.Error):
            return None
        return running if alive and self._held() else None

    def _held(self) -> bool:
        try:
            lock = os.open(self.path / "lock", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            return False
        finally:
            os.close(lock)

    def require_claim(self) -> None:
        """Refuse (RuntimeError) to touch servers of a folder that someone else may own."""
        if not self.claimed:
            raise RuntimeError(f"claim the data folder {self.path} first")

    def master_keys(self) -> str:
        """The folder's own key ring, `local:<base64 of 32 bytes>`, made once and kept; raises OSError."""
        return self.secret("master.key", _new_master_key)

    def secret(self, name: str, make: Callable[[], str] = secrets.token_hex) -> str:
        """The secret kept under this file name, made once whoever asks first; raises OSError."""
        kept = self.path / name
        if not kept.exists():
            self.create()
            self.write(name, make(), replace=False)
        return kept.read_text("utf-8").strip()

    def write(self, name: str, text: str, *, replace: bool = True) -> None:
        """Put a file in place whole, flushed, for its owner only; without `replace` the first one wins."""
        target = self.path / name
        fresh = target.with_name(f".{target.name}.{secrets.token_hex(6)}")
        try:
            handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            if replace:
                fresh.replace(target)
            else:
                with contextlib.suppress(FileExistsError):
                    os.link(fresh, target)
        finally:
            fresh.unlink(missing_ok=True)
        sync_folder(target.parent)

    def port(self, name: str) -> int | None:
        """The port this server had last time, or None."""
        try:
            port = int((self.path / f"{name}.port").read_text("ascii"))
        except (OSError, ValueError):
            return None
        return port if port in range(1, 1 << 16) else None

    def remember_port(self, name: str, port: int) -> None:
        """Keep the port for the next start."""
        self.write(f"{name}.port", f"{port}\n")


def _new_master_key() -> str:
    return "local:" + base64.b64encode(secrets.token_bytes(32)).decode("ascii")


def sync_folder(path: Path) -> None:
    """Make a rename in this folder survive a power cut; raises OSError."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
