"""The inbox: raw events, their for-ever keys, and who is working on them.

The web process stores (group commit), workers claim with a lease and settle with the same lease as a fence.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import NamedTuple, Self
from uuid import UUID

from sqlalchemy import Connection

from integration.errors import CoursewireError, Ignored, NeedsAttention, Reason
from integration.ports import Received
from integration.security.seal import KeyRing
from integration.storage.base import FORGETTABLE
from integration.storage.statement import execute

LEASE_SECONDS = 15
"""Far above what a batch of SQL takes; a batch that is still claimed after it has lost its worker. One that is late all
the same finds its rows fenced off, and its facts appended once."""

ENRICHING_SECONDS = 60
"""Above what one read may take, its wait for the budget included."""

DEATHS_ALONE = 3
"""A row that ended three workers while it was claimed alone is quarantined (rule 20)."""

STORE = """
WITH incoming AS MATERIALIZED (
    SELECT t.*, nextval('inbox_id_seq') AS id
    FROM unnest(%(connection)s::text[], %(key)s::bytea[], %(body_hash)s::bytea[], %(kind)s::text[],
                %(payload)b::bytea[], %(request_id)s::text[])
         AS t(connection, key, body_hash, kind, payload, request_id)
), fresh AS (
    INSERT INTO inbox_keys (connection, key, body_hash, inbox_id)
    SELECT connection, key, body_hash, id FROM incoming ORDER BY connection, key
    ON CONFLICT DO NOTHING RETURNING inbox_id
)
INSERT INTO inbox (id, connection, key, kind, payload, request_id, origin, status, reason, settled_at)
SELECT i.id, i.connection, i.key, i.kind, i.payload, i.request_id, %(origin)s, %(status)s, %(reason)s,
       CASE WHEN %(status)s = 'received' THEN NULL ELSE now() END
FROM incoming i JOIN fresh f ON f.inbox_id = i.id
RETURNING connection, key, id
"""
"""Store a group in one statement, so that it is kept whole or not at all. Returns the rows that were new.

Payloads go in binary (`b`): as text a group of large ones took four times as long.
"""

KNOWN = """
SELECT k.connection, k.key, k.body_hash
FROM inbox_keys k JOIN unnest(%(connection)s::text[], %(key)s::bytea[]) AS t(connection, key)
     ON k.connection = t.connection AND k.key = t.key
"""

_CLAIM = f"""
WITH {FORGETTABLE}, named AS (
    SELECT id, max_batch FROM inbox
    WHERE id = ANY(%(ids)s::bigint[]) AND kind = %(kind)s AND status = 'received'
      AND (max_batch IS NULL OR max_batch >= cardinality(%(ids)s::bigint[]))
    ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
), more AS (
    SELECT id FROM inbox
    WHERE kind = %(kind)s AND status = 'received' AND max_batch IS NULL AND NOT id = ANY(%(ids)s::bigint[])
      AND NOT EXISTS (SELECT FROM named WHERE max_batch IS NOT NULL)
    ORDER BY id LIMIT %(limit)s - (SELECT count(*) FROM named) FOR UPDATE SKIP LOCKED
), picked AS (SELECT id FROM named UNION ALL SELECT id FROM more)
UPDATE inbox i
SET status = 'claimed', lease = %(lease)s, lease_until = now() + %(seconds)s * interval '1 second',
    attempts = attempts + 1, claimed_with = (SELECT count(*) FROM picked)
FROM picked, forgettable WHERE i.id = picked.id
RETURNING i.id, i.connection, i.key, i.payload, i.origin, i.received_at, i.request_id
"""

# The lease alone is the fence. Asked for the status too, the server walks the index of a queue for every batch: all
# that passed through it since the last vacuum.
_SETTLE = """
UPDATE inbox i
SET status = t.status, reason = t.reason, detail = t.detail, person_id = t.person_id,
    person_version = (SELECT version FROM people p WHERE p.id = t.person_id),
    lease = NULL, lease_until = NULL, max_batch = NULL, settled_at = now()
FROM unnest(%(id)s::bigint[], %(status)s::text[], %(reason)s::text[], %(detail)s::text[],
            %(person_id)s::bigint[])
     AS t(id, status, reason, detail, person_id)
