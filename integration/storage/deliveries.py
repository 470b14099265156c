"""Facts that are written to a system once: planned with the fact, claimed once their contact is known, settled.

`plan` is called with the person's row held; `wake` where a contact becomes known; `claim`, `settle` and `expire` by
drains and the sweeper.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple
from uuid import UUID

from sqlalchemy import Connection

from integration.errors import Reason
from integration.model.contacts import CONTACT
from integration.storage.base import FORGETTABLE
from integration.storage.statement import execute
from integration.storage.sync_state import BACKFILL, DEATHS_ALONE, LEASE_SECONDS, LIVE

FIRST_LOOK, RARELY = 5.0, 86_400.0
"""Seconds until a row without a contact is looked at again, as long as it is old: settling a new link wakes it at once,
so this only heals what a link that appeared at the same moment has missed."""

ARRIVING_SECONDS = 20.0
"""How long a lost call may still be arriving: more than twice its deadline (rule 11);
`tests/unit/test_policy.py` holds them together."""

_IS_ACHIEVED = """
(CASE {f}.type WHEN 'course.completed' THEN {f}.passed IS DISTINCT FROM false
               WHEN 'assessment.graded' THEN {f}.passed IS TRUE ELSE {f}.type = 'certification.issued' END)
"""

_LINK = f"""
FROM links l WHERE l.object_id = {{d}}.person_id AND l.object_type = '{CONTACT}' AND l.moved_to IS NULL
  AND l.connection = {{d}}.connection
"""

# The key derives from the fact and never from a person or remote id: merges would double it (rule 8). Only the first
# revision that says so makes an activity: a score corrected in an old fact is no news for the timeline.
_PLAN = f"""
INSERT INTO deliveries (connection, operation, idempotency_key, person_id, event_id, needs, lane, reason, not_before)
SELECT d.connection, %(operation)s, d.key, d.person_id, d.event_id, '{CONTACT}', d.lane,
       CASE WHEN d.waits THEN %(no_contact)s END,
       coalesce(d.not_before, now() + CASE WHEN d.waits THEN %(first)s ELSE 0 END * interval '1 second')
FROM (
    SELECT t.connection, e.person_id, e.id AS event_id, t.lane, t.not_before,
           substring(sha256(e.fact_key || convert_to(t.kind, 'UTF8')) FOR 16) AS key,
           t.not_before IS NULL AND NOT EXISTS (
               SELECT FROM links l WHERE l.object_id = e.person_id AND l.object_type = '{CONTACT}'
               AND l.moved_to IS NULL AND l.connection = t.connection) AS waits
    FROM unnest(%(event_id)s::bigint[], %(connection)s::text[], %(kind)s::text[], %(lane)s::smallint[],
                %(not_before)s::timestamptz[]) AS t(event_id, connection, kind, lane, not_before)
    JOIN events e ON e.id = t.event_id
    WHERE NOT EXISTS (SELECT FROM events f WHERE f.fact_key = e.fact_key AND f.revision < e.revision
                      AND {_IS_ACHIEVED.format(f="f")})
    ORDER BY t.connection, 6) AS d
ON CONFLICT (connection, idempotency_key) DO NOTHING
"""

_WAKE = f"""
UPDATE deliveries SET not_before = greatest(now(), lost_at + %(arriving)s * interval '1 second'), reason = NULL
WHERE id IN (
    SELECT d.id FROM deliveries d
    WHERE d.person_id = ANY(%(ids)s::bigint[]) AND d.status IN ('pending', 'parked')
      AND d.reason = ANY(%(waiting)s::text[]) AND EXISTS (SELECT {_LINK.format(d="d")})
    ORDER BY d.id FOR UPDATE)
