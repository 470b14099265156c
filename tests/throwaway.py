"""Where the tests' own servers keep their files: in memory, where the machine has a file system for that.

Each test has a database of its own, which is 400 files made and 400 removed. On a disk that costs more than most tests
do, and ever more: ext4 keeps the inodes of removed files aside for minutes and passes them all by for each new file.
"""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.embedded.errors import EmbeddedUnavailable
from tasks.embedded.folder import DataFolder

MEMORY = Path("/dev/shm")  # noqa: S108 - the folders in it are made as safely as those in /tmp
ENOUGH = 2 * 1024**3
"""Free bytes that all processes of pytest together never need; a container often has 64 MB."""
PREFIX = "coursewire-tests-"
YOUNG = 60.0
"""Seconds after which a folder that nobody claims is one that killed tests have left."""


@contextmanager
def throwaway_folder(on_disk: Path) -> Iterator[Path]:
    """A folder in memory, which is removed; `on_disk` where the machine has no room for one."""
    if not _has_room():
        yield on_disk
        return
    _remove_left()
    made = Path(tempfile.mkdtemp(prefix=PREFIX, dir=MEMORY))
    made.chmod(0o711)  # the database's account passes through
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _has_room() -> bool:
    return MEMORY.is_dir() and os.access(MEMORY, os.W_OK | os.X_OK) and shutil.disk_usage(MEMORY).free > ENOUGH


def _remove_left() -> None:
    """Remove what tests that were killed have left: nothing else would until the machine starts again."""
    for left in MEMORY.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError, EmbeddedUnavailable):
            if time.time() - left.stat().st_mtime > YOUNG:
                with DataFolder(left):
                    shutil.rmtree(left)
