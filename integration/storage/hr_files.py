"""The ledger of HR's files: each as it was found once, known by its content, with what became of it.

Whoever writes here is at the folder under its lease (`hr_looks`), so no two do so at once.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from psycopg.types.json import Jsonb
from sqlalchemy import Connection

from integration.ports import RemoteFile
from integration.security.seal import KeyRing
from integration.storage.statement import execute

_CONTEXT = "hr_files.name"

_COLUMNS = """
id, connection, name, size, modified, status, lies, moved, sha256, mapping_hash, moment, mode, reason, detail, counts,
byte_offset, line, attempts, actor, seen_at, settled_at
"""

_LYING = f"SELECT {_COLUMNS} FROM hr_files WHERE connection = %(connection)s AND lies ORDER BY id"  # noqa: S608

_SEE = "INSERT INTO hr_files (connection, name, size, modified) VALUES (%(connection)s, %(name)s, %(size)s, %(at)s)"

_GROWN = """
UPDATE hr_files SET size = %(size)s, modified = %(at)s, seen_at = now(), reason = NULL, detail = NULL WHERE id = %(id)s
"""

_WAITS = "UPDATE hr_files SET reason = %(reason)s, detail = %(detail)s WHERE id = %(id)s AND status = 'seen'"

_RESTED = """
SELECT id FROM hr_files
WHERE connection = %(connection)s AND lies AND status = 'seen' AND seen_at <= now() - %(patience)s
"""

# Nothing of it was looked into, so there is nothing to remember.
_FORGET = "DELETE FROM hr_files WHERE id = %(id)s AND status = 'seen'"

_GONE = """
UPDATE hr_files SET lies = false,
    reason = CASE WHEN status IN ('taking', 'released', 'held') THEN %(reason)s ELSE reason END,
    status = CASE WHEN status IN ('taking', 'released') THEN 'held' ELSE status END
WHERE id = %(id)s
"""

# A word counts since its file was written. Of several files of one second the later one by name counts more.
_TAKE = """
UPDATE hr_files f SET sha256 = %(sha256)s, mapping_hash = %(mapping_hash)s, mode = %(mode)s, attempts = attempts + 1,
    reason = NULL, detail = NULL,
    moment = coalesce(moment, (
        SELECT greatest(to_timestamp(f.modified), max(o.moment) + interval '1 microsecond') FROM hr_files o
        WHERE o.connection = f.connection AND o.moment >= to_timestamp(f.modified)
          AND o.moment < to_timestamp(f.modified) + interval '1 second'))
WHERE id = %(id)s
"""

_TRIED = "UPDATE hr_files SET attempts = attempts + 1 WHERE id = %(id)s RETURNING attempts"

_SAME_CONTENT = f"""
SELECT {_COLUMNS} FROM hr_files
WHERE connection = %(connection)s AND sha256 = %(sha256)s AND mapping_hash = %(mapping_hash)s AND id <> %(id)s
  AND status <> 'same'
ORDER BY id DESC LIMIT 1
"""  # noqa: S608 - constants

_NEWEST = f"""
SELECT {_COLUMNS} FROM hr_files WHERE connection = %(connection)s AND status = 'applied'
ORDER BY moment DESC LIMIT 1
"""  # noqa: S608

_LAST_FULL = f"""
SELECT {_COLUMNS} FROM hr_files WHERE connection = %(connection)s AND status = 'applied' AND mode = 'full'
ORDER BY moment DESC LIMIT 1
"""  # noqa: S608

_SETTLE = """
UPDATE hr_files SET status = %(status)s, reason = %(reason)s, detail = %(detail)s, counts = counts || %(counts)s,
    actor = coalesce(%(actor)s, actor), settled_at = now()
WHERE id = %(id)s
"""

_ADVANCE = """
UPDATE hr_files SET byte_offset = %(offset)s, line = %(line)s, counts = %(counts)s, attempts = 1 WHERE id = %(id)s
"""

_GOES_ON = """
UPDATE hr_files f SET status = o.status, byte_offset = o.byte_offset, line = o.line, counts = o.counts,
    moment = o.moment, actor = o.actor
