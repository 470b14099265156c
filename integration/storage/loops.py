"""Properties that are left to the other side for a while.

Either because somebody over there puts them back each time we write them, which is counted, or because a person here
undid what was written (`rewrites` = 0).
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import Connection

from integration.storage.statement import execute

MOST: Final = 5
"""So many rewrites of one property of one contact within WITHIN_SECONDS are a loop: two programs disagree."""
WITHIN_SECONDS: Final = 3600.0
REST_SECONDS: Final = 86_400.0
"""How long the property is left to the other side then."""

_COUNT = """
INSERT INTO loops AS l (connection, person_id, field, rewrites, since)
SELECT %(connection)s, t.person_id, t.field, 1, now()
FROM unnest(%(person_id)s::bigint[], %(field)s::text[]) AS t(person_id, field) ORDER BY 2, 3
ON CONFLICT (connection, person_id, field) DO UPDATE SET
    rewrites = CASE WHEN l.since < now() - %(within)s * interval '1 second' THEN 1 ELSE l.rewrites + 1 END,
    since = CASE WHEN l.since < now() - %(within)s * interval '1 second' THEN now() ELSE l.since END,
    held_until = greatest(l.held_until, CASE
        WHEN l.rewrites + 1 >= %(most)s AND l.since >= now() - %(within)s * interval '1 second'
        THEN now() + %(rest)s * interval '1 second' END)
RETURNING person_id, field, coalesce(held_until > now(), false) AND rewrites >= %(most)s AS is_loop
"""

_HOLD = """
INSERT INTO loops AS l (connection, person_id, field, rewrites, since, held_until)
SELECT %(connection)s, t.person_id, t.field, 0, now(), now() + %(seconds)s * interval '1 second'
FROM (SELECT DISTINCT * FROM unnest(%(person_id)s::bigint[], %(field)s::text[]) AS u(person_id, field)) AS t
ORDER BY t.person_id, t.field
ON CONFLICT (connection, person_id, field) DO UPDATE SET
    rewrites = CASE WHEN l.held_until > now() THEN l.rewrites ELSE 0 END,
    held_until = greatest(l.held_until, excluded.held_until)
"""

# What somebody holds for longer stays held.
_RELEASE = """
DELETE FROM loops l
USING unnest(%(person_id)s::bigint[], %(field)s::text[]) AS t(person_id, field)
WHERE l.connection = %(connection)s AND l.person_id = t.person_id AND l.field = t.field
  AND l.rewrites = 0 AND l.held_until < now() + %(seconds)s * interval '1 second'
"""

_HELD = """
SELECT person_id, field, rewrites, held_until FROM loops
WHERE connection = %(connection)s AND person_id = ANY(%(ids)s::bigint[]) AND held_until > now()
"""


class Loop(NamedTuple):
    """A property of one person that is left to the other side until a time, after so many rewrites; 0 = by a person."""

    person_id: int
    field: str
    rewrites: int
    held_until: datetime


def count(db: Connection, connection: str, rewritten: Sequence[tuple[int, str]]) -> list[tuple[int, str]]:
    """Count (person id, property) that were put back and are written once more; return those that are a loop now."""
    if not rewritten:
        return []
    values = {
        "connection": connection,
        "person_id": [person_id for person_id, _ in rewritten],
        "field": [field for _, field in rewritten],
        "within": WITHIN_SECONDS,
        "most": MOST,
        "rest": REST_SECONDS,
    }
    return [(row.person_id, row.field) for row in execute(db, _COUNT, values) if row.is_loop]


def hold(db: Connection, connection: str, fields: Iterable[tuple[int, str]], *, seconds: float) -> None:
    """Leave (person id, property) to the other side for so long, because a person wants it so."""
    if pairs := sorted(set(fields)):
        execute(db, _HOLD, _values(connection, pairs, seconds))


def release(db: Connection, connection: str, fields: Iterable[tuple[int, str]], *, within: float) -> None:
    """Take back a `hold` of (person id, property) that ends within so many seconds; longer ones stay."""
    if pairs := sorted(set(fields)):
        execute(db, _RELEASE, _values(connection, pairs, within))


def held(db: Connection, connection: str, person_ids: Iterable[int]) -> list[Loop]:
    """Return what is left alone now."""
    rows = execute(db, _HELD, {"connection": connection, "ids": sorted(set(person_ids))})
    return [Loop(*row) for row in rows]


def _values(connection: str, pairs: Sequence[tuple[int, str]], seconds: float) -> dict[str, object]:
    return {
        "connection": connection,
        "person_id": [person_id for person_id, _ in pairs],
        "field": [field for _, field in pairs],
        "seconds": seconds,
    }
