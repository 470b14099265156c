"""What each system should hold of each person: due while wanted > written (architecture section 3).

`want` is called with the person's row held; `claim`, `settle` and `expire` by flushes and the sweeper.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection

from integration.errors import Reason
from integration.storage.base import FORGETTABLE
from integration.storage.statement import execute

LIVE, BACKFILL = 0, 1
"""Lanes: live goes first, and a live want lifts a backfill one (rule 4)."""

LEASE_SECONDS = 30
"""Renewed before each call, so it must outlive one call and its wait for the budget, twice (rule 2);
`tests/unit/test_policy.py` holds them together. A killed worker's people wait for so long."""

DEATHS_ALONE = 3

_WANT = """
INSERT INTO sync_state AS s (connection, object_type, operation, subject_id, wanted, lane, not_before)
SELECT t.connection, %(object_type)s, %(operation)s, t.person_id, p.version, t.lane, coalesce(t.not_before, now())
FROM unnest(%(connection)s::text[], %(person_id)s::bigint[], %(lane)s::smallint[], %(not_before)s::timestamptz[])
     AS t(connection, person_id, lane, not_before)
JOIN people p ON p.id = t.person_id
ORDER BY t.connection, t.person_id
ON CONFLICT (connection, object_type, operation, subject_id) DO UPDATE SET
    wanted = greatest(s.wanted, excluded.wanted),
    lane = CASE WHEN s.status = 'in_step' THEN excluded.lane ELSE least(s.lane, excluded.lane) END,
    wanted_since = CASE WHEN s.status = 'in_step' THEN now() ELSE s.wanted_since END,
    attempts = CASE WHEN s.status IN ('in_step', 'dead', 'parked') THEN 0 ELSE s.attempts END,
    not_before = least(s.not_before, excluded.not_before),
    status = CASE WHEN s.status = 'sending' THEN s.status ELSE 'due' END,
    failing_since = CASE WHEN s.status = 'dead' THEN NULL ELSE s.failing_since END
WHERE s.wanted < excluded.wanted
RETURNING s.connection, s.status <> 'sending' AND s.not_before <= now() AS is_due
"""

# One lane after the other, each by its index, so that a claim costs the same in a backlog of any size. Its commit waits
# for the disk, unlike other leases: a call follows, and a server that crashed must still know that somebody may have
# written what it believes otherwise (rule 2).
_CLAIM = """
WITH first AS (
    SELECT id FROM sync_state
    WHERE connection = %(connection)s AND operation = %(operation)s AND status <> 'sending'
      AND lane = %(first)s AND not_before <= now() AND ((max_batch IS NULL) = (%(suspects)s::int IS NULL))
      AND (max_batch IS NULL OR max_batch <= %(suspects)s)
    ORDER BY not_before LIMIT %(limit)s FOR UPDATE SKIP LOCKED
), second AS (
    SELECT id FROM sync_state
    WHERE connection = %(connection)s AND operation = %(operation)s AND status <> 'sending'
      AND lane = %(second)s AND not_before <= now() AND ((max_batch IS NULL) = (%(suspects)s::int IS NULL))
      AND (max_batch IS NULL OR max_batch <= %(suspects)s)
    ORDER BY not_before LIMIT %(limit)s - (SELECT count(*) FROM first) FOR UPDATE SKIP LOCKED
), picked AS (SELECT id FROM first UNION ALL SELECT id FROM second)
UPDATE sync_state s
SET status = 'sending', lease = %(lease)s, lease_until = now() + %(seconds)s * interval '1 second',
    attempts = attempts + 1, claimed_with = (SELECT count(*) FROM picked), claimed_at = now()
FROM picked WHERE s.id = picked.id
RETURNING s.id, s.subject_id, s.wanted, s.written, s.attempts, s.lane, s.remote_id, s.remote_values, s.max_batch,
          s.wanted_since, s.failing_since, s.doubted_at IS NOT NULL AS is_doubted
"""

