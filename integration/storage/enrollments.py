"""What is wanted of people in courses: one row per person, LMS and course, due while wanted > written (rule 15).

`want` is called with the person's row held; `claim`, `settle` and `expire` by drains and the sweeper.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple
from uuid import UUID

from sqlalchemy import Connection

from integration.errors import Reason
from integration.model.enrollments import WRITE_ENROLLMENT, EnrollmentState
from integration.storage.base import FORGETTABLE
from integration.storage.deliveries import ARRIVING_SECONDS
from integration.storage.statement import execute
from integration.storage.sync_state import BACKFILL, DEATHS_ALONE, LEASE_SECONDS, LIVE

# Whatever changes what is wanted counts, so that a call under way cannot settle what came after it (rule 1).
_WANT = """
INSERT INTO enrollments AS e (person_id, connection, course_id, desired, due_at, lane)
SELECT * FROM unnest(%(person_id)s::bigint[], %(connection)s::text[], %(course_id)s::text[], %(desired)s::text[],
                     %(due_at)s::timestamptz[], %(lane)s::smallint[])
     AS t(person_id, connection, course_id, desired, due_at, lane)
ORDER BY t.person_id, t.connection, t.course_id
ON CONFLICT (person_id, connection, course_id) DO UPDATE SET
    desired = excluded.desired, due_at = excluded.due_at, wanted = e.wanted + 1,
    lane = CASE WHEN e.status = 'in_step' THEN excluded.lane ELSE least(e.lane, excluded.lane) END,
    wanted_since = CASE WHEN e.status = 'in_step' THEN now() ELSE e.wanted_since END,
    attempts = CASE WHEN e.status IN ('in_step', 'dead', 'parked') THEN 0 ELSE e.attempts END,
    failing_since = CASE WHEN e.status = 'dead' THEN NULL ELSE e.failing_since END,
    not_before = CASE WHEN e.status = 'sending' THEN e.not_before
                      ELSE greatest(now(), e.lost_at + %(arriving)s * interval '1 second') END,
    status = CASE WHEN e.status = 'sending' THEN e.status ELSE 'due' END
WHERE (e.desired, e.due_at) IS DISTINCT FROM (excluded.desired, excluded.due_at)
RETURNING e.connection
"""

_OF = """
SELECT person_id, connection, course_id, desired, is_ours, state, status, reason, detail, due_at, not_before, id
FROM enrollments WHERE person_id = ANY(%(ids)s::bigint[]) ORDER BY person_id, connection, course_id
"""

_BY_ID = """
SELECT person_id, connection, course_id, desired, is_ours, state, status, reason, detail, due_at, not_before, id
FROM enrollments WHERE id = %(id)s
"""

_CLAIM = """
WITH first AS (
    SELECT id FROM enrollments
    WHERE connection = %(connection)s AND status <> 'sending' AND lane = %(first)s AND not_before <= now()
      AND ((max_batch IS NULL) = (%(suspects)s::int IS NULL)) AND (max_batch IS NULL OR max_batch <= %(suspects)s)
    ORDER BY not_before LIMIT %(limit)s FOR UPDATE SKIP LOCKED
), second AS (
    SELECT id FROM enrollments
    WHERE connection = %(connection)s AND status <> 'sending' AND lane = %(second)s AND not_before <= now()
      AND ((max_batch IS NULL) = (%(suspects)s::int IS NULL)) AND (max_batch IS NULL OR max_batch <= %(suspects)s)
    ORDER BY not_before LIMIT %(limit)s - (SELECT count(*) FROM first) FOR UPDATE SKIP LOCKED
), picked AS (SELECT id FROM first UNION ALL SELECT id FROM second)
UPDATE enrollments e
SET status = 'sending', lease = %(lease)s, lease_until = now() + %(seconds)s * interval '1 second',
    attempts = attempts + 1, claimed_with = (SELECT count(*) FROM picked)
FROM picked WHERE e.id = picked.id
RETURNING e.id, e.person_id, e.course_id, e.desired, e.due_at, e.wanted, e.state, e.is_ours, e.remote_id, e.attempts,
          e.lane, e.max_batch, e.wanted_since, e.failing_since, e.lost_at