FROM hr_files o WHERE f.id = %(id)s AND o.id = %(before)s
"""

_MOVED = "UPDATE hr_files SET moved = %(moved)s, lies = NOT %(moved)s WHERE id = %(id)s"

_DECIDE = f"""
UPDATE hr_files SET status = %(status)s, reason = %(reason)s, actor = %(actor)s, settled_at = now()
WHERE id = %(id)s AND status = 'held' RETURNING {_COLUMNS}
"""  # noqa: S608

_FIND = f"SELECT {_COLUMNS} FROM hr_files WHERE id = %(id)s"  # noqa: S608

_LATEST = f"""
SELECT {_COLUMNS} FROM hr_files WHERE %(connection)s::text IS NULL OR connection = %(connection)s
ORDER BY id DESC LIMIT %(limit)s
"""  # noqa: S608

_HELD = f"SELECT {_COLUMNS} FROM hr_files WHERE status = 'held' ORDER BY id"  # noqa: S608

_WAITING = f"""
SELECT {_COLUMNS} FROM hr_files WHERE lies AND status = 'seen' AND reason IS NOT NULL ORDER BY id
"""  # noqa: S608


class Filed(NamedTuple):
    """A file in the ledger; `name` is sealed."""

    id: int
    connection: str
    name: bytes
    size: int
    modified: int
    status: str
    lies: bool
    moved: bool | None
    sha256: bytes | None
    mapping_hash: bytes | None
    moment: datetime | None
    mode: str | None
    reason: str | None
    detail: str | None
    counts: dict[str, int]
    byte_offset: int
    line: int
    attempts: int
    actor: str | None
    seen_at: datetime
    settled_at: datetime | None

    def called(self, ring: KeyRing) -> str:
        """Return its name. Raises NeedsAttention where it cannot be opened."""
        return ring.open(bytes(self.name), _CONTEXT).decode()

    def is_as(self, listed: RemoteFile) -> bool:
        """Say whether what lies there is this file still."""
        return (self.size, self.modified) == (listed.size, listed.modified)


def lying(db: Connection, connection: str) -> list[Filed]:
    """Return the files that lay in a folder when it was looked at last."""
    return [Filed(*row) for row in execute(db, _LYING, {"connection": connection}).all()]


def see(db: Connection, connection: str, listed: RemoteFile, ring: KeyRing) -> None:
    """Note a file that was not there before, or is another one now."""
    name = ring.seal(listed.name.encode(), _CONTEXT)
    execute(db, _SEE, {"connection": connection, "name": name, "size": listed.size, "at": listed.modified})


def grown(db: Connection, file_id: int, listed: RemoteFile) -> None:
    """Note that somebody still writes to a file."""
    execute(db, _GROWN, {"id": file_id, "size": listed.size, "at": listed.modified})


def waits(db: Connection, file_id: int, reason: str, detail: str) -> Filed:
    """Note why a file is not begun yet, and return it."""
    execute(db, _WAITS, {"id": file_id, "reason": reason, "detail": detail})
    return _one(db, file_id)


def rested(db: Connection, connection: str, patience: timedelta) -> set[int]:
    """Return which files of a folder were last seen to change before so long a time."""
    return {row.id for row in execute(db, _RESTED, {"connection": connection, "patience": patience}).all()}


def gone(db: Connection, one: Filed, reason: str) -> None:
    """Note that a file lies there no more; one that was under way is held, for the `reason`."""
    execute(db, _FORGET if one.status == "seen" else _GONE, {"id": one.id, "reason": reason})


def tried(db: Connection, file_id: int) -> int:
    """Return how often a file was begun, now included."""
    return int(execute(db, _TRIED, {"id": file_id}).scalar_one())


def take(db: Connection, file_id: int, sha256: bytes, mapping_hash: bytes, mode: str) -> Filed:
    """Note what a file holds, and return it with the moment since which its words count."""
    execute(db, _TAKE, {"id": file_id, "sha256": sha256, "mapping_hash": mapping_hash, "mode": mode})
    return _one(db, file_id)


def same_content(db: Connection, one: Filed) -> Filed | None:
    """Return the newest other file of the same content by the same mapping."""
    row = execute(db, _SAME_CONTENT, one._asdict()).first()
    return Filed(*row) if row else None


def newest(db: Connection, connection: str, *, full: bool = False) -> Filed | None:
    """Return the applied file whose words are the newest; `full`: of those that name everybody."""
    row = execute(db, _LAST_FULL if full else _NEWEST, {"connection": connection}).first()
    return Filed(*row) if row else None


def settle(
    db: Connection,
    file_id: int,
    status: str,
    *,
    reason: str | None = None,
    detail: str | None = None,
    counts: Mapping[str, int] | None = None,
    actor: str | None = None,
) -> Filed:
    """Note what became of a file, and return it."""
    values = {"id": file_id, "status": status, "reason": reason, "detail": detail, "actor": actor}
    execute(db, _SETTLE, {**values, "counts": Jsonb(dict(counts or {}))})
    return _one(db, file_id)


def advance(db: Connection, file_id: int, offset: int, line: int, counts: Mapping[str, int]) -> Filed:
    """Note with what a chunk told where the next one begins."""
    execute(db, _ADVANCE, {"id": file_id, "offset": offset, "line": line, "counts": Jsonb(dict(counts))})
    return _one(db, file_id)


def goes_on(db: Connection, file_id: int, before: int) -> Filed:
    """Let a file go on where one of the same content stood."""
    execute(db, _GOES_ON, {"id": file_id, "before": before})
    return _one(db, file_id)


def moved(db: Connection, file_id: int, *, moved: bool) -> None:
    """Note whether a file could be moved away."""
    execute(db, _MOVED, {"id": file_id, "moved": moved})


def decide(db: Connection, file_id: int, status: str, reason: str | None, actor: str) -> Filed | None:
    """Release or reject a file that is held; None where it is not."""
    row = execute(db, _DECIDE, {"id": file_id, "status": status, "reason": reason, "actor": actor}).first()
    return Filed(*row) if row else None


def find(db: Connection, file_id: int) -> Filed | None:
    """Return a file of the ledger."""
    row = execute(db, _FIND, {"id": file_id}).first()
    return Filed(*row) if row else None


def latest(db: Connection, connection: str | None = None, *, limit: int) -> list[Filed]:
    """Return the newest files, of one connection or of all."""
    return [Filed(*row) for row in execute(db, _LATEST, {"connection": connection, "limit": limit}).all()]


def held(db: Connection) -> list[Filed]:
    """Return the files that wait for somebody's word."""
    return [Filed(*row) for row in execute(db, _HELD).all()]


def waiting(db: Connection) -> list[Filed]:
    """Return the files that are not begun for a reason that was noted."""
    return [Filed(*row) for row in execute(db, _WAITING).all()]


def _one(db: Connection, file_id: int) -> Filed:
    return Filed(*execute(db, _FIND, {"id": file_id}).one())
