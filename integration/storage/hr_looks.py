"""When each folder of HR is looked at: one row for each, due by the clock, by hand, or because a file must rest first.

One process at a time is at a folder, under a lease that is renewed with everything it does.
"""

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection

from integration.storage.statement import execute

LEASE_SECONDS = 120
"""Renewed while a file is fetched and with every chunk of it."""

_DUE = """
INSERT INTO hr_looks AS l (connection, scheduled_for, due_at) VALUES (%(connection)s, %(at)s, now())
ON CONFLICT (connection) DO UPDATE
SET scheduled_for = coalesce(excluded.scheduled_for, l.scheduled_for), due_at = least(l.due_at, now())
WHERE excluded.scheduled_for IS NULL OR l.scheduled_for IS NULL OR l.scheduled_for < excluded.scheduled_for
RETURNING 1
"""

_LAST = "SELECT scheduled_for FROM hr_looks WHERE connection = %(connection)s"

_WAITING = """
SELECT connection FROM hr_looks
WHERE CASE WHEN lease IS NULL THEN due_at <= now() ELSE lease_until < now() END ORDER BY 1
"""

# What becomes due while somebody is at a folder stays due. Whoever comes by hand need not wait until it is.
_CLAIM = """
INSERT INTO hr_looks AS l (connection, lease, lease_until)
SELECT %(connection)s, %(lease)s, now() + %(seconds)s * interval '1 second'
WHERE NOT %(due)s OR EXISTS (SELECT FROM hr_looks WHERE connection = %(connection)s)
ON CONFLICT (connection) DO UPDATE SET lease = excluded.lease, lease_until = excluded.lease_until, due_at = NULL
WHERE CASE WHEN l.lease IS NULL THEN NOT %(due)s OR l.due_at <= now() ELSE l.lease_until < now() END
RETURNING 1
"""

_HOLD = """
UPDATE hr_looks SET lease_until = now() + %(seconds)s * interval '1 second'
WHERE connection = %(connection)s AND lease = %(lease)s RETURNING 1
"""

_END = """
UPDATE hr_looks SET lease = NULL, lease_until = NULL,
    due_at = least(due_at, now() + %(again)s::float8 * interval '1 second'),
    looked_at = CASE WHEN %(reason)s::text IS NULL THEN now() ELSE looked_at END,
    reason = %(reason)s, detail = %(detail)s
WHERE connection = %(connection)s AND lease = %(lease)s
"""

_STANDINGS = """
SELECT connection, looked_at, reason, detail FROM hr_looks WHERE connection = ANY(%(connections)s::text[]) ORDER BY 1
"""


class LookTaken(Exception):
    """Somebody else is at this folder now: roll back, and leave it."""


class Standing(NamedTuple):
    """When a folder was last looked at to the end, and what was wrong with the last look."""

    connection: str
    looked_at: datetime | None
    reason: str | None
    detail: str | None


def due(db: Connection, connection: str, at: datetime | None = None) -> bool:
    """Let a folder be looked at, because a time `at` of the clock came or somebody asks; False where it was due."""
    return execute(db, _DUE, {"connection": connection, "at": at}).first() is not None


def last_scheduled(db: Connection, connection: str) -> datetime | None:
    """Return the last time of the clock at which a look was due, None where there was none."""
    at: datetime | None = execute(db, _LAST, {"connection": connection}).scalar()
    return at


def waiting(db: Connection) -> list[str]:
    """Return the connections whose folder is to be looked at, and nobody is."""
    return [row.connection for row in execute(db, _WAITING).all()]


def claim(db: Connection, connection: str, lease: UUID, *, only_due: bool) -> bool:
    """Take a folder; False where somebody is at it, or where none is due and it is to be."""
    values = {"connection": connection, "lease": lease, "seconds": LEASE_SECONDS, "due": only_due}
    return execute(db, _CLAIM, values).first() is not None


def hold(db: Connection, connection: str, lease: UUID) -> None:
    """Hold a folder for another while. Raises LookTaken where it is no longer ours."""
    values = {"connection": connection, "lease": lease, "seconds": LEASE_SECONDS}
    if execute(db, _HOLD, values).first() is None:
        raise LookTaken


def end(
    db: Connection,
    connection: str,
    lease: UUID,
    *,
    again: float | None,
    reason: str | None = None,
    detail: str | None = None,
) -> None:
    """Leave a folder; it is due `again` in so many seconds, None = by the clock."""
    values = {"connection": connection, "lease": lease, "again": again, "reason": reason, "detail": detail}
    execute(db, _END, values)


def standings(db: Connection, connections: Collection[str]) -> list[Standing]:
    """Return how these folders stand; one that was never due is not among them."""
    return [Standing(*row) for row in execute(db, _STANDINGS, {"connections": sorted(connections)}).all()]
