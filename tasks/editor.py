"""A person's own editor on something personal: the file is theirs alone, and gone afterwards with all copies of it."""

import os
import shlex
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from integration.errors import ConfigError

_MODE = 0o600


def edited(content: bytes, name: str) -> bytes:
    """Return what the editor that VISUAL or EDITOR names made of `content`.

    The folder is for this account alone and removed as a whole, because editors leave back-ups beside the file.
    Raises ConfigError where the editor cannot be started or ends with an error.
    """
    command = shlex.split(os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi")
    with TemporaryDirectory(prefix="coursewire-") as folder:
        path = Path(folder) / name
        path.touch(_MODE)
        path.write_bytes(content)
        try:
            code = subprocess.run([*command, str(path)], check=False).returncode  # noqa: S603 - the person's own choice
        except OSError as error:
            raise ConfigError(
                f"the editor {command[0]!r} cannot be started ({error.strerror}). Set EDITOR, or use --set or --file."
            ) from None
        if code:
            raise ConfigError(f"the editor {command[0]!r} ended with {code}, so nothing was changed.")
        return path.read_bytes()
