"""Trouble of a whole call: what it means for the connection or for one operation of it, and a database that is away."""

import time
from collections.abc import Callable

import structlog
from sqlalchemy import Connection

from integration.delivery import policy
from integration.errors import ConnectionBroken, CoursewireError, Reason
from integration.storage import breakers, connections
from integration.storage.base import AWAY

log = structlog.get_logger(__name__)

OUR_OWN_PACE = frozenset({Reason.BUDGET_SPENT, Reason.LEASE_EXPIRED})
"""Trouble that says nothing about the other side."""


def note(db: Connection, connection: str, operation: str, trouble: CoursewireError) -> None:
    """Break the connection, pause it, or count a failure of the operation, as the trouble says."""
    if trouble.reason in OUR_OWN_PACE:
        return
    if isinstance(trouble, ConnectionBroken):
        connections.break_off(db, connection, trouble.reason)
        log.error("connection.broken", connection=connection, reason=trouble.reason.value)
        return
    asked = getattr(trouble, "after", None)
    if asked is not None:
        # A wait that was asked for is good manners between two systems, and no failure of either.
        seconds = policy.as_asked(asked)
        connections.pause(db, connection, seconds, trouble.reason)
        log.warning("connection.paused", connection=connection, reason=trouble.reason.value, seconds=round(seconds, 3))
        return
    failures = breakers.fail(db, connection, operation, trouble.reason, policy.rests())
    event = "breaker.opened" if failures >= breakers.TRIP else "breaker.failed"
    log.warning(event, connection=connection, operation=operation, reason=trouble.reason.value, failures=failures)


def settle_in_time(settle: Callable[[], None]) -> None:
    """Settle, again where the database is away for a moment: what was written is else forgotten for a lease."""
    ends = time.monotonic() + policy.SETTLE_SECONDS
    while True:
        try:
            return settle()
        except AWAY:
            if time.monotonic() > ends:
                raise
        time.sleep(policy.SETTLE_PAUSE)
