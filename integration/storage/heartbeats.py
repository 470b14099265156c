"""Signs of life of workers: when each of them last sent its canary to the broker and heard it again.

A worker that is alive and no longer consumes goes on sending and hears nothing; one that is frozen does neither. The
health check (`integration.observability.probe`) reads these rows.
"""

from sqlalchemy import Connection

from integration.storage.statement import execute

# The whole row anew: what was sent into an outage that is over may be lost, and is waited for no longer.
_BEGIN = """
INSERT INTO heartbeats (node, started_at, sent_at) VALUES (%(node)s, now(), now())
ON CONFLICT (node) DO UPDATE SET started_at = now(), sent_at = now(), heard_at = NULL
"""

_SENT = """
UPDATE heartbeats SET sent_at = now(), heard_at = CASE WHEN %(busy)s THEN now() ELSE heard_at END
WHERE node = %(node)s
"""

_HEARD = "UPDATE heartbeats SET heard_at = now() WHERE node = %(node)s"

_FORGET = "DELETE FROM heartbeats WHERE node = %(node)s"


def begin(db: Connection, node: str) -> None:
    """Note that a worker sent a canary with nothing to wait for before: it has just started, or an outage is over."""
    execute(db, _BEGIN, {"node": node})


def sent(db: Connection, node: str, *, busy: bool) -> None:
    """Note that a canary was sent; `busy`: other messages were worked off since the last one, which says as much."""
    if not execute(db, _SENT, {"node": node, "busy": busy}).rowcount:
        begin(db, node)


def heard(db: Connection, node: str) -> None:
    """Note that a canary came back through broker, worker and Postgres."""
    execute(db, _HEARD, {"node": node})


def forget(db: Connection, node: str) -> None:
    """Note that a worker ended as it should."""
    execute(db, _FORGET, {"node": node})
