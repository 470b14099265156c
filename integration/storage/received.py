"""What was received, for people to read: lists, counts, one event, and the look-up by the sender's id."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Connection

from integration.storage.statement import execute

_CLOCK_SLACK = timedelta(minutes=1)
"""Ids are given in the order of arrival, give or take what a statement may take."""

_COLUMNS = """
SELECT id, received_at, connection, kind, status, reason, detail, person_id, person_version, attempts, settled_at,
       origin, request_id, payload IS NOT NULL AS has_payload, original_payload IS NOT NULL AS is_corrected
FROM inbox
"""

_CHOSEN = """
WHERE id >= %(first)s AND (%(since)s::timestamptz IS NULL OR received_at >= %(since)s)
  AND (%(status)s::text IS NULL OR status = %(status)s)
  AND (%(connection)s::text IS NULL OR connection = %(connection)s)
  AND (%(reason)s::text IS NULL OR reason = %(reason)s)
"""

_COUNTS = f"SELECT status, reason, count(*) FROM inbox {_CHOSEN} GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2"  # noqa: S608 - constants

_OF_PERSON = """
SELECT status, reason, count(*) FROM inbox WHERE person_id = %(person)s GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2
"""

_FROM = "SELECT id, received_at FROM inbox WHERE id >= %(id)s ORDER BY id LIMIT 1"

# A body that came under an id already used is kept under a key of its own (rule 13): hash of id's key and body.
_BY_KEY = """
SELECT connection, inbox_id FROM inbox_keys WHERE key = %(key)s AND connection = ANY(%(connections)s::text[])
UNION
SELECT i.connection, i.id FROM inbox i JOIN inbox_keys k ON k.connection = i.connection AND k.key = i.key
WHERE i.status = 'parked' AND i.reason = 'id_reuse' AND i.connection = ANY(%(connections)s::text[])
  AND substring(sha256(%(key)s::bytea || k.body_hash) FOR 16) = k.key
ORDER BY 1, 2
"""

_FACTS = """
SELECT type, subject_type, subject_id, subject_name, product, score, score_max, passed, progress, occurred_at,
       expires_at, revision, clamped, person_version
FROM events WHERE person_id = %(person)s AND inbox_id = %(id)s ORDER BY id
"""


class Event(NamedTuple):
    """An inbox row without its payload."""

    id: int
    received_at: datetime
    connection: str
    kind: str
    status: str
    reason: str | None
    detail: str | None
    person_id: int | None
    person_version: int | None
    attempts: int
    settled_at: datetime | None
    origin: str
    request_id: str
    has_payload: bool
    is_corrected: bool


class Fact(NamedTuple):
    """A fact that one event led to."""

    type: str
    subject_type: str
    subject_id: str
    subject_name: str | None
    product: str | None
    score: float | None
    score_max: float | None
    passed: bool | None
    progress: float | None
    occurred_at: datetime
    expires_at: datetime | None
    revision: int
    clamped: bool
    person_version: int


class Count(NamedTuple):
    """How many events are in one state for one reason."""

    status: str
    reason: str | None
    events: int


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which events to list; None = all."""

    status: str | None = None
    connection: str | None = None
    reason: str | None = None
    since: datetime | None = None


def events(db: Connection, chosen: Chosen, *, limit: int) -> list[Event]:
    """Return the newest events chosen."""
    sql = f"{_COLUMNS} {_CHOSEN} ORDER BY id DESC LIMIT %(limit)s"
    return [Event(*row) for row in execute(db, sql, {**_values(db, chosen), "limit": limit})]


def counts(db: Connection, chosen: Chosen) -> list[Count]:
    """Return how many events are chosen, by status and reason, the most first."""
    return [Count(*row) for row in execute(db, _COUNTS, _values(db, chosen))]


def by_id(db: Connection, ids: Sequence[int]) -> list[Event]:
    """Return these events, newest first; one whose row was purged is left out."""
    sql = f"{_COLUMNS} WHERE id = ANY(%(ids)s::bigint[]) ORDER BY id DESC"
    return [Event(*row) for row in execute(db, sql, {"ids": list(ids)})]


def by_key(db: Connection, key: bytes, connections: Sequence[str]) -> list[tuple[str, int]]:
    """Return (connection, inbox id) of what came under a sender's id; the ids outlive the rows."""
    rows = execute(db, _BY_KEY, {"key": key, "connections": list(connections)})
    return [(row.connection, row.inbox_id) for row in rows]


def of_person(db: Connection, person_id: int, *, limit: int) -> list[Event]:
    """Return the newest events known to be about a person."""
    sql = f"{_COLUMNS} WHERE person_id = %(person)s ORDER BY id DESC LIMIT %(limit)s"
    return [Event(*row) for row in execute(db, sql, {"person": person_id, "limit": limit})]


def counts_of_person(db: Connection, person_id: int) -> list[Count]:
    """Return how many events are known to be about a person, by status and reason."""
    return [Count(*row) for row in execute(db, _OF_PERSON, {"person": person_id})]


def waiting_behind(db: Connection, park_keys: Sequence[bytes], *, limit: int) -> list[Event]:
    """Return the newest events parked behind any of these keys."""
    sql = f"{_COLUMNS} WHERE status = 'parked' AND park_keys && %(keys)s::bytea[] ORDER BY id DESC LIMIT %(limit)s"
    return [Event(*row) for row in execute(db, sql, {"keys": list(park_keys), "limit": limit})]


def facts(db: Connection, event: Event) -> list[Fact]:
    """Return the facts that an event added to its person; none where it said nothing new."""
    rows = execute(db, _FACTS, {"person": event.person_id, "id": event.id})
    return [Fact(*row) for row in rows]


def dead_from(db: Connection, connections: Collection[str]) -> int:
    """Return how many events of these connections are dead; whom they are about nobody could read."""
    query = "SELECT count(*) FROM inbox WHERE status = 'dead' AND connection = ANY(%(names)s::text[])"
    return int(execute(db, query, {"names": list(connections)}).scalar_one())


def payload(db: Connection, event_id: int) -> bytes | None:
    """Return the sealed payload of an event, None where it was purged."""
    found = execute(db, "SELECT payload FROM inbox WHERE id = %(id)s", {"id": event_id}).scalar()
    return bytes(found) if found is not None else None


def original(db: Connection, event_id: int) -> bytes | None:
    """Return the sealed payload as it was received, where a person has corrected it since."""
    found = execute(db, "SELECT original_payload FROM inbox WHERE id = %(id)s", {"id": event_id}).scalar()
    return bytes(found) if found is not None else None


def first_since(db: Connection, since: datetime) -> int:
    """Return the id at which `since` begins, found by halving: a large inbox is never read from end to end."""
    low, high = execute(db, "SELECT coalesce(min(id), 0) AS low, coalesce(max(id), 0) + 1 AS high FROM inbox").one()
    while low < high:
        middle = (low + high) // 2
        row = execute(db, _FROM, {"id": middle}).one_or_none()
        if row is None or row.received_at >= since:
            high = middle
        else:
            low = row.id + 1
    return int(low)


def _values(db: Connection, chosen: Chosen) -> dict[str, object]:
    return {
        "first": first_since(db, chosen.since - _CLOCK_SLACK) if chosen.since else 0,
        "since": chosen.since,
        "status": chosen.status,
        "connection": chosen.connection,
        "reason": chosen.reason,
    }
