"""Putting work back that is dead or parked: some of it at once, much of it in slices that survive any kill.

What is put back counts its tries anew, goes in the backfill lane behind all live news (rule 9), and keeps its history:
how an event ended before stays in `attempts`, who put it back and why it rested in `audit`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple

import orjson
from sqlalchemy import Connection, Engine

from integration.errors import Reason
from integration.model.enrollments import ENROLLMENT, WRITE_ENROLLMENT
from integration.storage import audit, dead
from integration.storage.dead import Chosen, Kind
from integration.storage.deliveries import ARRIVING_SECONDS
from integration.storage.statement import execute
from integration.storage.sync_state import BACKFILL

RATE = 6_000
"""Rows a minute unless told otherwise: a tenth of what one worker records, so that live events hardly notice."""

SLICE = 500
"""Most rows of one slice: it holds locks while it runs."""

BURST_SECONDS = 10.0
"""What a replay may catch up after the sweeper was late, and what it may do at once when it begins."""

# A row that killed its workers goes on alone, or it would take its neighbours along once more.
_EVENTS = """
WITH picked AS MATERIALIZED (
    SELECT id, connection, kind, reason, detail, received_at, settled_at FROM inbox
    WHERE id = ANY(%(ids)s::bigint[]) AND status = %(status)s ORDER BY id FOR UPDATE
), kept AS (
    INSERT INTO attempts (subject_type, subject_id, connection, operation, batch, started_at, finished_at, outcome,
                          reason, detail, version, fields)
    SELECT 'inbox', id, connection, kind || '.sync', gen_random_uuid(), received_at, coalesce(settled_at, received_at),
           %(status)s, coalesce(reason, ''), detail, 0, '{}'
    FROM picked ORDER BY id
), said AS (
    INSERT INTO audit (actor, action, connection, subject_type, subject_id, fields, outcome, reference)
    SELECT %(actor)s, %(action)s, connection, 'inbox', id, %(fields)s::text[], coalesce(reason, ''), %(reference)s
    FROM picked ORDER BY id
)
UPDATE inbox i SET status = 'received', origin = 'replay', reason = NULL, detail = NULL, park_keys = NULL,
    attempts = 0, deaths = 0, max_batch = CASE WHEN p.reason = %(crash_loop)s THEN 1 END, rung_at = NULL,
    settled_at = NULL
FROM picked p WHERE i.id = p.id
RETURNING i.id, i.kind, coalesce(i.max_batch, 0) AS max_batch
"""

# Held in the order in which `want` and `settle` take them, or they would wait for each other.
_PEOPLE = """
WITH picked AS MATERIALIZED (
    SELECT id, connection, operation, subject_id, reason FROM sync_state
    WHERE id = ANY(%(ids)s::bigint[]) AND status = %(status)s ORDER BY connection, subject_id, id FOR UPDATE
), said AS (
    INSERT INTO audit (actor, action, connection, subject_type, subject_id, fields, outcome, reference)
    SELECT %(actor)s, %(action)s, connection, 'person', subject_id, %(fields)s::text[], coalesce(reason, ''),
           %(reference)s
    FROM picked ORDER BY id
)
UPDATE sync_state s SET status = 'due', not_before = now(), lane = %(backfill)s, attempts = 0, deaths = 0,
    failing_since = NULL, max_batch = CASE WHEN p.reason = %(crash_loop)s THEN 1 END,
    guard = CASE WHEN p.reason = %(storm_guard)s THEN 'approved' ELSE s.guard END
FROM picked p WHERE s.id = p.id
RETURNING s.id, s.connection, s.operation
"""

# What may have arrived is not looked for before it surely has (rule 11).
_ACTIVITIES = """
WITH picked AS MATERIALIZED (
    SELECT id, connection, operation, person_id, reason FROM deliveries
    WHERE id = ANY(%(ids)s::bigint[]) AND status = %(status)s ORDER BY id FOR UPDATE
), said AS (
    INSERT INTO audit (actor, action, connection, subject_type, subject_id, fields, outcome, reference)
    SELECT %(actor)s, %(action)s, connection, 'delivery', id, %(fields)s::text[], coalesce(reason, ''), %(reference)s
    FROM picked ORDER BY id
)
UPDATE deliveries d SET status = 'pending', lane = %(backfill)s, attempts = 0, deaths = 0, failing_since = NULL,
    not_before = greatest(now(), lost_at + %(arriving)s * interval '1 second'),
    max_batch = CASE WHEN p.reason = %(crash_loop)s THEN 1 END
