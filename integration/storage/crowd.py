"""Everybody whom a connection holds, slice by slice: for statements about thousands of people at once."""

from collections.abc import Iterator

from sqlalchemy import Connection

from integration.storage.shares import ALL, Share
from integration.storage.statement import execute

SLICE = 2_000

# A plan reads all facts of a slice in one statement, which sorts them; compiling it would take longer than running it.
_READY = "SELECT set_config('work_mem', '64MB', true) AS memory, set_config('jit', 'off', true) AS jit"

_SIZE = "SELECT count(*) FROM sync_state WHERE connection = %(connection)s AND operation = %(operation)s"

_SLICE = """
SELECT subject_id FROM sync_state
WHERE connection = %(connection)s AND operation = %(operation)s AND subject_id > %(after)s
  AND subject_id %% %(of)s = %(number)s
ORDER BY subject_id LIMIT %(limit)s
"""


def size(db: Connection, connection: str, operation: str) -> int:
    """Return how many they are."""
    found: int = execute(db, _SIZE, {"connection": connection, "operation": operation}).scalar_one()
    return found


def slices(db: Connection, connection: str, operation: str, share: Share = ALL) -> Iterator[list[int]]:
    """Yield their ids in order, at most SLICE at a time; makes this transaction ready for large statements."""
    execute(db, _READY)
    values = {"connection": connection, "operation": operation, "after": 0, "limit": SLICE, **share._asdict()}
    while ids := [row.subject_id for row in execute(db, _SLICE, values).all()]:
        yield ids
        values["after"] = ids[-1]
