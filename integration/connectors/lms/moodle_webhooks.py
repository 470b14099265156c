"""Moodle's plugin `local_webhooks` as a sender: one event of Moodle's log a request, and a shared secret in its body.

That secret, the service's token, is all that proves the sender: no signature covers the event, and nothing in it grows
old. It is compared before anything is kept, and is not kept itself.
"""

import hmac
from collections.abc import Mapping
from typing import Any, Final

import orjson

from integration.config import ConnectionConfig, WebhookConfig
from integration.connectors.json_object import json_object
from integration.connectors.lms.moodle_events import EVENTS, event_from, identity, kept, name_of, written
from integration.errors import ConfigError, Reason, Refused
from integration.model.events import Kind, LearningEvent
from integration.ports import Finding, Received
from integration.security.signatures import LEAST_BYTES, SigningKeys

MEDIA_TYPES: Final = ("application/x-www-form-urlencoded",)
"""What the plugin may call its JSON, beside what it is."""


def inbound(config: ConnectionConfig) -> "Webhooks | None":
    """Return what takes this connection's webhooks; None where it has no `webhook`, and so sends none."""
    return Webhooks(config.webhook) if config.webhook else None


class Webhooks:
    """One Moodle site that sends webhooks, as Inbound."""

    def __init__(self, webhook: WebhookConfig) -> None:
        """No secret is read yet."""
        self._keys = SigningKeys(webhook.secrets, decode=token_bytes)

    def verify(self, method: str, url: str, headers: Mapping[str, str], raw: bytes) -> None:
        """Prove that the body holds one of the tokens of this connection.

        Raises Refused: 401 (MISSING_SIGNATURE, BAD_SIGNATURE), 503 where our own secret cannot be read.
        Source: valentineus/moodle-webhooks, lib.php.
        """
        token = (_object(raw) or {}).get("token")
        if not isinstance(token, str) or not token.strip():
            raise Refused(401, Reason.MISSING_SIGNATURE, "the body must be a JSON object with the service's token")
        given = token.strip().encode("utf-8", "replace")
        matches = [hmac.compare_digest(key, given) for key in self._keys.for_request()]
        if not any(matches):
            raise Refused(401, Reason.BAD_SIGNATURE, "the token in the body is none of this connection's secrets")

    def split(self, headers: Mapping[str, str], raw: bytes) -> list[Received]:
        """Return the one event of a request, without its token. Raises Refused (400) where it is no JSON object."""
        event = _object(raw)
        if event is None:
            raise Refused(400, Reason.MALFORMED_BODY, "the body must be a JSON object")
        slim = written(kept(event))
        line = EVENTS.get(name_of(event))
        return [Received(identity(slim), line.type.kind if line else Kind.COMPLETION, slim)]

    def translate(self, payload: bytes) -> list[LearningEvent]:
        """Return the one canonical event of `payload`.

        Raises Ignored (UNKNOWN_TYPE) or Rejected (HOSTILE_JSON, MISSING_FIELD, INVALID_EVENT), nothing else.
        """
        return [event_from(json_object(payload, "event"))]


def findings(config: ConnectionConfig) -> list[Finding]:
    """Say whether webhooks of this connection can be verified; nothing where it takes none. Raises nothing."""
    return [SigningKeys(config.webhook.secrets, decode=token_bytes).finding()] if config.webhook else []


def token_bytes(text: str) -> bytes:
    """Return the key of a service's token, which Moodle shows as plain text. Raises ConfigError if too short."""
    key = text.strip().encode()
    if len(key) < LEAST_BYTES:
        raise ConfigError("a webhook secret is too short; give the service in Moodle a token of 16 characters or more")
    return key


def _object(raw: bytes) -> dict[str, Any] | None:
    """Return the JSON object that `raw` is, None where it is none."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    return body if isinstance(body, dict) else None