FROM picked p WHERE d.id = p.id
RETURNING d.id, d.connection, d.operation
"""

# Held in the order in which `want` takes them; what may have arrived is not asked for before it surely has.
_ENROLLMENTS = """
WITH picked AS MATERIALIZED (
    SELECT id, connection, reason FROM enrollments
    WHERE id = ANY(%(ids)s::bigint[]) AND status = %(status)s ORDER BY person_id, connection, course_id FOR UPDATE
), said AS (
    INSERT INTO audit (actor, action, connection, subject_type, subject_id, fields, outcome, reference)
    SELECT %(actor)s, %(action)s, connection, %(object_type)s, id, %(fields)s::text[], coalesce(reason, ''),
           %(reference)s
    FROM picked ORDER BY id
)
UPDATE enrollments e SET status = 'due', lane = %(backfill)s, attempts = 0, deaths = 0, failing_since = NULL,
    not_before = greatest(now(), lost_at + %(arriving)s * interval '1 second'),
    max_batch = CASE WHEN p.reason = %(crash_loop)s THEN 1 END
FROM picked p WHERE e.id = p.id
RETURNING e.id, e.connection, %(operation)s::text AS operation
"""

_OTHERS: dict[Kind, str] = {"person": _PEOPLE, "activity": _ACTIVITIES, "enrollment": _ENROLLMENTS}

_START = """
INSERT INTO replays (kind, filter, actor, total, up_to_id, updated_at)
VALUES (%(kind)s, %(filter)s::jsonb, %(actor)s, %(total)s, %(up_to_id)s, now() - %(burst)s * interval '1 second')
RETURNING id
"""

_COLUMNS = """
SELECT id, kind, filter, actor, status, total, replayed, last_id, up_to_id, created_at, updated_at, finished_at
FROM replays
"""

_HOLD = f"{_COLUMNS} WHERE id = %(id)s AND status = 'active' FOR UPDATE SKIP LOCKED"

# Time not used up is kept for the next slice, or a slow rate would round down to nothing.
_ADVANCE = """
UPDATE replays SET replayed = replayed + %(number)s, last_id = %(last_id)s,
    updated_at = greatest(updated_at + %(spent)s * interval '1 second', now() - %(burst)s * interval '1 second'),
    status = CASE WHEN %(is_done)s THEN 'done' ELSE status END, finished_at = CASE WHEN %(is_done)s THEN now() END