_RENEW = f"""
WITH {FORGETTABLE}
UPDATE sync_state SET lease_until = now() + %(seconds)s * interval '1 second' FROM forgettable
WHERE id = ANY(%(ids)s::bigint[]) AND lease = %(lease)s
"""

# As in the inbox, the lease alone is the fence. Rows are held in the order in which `want` takes them, or the two would
# wait for each other. Whatever came in between keeps the person due: nothing final is said about a version that was not
# projected (rule 1), or about a contact that somebody said has changed since it was claimed.
_SETTLE = """
WITH held AS MATERIALIZED (
    SELECT id, wanted, coalesce(doubted_at > claimed_at, false) AS is_doubted FROM sync_state
    WHERE id = ANY(%(id)s::bigint[]) AND lease = %(lease)s
    ORDER BY connection, subject_id FOR UPDATE
), t AS (
    SELECT t.*, (h.wanted > t.projected OR h.is_doubted) AND t.status IN ('in_step', 'parked', 'dead') AS is_stale,
           h.is_doubted
    FROM unnest(%(id)s::bigint[], %(status)s::text[], %(reason)s::text[], %(detail)s::text[], %(written)s::bigint[],
                %(projected)s::bigint[], %(after)s::float8[], %(attempt_counts)s::bool[], %(max_batch)s::smallint[],
                %(forget)s::bool[], %(failed)s::bool[], %(remote_id)s::text[], %(remote_values)s::bytea[],
                %(remote_origin)s::text[], %(believed)s::bool[])
         AS t(id, status, reason, detail, written, projected, after, attempt_counts, max_batch, forget, failed,
              remote_id, remote_values, remote_origin, believed)
    JOIN held h ON h.id = t.id
)
UPDATE sync_state s SET
    written = greatest(s.written, coalesce(t.written, s.written)),
    status = CASE WHEN t.is_stale THEN 'due' ELSE t.status END,
    not_before = CASE WHEN t.is_stale THEN greatest(now(), s.not_before)
                      WHEN t.after IS NOT NULL THEN now() + t.after * interval '1 second' END,
    wanted_since = CASE WHEN t.is_stale THEN now() ELSE s.wanted_since END,
    lane = CASE WHEN t.status = 'parked' AND NOT t.is_stale THEN %(backfill)s ELSE s.lane END,
    reason = t.reason, detail = t.detail, attempts = CASE WHEN t.attempt_counts THEN s.attempts ELSE s.attempts - 1 END,
    max_batch = t.max_batch, deaths = CASE WHEN t.status = 'in_step' THEN 0 ELSE s.deaths END,
    remote_id = CASE WHEN t.forget THEN t.remote_id ELSE coalesce(t.remote_id, s.remote_id) END,
    remote_values = CASE WHEN t.forget THEN t.remote_values ELSE coalesce(t.remote_values, s.remote_values) END,
    remote_at = CASE WHEN t.remote_values IS NULL OR t.believed THEN s.remote_at ELSE s.claimed_at END,
    doubted_at = CASE WHEN t.remote_values IS NULL OR t.is_doubted THEN s.doubted_at END,
    remote_origin = coalesce(t.remote_origin, s.remote_origin),
    written_at = CASE WHEN t.remote_origin = 'sent' THEN now() ELSE s.written_at END,
    failing_since = CASE WHEN t.failed THEN coalesce(s.failing_since, now())
                         WHEN t.status <> 'in_step' THEN s.failing_since END,
    rule_set = coalesce(%(rule_set)s, s.rule_set), lease = NULL, lease_until = NULL
FROM t WHERE s.id = t.id
RETURNING s.id
"""

# A late finish changes no state, but what it created must be known to the next claimant (rule 3).
_LATE = """
UPDATE sync_state s SET remote_id = coalesce(s.remote_id, t.remote_id)
FROM unnest(%(id)s::bigint[], %(remote_id)s::text[]) AS t(id, remote_id)
WHERE s.id = t.id AND t.remote_id IS NOT NULL
"""

