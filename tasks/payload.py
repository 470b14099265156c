"""The sealed payload of an event, opened for a person to read: on record before anybody sees it."""

from typing import NamedTuple

import orjson
from sqlalchemy import Connection

from integration.security.seal import KeyRing
from integration.storage import audit, inbox, received
from integration.storage.received import Event
from integration.told import MARK
from tasks.actor import actor
from tasks.saying import plain, say


class Payload(NamedTuple):
    """What an event says, and what it said as it was received where a person has corrected it since."""

    body: bytes
    original: bytes | None


def reveal(db: Connection, ring: KeyRing, event: Event) -> Payload | None:
    """Return the payload in clear, None where it was purged; show it only after the transaction has committed.

    Raises NeedsAttention where the master keys do not open it.
    """
    opened = _opened(db, ring, event)
    if opened is not None:
        audit.append(
            db,
            actor=actor(),
            action="payload.read",
            outcome="shown",
            connection=event.connection,
            subject=("inbox", event.id),
        )
    return opened


def kept(event: Event) -> str:
    """Say whether there is a payload to open."""
    if not event.has_payload:
        return "purged"
    return "kept, sealed; corrected by a person" if event.is_corrected else "kept, sealed"


def as_json(opened: Payload) -> dict[str, object]:
    """Return an opened payload for programs."""
    said = {"payload": parsed(opened.body)}
    return said if opened.original is None else said | {"payload_as_received": parsed(opened.original)}


def say_all(opened: Payload) -> None:
    """Print an opened payload for people."""
    say("\nPayload")
    say(readable(opened.body))
    if opened.original is not None:
        say("\nPayload as it was received")
        say(readable(opened.original))


def parsed(body: bytes) -> object:
    """Return a payload as JSON where it is some, ours or a sender's, else as text."""
    try:
        return orjson.loads(body.removeprefix(MARK))
    except orjson.JSONDecodeError:
        return body.decode("utf-8", "backslashreplace")


def readable(body: bytes) -> str:
    """Return a payload as people read it."""
    found = parsed(body)
    if isinstance(found, str):
        return plain(found)
    return orjson.dumps(found, option=orjson.OPT_INDENT_2).decode()


def _opened(db: Connection, ring: KeyRing, event: Event) -> Payload | None:
    context = inbox.payload_context(event.connection, event.request_id)
    sealed, original = received.payload(db, event.id), received.original(db, event.id)
    if sealed is None:
        return None
    return Payload(ring.open(sealed, context), ring.open(original, context) if original else None)