"""

# Who has no contact is put off instead of claimed, in the same statement: the queue is read by its index, and those
# who wait never stand in the way of the others. Of several contacts it is the one that the person's fields are written
# to, else the newest. The commit waits for the disk, because a call follows.
_CLAIM = f"""
WITH first AS (
    SELECT id FROM deliveries
    WHERE connection = %(connection)s AND operation = %(operation)s AND status IN ('pending', 'parked')
      AND lane = %(first)s AND not_before <= now() AND ((max_batch IS NULL) = (%(suspects)s::int IS NULL))
      AND (max_batch IS NULL OR max_batch <= %(suspects)s)
    ORDER BY not_before LIMIT %(limit)s FOR UPDATE SKIP LOCKED
), second AS (
    SELECT id FROM deliveries
    WHERE connection = %(connection)s AND operation = %(operation)s AND status IN ('pending', 'parked')
      AND lane = %(second)s AND not_before <= now() AND ((max_batch IS NULL) = (%(suspects)s::int IS NULL))
      AND (max_batch IS NULL OR max_batch <= %(suspects)s)
    ORDER BY not_before LIMIT %(limit)s - (SELECT count(*) FROM first) FOR UPDATE SKIP LOCKED
), picked AS MATERIALIZED (
    SELECT d.id, (SELECT l.external_id {_LINK.format(d="d")}
                  ORDER BY l.external_id = (SELECT s.remote_id FROM sync_state s
                                            WHERE s.subject_id = d.person_id AND s.connection = d.connection
                                              AND s.object_type = '{CONTACT}' AND s.remote_id IS NOT NULL
                                            LIMIT 1) DESC NULLS LAST, l.created_at DESC LIMIT 1) AS contact
    FROM deliveries d WHERE d.id IN (SELECT id FROM first UNION ALL SELECT id FROM second)
), put_off AS (
    UPDATE deliveries d SET reason = %(no_contact)s,
        not_before = now() + least(greatest(now() - d.created_at, %(least)s * interval '1 second'),
                                   %(rarely)s * interval '1 second')
    FROM picked WHERE d.id = picked.id AND picked.contact IS NULL
), claimed AS (
    UPDATE deliveries d
    SET status = 'sending', lease = %(lease)s, lease_until = now() + %(seconds)s * interval '1 second',
        attempts = attempts + 1, claimed_with = (SELECT count(*) FROM picked WHERE contact IS NOT NULL)
    FROM picked WHERE d.id = picked.id AND picked.contact IS NOT NULL
    RETURNING d.*
)
SELECT p.id, d.person_id, d.idempotency_key, d.attempts, d.lane, d.max_batch, d.created_at, d.failing_since, d.lost_at,
       p.contact, f.type, {_IS_ACHIEVED.format(f="f")} AS is_achieved, f.connection AS source, f.occurred_at,
       f.course_id, coalesce(f.course_name, CASE WHEN f.subject_type = 'course' THEN f.subject_name END) AS course_name,
       CASE WHEN f.subject_type <> 'course' THEN f.subject_id ELSE f.module_id END AS item_id,
       CASE WHEN f.subject_type <> 'course' THEN f.subject_name END AS item_name,
       f.product, f.score, f.score_max, f.expires_at
FROM picked p LEFT JOIN claimed d ON d.id = p.id LEFT JOIN events e ON e.id = d.event_id
LEFT JOIN LATERAL (
    SELECT * FROM events WHERE fact_key = e.fact_key ORDER BY revision DESC LIMIT 1) f ON true
ORDER BY p.id
"""

_RENEW = f"""
WITH {FORGETTABLE}
UPDATE deliveries SET lease_until = now() + %(seconds)s * interval '1 second' FROM forgettable
WHERE id = ANY(%(ids)s::bigint[]) AND lease = %(lease)s
"""

# The lease alone is the fence (rule 3).
_SETTLE = """
WITH held AS MATERIALIZED (
    SELECT id FROM deliveries WHERE id = ANY(%(id)s::bigint[]) AND lease = %(lease)s ORDER BY id FOR UPDATE
)
UPDATE deliveries d SET
    status = t.status, reason = t.reason, detail = t.detail, remote_id = coalesce(t.remote_id, d.remote_id),
    attempts = CASE WHEN t.attempt_counts THEN d.attempts ELSE d.attempts - 1 END, max_batch = t.max_batch,
    not_before = CASE WHEN t.after IS NOT NULL THEN now() + t.after * interval '1 second' END,
    lost_at = CASE WHEN t.is_lost THEN now() ELSE d.lost_at END,
    failing_since = CASE WHEN t.failed THEN coalesce(d.failing_since, now())
                         WHEN t.status = 'pending' THEN d.failing_since END,
    lane = CASE WHEN t.status = 'parked' THEN %(backfill)s ELSE d.lane END,
    deaths = CASE WHEN t.status = 'delivered' THEN 0 ELSE d.deaths END,
    delivered_at = CASE WHEN t.status = 'delivered' THEN now() END, lease = NULL, lease_until = NULL
FROM unnest(%(id)s::bigint[], %(status)s::text[], %(reason)s::text[], %(detail)s::text[], %(after)s::float8[],
            %(attempt_counts)s::bool[], %(max_batch)s::smallint[], %(failed)s::bool[], %(is_lost)s::bool[],
            %(remote_id)s::text[])
     AS t(id, status, reason, detail, after, attempt_counts, max_batch, failed, is_lost, remote_id)
JOIN held h ON h.id = t.id
WHERE d.id = t.id
RETURNING d.id
"""

# A lost lease is a lost answer: the entry may be there, or still be arriving (rule 11).
_EXPIRE = """
WITH ended AS (
UPDATE deliveries
SET status = CASE WHEN claimed_with = 1 AND deaths + 1 >= %(deaths)s THEN 'dead' ELSE 'pending' END,
    not_before = CASE WHEN claimed_with = 1 AND deaths + 1 >= %(deaths)s THEN NULL
                      ELSE now() + %(arriving)s * interval '1 second' END,
    reason = CASE WHEN claimed_with = 1 AND deaths + 1 >= %(deaths)s THEN %(crash_loop)s ELSE %(expired)s END,
    deaths = deaths + (claimed_with = 1)::int, max_batch = greatest(1, claimed_with / 2), lost_at = now(),
    lease = NULL, lease_until = NULL
WHERE id IN (SELECT id FROM deliveries WHERE status = 'sending' AND lease_until < now()
             ORDER BY id LIMIT 1000 FOR UPDATE SKIP LOCKED)
RETURNING id, status, connection, operation, person_id
), noted AS (
    INSERT INTO audit (actor, action, connection, subject_type, subject_id, outcome)
    SELECT 'coursewire', operation, connection, 'person', person_id, %(expired)s FROM ended
)
SELECT id, status FROM ended
"""

_TOLD = """
SELECT d.id, d.person_id, d.connection, d.operation, d.status, d.reason, d.detail, d.attempts, d.not_before,
       d.created_at, d.delivered_at, d.remote_id, e.type, e.subject_id, e.subject_name, e.occurred_at,
       count(*) OVER () AS number