WHERE id = %(id)s
"""

_TURN = """
UPDATE replays SET status = %(to)s, updated_at = now(), finished_at = CASE WHEN %(to)s = 'cancelled' THEN now() END
WHERE id = %(id)s AND status = ANY(%(from)s::text[])
RETURNING id
"""

Turn = Literal["pause", "resume", "cancel"]
_TURNS: dict[Turn, tuple[str, list[str]]] = {
    "pause": ("paused", ["active"]),
    "resume": ("active", ["paused"]),
    "cancel": ("cancelled", ["active", "paused"]),
}


@dataclass(frozen=True, slots=True)
class By:
    """Who puts back and as what, for the audit log: `fields` were corrected, `reference` is what it belongs to."""

    actor: str
    action: str
    fields: Sequence[str] = ()
    reference: str | None = None


class Replay(NamedTuple):
    """Work that is put back in slices: `replayed` of `total`; rows up to `last_id` are done, up to `up_to_id` meant."""

    id: int
    kind: Kind
    filter: dict[str, Any]
    actor: str
    status: str
    total: int
    replayed: int
    last_id: int
    up_to_id: int
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None

    @property
    def chosen(self) -> Chosen:
        """Return what was chosen; what came to rest after the replay began is not meant."""
        since = self.filter.get("since")
        return Chosen(
            status=self.filter["status"],
            connection=self.filter.get("connection"),
            reason=self.filter.get("reason"),
            since=datetime.fromisoformat(since) if since else None,
            until=self.created_at,
        )

    @property
    def rate(self) -> int:
        """Rows a minute."""
        return int(self.filter.get("rate") or RATE)


@dataclass(frozen=True, slots=True)
class PutBack:
    """What was put back: events as (id, kind, suspect's batch size or 0), the others as (connection, operation)."""

    number: int = 0
    events: tuple[tuple[int, str, int], ...] = ()
    places: frozenset[tuple[str, str]] = frozenset()

    def __add__(self, other: "PutBack") -> "PutBack":
        """Return both together."""
        return PutBack(self.number + other.number, self.events + other.events, self.places | other.places)


def put_back(db: Connection, kind: Kind, ids: Sequence[int], by: By, *, status: str = "dead") -> PutBack:
    """Put rows back that are still in `status`; their tries count anew, and they go behind all live news."""
    values = {
        "ids": list(ids),
        "status": status,
        "actor": by.actor,
        "action": by.action,
        "fields": list(by.fields),
        "reference": by.reference,
        "crash_loop": Reason.CRASH_LOOP.value,
        "storm_guard": Reason.STORM_GUARD.value,
    }
    if kind == "event":
        events = sorted((row.id, row.kind, row.max_batch) for row in execute(db, _EVENTS, values))
        return PutBack(len(events), tuple(events))
    named = {"object_type": ENROLLMENT, "operation": WRITE_ENROLLMENT}
    more = {"backfill": BACKFILL, "arriving": ARRIVING_SECONDS, **named}
    rows = execute(db, _OTHERS[kind], {**values, **more}).fetchall()
    return PutBack(len(rows), places=frozenset((row.connection, row.operation) for row in rows))


def start(db: Connection, kind: Kind, chosen: Chosen, *, actor: str, rate: int = RATE) -> Replay | None:
    """Begin to put back what is chosen, `rate` rows a minute; None where there is nothing."""
    total, last = dead.extent(db, chosen, kind)
    if not total:
        return None
    kept = {"status": chosen.status, "connection": chosen.connection, "reason": chosen.reason, "since": chosen.since}
    values = {
        "kind": kind,
        "filter": orjson.dumps({**{k: v for k, v in kept.items() if v is not None}, "rate": rate}).decode(),
        "actor": actor,
        "total": total,
        "up_to_id": last,
        "burst": BURST_SECONDS,
    }
    replay_id = int(execute(db, _START, values).scalar_one())
    _note(db, replay_id, actor, "started")
    return get(db, replay_id)


def work(engine: Engine) -> PutBack:
    """Put back the next slice of every replay under way; the sweeper's part.

    A slice and how far it came are one transaction: killed at any moment, the next one goes on where it was.
    """
    with engine.begin() as db:
        active = [row.id for row in execute(db, "SELECT id FROM replays WHERE status = 'active' ORDER BY id")]
    done = PutBack()
    for replay_id in active:
        with engine.begin() as db:
            done += advance(db, replay_id)
    return done


def advance(db: Connection, replay_id: int) -> PutBack:
    """Put back one slice of a replay, as many rows as its rate allows by now; nothing where another one is at it."""
    row = execute(db, _HOLD, {"id": replay_id}).one_or_none()
    if row is None:
        return PutBack()
    replay = Replay(*row)
    per_second = replay.rate / 60
    limit = min(SLICE, max(int(per_second * _waited(db, replay)), 0))
    if not limit:
        return PutBack()
    ids = dead.ids(db, replay.chosen, replay.kind, after=replay.last_id, up_to=replay.up_to_id, limit=limit)
    action = f"{replay.chosen.status}.{'replay' if replay.chosen.status == 'dead' else 'release'}"
    by = By(replay.actor, action, reference=f"replay:{replay.id}")
    done = put_back(db, replay.kind, ids, by, status=replay.chosen.status)
    values = {
        "id": replay.id,
        "number": done.number,
        "last_id": ids[-1] if ids else replay.up_to_id,
        "is_done": len(ids) < limit or ids[-1] >= replay.up_to_id,
        "spent": len(ids) / per_second,
        "burst": BURST_SECONDS,
    }
    execute(db, _ADVANCE, values)
    return done


def turn(db: Connection, replay_id: int, how: Turn, *, actor: str) -> bool:
    """Pause, resume or cancel a replay; what it has put back stays so. False where it is not in such a state."""
    to, before = _TURNS[how]
    done = execute(db, _TURN, {"id": replay_id, "to": to, "from": before}).first() is not None
    if done:
        _note(db, replay_id, actor, to if how != "resume" else "resumed")
    return done


def get(db: Connection, replay_id: int) -> Replay | None:
    """Return one replay."""
    row = execute(db, f"{_COLUMNS} WHERE id = %(id)s", {"id": replay_id}).one_or_none()
    return Replay(*row) if row else None


def overview(db: Connection, *, limit: int) -> list[Replay]:
    """Return the newest replays."""
    rows = execute(db, f"{_COLUMNS} ORDER BY id DESC LIMIT %(limit)s", {"limit": limit})
    return [Replay(*row) for row in rows]


def _waited(db: Connection, replay: Replay) -> float:
    """Return the seconds a replay has not used yet, by the clock of the database."""
    now: datetime = execute(db, "SELECT now()").scalar_one()
    return min((now - replay.updated_at).total_seconds(), SLICE * 60 / replay.rate)


def _note(db: Connection, replay_id: int, actor: str, outcome: str) -> None:
    audit.append(db, actor=actor, action="replay", outcome=outcome, subject=("replay", replay_id))
