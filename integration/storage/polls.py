"""Polls of LMSs: unique by connection and time, worked off page by page under a lease, each page in one transaction.

What a page said, how far the poll has come, and after the last page the cursor of the connection are committed
together: whoever is killed repeats one page, and never leaves one out.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import orjson
from sqlalchemy import Connection

from integration.storage.statement import execute

LEASE_SECONDS = 120
"""Renewed before each page; a page of an LMS that is asked person by person takes up to half a minute."""

DEATHS = 5
"""A page that ended so many workers ends its poll: the next one begins anew."""

# A system that cannot be asked for what changed is asked for all of the last days each time, however far it came.
_BEGIN = """
WITH came AS (
    SELECT max((position ->> 'until')::timestamptz) AS until FROM cursors WHERE name = %(cursor)s
)
INSERT INTO polls (connection, scheduled_for, actor, since)
SELECT %(connection)s, %(scheduled_for)s, %(actor)s,
       CASE WHEN %(everything)s THEN least(until - %(overlap)s, now() - %(look_back)s)
            ELSE coalesce(until - %(overlap)s, now() - %(look_back)s) END
FROM came
ON CONFLICT DO NOTHING RETURNING id
"""

_LAST = "SELECT max(scheduled_for) FROM polls WHERE connection = %(connection)s AND actor = 'coursewire'"

_OPEN = """
SELECT DISTINCT connection FROM polls WHERE status = 'running' AND (lease IS NULL OR lease_until < now()) ORDER BY 1
"""

_CLAIM = """
UPDATE polls p
SET lease = %(lease)s, lease_until = now() + %(seconds)s * interval '1 second', attempts = p.attempts + 1
FROM (SELECT id FROM polls WHERE connection = %(connection)s AND status = 'running'
      AND (lease IS NULL OR lease_until < now()) FOR UPDATE SKIP LOCKED) AS one
WHERE p.id = one.id
RETURNING p.id, p.connection, p.since, p.position, p.attempts, p.started_at
"""

_HOLD = """
UPDATE polls SET lease_until = now() + %(seconds)s * interval '1 second' WHERE id = %(id)s AND lease = %(lease)s
"""

_LEAVE = """
UPDATE polls SET lease = NULL, lease_until = NULL, attempts = greatest(attempts - 1, 0)
WHERE id = %(id)s AND lease = %(lease)s
"""

_LOCK = "SELECT counts FROM polls WHERE id = %(id)s AND lease = %(lease)s AND status = 'running' FOR UPDATE"

_SETTLE = """
UPDATE polls SET position = %(position)s::jsonb, counts = %(counts)s::jsonb, attempts = 1
WHERE id = %(id)s AND lease = %(lease)s
"""

_FINISH = """
UPDATE polls SET status = %(status)s, reason = %(reason)s, detail = %(detail)s, finished_at = now(),
    lease = NULL, lease_until = NULL
WHERE id = %(id)s AND lease = %(lease)s AND status = 'running' RETURNING 1
"""

_GIVE_UP = """
UPDATE polls SET status = 'failed', reason = %(reason)s, finished_at = now(), lease = NULL, lease_until = NULL
WHERE status = 'running' AND (lease IS NULL OR lease_until < now()) AND started_at < %(before)s
  AND connection <> ALL(%(asked)s::text[])
