"""Properties the other side refuses: left out for a connection, tried again from time to time (rule 22).

One that is accepted again is the old one or a new one of its name, which is empty for everybody. So nothing is believed
any more that was seen before its return: `doubt` makes everybody due to be read, slice by slice.
"""

from collections.abc import Iterable
from typing import NamedTuple

from sqlalchemy import Connection

from integration.errors import Reason
from integration.storage.statement import execute
from integration.storage.sync_state import BACKFILL

RETRY_SECONDS = 3600.0
"""How long a refused property is left out before it is tried again."""

_ADD = """
INSERT INTO quarantined_fields AS q (connection, object_type, field, reason, retry_at)
SELECT %(connection)s, %(object_type)s, f, %(reason)s, now() + %(seconds)s * interval '1 second'
FROM unnest(%(fields)s::text[]) AS f ORDER BY f
ON CONFLICT (connection, object_type, field) DO UPDATE
SET retry_at = excluded.retry_at, reason = excluded.reason, back_at = NULL
RETURNING field, (xmax = 0) AS fresh
"""

_KNOWN = """
SELECT object_type, field, retry_at > now() AS is_held FROM quarantined_fields
WHERE connection = %(connection)s AND object_type = ANY(%(object_types)s::text[]) AND back_at IS NULL
"""

# In step and yet to be looked at again: whoever went without a property (`Batch._until_complete`).
_HURRY = """
WITH held AS (
    UPDATE quarantined_fields SET retry_at = now()
    WHERE connection = %(connection)s AND retry_at > now() AND back_at IS NULL RETURNING field
), hurried AS (
    UPDATE sync_state SET status = 'due', wanted_since = now(), not_before = now(), lane = %(backfill)s, attempts = 0
    WHERE connection = %(connection)s AND status = 'in_step' AND not_before > now() AND EXISTS (SELECT FROM held)
    RETURNING 1
)
SELECT array(SELECT field FROM held ORDER BY field) AS fields, (SELECT count(*) FROM hurried) AS people
"""

_RETURN = """
UPDATE quarantined_fields SET back_at = now()
WHERE connection = %(connection)s AND object_type = %(object_type)s AND back_at IS NULL
  AND retry_at <= now() AND field = ANY(%(fields)s::text[])
RETURNING field
"""

_RETURNED = "SELECT connection, max(back_at) AS back_at FROM quarantined_fields WHERE back_at IS NOT NULL GROUP BY 1"

# What is being sent at this moment was claimed before or after the return; its settlement says when, and the next
# slice sees that. Who waits for the night is not left with an empty field until then.
_DOUBT = """
UPDATE sync_state s SET remote_values = NULL, remote_at = NULL,
    status = CASE WHEN t.rests THEN 'due' ELSE s.status END,
    wanted_since = CASE WHEN t.rests THEN now() ELSE s.wanted_since END,
    not_before = CASE WHEN t.rests THEN now() ELSE s.not_before END,
    lane = CASE WHEN t.rests THEN %(backfill)s ELSE s.lane END,
    attempts = CASE WHEN t.rests THEN 0 ELSE s.attempts END
FROM (SELECT id, status = 'in_step' OR (status = 'due' AND not_before > now()) AS rests
      FROM sync_state
      WHERE connection = %(connection)s AND status <> 'sending'
        AND remote_at < %(back_at)s AND remote_values IS NOT NULL
      ORDER BY subject_id LIMIT %(limit)s FOR UPDATE SKIP LOCKED) AS t
WHERE s.id = t.id
"""

_FORGET = """
DELETE FROM quarantined_fields q WHERE connection = %(connection)s AND back_at <= %(back_at)s
  AND NOT EXISTS (SELECT FROM sync_state s
                  WHERE s.connection = q.connection
                    AND ((s.remote_at < q.back_at AND s.remote_values IS NOT NULL)
                         OR (s.claimed_at <= q.back_at AND s.status = 'sending')))
"""


def add(db: Connection, connection: str, object_type: str, fields: Iterable[str], reason: Reason) -> list[str]:
    """Leave these properties out from now on; return the ones that were not left out before."""
    values = {
        "connection": connection,
        "object_type": object_type,
        "reason": reason.value,
        "fields": sorted(set(fields)),
        "seconds": RETRY_SECONDS,
    }
    return [row.field for row in execute(db, _ADD, values) if row.fresh]


class Hurried(NamedTuple):
    """The properties that are tried again, and how many people who went without them are looked at."""

    fields: list[str]
    people: int


def hurry(db: Connection, connection: str) -> Hurried:
    """Let what is left out be tried again at once, for everybody who went without it."""
    values = {"connection": connection, "backfill": BACKFILL}
    return Hurried(*execute(db, _HURRY, values).one())


class Quarantine(NamedTuple):
    """Properties of one object type: those left out now, and those whose time is up, which are tried again."""

    held: frozenset[str] = frozenset()
    retried: frozenset[str] = frozenset()


def known(db: Connection, connection: str, *object_types: str) -> dict[str, Quarantine]:
    """Return what is or was left out, per object type."""
    rows = execute(db, _KNOWN, {"connection": connection, "object_types": list(object_types)}).fetchall()
    return {
        kind: Quarantine(
            frozenset(row.field for row in rows if row.object_type == kind and row.is_held),
            frozenset(row.field for row in rows if row.object_type == kind and not row.is_held),
        )
        for kind in object_types
    }


def accept(db: Connection, connection: str, object_type: str, accepted: Iterable[str]) -> list[str]:
    """Note the return of those whose time was up and which were accepted again; return them."""
    values = {"connection": connection, "object_type": object_type, "fields": sorted(set(accepted))}
    return [row.field for row in execute(db, _RETURN, values)]


def doubt(db: Connection, *, limit: int) -> int:
    """Believe nothing that was seen before a property's return, for at most `limit` people each; return how many.

    Where nobody is left, the return is forgotten.
    """
    doubted = 0
    for row in execute(db, _RETURNED).all():
        values = {"connection": row.connection, "back_at": row.back_at}
        doubted += execute(db, _DOUBT, {**values, "limit": limit, "backfill": BACKFILL}).rowcount
        execute(db, _FORGET, values)
    return doubted