"""

_RENEW = f"""
WITH {FORGETTABLE}
UPDATE enrollments SET lease_until = now() + %(seconds)s * interval '1 second' FROM forgettable
WHERE id = ANY(%(ids)s::bigint[]) AND lease = %(lease)s
"""

# The lease alone is the fence (rule 3); what came in between keeps the row due (rule 1). Rows are held in the order in
# which `want` takes them, or the two would wait for each other.
_SETTLE = """
WITH held AS MATERIALIZED (
    SELECT id, wanted FROM enrollments WHERE id = ANY(%(id)s::bigint[]) AND lease = %(lease)s
    ORDER BY person_id, connection, course_id FOR UPDATE
), t AS (
    SELECT t.*, h.wanted > t.projected AND t.status IN ('in_step', 'parked', 'dead') AS is_stale
    FROM unnest(%(id)s::bigint[], %(status)s::text[], %(reason)s::text[], %(detail)s::text[], %(projected)s::bigint[],
                %(after)s::float8[], %(attempt_counts)s::bool[], %(max_batch)s::smallint[], %(failed)s::bool[],
                %(state)s::text[], %(is_ours)s::bool[], %(remote_id)s::text[], %(is_lost)s::bool[])
         AS t(id, status, reason, detail, projected, after, attempt_counts, max_batch, failed, state, is_ours,
              remote_id, is_lost)
    JOIN held h ON h.id = t.id
)
UPDATE enrollments e SET
    written = CASE WHEN t.status = 'in_step' THEN t.projected ELSE e.written END,
    status = CASE WHEN t.is_stale THEN 'due' ELSE t.status END,
    not_before = CASE WHEN t.is_stale THEN now()
                      WHEN t.after IS NOT NULL THEN now() + t.after * interval '1 second' END,
    wanted_since = CASE WHEN t.is_stale THEN now() ELSE e.wanted_since END,
    lane = CASE WHEN t.status = 'parked' AND NOT t.is_stale THEN %(backfill)s ELSE e.lane END,
    reason = t.reason, detail = t.detail, attempts = CASE WHEN t.attempt_counts THEN e.attempts ELSE e.attempts - 1 END,
    max_batch = t.max_batch, deaths = CASE WHEN t.status = 'in_step' THEN 0 ELSE e.deaths END,
    state = CASE WHEN t.is_lost THEN NULL ELSE coalesce(t.state, e.state) END,
    is_ours = coalesce(t.is_ours, e.is_ours), remote_id = coalesce(t.remote_id, e.remote_id),
    lost_at = CASE WHEN t.is_lost THEN now() WHEN t.state IS NULL THEN e.lost_at END,
    written_at = CASE WHEN t.state IS NULL THEN e.written_at ELSE now() END,
    failing_since = CASE WHEN t.failed THEN coalesce(e.failing_since, now())
                         WHEN t.status <> 'in_step' THEN e.failing_since END,
    lease = NULL, lease_until = NULL
FROM t WHERE e.id = t.id
RETURNING e.id
"""

# A lost lease is a lost answer: what the LMS has is not known, and the call may still be arriving.
_EXPIRE = """
WITH ended AS (
UPDATE enrollments
SET status = CASE WHEN claimed_with = 1 AND deaths + 1 >= %(deaths)s THEN 'dead' ELSE 'due' END,
    not_before = CASE WHEN claimed_with = 1 AND deaths + 1 >= %(deaths)s THEN NULL
                      ELSE now() + %(arriving)s * interval '1 second' END,
    reason = CASE WHEN claimed_with = 1 AND deaths + 1 >= %(deaths)s THEN %(crash_loop)s ELSE %(expired)s END,
    deaths = deaths + (claimed_with = 1)::int, max_batch = greatest(1, claimed_with / 2), lost_at = now(),
    state = NULL, lease = NULL, lease_until = NULL
WHERE id IN (SELECT id FROM enrollments WHERE status = 'sending' AND lease_until < now()
             ORDER BY id LIMIT 1000 FOR UPDATE SKIP LOCKED)
RETURNING id, status, connection, person_id
), noted AS (
    INSERT INTO audit (actor, action, connection, subject_type, subject_id, outcome)
    SELECT 'coursewire', %(operation)s, connection, 'person', person_id, %(expired)s FROM ended
)
SELECT id, status FROM ended
"""

_WAKE = """
UPDATE enrollments SET status = 'due', not_before = now(), wanted_since = now(), attempts = 0
WHERE id IN (SELECT id FROM enrollments
             WHERE connection = %(connection)s AND person_id = ANY(%(ids)s::bigint[]) AND status = 'parked'
               AND reason = %(reason)s
             ORDER BY person_id, connection, course_id FOR UPDATE)
