"""HubSpot as a sender of webhooks: up to a hundred events a request, signed with the app's client secret.

The web process verifies and splits, the worker translates. An event says that something happened to a contact, never
what to believe: the contact is read again.
"""

import json
import time
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

import orjson

from integration.config import ConnectionConfig, WebhookConfig
from integration.connectors.crm import hubspot_deal_events
from integration.connectors.crm.hubspot_events import changed_property, hint, identity, kept, number, written
from integration.connectors.crm.hubspot_signature import client_secret, verify
from integration.connectors.json_object import json_object
from integration.errors import Ignored, Reason, Refused
from integration.model.deals import DealHint
from integration.model.events import Kind
from integration.model.hints import ContactHint
from integration.ports import Finding, Received
from integration.security.signatures import SigningKeys

_MOST_DIGITS = 20
_THIS_MACHINE = ("127.0.0.1", "localhost")


def inbound(config: ConnectionConfig) -> "Webhooks | None":
    """Return what takes this connection's webhooks; None where it has no `webhook`, and so sends none."""
    return Webhooks(config, config.webhook) if config.webhook else None


class Webhooks:
    """One HubSpot account that sends webhooks, as Inbound."""

    def __init__(
        self, config: ConnectionConfig, webhook: WebhookConfig, *, clock: Callable[[], float] = time.time
    ) -> None:
        """`clock` gives seconds since 1970. No secret is read yet."""
        self._keys = SigningKeys(webhook.secrets, decode=client_secret)
        self._role_property = config.options.role_property
        self._portal = config.options.portal_id
        self._clock = clock

    def verify(self, method: str, url: str, headers: Mapping[str, str], raw: bytes) -> None:
        """Prove that `raw` came from a holder of a client secret within the last 300,000 ms.

        `url` is the address that HubSpot called, not the one a proxy made of it. Raises Refused: 401 as
        `hubspot_signature.verify`, 503 where our own secret cannot be read (HubSpot tries again).
        Source: HubSpot docs, validating requests.
        """
        verify(method, url, headers, raw, self._keys.for_request(), self._clock())

    def split(self, headers: Mapping[str, str], raw: bytes) -> list[Received]:
        """Return the events of a request, in its order. Raises Refused (400) where it is no JSON list of objects.

        What only a lenient parser takes is kept for `translate` to reject: sending it again would change nothing.
        Source: HubSpot docs, webhooks ("an array of up to 100 events").
        """
        try:
            events = orjson.loads(raw)
        except orjson.JSONDecodeError:
            try:
                events = json.loads(raw, parse_int=_whole)
            except RecursionError:
                events = None
                if raw.lstrip().startswith(b"["):
                    return [Received(f"unread {sha256(raw).hexdigest()}", Kind.CONTACT, raw)]
            except ValueError:
                events = None
        if not isinstance(events, list) or not all(isinstance(event, dict) for event in events):
            raise Refused(400, Reason.MALFORMED_BODY, "the body must be a JSON list of events")
        return [self._received(event) for event in events]

    def translate(self, payload: bytes) -> list[ContactHint] | list[DealHint]:
        """Return the one hint of `payload`, which is one event of a request.

        Raises Ignored (UNKNOWN_TYPE, NOT_MAPPED, OTHER_ACCOUNT) or Rejected (HOSTILE_JSON, MISSING_FIELD,
        INVALID_EVENT), nothing else. The text names the field, never its value. Source: HubSpot docs, webhooks.
        """
        event = json_object(payload, "event")
        found: list[ContactHint] | list[DealHint]
        found = [hubspot_deal_events.hint(event)] if hubspot_deal_events.is_about_deal(event) else [hint(event)]
        if self._portal is not None and str(event.get("portalId")) != str(self._portal):
            raise Ignored(Reason.OTHER_ACCOUNT, "portalId is not options.portal_id of this connection")
        return found

    def _received(self, event: Mapping[str, Any]) -> Received:
        if hubspot_deal_events.is_about_deal(event):
            told = hubspot_deal_events.kept(event)
            return Received(written([number(event.get("eventId")), told]).decode(), Kind.CONTACT, written(told))
        slim = kept(event)
        name = changed_property(slim)
        kind = Kind.ROLE_CHANGE if name is not None and name == self._role_property else Kind.CONTACT
        return Received(identity(event, slim), kind, written(slim))


def findings(config: ConnectionConfig) -> list[Finding]:
    """Say whether webhooks of this connection can be verified; nothing where it takes none. Raises nothing."""
    if config.webhook is None:
        return []
    example = f"write the address that HubSpot calls, such as https://sync.example.org/webhooks/{config.name}"
    address = config.webhook.public_url
    if address is None:
        what = "webhook.public_url is missing; HubSpot signs the address it calls, and a proxy shows us another"
        about = Finding(False, what, example)
    elif not _callable(address):
        what = "webhook.public_url must begin with https:// and have no query; HubSpot calls nothing else"
        about = Finding(False, what, example)
    else:
        about = Finding(True, f"webhooks must be signed for {address}")
    return [SigningKeys(config.webhook.secrets, decode=client_secret).finding(), about]


def _callable(address: str) -> bool:
    """Say whether HubSpot can call `address`; on this machine a stand-in for it may, without TLS."""
    try:
        url = urlsplit(address)
    except ValueError:
        return False
    is_safe = url.scheme == "https" or (url.scheme == "http" and url.hostname in _THIS_MACHINE)
    return is_safe and bool(url.hostname) and not url.query and not url.fragment


def _whole(digits: str) -> int | float:
    """Read a whole number; the standard library refuses to convert thousands of digits."""
    return int(digits) if len(digits) <= _MOST_DIGITS else float("inf")
