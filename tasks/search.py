"""Dead events about somebody: nobody could read whose they are, so each one is opened and asked."""

from typing import NamedTuple

from sqlalchemy import Connection

from integration.errors import NeedsAttention
from integration.security.mentions import mentions
from integration.security.seal import KeyRing
from integration.storage import audit, dead, inbox, received
from integration.storage.dead import Chosen
from integration.storage.received import Event
from tasks.actor import actor

MOST = 20_000
"""Most events that are opened for one question; the newest ones."""
_AT_ONCE = 500


class Found(NamedTuple):
    """The events that name somebody, newest first, and how many were opened for it; `unreadable` did not open."""

    events: list[Event]
    opened: int
    unreadable: int


def about(db: Connection, ring: KeyRing, chosen: Chosen, value: str) -> Found:
    """Return the chosen events of which some field has this value (an e-mail, a user id); that one asked is audited.

    Nothing of what they hold is returned. Show the answer only after the transaction has committed.
    """
    ids, opened, unreadable, before = [], 0, 0, 2**62
    while opened < MOST and (rows := dead.sealed(db, chosen, before=before, limit=_AT_ONCE)):
        for row in rows:
            try:
                body = ring.open(bytes(row.payload), inbox.payload_context(row.connection, row.request_id))
            except NeedsAttention:
                unreadable += 1
                continue
            if mentions(body, [value]):
                ids.append(row.id)
        opened, before = opened + len(rows), rows[-1].id
    audit.append(db, actor=actor(), action="payload.search", outcome="asked", reference=f"opened:{opened}")
    return Found(received.by_id(db, ids), opened, unreadable)
