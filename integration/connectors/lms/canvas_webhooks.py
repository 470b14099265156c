"""Canvas as a sender of live events: one a request, as plain JSON or, signed, as a JWT whose claims are the event.

A signature proves that Instructure sent it, and not for which of its customers: the account is compared as well. Plain
JSON proves nothing, so it must come with a token of ours.
"""

import base64
import binascii
import hmac
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from hashlib import sha256
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import orjson

from integration.config import ConnectionConfig
from integration.connectors.json_object import json_object
from integration.connectors.lms import canvas_keys
from integration.connectors.lms.canvas_events import event_from
from integration.errors import ConfigError, Reason, Refused
from integration.model.events import Kind, LearningEvent
from integration.ports import Finding, Received
from integration.security.signatures import LEAST_BYTES, SigningKeys

TOKEN_HEADER: Final = "x-coursewire-token"  # noqa: S105 - a name, not a token
"""The header in which a relay may send the token of unsigned events."""

_KEPT: Final = (
    "event_name",
    "event_time",
    "context_type",
    "context_id",
    "context_role",
    "user_id",
    "request_id",
    "job_id",
    "root_account_id",
    "root_account_uuid",
)


def inbound(config: ConnectionConfig) -> "Webhooks | None":
    """Return what takes this connection's live events; None where it names no way to prove them. Raises ConfigError."""
    if config.webhook is None and config.options.jwks_url is None and not config.options.unsigned_events:
        return None
    return Webhooks(config)


class Webhooks:
    """One Canvas account that sends live events, as Inbound."""

    def __init__(self, config: ConnectionConfig) -> None:
        """Raises ConfigError where the settings do not say whose events count, or how they are proven.

        No secret is read and no key fetched yet.
        """
        options, webhook = config.options, config.webhook
        if fault := _fault(config):
            raise ConfigError(f"connections.{config.name}: {fault}")
        self._account = options.root_account_uuid
        self._tokens = SigningKeys(webhook.secrets, decode=_token) if webhook else None
        self._keys = (
            canvas_keys.KeySet(canvas_keys.fetcher(config, options.jwks_url)) if options.jwks_url is not None else None
        )

    def verify(self, method: str, url: str, headers: Mapping[str, str], raw: bytes) -> None:
        """Prove that `raw` came from Canvas (signed), or from who holds the token of unsigned events.

        The token is looked for in the address (`?token=`, or user:token@), in Authorization (Bearer, Basic) and in
        x-coursewire-token. Raises Refused: 401, or 503 where keys or tokens cannot be read (the sender tries again).
        Source: Canvas guides, "live events using HTTPS delivery"; the tokens are our own.
        """
        if signed := _jwt(raw):
            if self._keys is None:
                raise Refused(401, Reason.BAD_SIGNATURE, "signed events are not taken here: set options.jwks_url")
            canvas_keys.prove(signed, self._keys)
        elif self._tokens is None:
            raise Refused(401, Reason.MISSING_SIGNATURE, "the body is not signed: switch on Sign payload in Canvas")
        else:
            _require_token(_tokens_given(url, headers), self._tokens.for_request())

    def split(self, headers: Mapping[str, str], raw: bytes) -> list[Received]:
        """Return the one event of a request, without what it says of browsers and addresses.

        Canvas gives events no id: ours is a hash of what makes one itself, so that a resend gets the same. Raises
        Refused (400) where it is no JSON object. What only a lenient parser takes is kept for `translate` to reject.
        Source: canvas-lms, doc/api/data_services.
        """
        signed = _jwt(raw)
        text = _claims(signed) if signed else raw
        try:
            envelope = orjson.loads(text)
        except orjson.JSONDecodeError:
            if not _is_lenient_json(text):
                raise Refused(400, Reason.MALFORMED_BODY, "the body must be a JSON object or a JWT") from None
            return [Received(f"unread {sha256(text).hexdigest()}", Kind.COMPLETION, text)]
        if not isinstance(envelope, dict):
            raise Refused(400, Reason.MALFORMED_BODY, "the body must be a JSON object")
        metadata = envelope.get("metadata")
        if not isinstance(metadata, dict):
            return [Received(sha256(_written(envelope)).hexdigest(), Kind.COMPLETION, _written(envelope))]
        slim = {name: metadata[name] for name in _KEPT if name in metadata}
        payload = _written({"metadata": slim, "body": envelope.get("body")})
        name = slim.get("event_name")
        enrolls = isinstance(name, str) and name.startswith("enrollment_")
        return [Received(sha256(payload).hexdigest(), Kind.ENROLLMENT if enrolls else Kind.COMPLETION, payload)]

    def translate(self, payload: bytes) -> list[LearningEvent]:
        """Return the one canonical event of `payload`; raises Ignored or Rejected as `event_from`, or HOSTILE_JSON."""
        return [event_from(json_object(payload, "body"), self._account)]


