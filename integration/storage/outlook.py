"""The outlook of one operation of a connection: may it be called now, and whose turn is it? One look, one query."""

from datetime import datetime
from typing import Literal, NamedTuple

from sqlalchemy import Connection

from integration.storage import breakers
from integration.storage.statement import execute
from integration.storage.sync_state import BACKFILL, LIVE

# Each lane is asked by its index, so that a look costs the same in a backlog of any size.
_LOOK = """
SELECT coalesce(c.status, 'active') AS status, coalesce(c.reason, b.reason) AS reason, b.succeeded_at,
       greatest(extract(epoch FROM greatest(c.paused_until, b.open_until, b.probe_until) - now()), 0)::float8 AS wait,
       coalesce(b.failures, 0) AS failures, c.paused_until IS NOT NULL AS has_paused, head.lane, head.max_batch,
       (SELECT count(*) FROM (
            SELECT FROM inbox WHERE status IN ('received', 'claimed') LIMIT %(burst)s) AS open) AS coming
FROM (VALUES (1)) AS one
LEFT JOIN connections c ON c.name = %(connection)s
LEFT JOIN breakers b ON b.connection = %(connection)s AND b.operation = %(operation)s
LEFT JOIN LATERAL (
    SELECT lane, max_batch FROM (
    (SELECT lane, max_batch FROM {queue}
     WHERE connection = %(connection)s AND {is_open}
       AND lane = %(first)s AND not_before <= now() ORDER BY not_before LIMIT 1)
    UNION ALL
    (SELECT lane, max_batch FROM {queue}
     WHERE connection = %(connection)s AND {is_open}
       AND lane = %(second)s AND not_before <= now() ORDER BY not_before LIMIT 1)) AS heads
    ORDER BY lane <> %(first)s LIMIT 1) AS head ON true
"""

_OF_IT = "operation = %(operation)s AND"
Queue = Literal["sync_state", "deliveries", "enrollments"]
_LOOKS: dict[Queue, str] = {
    "sync_state": _LOOK.format(queue="sync_state", is_open=f"{_OF_IT} status <> 'sending'"),
    "deliveries": _LOOK.format(queue="deliveries", is_open=f"{_OF_IT} status IN ('pending', 'parked')"),
    "enrollments": _LOOK.format(queue="enrollments", is_open="status <> 'sending'"),
}


class Outlook(NamedTuple):
    """`wait` in seconds until a pause or an open breaker ends, 0 = none; `lane` of who is next, None = nobody is due.

    `succeeded_at`: the last call that worked after a failure. `failures` in a row. `max_batch`: who is next is a
    suspect, claimed only among suspects in batches of that size. `coming`: events on their way in, up to a burst.
    """

    status: str
    reason: str | None
    succeeded_at: datetime | None
    wait: float
    failures: int
    has_paused: bool
    lane: int | None
    max_batch: int | None
    coming: int

    @property
    def may_call(self) -> bool:
        """Whether the other side may be called now."""
        return self.wait == 0 and self.status in ("active", "limited", "broken")

    @property
    def is_tripped(self) -> bool:
        """Whether the breaker is open, or half-open once the wait is over."""
        return self.failures >= breakers.TRIP

    @property
    def is_clear(self) -> bool:
        """Whether a success would change nothing: no failure, pause or breakage is on record."""
        return self.status == "active" and not self.has_paused and self.failures == 0


def look(
    db: Connection,
    connection: str,
    operation: str,
    *,
    first: int = LIVE,
    burst: int = 1,
    queue: Queue = "sync_state",
) -> Outlook:
    """Return the outlook, `first` being the lane that goes first this time; a connection without a row is active.

    `queue` is the table in which the operation's work waits.
    """
    values = {
        "connection": connection,
        "operation": operation,
        "first": first,
        "second": LIVE + BACKFILL - first,
        "burst": burst,
    }
    return Outlook(*execute(db, _LOOKS[queue], values).one())
