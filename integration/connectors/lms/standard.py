"""Any learning system that can post JSON: our own event format, signed as Standard Webhooks says.

The web process verifies and splits, the worker translates. A signed body is kept even where it cannot be understood,
so that it ends in a visible state with a reason instead of in the sender's retry queue.
"""

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from pydantic import ValidationError

from integration.config import ConnectionConfig
from integration.connectors.client import Gate, OnCall
from integration.connectors.json_object import json_object
from integration.connectors.lms.standard_events import event_from
from integration.connectors.lms.standard_rest import StandardRest
from integration.connectors.lms.standard_results import StandardResults
from integration.errors import ConfigError, Ignored, Reason, Refused, Rejected
from integration.model.events import EventType, Kind, LearningEvent
from integration.ports import ANY_CALL, Capabilities, Finding, Rate, Received, WhatIsWanted
from integration.security.signatures import SigningKeys, verify

CAPABILITIES = Capabilities(
    receives_webhooks=True,
    enrolls=True,
    due_dates="native",
    batch_size=100,
    rates={ANY_CALL: Rate(100, 10.0)},
    lists_results="changes",
)
_TYPES = {member.value: member for member in EventType}
_SHOWN = 64


class Standard:
    """One sender of canonical events, as Inbound and Doctor."""

    def __init__(self, config: ConnectionConfig, *, clock: Callable[[], float] = time.time) -> None:
        """`clock` gives seconds since 1970. Raises ConfigError where the connection names no webhook secret."""
        if config.webhook is None:
            raise ConfigError(
                f"connections.{config.name}: standard needs webhook: {{secrets: [{{env: ACADEMY_WEBHOOK_SECRET}}]}}"
            )
        self._config = config
        self._keys = SigningKeys(config.webhook.secrets)
        self._clock = clock

    def verify(self, method: str, url: str, headers: Mapping[str, str], raw: bytes) -> None:
        """Prove that `raw` came from a holder of a secret within the last 300 seconds.

        Raises Refused: 401 as `signatures.verify`, 503 where our own secret cannot be read (the sender tries again).
        Source: Standard Webhooks specification.
        """
        verify(headers, raw, self._keys.for_request(), self._clock())

    def split(self, headers: Mapping[str, str], raw: bytes) -> list[Received]:
        """Return the one event of a request; its id is `webhook-id`. Raises Refused (400) where it is no JSON object.

        JSON that only a lenient parser takes is kept for `translate` to reject: its sender was right about the
        protocol, and repeating it would change nothing. Source: docs/architecture.md, "canonical inbound event".
        """
        try:
            body = orjson.loads(raw)
        except orjson.JSONDecodeError:
            body = _leniently(raw)
        if not isinstance(body, dict):
            raise Refused(400, Reason.MALFORMED_BODY, "the body must be a JSON object")
        named = body.get("type")
        enrolls = isinstance(named, str) and named.startswith("enrollment.")
        kind = Kind.ENROLLMENT if enrolls else Kind.COMPLETION
        return [Received(headers.get("webhook-id", "").strip(), kind, raw)]

    def translate(self, payload: bytes) -> list[LearningEvent]:
        """Return the one canonical event of `payload`.

        Raises Ignored (UNKNOWN_TYPE) or Rejected (HOSTILE_JSON, MISSING_FIELD, INVALID_EVENT), nothing else. The
        text names the field, never its value. Source: docs/architecture.md, "canonical inbound event".
        """
        return [understood(json_object(payload, "body"))]

    def check(self, wanted: WhatIsWanted | None = None) -> list[Finding]:
        """Say whether the webhook secrets can be read, and the catalogue where people are enrolled; raises nothing."""
        found = [self._keys.finding()]
        store = enrollments(self._config)
        return found if store is None else [*found, *store.check()]


def understood(body: dict[str, Any]) -> LearningEvent:
    """Return the canonical event of one event of ours, however it came. Raises as `Standard.translate`."""
    named = body.get("type")
    if named is None:
        raise Rejected(Reason.MISSING_FIELD, "type is missing")
    if not isinstance(named, str):
        raise Rejected(Reason.INVALID_EVENT, "type: must be text")
    kind = _TYPES.get(named)
    if kind is None:
        raise Ignored(Reason.UNKNOWN_TYPE, "".join(filter(str.isprintable, named))[:_SHOWN])
    try:
        return event_from(kind, body)
    except ValidationError as error:
        raise Rejected(Reason.INVALID_EVENT, _sentence(error)) from None


def enrollments(
    config: ConnectionConfig, on_call: OnCall = None, gate: Gate = None, _: object = None
) -> StandardRest | None:
    """Return what enrols people in this LMS, None where it names no address to do so. Raises ConfigError."""
    return StandardRest(config, CAPABILITIES, on_call, gate) if config.base_url else None


def results(
    config: ConnectionConfig, on_call: OnCall = None, gate: Gate = None, _: object = None
) -> StandardResults | None:
    """Return what lists what happened in this LMS, None where it names no address to ask at. Raises ConfigError."""
    if not config.base_url:
        return None
    return StandardResults(StandardRest(config, CAPABILITIES, on_call, gate), understood)


def _leniently(raw: bytes) -> Any:
    """Parse what orjson refuses; {} stands for an object nested too deeply, None for what is no JSON at all."""
    try:
        # Whole numbers as floats: the standard library refuses to convert thousands of digits.
        return json.loads(raw, parse_int=float)
    except RecursionError:
        return {} if raw.lstrip().startswith(b"{") else None
    except ValueError:
        return None


def _sentence(error: ValidationError) -> str:
    """Return the first mistake as `data.score: must be a number`, without the value that caused it."""
    mistake = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(str(part) for part in mistake["loc"])
    message = mistake["msg"].removeprefix("Value error, ")
    if mistake["type"] in ("model_type", "dict_type", "model_attributes_type"):
        message = "must be an object"
    return f"{place or 'event'}: {message}"
