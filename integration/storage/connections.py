"""The state of each connection: pauses and breakages sit here, not on the rows that wait (architecture section 7)."""

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from integration.errors import Reason
from integration.storage import breakers
from integration.storage.statement import execute

_REGISTER = """
INSERT INTO connections (name, system)
SELECT * FROM unnest(%(name)s::text[], %(system)s::text[]) ORDER BY 1
ON CONFLICT (name) DO UPDATE SET system = excluded.system WHERE connections.system <> excluded.system
"""

_PAUSE = """
UPDATE connections SET paused_until = greatest(paused_until, now() + %(seconds)s * interval '1 second'),
    status = CASE WHEN status = 'broken' THEN status WHEN %(limited)s THEN 'limited' ELSE status END,
    reason = %(reason)s, updated_at = now()
WHERE name = %(name)s AND status <> 'paused'
"""

_BREAK = """
UPDATE connections SET status = 'broken', reason = %(reason)s, updated_at = now(),
    paused_until = now() + %(probe)s * interval '1 second'
WHERE name = %(name)s AND status IN ('active', 'limited', 'broken')
"""

# A call that worked ends what was broken, but not a pause that another call was asked to make.
_HEAL = """
UPDATE connections SET updated_at = now(),
    status = CASE WHEN paused_until > now() AND status = 'limited' THEN status ELSE 'active' END,
    reason = CASE WHEN paused_until > now() THEN reason END,
    paused_until = CASE WHEN paused_until > now() THEN paused_until END
WHERE name = %(name)s AND status IN ('active', 'limited', 'broken')
  AND (status <> 'active' OR paused_until IS NOT NULL)
"""

_HALT = """
UPDATE connections SET status = 'paused', reason = NULL, updated_at = now(),
    paused_until = now() + %(seconds)s::float8 * interval '1 second'
WHERE name = %(name)s RETURNING paused_until
"""

_RESUME = """
UPDATE connections c SET status = 'active', reason = NULL, paused_until = NULL, updated_at = now()
FROM (SELECT name, status FROM connections WHERE name = %(name)s FOR UPDATE) AS before
WHERE c.name = before.name
RETURNING before.status
"""

_END_PAUSES = """
UPDATE connections SET status = 'active', paused_until = NULL, updated_at = now()
WHERE status = 'paused' AND paused_until <= now()
RETURNING name
"""

PROBE_SECONDS = 60
"""A broken connection is tried this often, so that it heals by itself when its credentials do."""


class Overview(NamedTuple):
    """A connection for people."""

    name: str
    system: str
    status: str
    reason: str | None
    paused_until: datetime | None


def register(db: Connection, systems: Mapping[str, str]) -> None:
    """Make sure each connection of the connections file has its row."""
    execute(db, _REGISTER, {"name": list(systems), "system": list(systems.values())})


def pause(db: Connection, name: str, seconds: float, reason: Reason) -> None:
    """Let nobody call it for `seconds`, as it asked; a longer pause that is under way stays."""
    limited = reason is Reason.DAILY_LIMIT
    values = {"name": name, "seconds": seconds, "reason": reason.value, "limited": limited}
    execute(db, _PAUSE, values)


def break_off(db: Connection, name: str, reason: Reason) -> None:
    """Stop calling it until its credentials work again; its backlog stays."""
    execute(db, _BREAK, {"name": name, "reason": reason.value, "probe": PROBE_SECONDS})


def heal(db: Connection, name: str) -> None:
    """Take it up again after a call that worked."""
    execute(db, _HEAL, {"name": name})


def halt(db: Connection, name: str, seconds: float | None) -> bool:
    """Let nobody call it until a person says so, or for `seconds`; False where there is no such connection."""
    return execute(db, _HALT, {"name": name, "seconds": seconds}).first() is not None


def resume(db: Connection, name: str) -> str | None:
    """Take it up again at once, whatever it rested for; return the status it had, None where there is none.

    Ends open breakers as well: what is still wrong shows at the next call.
    """
    row = execute(db, _RESUME, {"name": name}).one_or_none()
    if row is not None:
        breakers.reset(db, name)
    return str(row.status) if row else None


def end_pauses(db: Connection) -> list[str]:
    """Take up the connections that a person paused for a time which is over; return their names."""
    return [row.name for row in execute(db, _END_PAUSES)]


def overview(db: Connection) -> list[Overview]:
    """Return all connections by name."""
    rows = execute(db, "SELECT name, system, status, reason, paused_until FROM connections ORDER BY name")
    return [Overview(*row) for row in rows]
