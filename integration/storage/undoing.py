"""What an undo takes back of a run: its repairs, person by person, under the lease of the row that is written for them.

The lease is that of every write (rule 2): while an undo holds it no flush can write the person, and while a flush holds
it the undo waits. A finding that was looked at says so, and is never looked at again.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection

from integration.model.contacts import CONTACT, WRITE_CONTACT
from integration.model.reconciliation import Class
from integration.storage.statement import execute
from integration.storage.sync_state import LEASE_SECONDS

_LEFT = """
SELECT count(*) AS contacts, coalesce(sum(cardinality(fields)), 0)::bigint AS fields FROM reconciliation_findings
WHERE reconciliation_id = %(run)s AND kind = %(kind)s AND repairs AND undone_at IS NULL
"""

# Whoever became one with somebody is written as that person; of two findings of one row the other has its turn later.
# Rows are taken whatever their state: a lease says all.
_CLAIM = """
WITH next AS (
    SELECT f.id AS finding, f.contact_id, f.sealed, s.id
    FROM reconciliation_findings f
    JOIN people p ON p.id = f.person_id
    JOIN sync_state s ON s.connection = %(connection)s AND s.object_type = %(object_type)s
        AND s.operation = %(operation)s AND s.subject_id = coalesce(p.merged_into, p.id)
    WHERE f.reconciliation_id = %(run)s AND f.kind = %(kind)s AND f.repairs AND f.undone_at IS NULL
      AND f.id <> ALL(%(but)s::bigint[]) AND s.status <> 'sending'
    ORDER BY f.id LIMIT %(limit)s FOR UPDATE OF s SKIP LOCKED
)
UPDATE sync_state s
SET status = 'sending', lease = %(lease)s, lease_until = now() + %(seconds)s * interval '1 second',
    attempts = attempts + 1, claimed_with = (SELECT count(*) FROM next), claimed_at = now()
FROM next WHERE s.id = next.id
RETURNING next.finding, next.contact_id, next.sealed, s.id, s.subject_id, s.remote_id, s.written
"""

# Nothing is written for them any more, so there is nothing of ours to take back.
_NOBODYS = """
UPDATE reconciliation_findings f SET undone_at = now(), undone_fields = '{}'
WHERE f.reconciliation_id = %(run)s AND f.kind = %(kind)s AND f.repairs AND f.undone_at IS NULL
  AND NOT EXISTS (SELECT FROM people p JOIN sync_state s ON s.subject_id = coalesce(p.merged_into, p.id)
                  WHERE p.id = f.person_id AND s.connection = %(connection)s AND s.object_type = %(object_type)s
                    AND s.operation = %(operation)s)
"""

_DONE = """
UPDATE reconciliation_findings f SET undone_at = now(), undone_fields = string_to_array(t.fields, ',')
FROM unnest(%(id)s::bigint[], %(fields)s::text[]) AS t(id, fields)
WHERE f.id = t.id AND f.undone_at IS NULL
"""


class Left(NamedTuple):
    """How many contacts, and properties of them, have not been looked at by an undo."""

    contacts: int
    fields: int


class Repaired(NamedTuple):
    """A repair, with the row that is held for it; `written` is the version that the row has reached."""

    finding: int
    contact_id: str
    sealed: bytes
    row: int
    person_id: int
    remote_id: str | None
    written: int


def left(db: Connection, run: int) -> Left:
    """Return what an undo of a run would look at."""
    return Left(*execute(db, _LEFT, {"run": run, "kind": Class.DRIFTED.value}).one())


def claim(
    db: Connection, connection: str, run: int, lease: UUID, *, limit: int, but: Sequence[int] = ()
) -> list[Repaired]:
    """Take the leases of people whom a run had repaired; those that are being written now have their turn later."""
    values = {**_named(connection, run), "lease": lease, "seconds": LEASE_SECONDS, "limit": limit, "but": list(but)}
    return sorted(Repaired(*row) for row in execute(db, _CLAIM, values).all())


def leave_nobodys(db: Connection, connection: str, run: int) -> int:
    """Mark the repairs of contacts that nothing is written to any more; return how many."""
    return execute(db, _NOBODYS, _named(connection, run)).rowcount


def done(db: Connection, given_back: Mapping[int, Sequence[str]]) -> None:
    """Mark findings as looked at, with the properties that were given back."""
    if given_back:
        values = {"id": list(given_back), "fields": [",".join(sorted(fields)) for fields in given_back.values()]}
        execute(db, _DONE, values)


def _named(connection: str, run: int) -> dict[str, object]:
    return {
        "connection": connection,
        "run": run,
        "kind": Class.DRIFTED.value,
        "object_type": CONTACT,
        "operation": WRITE_CONTACT,
    }
