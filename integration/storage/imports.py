"""The ledger of imports: which files were taken in, and how far one has come."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import NamedTuple

from psycopg.types.json import Jsonb
from sqlalchemy import Connection, Engine

from integration.storage.base import AWAY, single
from integration.storage.statement import execute

_COLUMNS = """
id, connection, sha256, size, rows, status, byte_offset, line, counts, ahead, actor, started_at, finished_at
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

# One process at a time: the server gives it free as soon as the connection is gone.
_HOLD = "SELECT pg_try_advisory_lock(hashtextextended('coursewire.import:' || %(id)s::text, 0))"
_LET_GO = "SELECT pg_advisory_unlock(hashtextextended('coursewire.import:' || %(id)s::text, 0))"

_LOCK = _GET + " AND status = 'running' FOR UPDATE"

_ADVANCE = f"""
UPDATE imports SET byte_offset = %(byte_offset)s, line = %(line)s, counts = %(counts)s, ahead = %(ahead)s
WHERE id = %(id)s RETURNING {_COLUMNS}
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


class Done(NamedTuple):
    """What the ledger notes of a chunk: where the next one begins, and what it adds to the counts."""

    byte_offset: int
    line: int
    counts: Mapping[str, int]


class Import(NamedTuple):
    """One import; everything before `byte_offset` and `line` is in, `rows` is how many the file has.

    `ahead` are chunks behind it that are in as well, by the offset at which they begin, which is text in JSON.
    """

    id: int
    connection: str
    sha256: bytes
    size: int
    rows: int
    status: str
    byte_offset: int
    line: int
    counts: Mapping[str, int]
    ahead: Mapping[str, tuple[int, int, Mapping[str, int]]]
    actor: str
    started_at: datetime
    finished_at: datetime | None

    def has(self, offset: int) -> bool:
        """Say whether the chunk that begins there is in."""
        return offset < self.byte_offset or str(offset) in self.ahead


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


@contextmanager
def held(engine: Engine, import_id: int) -> Iterator[bool]:
    """Yield whether this process alone takes the file in, until the end of the block or of the process."""
    with single(engine) as db:
        values = {"id": import_id}
        is_ours = bool(execute(db, _HOLD, values).scalar())
        try:
            yield is_ours
        finally:
            if is_ours:
                with suppress(*AWAY):  # with its connection the lock is gone
                    execute(db, _LET_GO, values)


def advance(db: Connection, import_id: int, offset: int, done: Done) -> Import | None:
    """Note with its facts that the chunk that begins at `offset` is in; None where it was, or the import has ended.

    Chunks are noted in any order; counts are of those before `byte_offset`, so that they say what the mark says.
    """
    row = execute(db, _LOCK, {"id": import_id}).first()
    now = Import(*row) if row else None
    if now is None or now.has(offset):
        return None
    ahead = {**now.ahead, str(offset): done}
    place, line, counts = now.byte_offset, now.line, dict(now.counts)
    while (following := ahead.pop(str(place), None)) is not None:
        place, line, added = following
        counts |= {name: counts.get(name, 0) + number for name, number in added.items()}
    values = {"id": now.id, "byte_offset": place, "line": line, "counts": Jsonb(counts), "ahead": Jsonb(ahead)}
    return Import(*execute(db, _ADVANCE, values).one())


def finish(db: Connection, held: Import) -> Import:
    """End an import whose last chunk is in."""
    row = execute(db, _FINISH, {"id": held.id}).first()
    return Import(*row) if row else held


def of_person(db: Connection, person_id: int) -> list[OfPerson]:
    """Return which imports said something of a person, the newest first."""
    return [OfPerson(*row) for row in execute(db, _OF_PERSON, {"person": person_id}).all()]
