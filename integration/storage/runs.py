"""Scheduled runs: one row per job and time, which is what makes each of them happen exactly once.

Any number of workers may start and continue runs: the row is unique, and who works on it proves with every slice that
nobody took it over meanwhile (`heartbeat_at` is the fence: it holds what the holder wrote last).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection

from integration.storage.statement import execute

LEASE_SECONDS = 120
"""A run whose holder was not heard of for so long is taken over; a slice takes seconds."""

STEPPED_BACK = "1 hour"
"""How far a clock is believed to be set back: a run that lies further in the future was itself a mistake of the clock,
and must not keep a job from running."""

_NOW = "SELECT now()"

# With a clock that was set back, an earlier time looks like the latest one: what lies after it has run already.
_START = """
INSERT INTO runs (job, scheduled_for)
SELECT %(job)s, %(scheduled_for)s::timestamptz
WHERE NOT EXISTS (SELECT FROM runs WHERE job = %(job)s AND scheduled_for > %(now)s::timestamptz
                  AND scheduled_for <= %(now)s::timestamptz + %(stepped_back)s::interval)
ON CONFLICT DO NOTHING RETURNING 1
"""

# The oldest open run of each job alone, so that a job never runs beside itself. `heartbeat_at` in the future: the clock
# was set back under a holder that is dead, or that finds its fence gone.
_TAKE = """
UPDATE runs r SET heartbeat_at = clock_timestamp(), started_at = coalesce(r.started_at, %(now)s)
FROM (SELECT DISTINCT ON (job) job, scheduled_for, heartbeat_at FROM runs
      WHERE finished_at IS NULL AND job = ANY(%(jobs)s::text[]) ORDER BY job, scheduled_for) AS oldest
WHERE r.job = oldest.job AND r.scheduled_for = oldest.scheduled_for
  AND r.finished_at IS NULL AND r.heartbeat_at IS NOT DISTINCT FROM oldest.heartbeat_at
  AND (r.heartbeat_at IS NULL OR r.heartbeat_at NOT BETWEEN now() - %(lease)s * interval '1 second'
                                                        AND now() + %(lease)s * interval '1 second')
RETURNING r.job, r.scheduled_for, r.heartbeat_at, r.counts
"""

_WRITE = """
UPDATE runs SET counts = %(counts)s::jsonb, outcome = %(outcome)s,
    heartbeat_at = CASE WHEN %(outcome)s::text IS NULL AND %(keep)s THEN clock_timestamp() END,
    finished_at = CASE WHEN %(outcome)s::text IS NOT NULL THEN now() END
WHERE job = %(job)s AND scheduled_for = %(scheduled_for)s AND heartbeat_at = %(heartbeat_at)s
RETURNING heartbeat_at
"""

_LATEST = """
SELECT job, scheduled_for, started_at, finished_at, outcome, counts FROM runs
WHERE %(job)s::text IS NULL OR job = %(job)s ORDER BY scheduled_for DESC, job LIMIT %(limit)s
"""


class RunTaken(Exception):
    """Somebody else has this run now: roll back what was done for it, and leave it."""


class Run(NamedTuple):
    """A run as people see it."""

    job: str
    scheduled_for: datetime
    started_at: datetime | None
    finished_at: datetime | None
    outcome: str | None
    counts: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Held:
    """A run that the caller works on; `counts` is what was done in it so far."""

    job: str
    scheduled_for: datetime
    heartbeat_at: datetime
    counts: dict[str, int] = field(default_factory=dict)


def clock(db: Connection) -> datetime:
    """Return the time at Postgres: the one clock that all workers share."""
    now: datetime = execute(db, _NOW).scalar_one()
    return now


def start(db: Connection, job: str, scheduled_for: datetime, now: datetime) -> bool:
    """Note that a job is due since `scheduled_for`; False: somebody did so before, or `now` was set back."""
    values = {"job": job, "scheduled_for": scheduled_for, "now": now, "stepped_back": STEPPED_BACK}
    return execute(db, _START, values).first() is not None


def take(db: Connection, jobs: Sequence[str], now: datetime) -> list[Held]:
    """Take the open runs of these jobs that nobody works on, at most one of each."""
    rows = execute(db, _TAKE, {"jobs": list(jobs), "now": now, "lease": LEASE_SECONDS})
    return [Held(row.job, row.scheduled_for, row.heartbeat_at, row.counts or {}) for row in rows]


def advance(db: Connection, held: Held, done: dict[str, int]) -> Held:
    """Add what a slice did, in the slice's own transaction. Raises RunTaken."""
    return _write(db, _with(held, done), None, keep=True)


def leave(db: Connection, held: Held) -> None:
    """Let the next tick go on with a run. Raises RunTaken."""
    _write(db, held, None, keep=False)


def finish(db: Connection, held: Held, outcome: str) -> None:
    """End a run for good. Raises RunTaken."""
    _write(db, held, outcome, keep=False)


def latest(db: Connection, job: str | None = None, *, limit: int) -> list[Run]:
    """Return the newest runs, of one job or of all."""
    return [Run(*row) for row in execute(db, _LATEST, {"job": job, "limit": limit})]


def _with(held: Held, done: dict[str, int]) -> Held:
    counts = {name: held.counts.get(name, 0) + done.get(name, 0) for name in {**held.counts, **done}}
    return replace(held, counts=counts)


def _write(db: Connection, held: Held, outcome: str | None, *, keep: bool) -> Held:
    values = {
        "job": held.job,
        "scheduled_for": held.scheduled_for,
        "heartbeat_at": held.heartbeat_at,
        "counts": orjson.dumps(held.counts).decode(),
        "outcome": outcome,
        "keep": keep,
    }
    row = execute(db, _WRITE, values).first()
    if row is None:
        raise RunTaken(held.job)
    return replace(held, heartbeat_at=row.heartbeat_at or held.heartbeat_at)
