"""From a request to rows of the inbox: verify, split, seal. Pure and quick, so it runs on the event loop."""

from collections.abc import Mapping
from dataclasses import dataclass

from integration.ports import Inbound
from integration.security.seal import KeyRing
from integration.storage import inbox
from integration.webhook.intake import Row


@dataclass(frozen=True, slots=True)
class Door:
    """Where one connection's webhooks come in.

    `public_url` is what the sender signs, where it signs an address; `media_types` what it may call its bodies, beside
    JSON.
    """

    connection: str
    system: Inbound
    public_url: str | None = None
    media_types: tuple[str, ...] = ()


def rows_of(
    door: Door, method: str, url: str, headers: Mapping[str, str], raw: bytes, ring: KeyRing, request_id: str
) -> list[Row]:
    """Return the rows to store for one request; `headers` have lower-case names.

    Raises Refused (401, 400) before anything is kept.
    """
    door.system.verify(method, door.public_url or url, headers, raw)
    context = inbox.payload_context(door.connection, request_id)
    return [
        Row(
            connection=door.connection,
            key=inbox.key_of(event.external_id),
            body_hash=inbox.hash_of(event.payload),
            kind=event.kind,
            payload=ring.seal(event.payload, context),
            request_id=request_id,
        )
        for event in door.system.split(headers, raw)
    ]
