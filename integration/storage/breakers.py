"""Circuit breakers: whether one operation of a connection is tried at all (architecture section 7).

closed       calls go; after a failure they rest for a moment
open         TRIP failures in a row: nobody calls until `open_until`
half-open    that time is over: one probe may call, with one record; its success closes, its failure opens for longer
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection

from integration.errors import Reason
from integration.storage.statement import execute

TRIP = 5
"""Failures in a row that open a breaker."""

PROBE_SECONDS = 30
"""How long a probe may take; one that ended without a word is replaced by another."""

_PROBE = """
UPDATE breakers SET probe = %(probe)s, probe_until = now() + %(seconds)s * interval '1 second', updated_at = now()
WHERE connection = %(connection)s AND operation = %(operation)s AND failures >= %(trip)s AND open_until <= now()
  AND (probe_until IS NULL OR probe_until <= now())
RETURNING 1
"""

_FAIL = """
INSERT INTO breakers AS b (connection, operation, failures, failing_since, open_until, reason)
VALUES (%(connection)s, %(operation)s, 1, now(), now() + (%(rests)s::float8[])[1] * interval '1 second', %(reason)s)
ON CONFLICT (connection, operation) DO UPDATE SET
    failures = least(b.failures + 1, 30000), failing_since = coalesce(b.failing_since, now()), reason = excluded.reason,
    open_until = now() + (%(rests)s::float8[])[least(b.failures + 1, %(steps)s)] * interval '1 second',
    probe = NULL, probe_until = NULL, updated_at = now()
RETURNING failures
"""

_TRIP = """
INSERT INTO breakers AS b (connection, operation, failures, failing_since, open_until, reason)
VALUES (%(connection)s, %(operation)s, %(trip)s, now(), now() + %(seconds)s * interval '1 second', %(reason)s)
ON CONFLICT (connection, operation) DO UPDATE SET
    failures = greatest(b.failures, %(trip)s), failing_since = coalesce(b.failing_since, now()),
    reason = excluded.reason, open_until = excluded.open_until, probe = NULL, probe_until = NULL, updated_at = now()
"""

_SUCCEED = """
UPDATE breakers SET failures = 0, failing_since = NULL, open_until = NULL, probe = NULL, probe_until = NULL,
    reason = NULL, succeeded_at = now(), updated_at = now()
WHERE connection = %(connection)s AND operation = %(operation)s AND failures > 0
RETURNING 1
"""

_RESET = """
UPDATE breakers SET failures = 0, failing_since = NULL, open_until = NULL, probe = NULL, probe_until = NULL,
    reason = NULL, updated_at = now()
WHERE connection = %(connection)s AND failures > 0
"""

_OVERVIEW = """
SELECT connection, operation, failures, open_until, reason,
       CASE WHEN failures < %(trip)s THEN 'closed' WHEN open_until > now() THEN 'open' ELSE 'half-open' END AS state
FROM breakers ORDER BY connection, operation
"""


class Breaker(NamedTuple):
    """A breaker for people."""

    connection: str
    operation: str
    failures: int
    open_until: datetime | None
    reason: str | None
    state: str


def probe(db: Connection, connection: str, operation: str, lease: UUID) -> bool:
    """Become the one who tries a half-open breaker; False where somebody else is at it."""
    values = {
        "connection": connection,
        "operation": operation,
        "probe": lease,
        "seconds": PROBE_SECONDS,
        "trip": TRIP,
    }
    return execute(db, _PROBE, values).first() is not None


def fail(db: Connection, connection: str, operation: str, reason: Reason, rests: Sequence[float]) -> int:
    """Count a failure and return how many there were in a row; `rests` are seconds of rest after the 1st, 2nd, ..."""
    values = {
        "connection": connection,
        "operation": operation,
        "reason": reason.value,
        "rests": list(rests),
        "steps": len(rests),
    }
    return int(execute(db, _FAIL, values).scalar_one())


def trip(db: Connection, connection: str, operation: str, reason: Reason, seconds: float) -> None:
    """Open the breaker at once for `seconds`: this operation is not to be had there, however often it is asked."""
    values = {"connection": connection, "operation": operation, "reason": reason.value, "seconds": seconds}
    execute(db, _TRIP, {**values, "trip": TRIP})


def succeed(db: Connection, connection: str, operation: str) -> bool:
    """Close the breaker after a call that worked; say whether there had been failures."""
    return execute(db, _SUCCEED, {"connection": connection, "operation": operation}).first() is not None


def reset(db: Connection, connection: str) -> None:
    """Close every breaker of a connection by hand, though nobody knows yet whether a call works."""
    execute(db, _RESET, {"connection": connection})


def overview(db: Connection) -> list[Breaker]:
    """Return every breaker that ever counted a failure."""
    return [Breaker(*row) for row in execute(db, _OVERVIEW, {"trip": TRIP})]
