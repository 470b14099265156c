"""A file that is there whole or not at all, and that its owner alone can read."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkstemp
from typing import BinaryIO

from integration.errors import ConfigError


@contextmanager
def new_file(path: Path, *, force: bool) -> Iterator[BinaryIO]:
    """Write into a file beside `path` and give it that name at the end; whatever fails, nothing is left.

    Raises ConfigError where there is one already and `force` is not given, or where none can be made.
    """
    _refuse(path, force=force)
    try:
        # mkstemp makes it with mode 0600.
        descriptor, name = mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}. Name another file by --output.") from None
    try:
        with os.fdopen(descriptor, "wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        _refuse(path, force=force)  # it may have come meanwhile
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _refuse(path: Path, *, force: bool) -> None:
    if path.exists() and not path.is_file():
        raise ConfigError(f"{path} is no file: a folder, a device or a pipe. Name a file by --output.")
    if path.exists() and not force:
        raise ConfigError(f"{path} is there already. Name another file by --output, or replace it with --force.")
