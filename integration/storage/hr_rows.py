"""The rows of a file of HR while it is judged, and what rows said last: keyed hashes, judged set by set."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from integration.storage.statement import execute

_CLEAR = "DELETE FROM hr_staged WHERE file_id = %(file)s"

_STAGE = """
INSERT INTO hr_staged (file_id, line, key, row_hash, said_at, status)
SELECT %(file)s, * FROM unnest(%(line)s::bigint[], %(key)s::bytea[], %(row_hash)s::bytea[], %(said_at)s::timestamptz[],
                               %(status)s::text[])
"""

# What is known of the table is from the file before: joined by that, everybody would be held against everybody.
_LOOK_AGAIN = "ANALYZE hr_staged"

# Of an employee the newest rows count; where these differ, nobody can say which is right.
_JUDGE = """
WITH newest AS (
    SELECT key, max(said_at) AS said_at FROM hr_staged WHERE file_id = %(file)s GROUP BY key
), judged AS (
    SELECT s.key, count(DISTINCT s.row_hash) AS words, min(s.line) AS line
    FROM hr_staged s JOIN newest n ON n.key = s.key AND n.said_at = s.said_at
    WHERE s.file_id = %(file)s GROUP BY s.key
)
UPDATE hr_staged s
SET verdict = CASE WHEN j.words > 1 THEN 'disagrees' WHEN s.line = j.line THEN 'counts' ELSE 'repeats' END
FROM judged j WHERE s.file_id = %(file)s AND s.key = j.key
"""

_DISAGREE = "SELECT line FROM hr_staged WHERE file_id = %(file)s AND verdict = 'disagrees' ORDER BY line"

# Who leaves: whom an earlier file, or anything else of HR, does not call a leaver yet. Whom nobody here knows does not.
_COUNT = """
SELECT count(*) AS employees,
       count(*) FILTER (WHERE r.key IS NULL) AS new,
       count(*) FILTER (WHERE r.row_hash <> s.row_hash) AS changed,
       count(*) FILTER (WHERE s.status = 'left' AND CASE
           WHEN r.key IS NOT NULL THEN r.status IS DISTINCT FROM 'left'
           ELSE p.id IS NOT NULL AND e.status IS DISTINCT FROM 'left' END) AS leavers
FROM hr_staged s
LEFT JOIN hr_rows r ON r.connection = %(connection)s AND r.key = s.key
LEFT JOIN people p ON p.employee_key = s.key
LEFT JOIN employments e ON e.person_id = coalesce(p.merged_into, p.id)
WHERE s.file_id = %(file)s AND s.verdict = 'counts'
"""

_ABSENT = """
SELECT count(*) FROM hr_rows r
WHERE r.connection = %(connection)s AND r.status IS DISTINCT FROM 'left'
  AND NOT EXISTS (SELECT FROM hr_staged s WHERE s.file_id = %(file)s AND s.key = r.key)
"""

# An older file that comes late is no news: what was said since need not have been told, where it was as before.
_NEWS = """
SELECT s.line FROM hr_staged s LEFT JOIN hr_rows r ON r.connection = %(connection)s AND r.key = s.key
WHERE s.file_id = %(file)s AND s.line = ANY(%(lines)s::bigint[]) AND s.verdict = 'counts'
  AND (r.key IS NULL OR (r.row_hash <> s.row_hash AND s.said_at >= r.said_at))
"""

_KEEP = """
INSERT INTO hr_rows AS r (connection, key, row_hash, said_at, status)
SELECT %(connection)s, key, row_hash, said_at, status FROM hr_staged
WHERE file_id = %(file)s AND line = ANY(%(lines)s::bigint[]) AND verdict = 'counts' ORDER BY key
ON CONFLICT (connection, key) DO UPDATE
SET row_hash = excluded.row_hash, said_at = excluded.said_at, status = coalesce(excluded.status, r.status)
WHERE r.said_at <= excluded.said_at
"""


class Staged(NamedTuple):
    """A row as it is judged: its line, whom it is about, what it says, since when, and whether they work there."""

    line: int
    key: bytes
    row_hash: bytes
    said_at: datetime
    status: str | None


class Counted(NamedTuple):
    """What a file comes to: whom it names, who of them is new or said otherwise, who leaves, who is not in it."""

    employees: int
    new: int
    changed: int
    leavers: int
    absent: int


def clear(db: Connection, file_id: int) -> None:
    """Forget the rows of a file."""
    execute(db, _CLEAR, {"file": file_id})


def stage(db: Connection, file_id: int, staged: Sequence[Staged]) -> None:
    """Put rows of a file where they are judged."""
    columns = {name: [getattr(one, name) for one in staged] for name in Staged._fields}
    execute(db, _STAGE, {"file": file_id, **columns})


def judge(db: Connection, file_id: int) -> list[int]:
    """Decide which rows count; return the lines of those that disagree with each other."""
    execute(db, _LOOK_AGAIN)
    execute(db, _JUDGE, {"file": file_id})
    return [row.line for row in execute(db, _DISAGREE, {"file": file_id}).all()]


def count(db: Connection, connection: str, file_id: int) -> Counted:
    """Hold the rows that count against what is known; nothing is told yet."""
    values = {"connection": connection, "file": file_id}
    found = execute(db, _COUNT, values).one()
    absent = execute(db, _ABSENT, values).scalar_one()
    return Counted(found.employees, found.new, found.changed, found.leavers, absent)


def news(db: Connection, connection: str, file_id: int, lines: Sequence[int]) -> set[int]:
    """Return which of these lines say something else than what was said last."""
    values = {"connection": connection, "file": file_id, "lines": list(lines)}
    return {row.line for row in execute(db, _NEWS, values).all()}


def keep(db: Connection, connection: str, file_id: int, lines: Sequence[int]) -> None:
    """Note what these lines say, where nothing newer was said."""
    execute(db, _KEEP, {"connection": connection, "file": file_id, "lines": list(lines)})
