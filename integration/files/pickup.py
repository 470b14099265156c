"""Where files are picked up: a folder of an SFTP server, the key it must have, and which files are meant."""

import base64
import binascii
import re
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

_SHORTEST_KEY = 32


def fingerprint(public_key: bytes) -> str:
    """Return a public key, as it is sent, the way `ssh-keygen -l` shows it."""
    return "SHA256:" + base64.b64encode(sha256(public_key).digest()).decode().rstrip("=")


def _pins(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _pin(text: str) -> str:
    """Return a host key as its fingerprint; it is given as one, as a public key, or as a line of known_hosts."""
    if re.fullmatch(r"SHA256:[A-Za-z0-9+/]{43}=?", text.strip()):
        return text.strip().rstrip("=")
    for word in text.split():
        try:
            key = base64.b64decode(word, validate=True)
        except (binascii.Error, ValueError):
            continue
        # A public key begins with the length of its kind's name, and that name (RFC 4253, 6.6).
        if len(key) > _SHORTEST_KEY and key[4 : 4 + int.from_bytes(key[:4])].decode("ascii", "replace") in text.split():
            return fingerprint(key)
    raise ValueError("must be SHA256:... as ssh-keygen -l shows it, or the line of the public key")


def _folder(name: str) -> str:
    if not name.isprintable() or not name or "/" in name or name.startswith("."):
        raise ValueError("must be the name of a folder beside the files")
    return name


class PickupGuard(BaseModel):
    """What one file may say before somebody is asked: most leavers, and how far its rows may fall, in percent."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    leavers: Annotated[int, Field(ge=0)] = 20
    percent: Annotated[int, Field(ge=0, le=100)] = 10


class Pickup(BaseModel):
    """Files in the folder of an SFTP server.

    `host_key`: fingerprints of the keys that the server may have. `marker`: what stands behind the name of the file
    that says that another one is whole, `checksum` behind that of the one with its SHA-256; without both a file that
    stands still is whole. `mapping`: what the columns mean.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    host_key: Annotated[tuple[Annotated[str, AfterValidator(_pin)], ...], BeforeValidator(_pins), Field(min_length=1)]
    mapping: Path
    pattern: Annotated[str, Field(min_length=1)] = "*.csv"
    marker: Annotated[str, Field(min_length=1)] | None = None
    checksum: Annotated[str, Field(min_length=1)] | None = None
    mode: Literal["full", "delta"] = "full"
    guard: PickupGuard = PickupGuard()
    processed: Annotated[str, AfterValidator(_folder)] = "processed"
    rejected: Annotated[str, AfterValidator(_folder)] = "rejected"

    @model_validator(mode="after")
    def _are_two(self) -> Self:
        if self.marker is not None and self.marker == self.checksum:
            raise ValueError("marker and checksum are two files, so their names must end differently")
        return self

    @property
    def companions(self) -> tuple[str, ...]:
        """What stands behind a file's name in the names of those that belong to it."""
        return tuple(filter(None, (self.marker, self.checksum)))
