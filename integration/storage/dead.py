"""Work that ended for good, or waits parked: why, how much of it, since when, and what was tried before.

Of four kinds: an `event` is a row of the inbox, a `person` what one system is to hold of a person (sync_state), an
`activity` a fact that one system is to show on its timeline (deliveries), an `enrollment` what a person is to be in one
course (enrollments).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple

from sqlalchemy import Connection

from integration.storage.statement import execute

Kind = Literal["event", "person", "activity", "enrollment"]
KINDS: tuple[Kind, ...] = ("event", "person", "activity", "enrollment")

# The status stands in the text, so that the planner knows the partial index. `at` is when the row came to rest: a
# person's last try says so; one whose workers died before they could note a try rests since the news that killed them.
_ROWS: dict[Kind, str] = {
    "event": """
        SELECT i.id, i.id AS subject, i.connection, i.reason, i.detail, coalesce(i.settled_at, i.received_at) AS at
        FROM inbox i WHERE i.status = '{status}'
    """,
    "person": """
        SELECT s.id, s.subject_id AS subject, s.connection, s.reason, s.detail,
               greatest(s.wanted_since, tried.at) AS at
        FROM sync_state s LEFT JOIN LATERAL (
            SELECT finished_at AS at FROM attempts
            WHERE subject_type = 'sync_state' AND subject_id = s.id ORDER BY id DESC LIMIT 1) AS tried ON true
        WHERE s.status = '{status}'
    """,
    "activity": """
        SELECT d.id, d.id AS subject, d.connection, d.reason, d.detail, coalesce(tried.at, d.created_at) AS at
        FROM deliveries d LEFT JOIN LATERAL (
            SELECT finished_at AS at FROM attempts
            WHERE subject_type = 'delivery' AND subject_id = d.id ORDER BY id DESC LIMIT 1) AS tried ON true
        WHERE d.status = '{status}'
    """,
    "enrollment": """
        SELECT e.id, e.id AS subject, e.connection, e.reason, e.detail, greatest(e.wanted_since, tried.at) AS at
        FROM enrollments e LEFT JOIN LATERAL (
            SELECT finished_at AS at FROM attempts
            WHERE subject_type = 'enrollment' AND subject_id = e.id ORDER BY id DESC LIMIT 1) AS tried ON true
        WHERE e.status = '{status}'
    """,
}

_CHOSEN = """
(%(connection)s::text IS NULL OR connection = %(connection)s)
  AND (%(reason)s::text IS NULL OR reason = %(reason)s)
  AND (%(since)s::timestamptz IS NULL OR at >= %(since)s) AND (%(until)s::timestamptz IS NULL OR at <= %(until)s)
"""

_CAUSES = """
SELECT '{kind}' AS kind, connection, reason, count(*) AS rows, count(DISTINCT {same}) AS same,
       min(at) AS first_at, max(at) AS last_at, min(subject) AS example
FROM ({rows}) AS r WHERE {chosen}
GROUP BY connection, reason ORDER BY 4 DESC, 2, 3
"""

# Events that cannot be read have no learner, so one line stands for one mistake, which the detail names.
_MISTAKES = """
SELECT 'event' AS kind, connection, reason, detail, count(*) AS rows, min(at) AS first_at, max(at) AS last_at,
       min(subject) AS example
FROM ({rows}) AS r WHERE {chosen}
GROUP BY connection, reason, detail ORDER BY 5 DESC, 7 DESC LIMIT %(limit)s
"""

# A system hears of a person once, however many events wait for that.
_PEOPLE = """
SELECT 'person', r.connection, r.reason, r.detail, waiting.events, waiting.since, r.at, r.subject
FROM (SELECT * FROM ({rows}) AS one WHERE {chosen} ORDER BY at DESC, id LIMIT %(limit)s) AS r
JOIN sync_state s ON s.id = r.id CROSS JOIN LATERAL (
    SELECT count(*) AS events, coalesce(min(i.received_at), r.at) AS since FROM inbox i
    WHERE i.person_id = s.subject_id AND i.status = 'done' AND i.person_version > s.written) AS waiting
