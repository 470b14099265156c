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

# Whatever an event says of it later is newer.
_NAME = """
INSERT INTO courses (connection, external_id, seen_at)
SELECT %(connection)s, t.external_id, 'epoch' FROM unnest(%(external_ids)s::text[]) AS t(external_id)
ORDER BY t.external_id ON CONFLICT (connection, external_id) DO NOTHING
"""

_RETIRE = """
UPDATE courses c SET status = 'retired', replaced_by = (
    SELECT id FROM courses s WHERE s.connection = c.connection AND s.external_id = %(successor)s)
WHERE c.connection = %(connection)s AND c.external_id = %(external_id)s RETURNING c.id
"""

_RESTORE = """
UPDATE courses SET status = 'active', replaced_by = NULL
WHERE connection = %(connection)s AND external_id = %(external_id)s
  AND (status <> 'active' OR replaced_by IS NOT NULL)
RETURNING id
"""

_LISTED = """
SELECT c.connection, c.external_id, c.name, c.status, s.external_id AS successor,
       CASE WHEN c.seen_at > 'epoch' THEN c.seen_at END AS seen_at
FROM courses c LEFT JOIN courses s ON s.id = c.replaced_by
WHERE %(connection)s::text IS NULL OR c.connection = %(connection)s ORDER BY 1, 2
"""

_LOCK = 7_226_004

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


class Listed(NamedTuple):
    """A course for people; `seen_at` None = no event has named it yet."""

    connection: str
    external_id: str
    name: str | None
    status: Literal["active", "retired"]
    successor: str | None
    seen_at: datetime | None


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


def hold(db: Connection) -> None:
    """Let one transaction at a time change which course stands for which, or two could make them run in a circle."""
    execute(db, "SELECT pg_advisory_xact_lock(%(lock)s)", {"lock": _LOCK})


def listed(db: Connection, connection: str | None = None) -> list[Listed]:
    """Return all courses that are known, or those of one LMS."""
    return [Listed(*row) for row in execute(db, _LISTED, {"connection": connection}).all()]


def retire(db: Connection, connection: str, external_id: str, successor: str | None) -> int:
    """Let a course be taught no more, and `successor` of the same LMS stand in its place; return its number.

    The caller holds the catalogue, and has seen that the successor does not lead back.
    """
    names = [external_id, successor] if successor else [external_id]
    execute(db, _NAME, {"connection": connection, "external_ids": names})
    values = {"connection": connection, "external_id": external_id, "successor": successor}
    return int(execute(db, _RETIRE, values).scalar_one())


def restore(db: Connection, connection: str, external_id: str) -> int | None:
    """Let a course be taught again, and nothing come in its place; return its number, None where it is so already."""
    row = execute(db, _RESTORE, {"connection": connection, "external_id": external_id}).one_or_none()
    return int(row.id) if row else None
