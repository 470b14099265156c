"""Who was told about due work, and who is at it (rule 21).

One outstanding ring per connection and operation, so that a backlog is not announced a thousand times; one drain at
work, so that a burst is written in full batches instead of many small ones.
"""

from uuid import UUID

from sqlalchemy import Connection

from integration.storage.base import FORGETTABLE
from integration.storage.statement import execute

UNHEARD_SECONDS = 10
"""A ring that nobody answered by then is lost."""
DRAIN_SECONDS = 10
"""Lease of a drain, renewed with every batch. Beside one whose batch takes longer a second one may start, which costs
calls and breaks nothing; one that was killed holds nobody up for longer."""

_RING = f"""
WITH {FORGETTABLE}
INSERT INTO rings AS r (connection, operation, rung_at) SELECT %(connection)s, %(operation)s, now() FROM forgettable
ON CONFLICT (connection, operation) DO UPDATE SET rung_at = now()
WHERE r.rung_at IS NULL OR r.rung_at < now() - %(unheard)s * interval '1 second'
RETURNING 1
"""

_START = f"""
WITH {FORGETTABLE}
INSERT INTO rings AS r (connection, operation, lease, lease_until)
SELECT %(connection)s, %(operation)s, %(lease)s, now() + %(seconds)s * interval '1 second' FROM forgettable
ON CONFLICT (connection, operation) DO UPDATE
SET rung_at = NULL, lease = excluded.lease, lease_until = excluded.lease_until
WHERE r.lease IS NULL OR r.lease = excluded.lease OR r.lease_until < now()
RETURNING 1
"""

# A second drain is for events that would wait for the call of the first one, and for a first one that is dead. In a
# burst it must not start: small batches would eat up the budget.
_MAY_HELP = f"""
WITH {FORGETTABLE}, heard AS (
    UPDATE rings SET rung_at = NULL FROM forgettable
    WHERE connection = %(connection)s AND operation = %(operation)s AND rung_at IS NOT NULL
), waiting AS (
    SELECT not_before FROM sync_state
    WHERE connection = %(connection)s AND operation = %(operation)s AND status <> 'sending' AND not_before <= now()
    ORDER BY lane, not_before LIMIT 1
)
SELECT not_before < now() - %(overdue)s * interval '1 second' OR %(burst)s > (
    SELECT count(*) FROM (SELECT FROM inbox WHERE status IN ('received', 'claimed') LIMIT %(burst)s) AS open)
FROM waiting
"""

_HEARD = f"""
WITH {FORGETTABLE}
UPDATE rings SET rung_at = NULL FROM forgettable WHERE connection = %(connection)s AND operation = %(operation)s
"""

_STOP = f"""
WITH {FORGETTABLE}
UPDATE rings SET lease = NULL, lease_until = NULL FROM forgettable
WHERE connection = %(connection)s AND operation = %(operation)s AND lease = %(lease)s
"""


def ring(db: Connection, connection: str, operation: str) -> bool:
    """Say whether the caller should ring: nobody has, or nobody heard."""
    values = {"connection": connection, "operation": operation, "unheard": UNHEARD_SECONDS}
    return execute(db, _RING, values).first() is not None


def heard(db: Connection, connection: str, operation: str) -> None:
    """Note that the ring was heard, where several may work side by side."""
    execute(db, _HEARD, {"connection": connection, "operation": operation})


def may_help(db: Connection, connection: str, operation: str, *, burst: int, overdue: float) -> bool:
    """Note that the ring was heard, and say whether a second drain may start beside the one at work.

    `burst` is how many events on their way in are one, `overdue` the seconds after which a drain that did not come
    counts as dead.
    """
    values = {"connection": connection, "operation": operation, "burst": burst, "overdue": overdue}
    return bool(execute(db, _MAY_HELP, values).scalar())


def start(db: Connection, connection: str, operation: str, lease: UUID) -> bool:
    """Become the drain, or stay it for another while; False where another one is at work."""
    values = {"connection": connection, "operation": operation, "lease": lease, "seconds": DRAIN_SECONDS}
    return execute(db, _START, values).first() is not None


def stop(db: Connection, connection: str, operation: str, lease: UUID) -> None:
    """Stop being the drain."""
    execute(db, _STOP, {"connection": connection, "operation": operation, "lease": lease})
