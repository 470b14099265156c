"""Properties the other side refuses: left out for a connection, tried again from time to time (rule 22)."""

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
ON CONFLICT (connection, object_type, field) DO UPDATE SET retry_at = excluded.retry_at, reason = excluded.reason
RETURNING field, (xmax = 0) AS fresh
"""

_KNOWN = """
SELECT object_type, field, retry_at > now() AS is_held FROM quarantined_fields
WHERE connection = %(connection)s AND object_type = ANY(%(object_types)s::text[])
"""

# In step and yet to be looked at again: whoever went without a property (`Batch._until_complete`).
_HURRY = """
WITH held AS (
    UPDATE quarantined_fields SET retry_at = now()
    WHERE connection = %(connection)s AND retry_at > now() RETURNING field
), hurried AS (
    UPDATE sync_state SET not_before = now(), lane = %(backfill)s
    WHERE connection = %(connection)s AND status = 'in_step' AND not_before > now() AND EXISTS (SELECT FROM held)
)
SELECT field FROM held ORDER BY field
"""

_DROP = """
DELETE FROM quarantined_fields WHERE connection = %(connection)s AND object_type = %(object_type)s
  AND retry_at <= now() AND field = ANY(%(fields)s::text[])
RETURNING field
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


def hurry(db: Connection, connection: str) -> list[str]:
    """Let what is left out be tried again at once, and look at everybody who went without it; return the properties."""
    values = {"connection": connection, "backfill": BACKFILL}
    return [row.field for row in execute(db, _HURRY, values)]


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


def drop(db: Connection, connection: str, object_type: str, accepted: Iterable[str]) -> list[str]:
    """Forget the ones whose time was up and which were accepted again; return them."""
    values = {"connection": connection, "object_type": object_type, "fields": sorted(set(accepted))}
    return [row.field for row in execute(db, _DROP, values)]
