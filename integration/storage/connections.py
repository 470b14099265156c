"""The state of each connection: pauses and breakages sit here, not on the rows that wait (architecture section 7)."""

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from integration.errors import Reason

_REGISTER = """
INSERT INTO connections (name, system)
SELECT * FROM unnest(%(name)s::text[], %(system)s::text[]) ORDER BY 1
ON CONFLICT (name) DO UPDATE SET system = excluded.system WHERE connections.system <> excluded.system
"""

_STATE = """
SELECT status, reason, failures, greatest(extract(epoch FROM paused_until - now()), 0)::float8 AS wait
FROM connections WHERE name = %(name)s
"""

_PAUSE = """
UPDATE connections SET paused_until = greatest(paused_until, now() + %(seconds)s * interval '1 second'),
    status = CASE WHEN status = 'broken' THEN status WHEN %(limited)s THEN 'limited' ELSE status END,
    failures = failures + %(counts)s::int, reason = %(reason)s, updated_at = now()
WHERE name = %(name)s
"""

_BREAK = """
UPDATE connections SET status = 'broken', reason = %(reason)s, failures = failures + 1, updated_at = now(),
    paused_until = now() + %(probe)s * interval '1 second'
WHERE name = %(name)s AND status IN ('active', 'limited', 'broken')
"""

# A call that worked ends the row of failures, but not a pause that another call was asked to make.
_HEAL = """
UPDATE connections SET failures = 0, updated_at = now(),
    status = CASE WHEN paused_until > now() AND status = 'limited' THEN status ELSE 'active' END,
    reason = CASE WHEN paused_until > now() THEN reason END,
    paused_until = CASE WHEN paused_until > now() THEN paused_until END
WHERE name = %(name)s AND status IN ('active', 'limited', 'broken')
  AND (status <> 'active' OR failures > 0 OR paused_until IS NOT NULL)
"""

PROBE_SECONDS = 60
"""A broken connection is tried this often, so that it heals by itself when its credentials do."""


class State(NamedTuple):
    """`wait` in seconds until a pause ends, 0 = none; `failures` in a row."""

    status: str
    reason: str | None
    failures: int
    wait: float

    @property
    def may_call(self) -> bool:
        """Whether the other side may be called now."""
        return self.wait == 0 and self.status in ("active", "limited", "broken")


class Overview(NamedTuple):
    """A connection for people."""

    name: str
    system: str
    status: str
    reason: str | None
    paused_until: datetime | None


def register(db: Connection, systems: Mapping[str, str]) -> None:
    """Make sure each connection of the connections file has its row."""
    db.exec_driver_sql(_REGISTER, {"name": list(systems), "system": list(systems.values())})


def state(db: Connection, name: str) -> State:
    """Return the state; a connection without a row is active."""
    row = db.exec_driver_sql(_STATE, {"name": name}).one_or_none()
    return State(row.status, row.reason, row.failures, row.wait or 0.0) if row else State("active", None, 0, 0.0)


def pause(db: Connection, name: str, seconds: float, reason: Reason, *, counts: bool) -> None:
    """Let nobody call it for `seconds`; a longer pause that is under way stays. `counts` = it was a failure."""
    limited = reason is Reason.DAILY_LIMIT
    values = {"name": name, "seconds": seconds, "reason": reason.value, "limited": limited, "counts": counts}
    db.exec_driver_sql(_PAUSE, values)


def break_off(db: Connection, name: str, reason: Reason) -> None:
    """Stop calling it until its credentials work again; its backlog stays."""
    db.exec_driver_sql(_BREAK, {"name": name, "reason": reason.value, "probe": PROBE_SECONDS})


def heal(db: Connection, name: str) -> None:
    """Take it up again after a call that worked."""
    db.exec_driver_sql(_HEAL, {"name": name})


def overview(db: Connection) -> list[Overview]:
    """Return all connections by name."""
    rows = db.exec_driver_sql("SELECT name, system, status, reason, paused_until FROM connections ORDER BY name")
    return [Overview(*row) for row in rows]
