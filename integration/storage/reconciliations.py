"""Runs that compare a CRM with the truth: their chunks under leases, what they saw, and what they found.

A chunk is settled in one transaction with everything that follows from it, and only by who still has its lease: whoever
is killed repeats one chunk, and a chunk that is repeated counts nothing twice, because a run sees each contact once.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID

import orjson
from sqlalchemy import Connection

from integration.storage.statement import execute

LEASE_SECONDS = 60
"""Renewed before each page; a page and its wait for the budget take a few seconds."""

DEATHS = 5
"""A chunk that ended so many workers ends its run: the next night begins anew, and an alert says so."""

Phase = Literal["list", "missing"]

# One that came to the end of its calls goes on where it was.
_GO_ON = """
UPDATE reconciliations r
SET status = 'running', rests_at = coalesce((counts ->> 'calls')::bigint, 0) + %(calls)s::bigint,
    resumed_for = %(scheduled_for)s
WHERE connection = %(connection)s AND status = 'resting' AND is_dry = %(is_dry)s
  AND NOT EXISTS (SELECT FROM reconciliations o WHERE o.connection = r.connection AND o.status = 'running')
RETURNING id
"""

_BEGIN = """
INSERT INTO reconciliations (connection, scheduled_for, actor, is_dry, rests_at, expected)
SELECT %(connection)s, %(scheduled_for)s, %(actor)s, %(is_dry)s, %(calls)s,
       (SELECT sum((counts ->> 'contacts')::bigint)::bigint FROM (
            SELECT counts FROM reconciliations WHERE connection = %(connection)s AND status = 'done'
            ORDER BY id DESC LIMIT 1) AS last)
ON CONFLICT DO NOTHING RETURNING id
"""

_CHUNK = """
INSERT INTO reconciliation_chunks (reconciliation_id, phase, place, cursor)
VALUES (%(run)s, %(phase)s, %(place)s, %(cursor)s) ON CONFLICT DO NOTHING RETURNING 1
"""

# Only by who still has the chunk: after a run has gone on, or ended, a page more would keep it open for ever.
_FOLLOW = """
INSERT INTO reconciliation_chunks (reconciliation_id, phase, place, cursor)
SELECT %(run)s, %(phase)s, held.place + 1, %(cursor)s
FROM (SELECT place FROM reconciliation_chunks
      WHERE reconciliation_id = %(run)s AND phase = %(phase)s AND place = %(place)s AND lease = %(lease)s FOR UPDATE)
     AS held
ON CONFLICT DO NOTHING RETURNING 1
"""

_LAST = """
SELECT greatest(max(scheduled_for) FILTER (WHERE actor = 'coursewire'), max(resumed_for))
FROM reconciliations WHERE connection = %(connection)s
"""

_RUNNING = """
SELECT r.id, r.connection, r.is_dry, r.started_at,
       EXISTS (SELECT FROM reconciliation_chunks c WHERE c.reconciliation_id = r.id
               AND (c.status = 'open' OR (c.status = 'claimed' AND c.lease_until < now()))) AS is_open
FROM reconciliations r
WHERE r.status = 'running' AND (%(connection)s::text IS NULL OR r.connection = %(connection)s) ORDER BY r.id
"""

_CLAIM = """
UPDATE reconciliation_chunks c
SET status = 'claimed', lease = %(lease)s, lease_until = now() + %(seconds)s * interval '1 second',
    attempts = c.attempts + 1
FROM (SELECT o.reconciliation_id, o.phase, o.place, r.connection, r.is_dry, r.started_at
      FROM reconciliation_chunks o JOIN reconciliations r ON r.id = o.reconciliation_id
      WHERE r.connection = %(connection)s AND r.status = 'running'
        AND (o.status = 'open' OR (o.status = 'claimed' AND o.lease_until < now()))
      ORDER BY o.reconciliation_id, o.phase, o.place LIMIT 1 FOR UPDATE OF o SKIP LOCKED) AS one
WHERE c.reconciliation_id = one.reconciliation_id AND c.phase = one.phase AND c.place = one.place
RETURNING c.reconciliation_id, c.phase, c.place, c.cursor, c.attempts, one.is_dry, one.started_at,
          clock_timestamp() AS claimed_at
"""

_HOLD = """
UPDATE reconciliation_chunks SET lease_until = now() + %(seconds)s * interval '1 second'
WHERE reconciliation_id = %(run)s AND phase = %(phase)s AND place = %(place)s AND lease = %(lease)s
"""

_GIVE_BACK = """
UPDATE reconciliation_chunks SET status = 'open', lease = NULL, lease_until = NULL, attempts = attempts - 1
WHERE reconciliation_id = %(run)s AND phase = %(phase)s AND place = %(place)s AND lease = %(lease)s
"""

# Whoever has a chunk when the run comes to rest still settles it.
_LOCK = "SELECT counts FROM reconciliations WHERE id = %(run)s AND status IN ('running', 'resting') FOR UPDATE"

_DONE = """
UPDATE reconciliation_chunks SET status = 'done', lease = NULL, lease_until = NULL
WHERE reconciliation_id = %(run)s AND phase = %(phase)s AND place = %(place)s AND lease = %(lease)s
RETURNING NOT EXISTS (SELECT FROM reconciliation_chunks o WHERE o.reconciliation_id = %(run)s AND o.status <> 'done'
                      AND (o.phase, o.place) <> (%(phase)s, %(place)s)) AS is_last