ORDER BY r.at DESC, r.id
"""

_ACTIVITIES = """
SELECT 'activity' AS kind, r.connection, r.reason, r.detail, 1 AS events, d.created_at, r.at, r.subject
FROM (SELECT * FROM ({rows}) AS one WHERE {chosen} ORDER BY at DESC, id LIMIT %(limit)s) AS r
JOIN deliveries d ON d.id = r.id
ORDER BY r.at DESC, r.id
"""

_ENROLLMENTS = """
SELECT 'enrollment' AS kind, r.connection, r.reason, r.detail, 1 AS events, e.wanted_since, r.at, r.subject
FROM (SELECT * FROM ({rows}) AS one WHERE {chosen} ORDER BY at DESC, id LIMIT %(limit)s) AS r
JOIN enrollments e ON e.id = r.id
ORDER BY r.at DESC, r.id
"""

_IDS = """
SELECT id FROM ({rows}) AS r WHERE id > %(after)s AND id <= %(up_to)s AND {chosen} ORDER BY id LIMIT %(limit)s
"""

_SEALED = """
SELECT i.id, i.connection, i.request_id, i.payload
FROM (SELECT id FROM ({rows}) AS r WHERE id < %(before)s AND {chosen} ORDER BY id DESC LIMIT %(limit)s) AS r
JOIN inbox i ON i.id = r.id WHERE i.payload IS NOT NULL ORDER BY i.id DESC
"""

_EXTENT = "SELECT count(*), coalesce(max(id), 0) FROM ({rows}) AS r WHERE {chosen}"

_BEHIND = """
SELECT i.id, count(*) OVER () AS number FROM sync_state s
JOIN inbox i ON i.person_id = s.subject_id AND i.status = 'done' AND i.person_version > s.written
WHERE s.id = %(id)s ORDER BY i.id LIMIT %(limit)s
"""

_HISTORY = """
SELECT finished_at, outcome, reason, detail FROM attempts
WHERE subject_type = 'inbox' AND subject_id = %(id)s ORDER BY id DESC LIMIT %(limit)s
"""

_ACTIONS = """
SELECT at, actor, action, outcome, fields, reference FROM audit
WHERE subject_type = %(subject_type)s AND subject_id = %(subject)s
  AND (connection = %(connection)s OR connection IS NULL)
  AND (action LIKE 'dead.%%' OR action LIKE 'parked.%%' OR action = 'payload.read')
ORDER BY id DESC LIMIT %(limit)s
"""

# The payload as received stays from the first correction on; one that somebody else corrected meanwhile is left alone.
_CORRECT = """
UPDATE inbox SET original_payload = coalesce(original_payload, payload), payload = %(payload)s
WHERE id = %(id)s AND status = 'dead' AND payload = %(seen)s
RETURNING id
"""


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which rows: dead or parked, None = whatever. `since` and `until` are about when they came to rest."""

    status: Literal["dead", "parked"] = "dead"
    connection: str | None = None
    reason: str | None = None
    since: datetime | None = None
    until: datetime | None = None


class Cause(NamedTuple):
    """Why `rows` of one kind rest: about so many subjects (mistakes, people, ...), of which `example` is one."""

    kind: Kind
    connection: str
    reason: str | None
    rows: int
    subjects: int
    oldest: datetime
    newest: datetime
    example: int


class Item(NamedTuple):
    """One mistake that so many `events` share, one person of whom so many wait, or one other; `example` is one."""

    kind: Kind
    connection: str
    reason: str | None
    detail: str | None
    events: int
    oldest: datetime
    newest: datetime
    example: int


class Sealed(NamedTuple):
    """A payload that nobody has opened yet."""

    id: int
    connection: str
    request_id: str
    payload: bytes


class Ended(NamedTuple):
    """How an event ended before somebody put it back."""

    at: datetime
    outcome: str
    reason: str
    detail: str | None


