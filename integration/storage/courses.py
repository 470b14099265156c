"""The catalogue as seen in events: one row per course of an LMS."""

from collections.abc import Iterable
from datetime import datetime
from typing import Literal, NamedTuple

from sqlalchemy import Connection

from integration.storage.statement import execute

# Known courses are left alone unless their name or version changed: `ON CONFLICT DO UPDATE` would lock the few rows
# that every batch names, and make all workers queue behind each other.
_SEE = """
WITH incoming AS (
    SELECT * FROM unnest(%(connection)s::text[], %(external_id)s::text[], %(name)s::text[], %(version)s::text[],
                         %(seen_at)s::timestamptz[]) AS t(connection, external_id, name, version, seen_at)
), changed AS (
    SELECT i.* FROM incoming i LEFT JOIN courses c USING (connection, external_id)
    WHERE c.id IS NULL
       OR (i.seen_at > c.seen_at
           AND (coalesce(i.name, c.name), coalesce(i.version, c.version)) IS DISTINCT FROM (c.name, c.version))
)
INSERT INTO courses AS c (connection, external_id, name, version, seen_at)
SELECT * FROM changed ORDER BY connection, external_id
ON CONFLICT (connection, external_id) DO UPDATE
SET name = coalesce(excluded.name, c.name), version = coalesce(excluded.version, c.version), seen_at = excluded.seen_at
WHERE excluded.seen_at > c.seen_at
"""

_DEPARTED = """
SELECT c.connection, c.external_id, c.status, s.external_id AS successor
FROM courses c LEFT JOIN courses s ON s.id = c.replaced_by AND s.connection = c.connection
WHERE c.status <> 'active' OR c.replaced_by IS NOT NULL ORDER BY 1, 2
"""


class Departed(NamedTuple):
    """A course that is retired, or that another one of the same LMS has replaced."""

    connection: str
    external_id: str
    status: Literal["active", "retired"]
    successor: str | None


class CourseSeen(NamedTuple):
    """A course as an event named it."""

    connection: str
    external_id: str
    name: str | None
    version: str | None
    seen_at: datetime


def see(db: Connection, seen: Iterable[CourseSeen]) -> None:
    """Add courses not seen before and take over newer names and versions."""
    latest: dict[tuple[str, str], CourseSeen] = {}
    for course in seen:
        place = (course.connection, course.external_id)
        if place not in latest or latest[place].seen_at < course.seen_at:
            latest[place] = course
    if latest:
        ordered = [latest[place] for place in sorted(latest)]
        columns = {name: [getattr(course, name) for course in ordered] for name in CourseSeen._fields}
        execute(db, _SEE, columns)


def departed(db: Connection) -> list[Departed]:
    """Return the courses that nobody is to be enrolled in any more."""
    return [Departed(*row) for row in execute(db, _DEPARTED).all()]
