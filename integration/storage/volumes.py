"""Volumes: how many webhooks came per connection, kind and hour, counted from the inbox a while after they came.

Only what was sent to us (`origin = 'live'`) is counted: a poll that finds what a dead webhook did not tell must not
hide it. The endpoint knows nothing of this, and payloads that are purged are not needed.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta

from sqlalchemy import Connection

from integration.model.rhythm import hour_of
from integration.storage import received
from integration.storage.statement import execute

ROWS = 20_000
"""Most events of a slice."""
BACK = timedelta(weeks=5)
"""How far an inbox that is there already is counted at first."""

_BEGIN = """
INSERT INTO cursors (name, position) VALUES ('volumes', jsonb_build_object('id', %(id)s::bigint))
"""

_HOLD = "SELECT pg_try_advisory_xact_lock(hashtextextended('coursewire.volumes', 0))"

_COUNTED = "SELECT (position ->> 'id')::bigint FROM cursors WHERE name = 'volumes'"

# Ids are given in the order of arrival, give or take what a statement may take: from the first one that is younger than
# a minute on, lower ones may still be uncommitted. A time in the future is a clock that was set back since.
_COUNT = """
WITH slice AS MATERIALIZED (
    SELECT id, connection, kind, origin, least(received_at, now()) AS at,
           received_at BETWEEN now() - interval '1 minute' AND now() + interval '1 minute' AS is_young
    FROM inbox WHERE id > %(after)s ORDER BY id LIMIT %(rows)s
), settled AS (
    SELECT * FROM slice WHERE id < coalesce((SELECT min(id) FROM slice WHERE is_young), 9223372036854775807)
), heard AS (
    SELECT connection, kind, date_trunc('hour', at, 'UTC') AS hour, count(*) AS events,
           min(at) AS first_at, max(at) AS last_at
    FROM settled WHERE origin = 'live' GROUP BY 1, 2, 3
), counted AS (
    INSERT INTO volumes AS v (connection, kind, hour, events)
    SELECT connection, kind, hour, events FROM heard ORDER BY 1, 2, 3
    ON CONFLICT (connection, kind, hour) DO UPDATE SET events = v.events + excluded.events
), noted AS (
    INSERT INTO streams AS s (connection, kind, first_heard_at, last_heard_at)
    SELECT connection, kind, min(first_at), max(last_at) FROM heard GROUP BY 1, 2 ORDER BY 1, 2
    ON CONFLICT (connection, kind) DO UPDATE
    SET first_heard_at = least(s.first_heard_at, excluded.first_heard_at),
        last_heard_at = greatest(s.last_heard_at, excluded.last_heard_at)
), moved AS (
    UPDATE cursors SET position = jsonb_build_object('id', (SELECT max(id) FROM settled)), updated_at = now()
    WHERE name = 'volumes' AND EXISTS (SELECT FROM settled)
)
SELECT count(*) FROM settled
"""

_TOLD = """
SELECT connection, kind, array_agg(hour) AS hours, array_agg(events) AS events
FROM volumes WHERE hour >= %(since)s GROUP BY 1, 2
"""


def hold(db: Connection) -> int | None:
    """Hold the counting for this transaction; return up to which id was counted, None where somebody else is at it."""
    if not execute(db, _HOLD).scalar_one():
        return None
    counted: int | None = execute(db, _COUNTED).scalar()
    if counted is None:
        now: datetime = execute(db, "SELECT now()").scalar_one()
        counted = received.first_since(db, now - BACK) - 1
        execute(db, _BEGIN, {"id": counted})
    return counted


def count(db: Connection, after: int, *, rows: int = ROWS) -> int:
    """Count up to `rows` events beyond an id, which the caller holds; return how many they were."""
    return int(execute(db, _COUNT, {"after": after, "rows": rows}).scalar_one())


def told(db: Connection, since: datetime) -> dict[tuple[str, str], Mapping[int, int]]:
    """Return what each (connection, kind) told, by hour, since a moment."""
    return {
        (row.connection, row.kind): dict(zip(map(hour_of, row.hours), row.events, strict=True))
        for row in execute(db, _TOLD, {"since": since})
    }
