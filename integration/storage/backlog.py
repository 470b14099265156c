"""What waits at each connection: events that came from it, people whose fields, activities and enrolments go to it."""

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from integration.storage.statement import execute

# What waits for its time (the night, the next try) is no backlog of now. Received and due are the same to a reader:
# work that somebody should be at.
_WAITING = """
SELECT connection, sum(due)::bigint AS due, sum(waiting)::bigint AS waiting, sum(parked)::bigint AS parked,
       sum(dead)::bigint AS dead, min(oldest) AS oldest
FROM (
    SELECT connection, count(*) AS due, 0 AS waiting, 0 AS parked, 0 AS dead, min(received_at) AS oldest
    FROM inbox WHERE status IN ('received', 'claimed') GROUP BY connection
    UNION ALL
    SELECT connection, 0, count(*) FILTER (WHERE status = 'enriching'), count(*) FILTER (WHERE status = 'parked'),
           count(*) FILTER (WHERE status = 'dead'), NULL
    FROM inbox WHERE status IN ('enriching', 'parked', 'dead') AND status NOT IN ('received', 'claimed')
    GROUP BY connection
    UNION ALL
    SELECT connection,
           count(*) FILTER (WHERE status = 'sending' OR status IN ('due', 'waiting') AND not_before <= now()),
           count(*) FILTER (WHERE status IN ('due', 'waiting') AND coalesce(not_before > now(), true)),
           count(*) FILTER (WHERE status = 'parked'), count(*) FILTER (WHERE status = 'dead'),
           min(CASE WHEN lane = 0 THEN wanted_since ELSE not_before END)
               FILTER (WHERE status = 'sending' OR status IN ('due', 'waiting') AND not_before <= now())
    FROM sync_state WHERE status <> 'in_step' GROUP BY connection
    UNION ALL
    SELECT connection, count(*) FILTER (WHERE status = 'sending' OR status = 'pending' AND not_before <= now()),
           count(*) FILTER (WHERE status = 'pending' AND coalesce(not_before > now(), true)),
           count(*) FILTER (WHERE status = 'parked'), count(*) FILTER (WHERE status = 'dead'),
           min(created_at) FILTER (WHERE status = 'sending' OR status = 'pending' AND not_before <= now())
    FROM deliveries WHERE status NOT IN ('delivered', 'cancelled') GROUP BY connection
    UNION ALL
    SELECT connection,
           count(*) FILTER (WHERE status = 'sending' OR status IN ('due', 'waiting') AND not_before <= now()),
           count(*) FILTER (WHERE status IN ('due', 'waiting') AND coalesce(not_before > now(), true)),
           count(*) FILTER (WHERE status = 'parked'), count(*) FILTER (WHERE status = 'dead'),
           min(wanted_since) FILTER (WHERE status = 'sending' OR status IN ('due', 'waiting') AND not_before <= now())
    FROM enrollments WHERE status <> 'in_step' GROUP BY connection) AS work
GROUP BY connection
"""


class Backlog(NamedTuple):
    """Work at one connection: `due` now and since when (`oldest`), `waiting` for its time, set aside for people."""

    due: int = 0
    waiting: int = 0
    parked: int = 0
    dead: int = 0
    oldest: datetime | None = None


def by_connection(db: Connection) -> dict[str, Backlog]:
    """Return the backlog of each connection that has one."""
    return {name: Backlog(*rest) for name, *rest in execute(db, _WAITING)}
