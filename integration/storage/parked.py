"""What waits for a person's decision: events and people, grouped by reason; and what a decision does to an event."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from integration.errors import Reason
from integration.storage.statement import execute

# One line per learner, however many events wait behind the same decision.
_EVENTS = """
WITH learners AS (
    SELECT connection, reason, min(id) AS id, count(*) AS events, min(received_at) AS since,
           (array_agg(detail ORDER BY id))[1] AS detail
    FROM inbox WHERE status = 'parked' GROUP BY connection, reason, coalesce(park_keys::text, id::text)
), placed AS (
    SELECT *, sum(events) OVER w AS in_group, row_number() OVER (w ORDER BY id) AS place
    FROM learners WINDOW w AS (PARTITION BY connection, reason)
)
SELECT connection, reason, in_group::bigint, id, events, since, detail FROM placed
WHERE place <= %(limit)s ORDER BY in_group DESC, connection, reason, id
"""

_PEOPLE = """
WITH placed AS (
    SELECT connection, reason, count(*) OVER w AS in_group, row_number() OVER (w ORDER BY id) AS place,
           id, subject_id, wanted_since, detail, not_before
    FROM sync_state WHERE status = 'parked' WINDOW w AS (PARTITION BY connection, reason)
)
SELECT connection, reason, in_group, subject_id, wanted_since, detail, not_before FROM placed
WHERE place <= %(limit)s ORDER BY in_group DESC, connection, reason, id
"""

_ROW = """
SELECT id, connection, kind, status, reason, detail, request_id, received_at, payload, park_keys
FROM inbox WHERE id = %(id)s
"""

_IN_DOUBT = """
SELECT id, connection, kind, status, reason, detail, request_id, received_at, payload, park_keys
FROM inbox WHERE status = 'parked' AND connection = %(connection)s AND reason = ANY(%(reasons)s::text[])
  AND id > %(after)s ORDER BY id LIMIT %(limit)s
"""

_BEHIND = "SELECT id FROM inbox WHERE status = 'parked' AND park_keys && %(keys)s::bytea[]"

_RELEASE = """
UPDATE inbox SET status = 'received', reason = NULL, detail = NULL, park_keys = NULL, rung_at = NULL, settled_at = NULL
WHERE id = %(id)s AND status = 'parked'
RETURNING id, kind
"""

_IGNORE = """
UPDATE inbox SET status = 'ignored', detail = 'it was parked: ' || reason, reason = %(reason)s, park_keys = NULL,
    settled_at = now()
WHERE id = %(id)s AND status = 'parked'
RETURNING id
"""


class ParkedLearner(NamedTuple):
    """The events of one learner that wait for one decision; `id` is the oldest of them."""

    connection: str
    reason: str | None
    in_group: int
    id: int
    events: int
    since: datetime
    detail: str | None


class ParkedPerson(NamedTuple):
    """A person whose fields wait in one system; `not_before` is when the program itself looks again."""

    connection: str
    reason: str | None
    in_group: int
    person_id: int
    since: datetime
    detail: str | None
    not_before: datetime | None


class ParkedRow(NamedTuple):
    """An inbox row that a decision is about; the payload is still sealed."""

    id: int
    connection: str
    kind: str
    status: str
    reason: str | None
    detail: str | None
    request_id: str
    received_at: datetime
    payload: bytes | None
    park_keys: Sequence[bytes] | None


def learners(db: Connection, *, limit: int) -> list[ParkedLearner]:
    """Return what waits in the inbox, at most `limit` learners of each connection and reason."""
    return [ParkedLearner(*row) for row in execute(db, _EVENTS, {"limit": limit})]


def people(db: Connection, *, limit: int) -> list[ParkedPerson]:
    """Return whose fields wait, at most `limit` people of each connection and reason."""
    return [ParkedPerson(*row) for row in execute(db, _PEOPLE, {"limit": limit})]


def row(db: Connection, inbox_id: int) -> ParkedRow | None:
    """Return an inbox row, whatever its status."""
    found = execute(db, _ROW, {"id": inbox_id}).one_or_none()
    return ParkedRow(*found) if found else None


def in_doubt(db: Connection, connection: str, reasons: Sequence[str], *, after: int, limit: int) -> list[ParkedRow]:
    """Return the events of a connection that are parked for these reasons, from the one after `after` on."""
    values = {"connection": connection, "reasons": list(reasons), "after": after, "limit": limit}
    return [ParkedRow(*found) for found in execute(db, _IN_DOUBT, values)]


def behind(db: Connection, park_key: bytes) -> list[int]:
    """Return the ids of the events that wait behind a key."""
    return [found.id for found in execute(db, _BEHIND, {"keys": [park_key]})]


def release(db: Connection, inbox_id: int) -> list[tuple[int, str]]:
    """Put one parked event back to `received`; return (id, kind), nothing where it was not parked."""
    return [(found.id, found.kind) for found in execute(db, _RELEASE, {"id": inbox_id})]


def ignore(db: Connection, inbox_id: int) -> bool:
    """End one parked event as ignored; say whether it was parked."""
    values = {"id": inbox_id, "reason": Reason.IGNORED_BY_DECISION.value}
    return execute(db, _IGNORE, values).first() is not None
