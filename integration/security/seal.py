"""Sealing of personal data, and the keyed hashes it is looked up by.

AES-256-GCM with a ring of keys; the id of the key stands in the value, so keys rotate without downtime. Look-ups use
separate, versioned index keys, because a sealed value is different each time it is written (correctness rule 18).
"""

import base64
import binascii
import os
from collections.abc import Mapping
from functools import lru_cache
from hmac import digest
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from integration.errors import ConfigError, NeedsAttention, Reason

_FORMAT = 1
_NONCE_BYTES = 12
_KEY_BYTES = 32


class KeyRing:
    """The sealing keys of an installation: the newest seals, all of them open."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        """Take key id -> 32 bytes, newest first. Raises ConfigError on a wrong size or no key."""
        if not keys:
            raise ConfigError("COURSEWIRE_MASTER_KEYS holds no key")
        for name, key in keys.items():
            if len(key) != _KEY_BYTES:
                raise ConfigError(f"the master key {name!r} must be 32 bytes, it is {len(key)}")
            if not 0 < len(name.encode()) < 256:  # noqa: PLR2004 - one length byte in the value
                raise ConfigError("a master key's id must be 1 to 255 bytes long")
        self._ciphers = {name.encode(): AESGCM(key) for name, key in keys.items()}
        self._newest = next(iter(self._ciphers))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `id:base64,id:base64`, newest first, as COURSEWIRE_MASTER_KEYS gives it.

        Raises ConfigError that names the id, never the key.
        """
        keys: dict[str, bytes] = {}
        for part in filter(None, (piece.strip() for piece in text.split(","))):
            name, separator, encoded = part.partition(":")
            try:
                key = base64.b64decode(encoded, validate=True)
            except binascii.Error:
                key = b""
            if not separator or not key:
                raise ConfigError(
                    "COURSEWIRE_MASTER_KEYS must read id:base64 of 32 bytes, comma separated; "
                    f"the part {name if separator else '(no id)'!r} does not"
                )
            if name in keys:
                raise ConfigError(f"COURSEWIRE_MASTER_KEYS names the id {name!r} twice")
            keys[name] = key
        return cls(keys)

    def seal(self, value: bytes, context: str) -> bytes:
        """Return format, key id, nonce and ciphertext; `context` says where the value belongs, checked on opening."""
        nonce = os.urandom(_NONCE_BYTES)
        head = bytes((_FORMAT, len(self._newest))) + self._newest
        return head + nonce + self._ciphers[self._newest].encrypt(nonce, value, context.encode())

    def open(self, sealed: bytes, context: str) -> bytes:
        """Return the value sealed for `context`.

        Raises NeedsAttention(SEAL_KEY_MISSING) where the key is not in the ring or the value is not what was sealed.
        """
        name_end = 2 + (sealed[1] if len(sealed) > 1 else 0)
        name = sealed[2:name_end]
        cipher = self._ciphers.get(name)
        if cipher is None or sealed[0] != _FORMAT:
            shown = name.decode("ascii", "replace")[:32]
            raise NeedsAttention(Reason.SEAL_KEY_MISSING, f"sealed with the key {shown!r}, which the ring lacks")
        nonce_end = name_end + _NONCE_BYTES
        try:
            return cipher.decrypt(sealed[name_end:nonce_end], sealed[nonce_end:], context.encode())
        except (InvalidTag, ValueError):
            raise NeedsAttention(
                Reason.SEAL_KEY_MISSING, "the sealed value does not belong here or was changed"
            ) from None


class IndexKeys:
    """Versioned keys of look-up hashes; the newest writes, all of them look up while re-indexing goes on."""

    def __init__(self, keys: Mapping[int, bytes]) -> None:
        """Take version -> 32 bytes."""
        self._keys = dict(sorted(keys.items(), reverse=True))
        # A batch asks for each of its addresses twice: to look somebody up, and to keep them.
        self._candidates = lru_cache(maxsize=4096)(self._made)

    def newest(self, field: str, value: str) -> bytes:
        """Return the 32-byte key under which `value` is stored from now on."""
        return self._candidates(field, value)[0]

    def candidates(self, field: str, value: str) -> list[bytes]:
        """Return the keys under which `value` may be stored, newest first."""
        return list(self._candidates(field, value))

    def _made(self, field: str, value: str) -> tuple[bytes, ...]:
        message = f"{field}\0{value}".encode()
        return tuple(digest(key, message, "sha256") for key in self._keys.values())


def new_key() -> bytes:
    """Return 32 random bytes."""
    return os.urandom(_KEY_BYTES)
