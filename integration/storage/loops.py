"""Properties that somebody over there puts back each time we write them: counted, and then left alone for a while."""

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
    held_until = CASE WHEN l.rewrites + 1 >= %(most)s AND l.since >= now() - %(within)s * interval '1 second'
                      THEN now() + %(rest)s * interval '1 second' END
RETURNING person_id, field, held_until
"""

_HELD = """
SELECT person_id, field, rewrites, held_until FROM loops
WHERE connection = %(connection)s AND person_id = ANY(%(ids)s::bigint[]) AND held_until > now()
"""


class Loop(NamedTuple):
    """A property of one person that is left to the other side until a time, after so many rewrites."""

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
    return [(row.person_id, row.field) for row in execute(db, _COUNT, values) if row.held_until is not None]


def held(db: Connection, connection: str, person_ids: Iterable[int]) -> list[Loop]:
    """Return what is left alone now."""
    rows = execute(db, _HELD, {"connection": connection, "ids": sorted(set(person_ids))})
    return [Loop(*row) for row in rows]
