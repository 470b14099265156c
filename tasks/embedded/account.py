"""Which account the database server runs under: PostgreSQL refuses to run as root.

An ordinary user runs it as themselves (`None` here). Root borrows an unprivileged account that exists: no
account is created and no permission of an existing folder is changed.
"""

import os
import pwd
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tasks.embedded.errors import EmbeddedUnavailable

UNPRIVILEGED = ("postgres", "_postgres", "nobody")
PASSED_ON = ("PATH", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


@dataclass(frozen=True)
class Account:
    """A user and group id to run as."""

    uid: int
    gid: int


def server_account(existing: Path) -> Account | None:
    """The account for a cluster: None for an ordinary user; for root, who owns `existing` or a borrowed one.

    Raises:
        EmbeddedUnavailable: root finds no unprivileged account on the machine.
    """
    if os.geteuid() != 0:
        return None
    if existing.is_dir() and (owner := existing.lstat()).st_uid != 0:
        return Account(owner.st_uid, owner.st_gid)
    for name in UNPRIVILEGED:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid)
    raise EmbeddedUnavailable(
        "PostgreSQL does not run as root and this machine has no account named "
        f"{' or '.join(UNPRIVILEGED)}: run Coursewire as an ordinary user, or set COURSEWIRE_DATABASE_URL."
    )


def spawn(
    argv: Sequence[str], account: Account | None, *, output: int | IO[bytes], cwd: Path = Path("/")
) -> subprocess.Popen[bytes]:
    """Start a server program in a session of its own, out of reach of the terminal's Ctrl-C.

    The folder it starts in is / because ours may be closed to the account. Of our environment it gets only
    what finds programs and libraries: our settings and secrets are none of its business.

    Raises:
        EmbeddedUnavailable: the system refuses to switch to the account.
        OSError: the program cannot be run.
    """
    try:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=_environment(),
            start_new_session=True,
            user=None if account is None else account.uid,
            group=None if account is None else account.gid,
            extra_groups=None if account is None else [],
        )
    except PermissionError as refused:
        if account is None:
            raise
        raise EmbeddedUnavailable(
            f"PostgreSQL does not run as root, and switching to user {account.uid} was refused ({refused}): "
            "run Coursewire as an ordinary user, or set COURSEWIRE_DATABASE_URL."
        ) from refused


def _environment() -> dict[str, str]:
    passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    # Without a locale macOS starts a thread to look one up, and PostgreSQL refuses to start with threads.
    return passed | {"LC_ALL": "C"}


def reaches(account: Account | None, path: Path) -> bool:
    """True if the account may enter this folder or run this file; the kernel is asked, so ACLs count."""
    if account is None:
        return os.access(path, os.X_OK)
    asked = spawn(["/bin/sh", "-c", 'test -x "$1"', "sh", str(path)], account, output=subprocess.DEVNULL)
    return asked.wait() == 0


def own(account: Account | None, *paths: Path) -> None:
    """Hand paths we made to the account; raises OSError."""
    if account is not None:
        for path in paths:
            os.chown(path, account.uid, account.gid)