FROM deliveries d JOIN events e ON e.id = d.event_id
"""

_OF_PERSON = f"""
{_TOLD} WHERE d.person_id = %(id)s
ORDER BY d.status = 'delivered', e.occurred_at DESC, d.id DESC LIMIT %(limit)s
"""


class Planned(NamedTuple):
    """An activity of a fact in one system; `kind` is how it is written there, `not_before` None = now."""

    event_id: int
    connection: str
    kind: str
    lane: int
    not_before: datetime | None


class Claimed(NamedTuple):
    """A row as claimed, with the latest revision of its fact; `lost_at`: an earlier try may have arrived."""

    id: int
    person_id: int
    key: bytes
    attempts: int
    lane: int
    max_batch: int | None
    created_at: datetime
    failing_since: datetime | None
    lost_at: datetime | None
    contact: str
    type: str
    is_achieved: bool
    source: str
    occurred_at: datetime
    course_id: str | None
    course_name: str | None
    item_id: str | None
    item_name: str | None
    product: str | None
    score: float | None
    score_max: float | None
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of one claimed row; `after` seconds until it may be claimed again (None: not by itself).

    `failed`: the record itself had trouble, which must not last for ever; `is_lost`: it may have arrived all the same.
    """

    id: int
    status: Literal["delivered", "pending", "parked", "dead", "cancelled"]
    reason: Reason
    detail: str | None = None
    after: float | None = None
    attempt_counts: bool = True
    max_batch: int | None = None
    failed: bool = False
    is_lost: bool = False
    remote_id: str | None = None


class Told(NamedTuple):
    """One activity, for people; `number` is how many there are like it asked for."""

    id: int
    person_id: int
    connection: str
    operation: str
    status: str
    reason: str | None
    detail: str | None
    attempts: int
    not_before: datetime | None
    created_at: datetime
    delivered_at: datetime | None
    remote_id: str | None
    type: str
    subject_id: str
    subject_name: str | None
    occurred_at: datetime
    number: int


def plan(db: Connection, operation: str, planned: Sequence[Planned]) -> None:
    """Plan what is to be written once; what was planned before, by whatever event, stays as it is."""
    if not planned:
        return
    values = {name: [getattr(one, name) for one in planned] for name in Planned._fields}
    named = {"operation": operation, "no_contact": Reason.NO_CONTACT.value, "first": FIRST_LOOK}
    execute(db, _PLAN, {**values, **named})


def wake(db: Connection, person_ids: Collection[int]) -> None:
    """Let go what waits for a contact of these people, wherever they have one now (rule 10)."""
    if person_ids:
        waiting = [Reason.NO_CONTACT.value, Reason.CONTACT_GONE.value]
        execute(db, _WAKE, {"ids": sorted(person_ids), "waiting": waiting, "arriving": ARRIVING_SECONDS})


def claim(
    db: Connection,
    connection: str,
    operation: str,
    lease: UUID,
    *,
    limit: int,
    first: int = LIVE,
    suspects: int | None = None,
) -> tuple[list[Claimed], int]:
    """Claim the rows that wait longest, the lane `first` before the other; return them and how many were put off.

    `suspects`: claim only suspects, and at most so many.
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
        "no_contact": Reason.NO_CONTACT.value,
        "least": FIRST_LOOK,
        "rarely": RARELY,
    }
    rows = execute(db, _CLAIM, values).all()
    claimed = [Claimed(*row) for row in rows if row.contact is not None]
    return claimed, len(rows) - len(claimed)


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
        "arriving": ARRIVING_SECONDS,
    }
    return [(row.id, row.status) for row in execute(db, _EXPIRE, values).all()]


def of_person(db: Connection, person_id: int, *, limit: int) -> list[Told]:
    """Return the activities of a person, the open ones first, then the newest."""
    return [Told(*row) for row in execute(db, _OF_PERSON, {"id": person_id, "limit": limit})]


def by_id(db: Connection, delivery_id: int) -> Told | None:
    """Return one activity, None where there is none."""
    row = execute(db, f"{_TOLD} WHERE d.id = %(id)s", {"id": delivery_id}).one_or_none()
    return Told(*row) if row else None
