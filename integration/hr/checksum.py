"""The SHA-256 that HR writes beside a file, so that a file that was cut off or changed on its way is told from it."""

import re
from pathlib import Path
from typing import Final

LARGEST: Final = 4_096
"""Bytes; a file that is larger is no checksum."""

# As `sha256sum` writes it (a name with a line break in it makes it begin with a backslash), or bare. The name is not
# compared: it is often the one under which the file was written before it was whole.
_LINE = re.compile(r"\\?(?P<sum>[0-9a-f]{64})([ \t]+\*?\S.*)?", re.IGNORECASE)


def said_in(path: Path) -> bytes | None:
    """Return the SHA-256 that a file says, in one line; None where it says none."""
    with path.open("rb") as file:
        raw = file.read(LARGEST + 1)
    if len(raw) > LARGEST:
        return None
    found = _LINE.fullmatch(raw.decode("utf-8-sig", "replace").strip())
    return bytes.fromhex(found["sum"]) if found else None
