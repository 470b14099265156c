"""What is told of comparisons: the runs, their figures, and examples of what they found."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection

from integration.storage.statement import execute

_COLUMNS = """
id, connection, actor, is_dry, status, reason, scheduled_for, started_at, finished_at, counts, expected,
extract(epoch FROM coalesce(finished_at, now()) - started_at)::float8 AS seconds
"""

_LATEST = f"""
SELECT {_COLUMNS} FROM reconciliations
WHERE %(connection)s::text IS NULL OR connection = %(connection)s ORDER BY id DESC LIMIT %(limit)s
"""  # noqa: S608 - a constant of ours

_GET = f"SELECT {_COLUMNS} FROM reconciliations WHERE id = %(run)s"  # noqa: S608 - as above

_BEFORE = f"""
SELECT {_COLUMNS} FROM reconciliations
WHERE connection = %(connection)s AND id <= %(run)s AND (status = 'done' OR id = %(run)s)
ORDER BY id DESC LIMIT %(limit)s
"""  # noqa: S608 - as above

# By class through the unique index, so that a run of many findings costs no more than one of few.
_EXAMPLES = """
SELECT f.* FROM unnest(%(kinds)s::text[]) WITH ORDINALITY AS k(kind, place)
CROSS JOIN LATERAL (
    SELECT id, kind, contact_id, person_id, fields, sealed, repairs, undone_at, undone_fields
    FROM reconciliation_findings WHERE reconciliation_id = %(run)s AND kind = k.kind
    ORDER BY contact_id LIMIT %(each)s) AS f
ORDER BY k.place, f.contact_id
"""

_UNDONE = """
SELECT count(*) AS contacts, coalesce(sum(cardinality(undone_fields)), 0)::bigint AS given_back,
       coalesce(sum(cardinality(fields) - cardinality(undone_fields)), 0)::bigint AS left_alone, max(undone_at) AS at
FROM reconciliation_findings WHERE reconciliation_id = %(run)s AND undone_at IS NOT NULL
"""

# Who has never been well is as late as the first run that failed, or is not over, makes it. A run that made all the
# calls of a night was well that night.
_STANDING = """
SELECT connection, greatest(max(finished_at) FILTER (WHERE status = 'done'), max(rested_at)) AS succeeded_at,
       min(started_at) AS first_at, now()
FROM reconciliations WHERE NOT is_dry GROUP BY connection
"""


class Comparison(NamedTuple):
    """A run as it is told; `seconds` it has taken so far, `expected` contacts by the run before it."""

    id: int
    connection: str
    actor: str
    is_dry: bool
    status: str
    reason: str | None
    scheduled_for: datetime
    started_at: datetime
    finished_at: datetime | None
    counts: dict[str, int]
    expected: int | None
    seconds: float


class Example(NamedTuple):
    """A finding; the values are still sealed. `undone_fields`: what an undo gave back, None = there was none."""

    id: int
    kind: str
    contact_id: str
    person_id: int | None
    fields: list[str]
    sealed: bytes | None
    repairs: bool
    undone_at: datetime | None
    undone_fields: list[str] | None


class Undo(NamedTuple):
    """What an undo of a run has looked at, and when last."""

    contacts: int
    given_back: int
    left_alone: int
    at: datetime | None


class Standing(NamedTuple):
    """When comparing a connection last went well, and when the first run of it that is known began."""

    connection: str
    succeeded_at: datetime | None
    first_at: datetime
    now: datetime


def latest(db: Connection, connection: str | None = None, *, limit: int) -> list[Comparison]:
    """Return the newest runs."""
    return [Comparison(*row) for row in execute(db, _LATEST, {"connection": connection, "limit": limit}).all()]


def get(db: Connection, run: int) -> Comparison | None:
    """Return a run."""
    row = execute(db, _GET, {"run": run}).first()
    return Comparison(*row) if row else None


def before(db: Connection, run: Comparison, *, limit: int) -> list[Comparison]:
    """Return a run and those of its connection before it that came to their end, the oldest first."""
    rows = execute(db, _BEFORE, {"connection": run.connection, "run": run.id, "limit": limit}).all()
    return [Comparison(*row) for row in reversed(rows)]


def examples(db: Connection, run: int, kinds: Sequence[str], *, each: int) -> list[Example]:
    """Return at most `each` findings of each of these classes."""
    values: dict[str, Any] = {"run": run, "kinds": list(kinds), "each": each}
    return [Example(*row) for row in execute(db, _EXAMPLES, values).all()]


def undone(db: Connection, run: int) -> Undo:
    """Return what was undone of a run."""
    return Undo(*execute(db, _UNDONE, {"run": run}).one())


def standings(db: Connection) -> dict[str, Standing]:
    """Return when each connection was last compared."""
    return {row.connection: Standing(*row) for row in execute(db, _STANDING).all()}