# A lost lease is an unknown outcome: what we believe the other side holds is void (rule 2), and what its holder may
# have written stands in the audit log, because nobody else can say it.
_EXPIRE = """
WITH ended AS (
UPDATE sync_state
SET status = CASE WHEN claimed_with = 1 AND deaths + 1 >= %(deaths)s THEN 'dead' ELSE 'due' END,
    not_before = CASE WHEN claimed_with = 1 AND deaths + 1 >= %(deaths)s THEN NULL ELSE now() END,
    reason = CASE WHEN claimed_with = 1 AND deaths + 1 >= %(deaths)s THEN %(crash_loop)s ELSE %(expired)s END,
    deaths = deaths + (claimed_with = 1)::int, max_batch = greatest(1, claimed_with / 2),
    remote_values = NULL, lease = NULL, lease_until = NULL
WHERE id IN (SELECT id FROM sync_state WHERE status = 'sending' AND lease_until < now()
             ORDER BY id LIMIT 1000 FOR UPDATE SKIP LOCKED)
RETURNING id, status, connection, object_type, subject_id
), noted AS (
    INSERT INTO audit (actor, action, connection, subject_type, subject_id, outcome, reference)
    SELECT 'coursewire', object_type || '.write', connection,
           CASE object_type WHEN 'contact' THEN 'person' ELSE object_type END, subject_id, %(expired)s,
           'sync_state:' || id
    FROM ended
)
SELECT id, status FROM ended
"""

_BACKLOG = """
SELECT (SELECT count(*) FROM (
            SELECT FROM sync_state WHERE connection = %(connection)s AND operation = %(operation)s
            AND status <> 'sending' AND not_before <= now() LIMIT %(most)s) AS due) AS due,
       count(*) AS coming, coalesce(extract(epoch FROM now() - min(received_at)), 0)::float8 AS behind
FROM (SELECT received_at FROM inbox WHERE status IN ('received', 'claimed') ORDER BY kind, id LIMIT %(burst)s) AS open
"""


_HOLDERS = """
SELECT connection, subject_id FROM sync_state
WHERE subject_id = ANY(%(ids)s::bigint[]) AND operation = %(operation)s
"""


@dataclass(frozen=True, slots=True)
class Want:
    """A person some system should hear about; `not_before` None = now."""

    connection: str
    person_id: int
    lane: int = LIVE
    not_before: datetime | None = None


class Claimed(NamedTuple):
    """A row as claimed; `remote_values` is still sealed. `is_doubted`: the contact may have changed since."""

    id: int
    person_id: int
    wanted: int
    written: int
    attempts: int
    lane: int
    remote_id: str | None
    remote_values: bytes | None
    max_batch: int | None
    wanted_since: datetime
    failing_since: datetime | None
    is_doubted: bool = False


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of one claimed row.

    `projected` is the version that was looked at, `written` the same where it was written; `after` seconds until it may
    be claimed again (None: not by itself); `forget` voids what we believed of the other side: `remote_id` and
    `remote_values` are then the only word; `believed`: in part these values are what we believed before, and no fresher
    than that; `failed`: the record itself had trouble, which must not last for ever.
    """

    id: int
    status: str
    reason: Reason
    detail: str | None = None
    written: int | None = None
    projected: int | None = None
    after: float | None = None
    attempt_counts: bool = True
    max_batch: int | None = None
    forget: bool = False
    failed: bool = False
    remote_id: str | None = None
    remote_values: bytes | None = None
    remote_origin: str | None = None
    believed: bool = False


def remote_context(row_id: int) -> str:
    """Return the context a row's last known remote values are sealed for."""
    return f"sync_state.remote_values:{row_id}"


