"""What trouble with a call does to its connection: it breaks off, it pauses as asked, or its breaker counts."""

import structlog
from sqlalchemy import Connection

from integration.delivery import policy
from integration.errors import ConnectionBroken, CoursewireError, Reason
from integration.storage import breakers, connections

log = structlog.get_logger(__name__)

OUR_OWN_PACE = frozenset({Reason.BUDGET_SPENT, Reason.LEASE_EXPIRED})
"""Trouble that says nothing about the other side."""


def note(db: Connection, connection: str, operation: str, trouble: CoursewireError) -> None:
    """Take down what ended the calls of an operation."""
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