WHERE i.id = t.id AND i.lease = %(lease)s
"""

_PARK_BEHIND = "UPDATE inbox SET park_keys = %(park_keys)s::bytea[] WHERE id = %(id)s AND status = 'parked'"

_GIVE_BACK = """
UPDATE inbox SET status = 'received', lease = NULL, lease_until = NULL, rung_at = NULL, attempts = attempts - 1
WHERE lease = %(lease)s AND status = 'claimed'
"""

_RELEASE = """
UPDATE inbox SET status = 'received', reason = NULL, detail = NULL, park_keys = NULL, rung_at = NULL, settled_at = NULL
WHERE status = 'parked' AND park_keys && %(park_keys)s::bytea[]
RETURNING id, kind
"""

_EXPIRE = """
UPDATE inbox
SET status = CASE WHEN claimed_with = 1 AND deaths + 1 >= %(deaths)s THEN 'dead' ELSE 'received' END,
    reason = CASE WHEN claimed_with = 1 AND deaths + 1 >= %(deaths)s THEN %(reason)s END,
    settled_at = CASE WHEN claimed_with = 1 AND deaths + 1 >= %(deaths)s THEN now() END,
    deaths = deaths + (claimed_with = 1)::int, max_batch = greatest(1, claimed_with / 2),
    lease = NULL, lease_until = NULL, rung_at = NULL
WHERE id IN (SELECT id FROM inbox WHERE status = 'claimed' AND lease_until < now()
             ORDER BY id LIMIT 1000 FOR UPDATE SKIP LOCKED)
RETURNING id, status
"""

# Hints that wait for a look at their contact. Nothing else is done about them, so a lease that ended frees them.
_CLAIM_ENRICHING = """
UPDATE inbox i SET lease = %(lease)s, lease_until = now() + %(seconds)s * interval '1 second'
FROM (SELECT id FROM inbox WHERE status = 'enriching' AND connection = %(connection)s
      AND (lease IS NULL OR lease_until < now()) ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED) AS picked
WHERE i.id = picked.id
RETURNING i.id, i.connection, i.key, i.payload, i.origin, i.received_at, i.request_id
"""

# Whoever was looked up is known now, so the event goes the way of all others.
_GO_ON = """
UPDATE inbox SET status = 'received', reason = NULL, detail = NULL, lease = NULL, lease_until = NULL, rung_at = NULL,
    settled_at = NULL