"""

_COUNT = "UPDATE reconciliations SET counts = %(counts)s::jsonb WHERE id = %(run)s"

_REST = """
UPDATE reconciliations SET status = 'resting', rested_at = now()
WHERE id = %(run)s AND status = 'running' AND rests_at <= (counts ->> 'calls')::bigint RETURNING 1
"""

_NO_REST = "UPDATE reconciliations SET rests_at = NULL WHERE id = %(run)s"

_FINISH = """
UPDATE reconciliations SET status = %(status)s, reason = %(reason)s, finished_at = now()
WHERE id = %(run)s AND status IN ('running', 'resting') RETURNING 1
"""

_FORGET = "DELETE FROM reconciliation_sightings WHERE reconciliation_id = %(run)s"
_DROP_CHUNKS = "DELETE FROM reconciliation_chunks WHERE reconciliation_id = %(run)s"


class Chunk(NamedTuple):
    """A chunk as claimed; `cursor` None = from the beginning. `claimed_at` by the clock of Postgres."""

    run: int
    phase: Phase
    place: int
    cursor: str | None
    attempts: int
    is_dry: bool
    started_at: datetime
    claimed_at: datetime


class Running(NamedTuple):
    """A run that has not ended; `is_open`: there is a chunk that nobody works on."""

    id: int
    connection: str
    is_dry: bool
    started_at: datetime
    is_open: bool


class ChunkTaken(Exception):
    """Somebody else has this chunk now, or its run was stopped: roll back, and leave it."""


def begin(
    db: Connection,
    connection: str,
    scheduled_for: datetime,
    *,
    actor: str,
    is_dry: bool = False,
    most_calls: int | None = None,
) -> int | None:
    """Begin a run, or go on with one that rests; None where there was one for this time, or another one is under way.

    It rests after `most_calls` that it made to compare (None: it does not).
    """
    values = {
        "connection": connection,
        "scheduled_for": scheduled_for,
        "actor": actor,
        "is_dry": is_dry,
        "calls": most_calls,
    }
    if (run := execute(db, _GO_ON, values).scalar()) is not None:
        return int(run)
    run = execute(db, _BEGIN, values).scalar()
    if run is not None:
        execute(db, _CHUNK, {"run": run, "phase": "list", "place": 0, "cursor": None})
    return None if run is None else int(run)


def last_scheduled(db: Connection, connection: str) -> datetime | None:
    """Return when the newest run by the clock was due, None where there was none."""
    at: datetime | None = execute(db, _LAST, {"connection": connection}).scalar()
    return at


def running(db: Connection, connection: str | None = None) -> list[Running]:
    """Return the runs that have not ended, of one connection or of all."""
    return [Running(*row) for row in execute(db, _RUNNING, {"connection": connection}).all()]


def claim(db: Connection, connection: str, lease: UUID) -> Chunk | None:
    """Claim the next chunk of a connection's run, or one whose holder is dead."""
    row = execute(db, _CLAIM, {"connection": connection, "lease": lease, "seconds": LEASE_SECONDS}).first()
    return Chunk(*row) if row else None


def hold(db: Connection, chunk: Chunk, lease: UUID) -> bool:
    """Hold a chunk for another while; False where it is no longer ours."""
    return execute(db, _HOLD, {**_place(chunk), "lease": lease, "seconds": LEASE_SECONDS}).rowcount == 1


def give_back(db: Connection, chunk: Chunk, lease: UUID) -> None:
    """Let a chunk be worked on later, as if it had not been claimed."""
    execute(db, _GIVE_BACK, {**_place(chunk), "lease": lease})


def follow(db: Connection, chunk: Chunk, lease: UUID, cursor: str) -> bool:
    """Let the chunk after this one be worked on; False where it was there already, or this one is no longer ours."""
    return execute(db, _FOLLOW, {**_place(chunk), "lease": lease, "cursor": cursor}).first() is not None


def counts(db: Connection, chunk: Chunk) -> dict[str, int]:
    """Return what the run has counted so far, and hold it. Raises ChunkTaken where it has ended."""
    row = execute(db, _LOCK, {"run": chunk.run}).first()
    if row is None:
        raise ChunkTaken
    return dict(row.counts)


def settle(db: Connection, chunk: Chunk, lease: UUID, added: Mapping[str, int], before: Mapping[str, int]) -> bool:
    """End a chunk, adding to what the run counted `before`; return whether it was the last one open.

    Raises ChunkTaken.
    """
    row = execute(db, _DONE, {**_place(chunk), "lease": lease}).first()
    if row is None:
        raise ChunkTaken
    total = {name: before.get(name, 0) + added.get(name, 0) for name in {**before, **added}}
    execute(db, _COUNT, {"run": chunk.run, "counts": orjson.dumps(total).decode()})
    return bool(row.is_last)


def rest(db: Connection, run: int) -> bool:
    """Let a run rest that has made its calls; False where it has not."""
    return execute(db, _REST, {"run": run}).first() is not None


def work_through(db: Connection, run: int) -> None:
    """Let a run go on to its end, whatever it takes."""
    execute(db, _NO_REST, {"run": run})


def next_phase(db: Connection, chunk: Chunk) -> None:
    """After all pages: look for what was not on any."""
    execute(db, _CHUNK, {"run": chunk.run, "phase": "missing", "place": 0, "cursor": "0"})


def finish(db: Connection, run: int, status: str = "done", reason: str | None = None) -> bool:
    """End a run; False where it had ended."""
    if execute(db, _FINISH, {"run": run, "status": status, "reason": reason}).first() is None:
        return False
    execute(db, _FORGET, {"run": run})
    execute(db, _DROP_CHUNKS, {"run": run})
    return True


def _place(chunk: Chunk) -> dict[str, Any]:
    return {"run": chunk.run, "phase": chunk.phase, "place": chunk.place}