class Action(NamedTuple):
    """What a person did about it; `fields` names what was corrected."""

    at: datetime
    actor: str
    action: str
    outcome: str
    fields: list[str]
    reference: str | None


def causes(db: Connection, chosen: Chosen, kinds: Sequence[Kind] = KINDS) -> list[Cause]:
    """Return what was chosen by kind, connection and reason; of each kind the largest group first."""
    found = []
    for kind in kinds:
        # `detail` names an event's mistake and nothing of the value, so two events of one mistake have one detail.
        same = "coalesce(detail, '')" if kind == "event" else "subject"
        found += [Cause(*row) for row in execute(db, _query(_CAUSES, chosen, kind, same=same), _values(chosen))]
    return found


def items(db: Connection, chosen: Chosen, kinds: Sequence[Kind] = KINDS, *, limit: int) -> list[Item]:
    """Return at most `limit` lines of each kind: one per mistake for events, the newest one per person."""
    values = {**_values(chosen), "limit": limit}
    queries = {"event": _MISTAKES, "person": _PEOPLE, "activity": _ACTIVITIES, "enrollment": _ENROLLMENTS}
    return [Item(*row) for kind in kinds for row in execute(db, _query(queries[kind], chosen, kind), values)]


def ids(db: Connection, chosen: Chosen, kind: Kind, *, after: int, up_to: int, limit: int) -> list[int]:
    """Return the next row ids of what was chosen, in order."""
    values = {**_values(chosen), "after": after, "up_to": up_to, "limit": limit}
    return [row.id for row in execute(db, _query(_IDS, chosen, kind), values)]


def sealed(db: Connection, chosen: Chosen, *, before: int, limit: int) -> list[Sealed]:
    """Return the payloads of the newest events chosen whose ids are below `before`, the newest first."""
    values = {**_values(chosen), "before": before, "limit": limit}
    return [Sealed(*row) for row in execute(db, _query(_SEALED, chosen, "event"), values)]


def extent(db: Connection, chosen: Chosen, kind: Kind) -> tuple[int, int]:
    """Return how many rows are chosen, and the largest id among them."""
    number, last = execute(db, _query(_EXTENT, chosen, kind), _values(chosen)).one()
    return number, last


def behind(db: Connection, sync_state_id: int, *, limit: int = 20) -> tuple[int, list[int]]:
    """Return how many events a system has not heard of because this row rests, and the oldest of them."""
    rows = execute(db, _BEHIND, {"id": sync_state_id, "limit": limit}).fetchall()
    return (rows[0].number if rows else 0), [row.id for row in rows]


def history(db: Connection, inbox_id: int, *, limit: int = 20) -> list[Ended]:
    """Return how often an event ended before and was put back, newest first."""
    return [Ended(*row) for row in execute(db, _HISTORY, {"id": inbox_id, "limit": limit})]


def actions(db: Connection, subject: tuple[str, int], connection: str, *, limit: int = 20) -> list[Action]:
    """Return what people did about a subject of the audit log in one connection, newest first."""
    values = {"subject_type": subject[0], "subject": subject[1], "connection": connection, "limit": limit}
    return [Action(*row) for row in execute(db, _ACTIONS, values)]


def correct(db: Connection, inbox_id: int, *, seen: bytes, payload: bytes) -> bool:
    """Give a dead event a corrected payload, sealed; False where it is not dead with the one `seen` any more."""
    values = {"id": inbox_id, "seen": seen, "payload": payload}
    return execute(db, _CORRECT, values).first() is not None


def _query(template: str, chosen: Chosen, kind: Kind, **parts: str) -> str:
    rows = _ROWS[kind].format(status=chosen.status)
    return template.format(rows=rows, chosen=_CHOSEN, kind=kind, **parts)


def _values(chosen: Chosen) -> dict[str, object]:
    return {
        "connection": chosen.connection,
        "reason": chosen.reason,
        "since": chosen.since,
        "until": chosen.until,
    }
