"""Signing keys, and Standard Webhooks signatures: proof that a request came from who holds the secret, lately.

Our own instead of the `standardwebhooks` package: that one takes a single secret, reads the machine's clock, and
parses the body it verifies; what it would save is one HMAC.
"""

import base64
import binascii
import hmac
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from integration.config import SecretRef
from integration.errors import ConfigError, Reason, Refused
from integration.ports import Finding

TOLERANCE: Final = 300
"""How many seconds a timestamp may lie before or after our clock."""

LEAST_BYTES: Final = 16
"""A shorter key protects nothing."""

_REFRESH_SECONDS: Final = 10.0
_MOST_DIGITS: Final = 15


class SigningKeys:
    """The keys of one connection, read anew every ten seconds, so that a rotated file is found without a restart."""

    def __init__(
        self,
        secrets: Sequence[SecretRef],
        clock: Callable[[], float] = time.monotonic,
        *,
        decode: Callable[[str], bytes] | None = None,
    ) -> None:
        """`clock` counts seconds; `decode` makes a key of a secret as its sender shows it, by default `decode_secret`.

        Nothing is read yet: a worker that only translates needs no secret.
        """
        self._secrets = secrets
        self._clock = clock
        self._decode = decode or decode_secret
        self._read_at = float("-inf")
        self._keys: tuple[bytes, ...] = ()

    def __repr__(self) -> str:
        """Say how many there are, not which."""
        return f"SigningKeys({len(self._secrets)})"

    def current(self) -> tuple[bytes, ...]:
        """Return the keys. Raises ConfigError where they cannot be read and never could be.

        Keys once read stay in use while their file is away: a rotation replaces it, and must refuse nobody.
        """
        now = self._clock()
        if now - self._read_at >= _REFRESH_SECONDS:
            try:
                self._keys = tuple(self._decode(ref.read().get_secret_value()) for ref in self._secrets)
            except ConfigError:
                if not self._keys:
                    raise
            self._read_at = now
        return self._keys

    def for_request(self) -> tuple[bytes, ...]:
        """Return the keys to verify a request with. Raises Refused (503) as `current`: the sender tries again."""
        try:
            return self.current()
        except ConfigError:
            raise Refused(
                503, Reason.SECRET_UNREADABLE, "the secret of this connection cannot be read; run coursewire check"
            ) from None

    def finding(self) -> Finding:
        """Say whether the secrets can be read; raises nothing."""
        try:
            count = len(self.current())
        except ConfigError as error:
            return Finding(False, "a webhook secret cannot be used", str(error))
        return Finding(True, f"webhook secrets that can be read: {count}")


def decode_secret(secret: str) -> bytes:
    """Return the bytes of a secret written `whsec_<base64>` or as bare base64, either alphabet, padded or not.

    Raises ConfigError, without the secret, where it is not base64 or shorter than 16 bytes.
    Source: Standard Webhooks specification, "signature scheme" (which asks for 24 to 64 bytes).
    """
    text = secret.strip().removeprefix("whsec_").translate(str.maketrans("-_", "+/")).rstrip("=")
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ConfigError("a webhook secret is not base64; write it as the sender shows it: whsec_...") from None
    if len(key) < LEAST_BYTES:
        raise ConfigError("a webhook secret is too short; make one with: openssl rand -base64 32")
    return key


def sign(key: bytes, message_id: str, timestamp: str, raw: bytes) -> str:
    """Return the `v1,...` signature of a message. `timestamp` is in whole seconds since 1970, as text.

    Raises UnicodeEncodeError for an id or timestamp that no HTTP header can hold.
    Source: Standard Webhooks specification, "signature scheme".
    """
    # Header text is bytes read as Latin-1; this gives back the very bytes the sender signed.
    signed = f"{message_id}.{timestamp}.".encode("latin-1") + raw
    return "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()


def verify(headers: Mapping[str, str], raw: bytes, keys: Sequence[bytes], now: float) -> int:
    """Return the place of the key that signed `raw`, having checked the time too. `now` is in seconds since 1970.

    Raises Refused(401): MISSING_SIGNATURE, BAD_TIMESTAMP, STALE_TIMESTAMP (over 300 seconds off either way) or
    BAD_SIGNATURE; nothing else, whatever the headers hold. Header names are in lower case.
    Source: Standard Webhooks specification, "verifying signatures".
    """
    message_id = headers.get("webhook-id", "").strip()
    timestamp = headers.get("webhook-timestamp", "").strip()
    signatures = headers.get("webhook-signature", "").split()
    if not (message_id and timestamp and signatures):
        raise Refused(401, Reason.MISSING_SIGNATURE, "webhook-id, webhook-timestamp and webhook-signature are needed")
    if not (timestamp.isascii() and timestamp.isdigit()) or len(timestamp) > _MOST_DIGITS:
        raise Refused(401, Reason.BAD_TIMESTAMP, "webhook-timestamp must be whole seconds since 1970")
    if abs(now - int(timestamp)) > TOLERANCE:
        raise Refused(401, Reason.STALE_TIMESTAMP, f"webhook-timestamp is more than {TOLERANCE} seconds from our clock")
    place = _signer(keys, signatures, message_id, timestamp, raw)
    if place is None:
        raise Refused(401, Reason.BAD_SIGNATURE, "no webhook-signature matches a secret of this connection")
    return place


def _signer(
    keys: Sequence[bytes], signatures: Sequence[str], message_id: str, timestamp: str, raw: bytes
) -> int | None:
    """Return the place of the first key that made one of `signatures`; every pair is compared, found or not."""
    given = [one.encode("utf-8", "replace") for one in signatures]
    place: int | None = None
    for index, key in enumerate(keys):
        try:
            expected = sign(key, message_id, timestamp, raw).encode()
        except UnicodeEncodeError:
            return None
        matches = [hmac.compare_digest(expected, one) for one in given]
        if place is None and any(matches):
            place = index
    return place
