"""HubSpot's signature v3: proof that a request came from who holds the app's client secret, lately.

Our own instead of the SDK's helper: that one defaults to the older versions, which a replay passes, decodes nothing of
the address, and takes timestamps from the future.
"""

import base64
import hmac
import re
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import unquote

from integration.errors import ConfigError, Reason, Refused
from integration.security.signatures import LEAST_BYTES

TOLERANCE_MS: Final = 300_000
"""How many milliseconds a timestamp may lie before or after our clock."""

SIGNATURE: Final = "x-hubspot-signature-v3"
TIMESTAMP: Final = "x-hubspot-request-timestamp"
_MOST_DIGITS: Final = 15
# Everything else stays as it is written: `%20` and `%26` are signed so.
_DECODED: Final = re.compile("%(?:3A|2F|3F|40|21|24|27|28|29|2A|2C|3B)", re.IGNORECASE)


def client_secret(text: str) -> bytes:
    """Return the key of an app's client secret, which HubSpot shows as plain text. Raises ConfigError if too short."""
    key = text.strip().encode()
    if len(key) < LEAST_BYTES:
        raise ConfigError("a webhook secret is too short; write the client secret as the app's page shows it")
    return key


def sign(key: bytes, method: str, url: str, raw: bytes, timestamp: str) -> str:
    """Return the signature of a request. `url` is the whole address HubSpot calls, `timestamp` in epoch milliseconds.

    Source: HubSpot docs, validating requests ("v3 request signature").
    """
    address = _DECODED.sub(lambda found: unquote(found[0]), url)
    signed = f"{method}{address}".encode("utf-8", "replace") + raw + timestamp.encode("utf-8", "replace")
    return base64.b64encode(hmac.digest(key, signed, "sha256")).decode()


def verify(method: str, url: str, headers: Mapping[str, str], raw: bytes, keys: Sequence[bytes], now: float) -> None:
    """Prove that the holder of one of `keys` sent `raw` to `url`. `now` is in seconds since 1970.

    Raises Refused(401): MISSING_SIGNATURE (also where there is only an older version), BAD_TIMESTAMP,
    STALE_TIMESTAMP (over 300,000 ms off either way) or BAD_SIGNATURE; nothing else, whatever the headers hold.
    Header names are in lower case. Source: HubSpot docs, validating requests; the bound ahead of our clock is our own.
    """
    given, timestamp = headers.get(SIGNATURE, "").strip(), headers.get(TIMESTAMP, "").strip()
    if not (given and timestamp):
        raise Refused(401, Reason.MISSING_SIGNATURE, f"{SIGNATURE} and {TIMESTAMP} are needed")
    if not (timestamp.isascii() and timestamp.isdigit()) or len(timestamp) > _MOST_DIGITS:
        raise Refused(401, Reason.BAD_TIMESTAMP, f"{TIMESTAMP} must be whole milliseconds since 1970")
    if abs(round(now * 1000) - int(timestamp)) > TOLERANCE_MS:
        raise Refused(401, Reason.STALE_TIMESTAMP, f"{TIMESTAMP} is more than {TOLERANCE_MS} ms from our clock")
    claimed = given.encode("utf-8", "replace")
    matches = [hmac.compare_digest(sign(key, method, url, raw, timestamp).encode(), claimed) for key in keys]
    if not any(matches):
        raise Refused(401, Reason.BAD_SIGNATURE, f"{SIGNATURE} fits no secret and address of this connection")
