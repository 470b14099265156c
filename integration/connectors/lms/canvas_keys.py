"""The public keys that Canvas signs events with, and the proof that an event was signed with one of them.

Canvas rotates its keys monthly and publishes the previous, the current and the next one, so a kept set is nearly always
enough. Requests are verified on the event loop: only the one that begins a fetch waits for it, and not for long.
"""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import jwt
import structlog
from jwt.types import Options

from integration.config import ConnectionConfig
from integration.connectors.client import Call, Client, Limits
from integration.errors import CoursewireError, Reason, Refused, RetryLater
from integration.ports import Finding
from integration.security.signatures import TOLERANCE

log = structlog.get_logger(__name__)

ALGORITHM: Final = "RS256"
"""The only one: a header that could choose would choose one without a secret."""

WAIT_SECONDS: Final = 2.0
"""How long a request may wait for keys."""
FLOOR_SECONDS: Final = 30.0
"""The least time between two fetches: who invents key ids must not have us ask all the time."""
KEPT_SECONDS: Final = 6 * 3600.0
"""After so long the set is fetched anew, so that a key which was withdrawn is not believed for ever."""

_LEAST_BITS: Final = 2048
_LIMITS: Final = Limits(connect=WAIT_SECONDS, silence=WAIT_SECONDS, total=WAIT_SECONDS, answer_bytes=256 * 1024)
# The claims are an event and no statement about a person: only their times say something of the token.
_CLAIMS: Final[Options] = {"verify_aud": False, "verify_iss": False, "verify_sub": False, "verify_jti": False}

Keys = Mapping[str, jwt.PyJWK]


def fetcher(config: ConnectionConfig, address: str) -> Callable[[], Keys]:
    """Return what fetches the key set at `address`, within two seconds. It raises CoursewireError."""
    url = urlsplit(address)
    client = Client(
        f"{url.scheme}://{url.netloc}",
        connection=config.name,
        allow_private_hosts=config.allow_private_hosts,
        limits=_LIMITS,
    )
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")

    def fetch() -> Keys:
        reply = client.call(Call("canvas.jwks", "GET", path, writes=False))
        found = rsa_keys(reply.body) if reply.ok else {}
        if not found:
            raise RetryLater(Reason.MALFORMED_ANSWER, f"there is no RSA key at options.jwks_url ({reply.status})")
        return found

    return fetch


def rsa_keys(body: Any) -> Keys:
    """Return the keys of a set that may sign with RS256, by their ids. Source: RFC 7517, 4 and 5."""
    listed = body.get("keys") if isinstance(body, dict) else None
    found = {}
    for one in listed if isinstance(listed, list) else []:
        if not isinstance(one, dict) or one.get("kty") != "RSA" or not isinstance(one.get("kid"), str):
            continue
        if one.get("use") not in (None, "sig") or one.get("alg") not in (None, ALGORITHM):
            continue
        try:
            key = jwt.PyJWK.from_dict(one, ALGORITHM)
        except (jwt.PyJWTError, ValueError, TypeError):
            continue
        if key.key.key_size >= _LEAST_BITS:
            found[one["kid"]] = key
    return found


class KeySet:
    """The kept key set of one connection; threads share it."""

    def __init__(self, fetch: Callable[[], Keys], clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` counts seconds. Nothing is fetched yet: a worker that only translates needs no key."""
        self._fetch = fetch
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: Keys = {}
        self._begun_at = self._read_at = float("-inf")
        self._is_sure = False

    def find(self, kid: str) -> jwt.PyJWK:
        """Return the key of this id, having fetched the set where it is unknown or old, once in 30 seconds at most.

        Raises Refused: 401 where the set is fresh and has no such key, 503 where it could not be fetched (the sender
        tries again). A key once read stays in use while the set cannot be fetched.
        """
        is_known = kid in self._keys
        if not is_known or self._clock() - self._read_at > KEPT_SECONDS:
            self._refresh(wait=not is_known)
        found = self._keys.get(kid)
        if found is not None:
            return found
        if self._is_sure:
            raise Refused(401, Reason.BAD_SIGNATURE, "the key that signed the body is not at options.jwks_url")
        raise Refused(
            503, Reason.SECRET_UNREADABLE, "the keys at options.jwks_url cannot be read; run coursewire check"
        )

    def _refresh(self, *, wait: bool) -> None:
        with self._lock:
            now = self._clock()
            if now - self._begun_at < FLOOR_SECONDS:
                return
            self._begun_at = now
            self._is_sure = False
        done = threading.Event()
        # In a thread of its own: finding the host's address knows no deadline.
        threading.Thread(target=self._read, args=(done,), name="canvas-keys", daemon=True).start()
        if wait:
            done.wait(WAIT_SECONDS)

    def _read(self, done: threading.Event) -> None:
        try:
            self._keys = self._fetch()
            self._read_at, self._is_sure = self._clock(), True
        except CoursewireError as error:
            log.warning("canvas.keys_unread", reason=error.reason.value)
        finally:
            done.set()


def prove(token: bytes, keys: KeySet) -> None:
    """Prove that `token` is a JWT signed by a key of the set and not out of date (300 seconds are forgiven).

    Raises Refused: 401 BAD_SIGNATURE or STALE_TIMESTAMP, and as `KeySet.find`; nothing else, whatever the token is.
    Source: RFC 7515, RFC 7519; Canvas Data Services ("Sign payload").
    """
    try:
        header = jwt.get_unverified_header(token)
        kid = header.get("kid")
        if header.get("alg") != ALGORITHM or not isinstance(kid, str):
            raise Refused(401, Reason.BAD_SIGNATURE, f"the body must be signed with {ALGORITHM} and name its key")
        jwt.decode(token, keys.find(kid), algorithms=[ALGORITHM], leeway=TOLERANCE, options=_CLAIMS)
    except (jwt.ExpiredSignatureError, jwt.ImmatureSignatureError):
        raise Refused(401, Reason.STALE_TIMESTAMP, "the signature of the body is not valid at this time") from None
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise Refused(401, Reason.BAD_SIGNATURE, "the body is no JWT that a key of this connection signed") from None


def finding(config: ConnectionConfig, address: str) -> Finding:
    """Say whether the keys of signed events can be fetched; raises nothing."""
    try:
        count = len(fetcher(config, address)())
    except CoursewireError as error:
        return Finding(False, "the keys at options.jwks_url cannot be read", f"{error.detail} ({error.reason})")
    return Finding(True, f"keys of signed events that can be read: {count}")