RETURNING id
"""

_ADVANCE = """
INSERT INTO cursors AS c (name, position) VALUES (%(cursor)s, %(position)s::jsonb)
ON CONFLICT (name) DO UPDATE SET position = excluded.position, updated_at = now()
"""

_LATEST = """
SELECT id, connection, scheduled_for, actor, status, reason, detail, since, started_at, finished_at, counts FROM polls
WHERE %(connection)s::text IS NULL OR connection = %(connection)s ORDER BY id DESC LIMIT %(limit)s
"""


class Held(NamedTuple):
    """A poll as claimed; `position` None = at the beginning. Times by the clock of Postgres."""

    id: int
    connection: str
    since: datetime
    position: Mapping[str, Any] | None
    attempts: int
    started_at: datetime


class Poll(NamedTuple):
    """A poll as people see it."""

    id: int
    connection: str
    scheduled_for: datetime
    actor: str
    status: str
    reason: str | None
    detail: str | None
    since: datetime
    started_at: datetime
    finished_at: datetime | None
    counts: dict[str, int]


class PollTaken(Exception):
    """Somebody else has this poll now: roll back, and leave it."""


def begin(
    db: Connection,
    connection: str,
    scheduled_for: datetime,
    *,
    actor: str,
    overlap: timedelta,
    look_back: timedelta,
    everything: bool,
) -> int | None:
    """Begin a poll; None where there was one for this time, or another one of the connection has not ended.

    It asks for what happened since the last one that ended well began, less `overlap`; the first one, and each one of a
    system that is asked for `everything`, for what happened within `look_back`.
    """
    values = {
        "connection": connection,
        "cursor": _cursor(connection),
        "scheduled_for": scheduled_for,
        "actor": actor,
        "overlap": overlap,
        "look_back": look_back,
        "everything": everything,
    }
    found = execute(db, _BEGIN, values).scalar()
    return None if found is None else int(found)


def last_scheduled(db: Connection, connection: str) -> datetime | None:
    """Return when the newest poll by the clock was due, None where there was none."""
    at: datetime | None = execute(db, _LAST, {"connection": connection}).scalar()
    return at


def waiting(db: Connection) -> list[str]:
    """Return the connections with a poll that nobody works on."""
    return [row.connection for row in execute(db, _OPEN).all()]


def claim(db: Connection, connection: str, lease: UUID) -> Held | None:
    """Claim a connection's poll where nobody works on it, or its holder is dead."""
    row = execute(db, _CLAIM, {"connection": connection, "lease": lease, "seconds": LEASE_SECONDS}).first()
    return Held(*row) if row else None


def hold(db: Connection, held: Held, lease: UUID) -> bool:
    """Hold a poll for another while; False where it is no longer ours."""
    return execute(db, _HOLD, {"id": held.id, "lease": lease, "seconds": LEASE_SECONDS}).rowcount == 1


def leave(db: Connection, held: Held, lease: UUID) -> None:
    """Let the page be asked for later, as if it had not been begun."""
    execute(db, _LEAVE, {"id": held.id, "lease": lease})


def counts(db: Connection, held: Held, lease: UUID) -> dict[str, int]:
    """Return what the poll has counted so far, and hold its row until the transaction ends. Raises PollTaken."""
    row = execute(db, _LOCK, {"id": held.id, "lease": lease}).first()
    if row is None:
        raise PollTaken
    return dict(row.counts)


def settle(
    db: Connection, held: Held, lease: UUID, position: Mapping[str, Any] | None, counted: Mapping[str, int]
) -> Held:
    """Note that a page is done and where the next one begins; after the last one, end the poll and move the cursor."""
    values = {
        "id": held.id,
        "lease": lease,
        "position": orjson.dumps(position).decode() if position is not None else None,
        "counts": orjson.dumps(counted).decode(),
    }
    execute(db, _SETTLE, values)
    if position is None and finish(db, held, lease):
        until = orjson.dumps({"until": held.started_at}).decode()
        execute(db, _ADVANCE, {"cursor": _cursor(held.connection), "position": until})
    return held._replace(position=position, attempts=1)


def finish(
    db: Connection, held: Held, lease: UUID, status: str = "done", reason: str | None = None, detail: str | None = None
) -> bool:
    """End a poll; False where it is no longer ours."""
    values = {"id": held.id, "lease": lease, "status": status, "reason": reason, "detail": detail}
    return execute(db, _FINISH, values).first() is not None


def give_up(db: Connection, asked: Iterable[str], before: datetime, reason: str) -> list[int]:
    """End as failed the polls of other connections than `asked` that began `before` and nobody works on."""
    values = {"asked": sorted(asked), "before": before, "reason": reason}
    return [row.id for row in execute(db, _GIVE_UP, values).all()]


def latest(db: Connection, connection: str | None = None, *, limit: int) -> list[Poll]:
    """Return the newest polls, of one connection or of all."""
    return [Poll(*row) for row in execute(db, _LATEST, {"connection": connection, "limit": limit}).all()]


def _cursor(connection: str) -> str:
    return f"results:{connection}"
