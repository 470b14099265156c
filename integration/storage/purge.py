"""Retention: what is removed when it is old, slice by slice, so that no transaction is long and any may be the last.

Rows of the inbox stay and lose their payload: the books are counted from them, and the keys beside them refuse a
duplicate for ever. Facts, what systems hold, and the audit log stay.
"""

from sqlalchemy import Connection

from integration.storage.statement import execute

ROWS = 1_000
"""Most rows of a slice."""

# What a person may still have to decide about, or put right and send once more, is kept longer.
_PAYLOADS = """
UPDATE inbox SET payload = NULL, original_payload = NULL
WHERE id IN (SELECT id FROM inbox
             WHERE payload IS NOT NULL AND settled_at < now() - %(payload_days)s * interval '1 day'
               AND (status IN ('done', 'ignored') OR (status IN ('dead', 'parked')
                    AND settled_at < now() - %(failed_payload_days)s * interval '1 day'))
             ORDER BY settled_at LIMIT %(rows)s FOR UPDATE SKIP LOCKED)
"""

# Ids rise with time: the oldest are at the beginning of the primary key, and no index by time is needed.
_ATTEMPTS = """
DELETE FROM attempts WHERE id IN (
    SELECT id FROM (SELECT id, finished_at FROM attempts ORDER BY id LIMIT %(rows)s) AS oldest
    WHERE finished_at < now() - %(history_days)s * interval '1 day')
"""

# Added up instead of removed: a counter that shrank would look to a scraper like one that began again from nothing.
_CALLS = """
WITH gone AS (
    DELETE FROM api_calls WHERE (connection, operation, minute, outcome) IN (
        SELECT connection, operation, minute, outcome FROM api_calls
        WHERE minute > to_timestamp(0) AND minute < now() - %(history_days)s * interval '1 day' LIMIT %(rows)s)
    RETURNING *
), kept AS (
    INSERT INTO api_calls AS c (connection, operation, minute, outcome, calls, records, seconds)
    SELECT connection, operation, to_timestamp(0), outcome, sum(calls), sum(records), sum(seconds) FROM gone
    GROUP BY connection, operation, outcome ORDER BY 1, 2, 4
    ON CONFLICT (connection, operation, minute, outcome) DO UPDATE
    SET calls = c.calls + excluded.calls, records = c.records + excluded.records, seconds = c.seconds + excluded.seconds
)
SELECT FROM gone
"""

_REPLAYS = """
DELETE FROM replays WHERE id IN (
    SELECT id FROM replays WHERE finished_at < now() - %(history_days)s * interval '1 day' LIMIT %(rows)s)
"""

# The newest run of each job stays, or a job that was not due for so long would run a second time.
_RUNS = """
DELETE FROM runs WHERE (job, scheduled_for) IN (
    SELECT job, scheduled_for FROM runs r
    WHERE finished_at < now() - %(history_days)s * interval '1 day'
      AND EXISTS (SELECT FROM runs later WHERE later.job = r.job AND later.scheduled_for > r.scheduled_for)
    LIMIT %(rows)s)
"""

# Ids rise with time, as those of attempts.
_FINDINGS = """
DELETE FROM reconciliation_findings WHERE id IN (
    SELECT id FROM (SELECT id, found_at FROM reconciliation_findings ORDER BY id LIMIT %(rows)s) AS oldest
    WHERE found_at < now() - %(history_days)s * interval '1 day')
"""

# The last of its kind stays: it says when a comparison was last well, and which one the clock began last.
_COMPARISONS = """
DELETE FROM reconciliations WHERE id IN (
    SELECT id FROM reconciliations r
    WHERE finished_at < now() - %(history_days)s * interval '1 day'
      AND NOT EXISTS (SELECT FROM reconciliation_findings f WHERE f.reconciliation_id = r.id)
      AND EXISTS (SELECT FROM reconciliations later
                  WHERE later.connection = r.connection AND later.actor = r.actor AND later.is_dry = r.is_dry
                    AND later.status = 'done' AND later.id > r.id)
    LIMIT %(rows)s)
"""

# As runs: the newest one of each connection stays.
_POLLS = """
DELETE FROM polls WHERE id IN (
    SELECT id FROM polls p WHERE finished_at < now() - %(history_days)s * interval '1 day'
      AND EXISTS (SELECT FROM polls later WHERE later.connection = p.connection AND later.id > p.id
                  AND later.actor = 'coursewire')
    LIMIT %(rows)s)
"""

# Counts of what is over, one way or the other.
_LOOPS = """
DELETE FROM loops WHERE (connection, person_id, field) IN (
    SELECT connection, person_id, field FROM loops
    WHERE greatest(held_until, since) < now() - interval '1 day' LIMIT %(rows)s)
"""

# A worker that ends as it should takes its row along; these were killed.
_HEARTBEATS = "DELETE FROM heartbeats WHERE greatest(started_at, sent_at, heard_at) < now() - interval '1 day'"

# Of these no more is read than this, however long other history is kept.
_VOLUMES = """
DELETE FROM volumes WHERE (connection, kind, hour) IN (
    SELECT connection, kind, hour FROM volumes WHERE hour < now() - interval '71 days' LIMIT %(rows)s)
"""

_ATTENDANCE = """
DELETE FROM attendance WHERE hour IN (
    SELECT hour FROM attendance WHERE hour < now() - interval '71 days' LIMIT %(rows)s)
"""

_SLICES = {
    "payloads": _PAYLOADS,
    "attempts": _ATTEMPTS,
    "api_calls": _CALLS,
    "replays": _REPLAYS,
    "runs": _RUNS,
    "reconciliation_findings": _FINDINGS,
    "reconciliations": _COMPARISONS,
    "polls": _POLLS,
    "loops": _LOOPS,
    "heartbeats": _HEARTBEATS,
    "volumes": _VOLUMES,
    "attendance": _ATTENDANCE,
}


def step(
    db: Connection, *, payload_days: int, failed_payload_days: int, history_days: int, rows: int = ROWS
) -> dict[str, int]:
    """Remove at most `rows` of each kind; return how many by kind, nothing when nothing is old any more."""
    days = {"payload_days": payload_days, "failed_payload_days": failed_payload_days, "history_days": history_days}
    removed = {name: execute(db, sql, {**days, "rows": rows}).rowcount for name, sql in _SLICES.items()}
    return {name: number for name, number in removed.items() if number}
