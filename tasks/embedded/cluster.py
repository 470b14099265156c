"""Where the embedded PostgreSQL keeps its files, and how they are made.

Normally that is `postgres/` in the data folder. Where root owns a data folder that the server's account
cannot reach, the files live below /var/lib/coursewire and `postgres` is a link to them.
"""

import contextlib
import hashlib
import json
import logging
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tasks.embedded.account import Account, own, reaches, server_account, spawn
from tasks.embedded.binaries import SYSTEM_STATE, PostgresBinaries, find_postgres, reachable
from tasks.embedded.errors import EmbeddedUnavailable
from tasks.embedded.folder import DataFolder, sync_folder

BUILTIN_LOCALE = 17  # the first version that sorts UTF-8 the same on every machine

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cluster:
    """A database cluster that is ready to be served."""

    data: Path
    binaries: PostgresBinaries
    account: Account | None

    @property
    def label(self) -> str:
        """A name for the titles of the server's processes, by which they can be told from other servers'."""
        return "coursewire-" + hashlib.sha256(os.fsencode(self.data)).hexdigest()[:16]


def prepare(folder: DataFolder, password: Callable[[], str], *, durable: bool) -> Cluster:
    """The cluster of this data folder, made if there is none; raises EmbeddedUnavailable."""
    try:
        home, account = _find_home(folder, durable=durable)
        data = home / "data"
        binaries = reachable(find_postgres(_major_of(data)), account)
        _sweep(home)
        if not data.exists():
            _create(home, binaries, account, password, durable=durable)
    except OSError as refused:
        raise EmbeddedUnavailable(
            f"the database of {folder.path} cannot be used ({refused}): run Coursewire as the user who made it, "
            "or set COURSEWIRE_DATA_DIR to a folder of yours, or COURSEWIRE_DATABASE_URL to a server you run"
        ) from refused
    return Cluster(data, binaries, account)


def _major_of(data: Path) -> int | None:
    try:
        return int((data / "PG_VERSION").read_text("ascii"))
    except FileNotFoundError:
        return None


def _find_home(folder: DataFolder, *, durable: bool) -> tuple[Path, Account | None]:
    home = folder.path / "postgres"
    account = server_account(home / "data")
    if home.is_symlink():
        target = Path(os.path.realpath(home))
        if target.is_dir():
            _check_owner(target, folder, durable=durable)
            return target, account
        log.warning("the database at %s is gone, a new one is made", target)
        home.unlink()
    if not reaches(account, folder.path):
        if home.exists():
            raise EmbeddedUnavailable(
                f"PostgreSQL does not run as root, and its account cannot pass through to {home}: allow it "
                "(chmod o+x on the folders above), run as an ordinary user, or set COURSEWIRE_DATABASE_URL."
            )
        target = _home_outside(folder)
        # The link comes first: files without a link to them could be taken for a throw-away's.
        home.symlink_to(target)
        target.mkdir(mode=0o711, exist_ok=True)
        _check_owner(target, folder, durable=durable)
        return target, account
    # It stays ours, so that the account cannot lead us astray with links; the files inside are the account's.
    home.mkdir(mode=0o700 if account is None else 0o711, exist_ok=True)
    return home, account


def _check_owner(home: Path, folder: DataFolder, *, durable: bool) -> None:
    """Note whose files these are; raises EmbeddedUnavailable if a copied data folder links to them too."""
    record = home / "owner.json"
    with contextlib.suppress(FileNotFoundError, ValueError):
        other = Path(json.loads(record.read_text("utf-8"))["folder"])
        if other != folder.path and os.path.realpath(other / "postgres") == str(home):
            raise EmbeddedUnavailable(
                f"{folder.path} and {other} link to the same database in {home}: "
                f"delete the link {folder.path / 'postgres'} in the copy to start with an empty one"
            )
    record.write_text(json.dumps({"folder": str(folder.path), "durable": durable}), "utf-8")


def _home_outside(folder: DataFolder) -> Path:
    """A folder the account can reach, named after the data folder; a stranger's data is never taken over."""
    SYSTEM_STATE.mkdir(mode=0o755, parents=True, exist_ok=True)
    _drop_throwaways()
    known = (folder.path / "postgres.password").exists()  # then the folder lost only its link
    for attempt in range(1000):
        name = str(folder.path) if attempt == 0 else f"{folder.path}#{attempt}"
        home = SYSTEM_STATE / hashlib.sha256(os.fsencode(name)).hexdigest()[:16]
        if (home / "data").exists() and not known:
            # The data folder may have been renamed to keep it, so what lies here is not ours to delete.
            log.warning("%s holds the database of an earlier data folder: delete it if unneeded", home)
            continue
        return home
    raise EmbeddedUnavailable(f"too many databases in {SYSTEM_STATE}: delete those you do not need")


def _drop_throwaways() -> None:
    """Delete clusters made for tests whose data folder is gone."""
    for record in SYSTEM_STATE.glob("*/owner.json"):
        with contextlib.suppress(OSError, ValueError):
            owner = json.loads(record.read_text("utf-8"))
            if not owner["durable"] and not os.path.lexists(Path(owner["folder"]) / "postgres"):
                shutil.rmtree(record.parent)


def _sweep(home: Path) -> None:
    """Remove what an interrupted creation left."""
    for left in home.glob("init-*"):
        shutil.rmtree(left, ignore_errors=True)


def _create(
    home: Path,
    binaries: PostgresBinaries,
    account: Account | None,
    password: Callable[[], str],
    *,
    durable: bool,
) -> None:
    """Make a cluster beside its place and move it there whole, so that a half-made one is never served."""
    staging = home / f"init-{secrets.token_hex(4)}"
    staging.mkdir(mode=0o700)
    pwfile = staging / "password"
    pwfile.touch(mode=0o600)
    pwfile.write_text(password() + "\n", "ascii")
    own(account, staging, pwfile)
    argv = [str(binaries.bindir / "initdb"), "-D", str(staging / "data"), "--pwfile", str(pwfile)]
    argv += ["-U", "postgres", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"]
    argv += ["--data-checksums", "--no-instructions"]
    if binaries.major >= BUILTIN_LOCALE:
        argv += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    if not durable:
        argv += ["--no-sync"]
    with tempfile.TemporaryFile() as output:
        if _finish(spawn(argv, account, output=output)) != 0:
            output.seek(0)
            said = output.read().decode("utf-8", "replace").strip()
            raise EmbeddedUnavailable(f"PostgreSQL could not make its files in {home}; it says:\n{said}")
    (staging / "data").rename(home / "data")
    sync_folder(home)
    shutil.rmtree(staging, ignore_errors=True)


def _finish(process: subprocess.Popen[bytes]) -> int:
    try:
        return process.wait(300)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
