"""The ledger of imports: which files were taken in, and how far one has come."""

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from psycopg.types.json import Jsonb
from sqlalchemy import Connection

from integration.storage.statement import execute

_COLUMNS = """
id, connection, sha256, size, rows, status, byte_offset, line, counts, actor, started_at, finished_at
"""

_FIND = f"""
SELECT {_COLUMNS} FROM imports
WHERE connection = %(connection)s AND sha256 = %(sha256)s AND mapping_hash = %(mapping_hash)s
ORDER BY id DESC LIMIT 1
"""  # noqa: S608 - constants

_GET = f"SELECT {_COLUMNS} FROM imports WHERE id = %(id)s"  # noqa: S608 - constants

_BEGIN = f"""
INSERT INTO imports (connection, sha256, mapping_hash, size, rows, actor)
VALUES (%(connection)s, %(sha256)s, %(mapping_hash)s, %(size)s, %(rows)s, %(actor)s)
ON CONFLICT (connection, sha256, mapping_hash) WHERE status = 'running' DO NOTHING
RETURNING {_COLUMNS}
"""  # noqa: S608 - constants

# Whoever is not where they left off was overtaken by somebody who imports the same file.
_ADVANCE = f"""
UPDATE imports SET byte_offset = %(offset)s, line = %(line)s, counts = %(counts)s
WHERE id = %(id)s AND status = 'running' AND byte_offset = %(before)s
RETURNING {_COLUMNS}
"""  # noqa: S608 - constants

_FINISH = f"""
UPDATE imports SET status = 'done', finished_at = now() WHERE id = %(id)s AND status = 'running' RETURNING {_COLUMNS}
"""  # noqa: S608 - constants

_OF_PERSON = """
SELECT e.import_id AS id, count(*) AS facts, array_agg(DISTINCT e.import_line) AS lines, i.started_at
FROM events e LEFT JOIN imports i ON i.id = e.import_id
WHERE e.person_id = %(person)s AND e.import_id IS NOT NULL
GROUP BY e.import_id, i.started_at ORDER BY e.import_id DESC
"""


class Import(NamedTuple):
    """One import; `byte_offset` and `line` are where its next chunk begins, `rows` how many the file has."""

    id: int
    connection: str
    sha256: bytes
    size: int
    rows: int
    status: str
    byte_offset: int
    line: int
    counts: Mapping[str, int]
    actor: str
    started_at: datetime
    finished_at: datetime | None


class New(NamedTuple):
    """An import to begin: of a file of `size` bytes and `rows` rows, known by its content and mapping."""

    connection: str
    sha256: bytes
    mapping_hash: bytes
    size: int
    rows: int
    actor: str


class OfPerson(NamedTuple):
    """What one import said of a person: how many facts, on which lines."""

    id: int
    facts: int
    lines: list[int]
    started_at: datetime | None


def find(db: Connection, connection: str, sha256: bytes, mapping_hash: bytes) -> Import | None:
    """Return the newest import of this content by this mapping, None where there was none."""
    row = execute(db, _FIND, {"connection": connection, "sha256": sha256, "mapping_hash": mapping_hash}).first()
    return Import(*row) if row else None


def get(db: Connection, import_id: int) -> Import | None:
    """Return an import by its number."""
    row = execute(db, _GET, {"id": import_id}).first()
    return Import(*row) if row else None


def begin(db: Connection, new: New) -> Import | None:
    """Begin an import at the beginning of its file; None where one of the same file is under way."""
    row = execute(db, _BEGIN, new._asdict()).first()
    return Import(*row) if row else None


def advance(db: Connection, held: Import, offset: int, line: int, counts: Mapping[str, int]) -> Import | None:
    """Note with the facts of a chunk where the next one begins; None where somebody else has come further."""
    values = {"id": held.id, "before": held.byte_offset, "offset": offset, "line": line, "counts": Jsonb(dict(counts))}
    row = execute(db, _ADVANCE, values).first()
    return Import(*row) if row else None


def finish(db: Connection, held: Import) -> Import:
    """End an import whose last chunk is in."""
    row = execute(db, _FINISH, {"id": held.id}).first()
    return Import(*row) if row else held


def of_person(db: Connection, person_id: int) -> list[OfPerson]:
    """Return which imports said something of a person, the newest first."""
    return [OfPerson(*row) for row in execute(db, _OF_PERSON, {"person": person_id}).all()]