def want(db: Connection, object_type: str, operation: str, wants: Iterable[Want]) -> frozenset[str]:
    """Make people due in systems, at their version of now; return the systems where somebody may be written at once.

    The upsert waits for whoever holds a row, so that no update is lost (rule 1).
    """
    merged: dict[tuple[str, int], Want] = {}
    for new in wants:
        place = (new.connection, new.person_id)
        merged[place] = _merge(merged[place], new) if place in merged else new
    if not merged:
        return frozenset()
    ordered = [merged[place] for place in sorted(merged)]
    values = {
        "object_type": object_type,
        "operation": operation,
        "connection": [w.connection for w in ordered],
        "person_id": [w.person_id for w in ordered],
        "lane": [w.lane for w in ordered],
        "not_before": [w.not_before for w in ordered],
    }
    return frozenset(row.connection for row in execute(db, _WANT, values) if row.is_due)


def claim(
    db: Connection,
    connection: str,
    operation: str,
    lease: UUID,
    *,
    limit: int,
    first: int = LIVE,
    suspects: int | None = None,
) -> list[Claimed]:
    """Claim the rows that wait longest, the lane `first` before the other.

    `suspects`: claim only suspects, and at most so many; suspects of larger batches have their turn later.
    """
    values = {
        "connection": connection,
        "operation": operation,
        "lease": lease,
        "seconds": LEASE_SECONDS,
        "first": first,
        "second": LIVE + BACKFILL - first,
        "suspects": suspects,
        "limit": min(limit, suspects or limit),
    }
    return sorted(Claimed(*row) for row in execute(db, _CLAIM, values).all())


def renew(db: Connection, lease: UUID, ids: Sequence[int]) -> bool:
    """Hold these rows for another while; False where one of them is no longer ours."""
    values = {"lease": lease, "ids": list(ids), "seconds": LEASE_SECONDS}
    return execute(db, _RENEW, values).rowcount == len(ids)


def settle(db: Connection, lease: UUID, outcomes: Sequence[Settled], *, rule_set: int | None) -> set[int]:
    """Write outcomes to the rows this lease still holds and return their ids; of the others only what was created."""
    ordered = sorted(outcomes, key=lambda outcome: outcome.id)
    columns = {name: [getattr(o, name) for o in ordered] for name in Settled.__slots__}
    columns["reason"] = [o.reason.value for o in ordered]
    columns["projected"] = [o.written if o.projected is None else o.projected for o in ordered]
    values = {**columns, "lease": lease, "rule_set": rule_set, "backfill": BACKFILL}
    kept = {row.id for row in execute(db, _SETTLE, values).all()}
    late = [o for o in ordered if o.id not in kept]
    if late:
        execute(db, _LATE, {"id": [o.id for o in late], "remote_id": [o.remote_id for o in late]})
    return kept


def expire(db: Connection) -> list[tuple[int, str]]:
    """Take back the rows of dead workers, halving their batch; return (id, new status)."""
    values = {
        "deaths": DEATHS_ALONE,
        "crash_loop": Reason.CRASH_LOOP.value,
        "expired": Reason.LEASE_EXPIRED.value,
    }
    return [(row.id, row.status) for row in execute(db, _EXPIRE, values).all()]


class Backlog(NamedTuple):
    """People who could be claimed now; events on their way in, counted up to a burst; seconds the oldest has waited."""

    due: int
    coming: int
    behind: float


def backlog(db: Connection, connection: str, operation: str, *, burst: int, most: int = 10_000) -> Backlog:
    """Return what is due (counted up to `most`) and what is on its way."""
    values = {"connection": connection, "operation": operation, "burst": burst, "most": most}
    return Backlog(*execute(db, _BACKLOG, values).one())


def holders(db: Connection, person_ids: Sequence[int], operation: str) -> list[tuple[str, int]]:
    """Return (connection, person id) of every system that is to hold something of these people."""
    values = {"ids": list(person_ids), "operation": operation}
    return [(row.connection, row.subject_id) for row in execute(db, _HOLDERS, values).all()]


def _merge(one: Want, other: Want) -> Want:
    sooner = None if None in (one.not_before, other.not_before) else min(one.not_before, other.not_before)  # type: ignore[type-var]
    return Want(one.connection, one.person_id, min(one.lane, other.lane), sooner)