def findings(config: ConnectionConfig) -> list[Finding]:
    """Say whether this connection's live events can be verified; nothing where it takes none. Raises nothing."""
    if fault := _fault(config):
        return [Finding(False, "live events cannot be taken", fault)]
    found = []
    if config.options.jwks_url is not None:
        found.append(canvas_keys.finding(config, config.options.jwks_url))
    if config.webhook is not None:
        found.append(SigningKeys(config.webhook.secrets, decode=_token).finding())
    return found


def _fault(config: ConnectionConfig) -> str | None:
    """Return what is wrong with the settings of live events, and what to write instead."""
    options, webhook = config.options, config.webhook
    if options.jwks_url is not None and options.root_account_uuid is None:
        return (
            "options.jwks_url needs options.root_account_uuid: Instructure signs the events of all its customers with "
            "the same keys, so say which account is yours"
        )
    if (webhook is not None) != options.unsigned_events:
        return (
            "events that are not signed need both options: {unsigned_events: true} and, for the token that comes with "
            "them, webhook: {secrets: [{env: NAME}]}; signed ones need options.jwks_url and no webhook"
        )
    if webhook is not None and webhook.public_url is not None:
        return "remove webhook.public_url: Canvas signs no address, and the token may stand in the one it calls"
    return None


def _token(secret: str) -> bytes:
    if len(secret) < LEAST_BYTES:
        raise ConfigError("a webhook token is too short; make one with: openssl rand -hex 32")
    return secret.encode()


def _jwt(raw: bytes) -> bytes | None:
    """Return the JWT that a body is, None where it is none. Source: RFC 7515, 7.1 (compact form)."""
    text = raw.strip().strip(b'"')
    return text if text.count(b".") == 2 and not text.startswith((b"{", b"[")) else None  # noqa: PLR2004 - three parts


def _claims(signed: bytes) -> bytes:
    middle = signed.split(b".")[1]
    try:
        return base64.b64decode(middle.translate(bytes.maketrans(b"-_", b"+/")) + b"=" * (-len(middle) % 4))
    except binascii.Error:
        raise Refused(400, Reason.MALFORMED_BODY, "the claims of the JWT cannot be read") from None


def _is_lenient_json(text: bytes) -> bool:
    try:
        # Whole numbers as floats: the standard library refuses to convert thousands of digits.
        return isinstance(json.loads(text, parse_int=float), dict)
    except RecursionError:
        return text.lstrip().startswith(b"{")
    except ValueError:
        return False


def _written(thing: Mapping[str, Any]) -> bytes:
    """Return the same bytes for the same event, whatever the order and the spaces it came in."""
    return orjson.dumps(thing, option=orjson.OPT_SORT_KEYS)


def _tokens_given(url: str, headers: Mapping[str, str]) -> Iterator[str]:
    with suppress(ValueError):
        yield from parse_qs(urlsplit(url).query).get("token", [])
    scheme, _, credentials = headers.get("authorization", "").strip().partition(" ")
    if scheme.lower() == "bearer":
        yield credentials.strip()
    elif scheme.lower() == "basic":
        with suppress(ValueError):
            yield base64.b64decode(credentials.strip(), validate=True).decode("utf-8", "replace").partition(":")[2]
    if TOKEN_HEADER in headers:
        yield headers[TOKEN_HEADER].strip()


def _require_token(given: Iterator[str], tokens: tuple[bytes, ...]) -> None:
    """Compare every pair, found or not, so that the time it takes says nothing."""
    candidates = [one.encode("utf-8", "replace") for one in given]
    if not candidates:
        raise Refused(401, Reason.MISSING_SIGNATURE, "the body is not signed, and no token came with it")
    if not any([hmac.compare_digest(one, token) for one in candidates for token in tokens]):  # noqa: C419
        raise Refused(401, Reason.BAD_SIGNATURE, "the token that came with the body is not one of webhook.secrets")