"""


class Wanted(NamedTuple):
    """One enrolment as it is to be."""

    person_id: int
    connection: str
    course_id: str
    desired: EnrollmentState
    due_at: datetime | None = None
    lane: int = LIVE


class Standing(NamedTuple):
    """One enrolment as it is wanted and as it is known."""

    person_id: int
    connection: str
    course_id: str
    desired: EnrollmentState
    is_ours: bool
    state: EnrollmentState | None
    status: str
    reason: str | None
    detail: str | None
    due_at: datetime | None
    not_before: datetime | None
    id: int


class Claimed(NamedTuple):
    """A row as claimed; `state` None = what the LMS has is not known."""

    id: int
    person_id: int
    course_id: str
    desired: EnrollmentState
    due_at: datetime | None
    wanted: int
    state: EnrollmentState | None
    is_ours: bool
    remote_id: str | None
    attempts: int
    lane: int
    max_batch: int | None
    wanted_since: datetime
    failing_since: datetime | None
    lost_at: datetime | None


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of one claimed row; `projected` is the `wanted` that was looked at.

    `after` seconds until it may be claimed again (None: not by itself); `state` as it is now, None = as before;
    `is_ours` None = as before; `is_lost`: what the LMS has is not known any more; `failed`: the record itself had
    trouble, which must not last for ever.
    """

    id: int
    status: Literal["in_step", "due", "waiting", "parked", "dead"]
    reason: Reason
    projected: int
    detail: str | None = None
    after: float | None = None
    attempt_counts: bool = True
    max_batch: int | None = None
    failed: bool = False
    state: EnrollmentState | None = None
    is_ours: bool | None = None
    remote_id: str | None = None
    is_lost: bool = False


def want(db: Connection, wanted: Iterable[Wanted]) -> frozenset[str]:
    """Say what enrolments are to be; return the LMSs where something may be written because of it."""
    ordered = sorted(wanted)
    if not ordered:
        return frozenset()
    values = {name: [getattr(one, name) for one in ordered] for name in Wanted._fields}
    return frozenset(row.connection for row in execute(db, _WANT, {**values, "arriving": ARRIVING_SECONDS}).all())


def of(db: Connection, person_ids: Iterable[int]) -> dict[int, list[Standing]]:
    """Return every enrolment that was ever wanted of these people, by person."""
    found: dict[int, list[Standing]] = {}
    for row in execute(db, _OF, {"ids": sorted(set(person_ids))}).all():
        found.setdefault(row.person_id, []).append(Standing(*row))
    return found


def by_id(db: Connection, number: int) -> Standing | None:
    """Return one enrolment, None where there is none of this number."""
    row = execute(db, _BY_ID, {"id": number}).one_or_none()
    return Standing(*row) if row else None


def claim(
    db: Connection, connection: str, lease: UUID, *, limit: int, first: int = LIVE, suspects: int | None = None
) -> list[Claimed]:
    """Claim the rows that wait longest, the lane `first` before the other; `suspects` as in sync_state."""
    values = {
        "connection": connection,
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


def settle(db: Connection, lease: UUID, outcomes: Sequence[Settled]) -> set[int]:
    """Write outcomes to the rows this lease still holds and return their ids."""
    ordered = sorted(outcomes, key=lambda outcome: outcome.id)
    columns = {name: [getattr(one, name) for one in ordered] for name in Settled.__slots__}
    columns["reason"] = [one.reason.value for one in ordered]
    return {row.id for row in execute(db, _SETTLE, {**columns, "lease": lease, "backfill": BACKFILL}).all()}


def expire(db: Connection) -> list[tuple[int, str]]:
    """Take back the rows of dead workers, halving their batch; return (id, new status)."""
    values = {
        "deaths": DEATHS_ALONE,
        "crash_loop": Reason.CRASH_LOOP.value,
        "expired": Reason.LEASE_EXPIRED.value,
        "operation": WRITE_ENROLLMENT,
        "arriving": ARRIVING_SECONDS,
    }
    return [(row.id, row.status) for row in execute(db, _EXPIRE, values).all()]


def wake(db: Connection, connection: str, person_ids: Collection[int]) -> None:
    """Make those of these people due who waited for the LMS to know them (rule 10)."""
    if person_ids:
        values = {"connection": connection, "ids": sorted(person_ids), "reason": Reason.UNKNOWN_LEARNER.value}
        execute(db, _WAKE, values)