WHERE id = ANY(%(ids)s::bigint[]) AND status = 'enriching' AND lease = %(lease)s
RETURNING id, kind
"""

_GIVE_BACK_ENRICHING = (
    "UPDATE inbox SET lease = NULL, lease_until = NULL WHERE status = 'enriching' AND lease = %(lease)s"
)

_ENRICHING = """
SELECT DISTINCT connection FROM inbox WHERE status = 'enriching' AND (lease IS NULL OR lease_until < now())
"""

_UNRUNG = """
UPDATE inbox SET rung_at = now()
WHERE id IN (SELECT id FROM inbox
             WHERE status = 'received'
               AND ((rung_at IS NULL AND received_at < now() - %(quiet)s * interval '1 second')
                    OR rung_at < now() - %(unheard)s * interval '1 second')
             ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
RETURNING kind, coalesce(max_batch, 0) AS max_batch, id
"""


def key_of(external_id: str) -> bytes:
    """Return the 16-byte dedupe key of a sender's id, hashed because it may be 8 kB or hold a NUL (rule 12)."""
    return sha256(external_id.encode("utf-8", "surrogatepass")).digest()[:16]


def hash_of(body: bytes) -> bytes:
    """Return 16 bytes that tell one body from another (rule 13)."""
    return sha256(body).digest()[:16]


def payload_context(connection: str, request_id: str) -> str:
    """Return the context an inbox payload is sealed for; known before the row has an id."""
    return f"inbox.payload:{connection}:{request_id}"


class Claimed(NamedTuple):
    """An inbox row as claimed; the payload is still sealed."""

    id: int
    connection: str
    key: bytes
    payload: bytes | None
    origin: str
    received_at: datetime
    request_id: str


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of one inbox row."""

    id: int
    status: str
    reason: Reason
    detail: str | None = None
    person_id: int | None = None
    park_keys: tuple[bytes, ...] = ()

    @classmethod
    def unread(cls, row_id: int, error: CoursewireError) -> Self:
        """Return what becomes of a row whose payload could not be read, or that said what cannot be recorded."""
        if isinstance(error, Ignored):
            return cls(row_id, "ignored", error.reason, error.detail or None)
        status = "parked" if isinstance(error, NeedsAttention) else "dead"
        return cls(row_id, status, error.reason, error.detail or None)


class Unrung(NamedTuple):
    """A row that nobody was told about, or that was not picked up since; `max_batch` 0 = no suspect."""

    kind: str
    max_batch: int
    id: int


def tell(
    db: Connection,
    connection: str,
    origin: str,
    told: Sequence[Received],
    ring: KeyRing,
    request_id: str | Sequence[str],
) -> list[int]:
    """Store what we found out ourselves; return the ids of what was new. `request_id`: that of all, or of each."""
    if not told:
        return []
    requests = [request_id] * len(told) if isinstance(request_id, str) else list(request_id)
    values = {
        "connection": [connection] * len(told),
        "key": [key_of(one.external_id) for one in told],
        "body_hash": [hash_of(one.payload) for one in told],
        "kind": [one.kind.value for one in told],
        "payload": [
            ring.seal(one.payload, payload_context(connection, request))
            for one, request in zip(told, requests, strict=True)
        ],
        "request_id": requests,
        "origin": origin,
        "status": "received",
        "reason": None,
    }
    return [row.id for row in execute(db, STORE, values).all()]


def claim(db: Connection, kind: str, ids: Sequence[int], lease: UUID, *, limit: int = 100) -> list[Claimed]:
    """Claim the rows named and, up to `limit`, older ones of the same kind that wait as well.

    A message is a hint: one that names few rows still does a full batch of work when work is there.
    """
    values = {"kind": kind, "ids": list(ids), "lease": lease, "limit": limit, "seconds": LEASE_SECONDS}
    rows = execute(db, _CLAIM, values).all()
    return sorted(Claimed(*row) for row in rows)


def settle(db: Connection, lease: UUID, outcomes: Iterable[Settled]) -> int:
    """Write outcomes to the rows this lease still holds; return how many they were."""
    ordered = sorted(outcomes, key=lambda outcome: outcome.id)
    values = {
        "lease": lease,
        "id": [o.id for o in ordered],
        "status": [o.status for o in ordered],
        "reason": [o.reason.value for o in ordered],
        "detail": [o.detail for o in ordered],
        "person_id": [o.person_id for o in ordered],
    }
    settled = execute(db, _SETTLE, values).rowcount
    for outcome in ordered:  # parking is the exception, and arrays of arrays must be rectangular
        if outcome.park_keys:
            execute(db, _PARK_BEHIND, {"id": outcome.id, "park_keys": list(outcome.park_keys)})
    return settled


def give_back(db: Connection, lease: UUID) -> None:
    """Return what this lease holds, attempt included: the fault was ours or the database's."""
    execute(db, _GIVE_BACK, {"lease": lease})


def claim_enriching(db: Connection, connection: str, lease: UUID, *, limit: int) -> list[Claimed]:
    """Claim the oldest hints of a connection that wait for a look at their contact."""
    values = {"connection": connection, "lease": lease, "limit": limit, "seconds": ENRICHING_SECONDS}
    return sorted(Claimed(*row) for row in execute(db, _CLAIM_ENRICHING, values).all())


def give_back_enriching(db: Connection, lease: UUID) -> None:
    """Leave what this lease holds for the next look."""
    execute(db, _GIVE_BACK_ENRICHING, {"lease": lease})


def go_on(db: Connection, lease: UUID, ids: Iterable[int]) -> list[tuple[int, str]]:
    """Let rows that this lease holds be taken like any other, now that what they waited for is known.

    Return (id, kind).
    """
    return [(row.id, row.kind) for row in execute(db, _GO_ON, {"ids": sorted(ids), "lease": lease}).all()]


def enriching(db: Connection) -> list[str]:
    """Return the connections in which contacts wait to be looked at."""
    return [row.connection for row in execute(db, _ENRICHING)]


def release(db: Connection, park_keys: Sequence[bytes]) -> list[tuple[int, str]]:
    """Put everything that was parked behind these keys back to `received`; return (id, kind)."""
    if not park_keys:
        return []
    return [(row.id, row.kind) for row in execute(db, _RELEASE, {"park_keys": sorted(set(park_keys))}).all()]


def expire(db: Connection) -> list[tuple[int, str]]:
    """Take back the rows of dead workers, halving their batch; return (id, new status)."""
    values = {"deaths": DEATHS_ALONE, "reason": Reason.CRASH_LOOP.value}
    return [(row.id, row.status) for row in execute(db, _EXPIRE, values).all()]


def unrung(db: Connection, *, quiet: float, unheard: float, limit: int) -> list[Unrung]:
    """Stamp and return rows nobody claimed: `quiet` seconds after they came, `unheard` after the sweeper last rang."""
    values = {"quiet": quiet, "unheard": unheard, "limit": limit}
    return sorted(Unrung(*row) for row in execute(db, _UNRUNG, values).all())
