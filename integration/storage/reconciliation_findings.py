"""What a run that compares a CRM saw and found: contacts that are there, how they differ, and whose were on no page."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from integration.model.contacts import CONTACT, WRITE_CONTACT
from integration.storage.reconciliations import Chunk
from integration.storage.statement import execute

GATHER_SECONDS = 60.0
"""How long repairs of a run that goes on are gathered: a call reads, and another one writes, a hundred of them."""

# A person may have been looked at since, for another reason; then it is only looked once more.
_LET_GO = """
UPDATE sync_state SET not_before = now()
WHERE id IN (SELECT s.id FROM reconciliation_findings f
             JOIN reconciliations r ON r.id = f.reconciliation_id
             JOIN sync_state s ON s.connection = r.connection AND s.object_type = %(object_type)s
                 AND s.operation = %(operation)s AND s.subject_id = f.person_id
             WHERE f.reconciliation_id = %(run)s AND f.repairs AND s.status = 'due' AND s.doubted_at IS NOT NULL
               AND s.not_before > now() AND s.not_before <= now() + %(seconds)s * interval '1 second'
             ORDER BY s.subject_id FOR UPDATE OF s)
"""

_SEE = """
INSERT INTO reconciliation_sightings (reconciliation_id, contact_id)
SELECT %(run)s, id FROM unnest(%(ids)s::text[]) AS id ORDER BY id ON CONFLICT DO NOTHING RETURNING contact_id
"""

_FIND = """
INSERT INTO reconciliation_findings (reconciliation_id, kind, contact_id, person_id, fields, sealed, repairs)
SELECT %(run)s, t.kind, t.contact_id, t.person_id, string_to_array(t.fields, ','), t.sealed, t.repairs
FROM unnest(%(kind)s::text[], %(contact_id)s::text[], %(person_id)s::bigint[], %(fields)s::text[],
            %(sealed)s::bytea[], %(repairs)s::bool[])
     AS t(kind, contact_id, person_id, fields, sealed, repairs)
ON CONFLICT DO NOTHING
"""

# Who has no contact any more has no two, and what somebody was merged into is no copy.
_TAKE_BACK = """
WITH gone AS (
    DELETE FROM reconciliation_findings
    WHERE reconciliation_id = %(run)s AND kind IN ('duplicate', 'orphan') AND NOT repairs
      AND (contact_id = ANY(%(contact_ids)s::text[]) OR person_id = ANY(%(person_ids)s::bigint[]))
    RETURNING kind)
SELECT kind, count(*) AS contacts FROM gone GROUP BY kind
"""

_KNOWN = """
SELECT id, subject_id, status, remote_id, remote_at, written_at, doubted_at, wanted > written AS is_behind, rule_set
FROM sync_state
WHERE connection = %(connection)s AND object_type = %(object_type)s AND operation = %(operation)s
  AND subject_id = ANY(%(ids)s::bigint[])
"""

# Whoever was written or looked at since the run began was seen in another way. OFFSET 0 keeps this a look-up by key for
# each person: what is known of the table is from before the run, and a join planned for a run that has seen nobody
# compares everybody with everybody.
_UNSEEN = """
SELECT s.id, s.subject_id, s.status, s.remote_id, s.remote_at, s.written_at, s.doubted_at,
       s.wanted > s.written AS is_behind, s.rule_set
FROM sync_state s
WHERE s.connection = %(connection)s AND s.object_type = %(object_type)s AND s.operation = %(operation)s
  AND s.subject_id > %(after)s AND s.remote_id IS NOT NULL AND s.status = 'in_step'
  AND greatest(s.remote_at, s.written_at) < %(since)s
  AND NOT EXISTS (SELECT FROM reconciliation_sightings g
                  WHERE g.reconciliation_id = %(run)s AND g.contact_id = s.remote_id OFFSET 0)
ORDER BY s.subject_id LIMIT %(limit)s
"""


class Known(NamedTuple):
    """The row of somebody's contact. `is_behind`: a change is on its way. `rule_set`: by which it was projected."""

    id: int
    person_id: int
    status: str
    remote_id: str | None
    remote_at: datetime | None
    written_at: datetime | None
    doubted_at: datetime | None
    is_behind: bool
    rule_set: int | None = None


class Found(NamedTuple):
    """A finding as it is kept; `fields` joined by commas, the values sealed."""

    kind: str
    contact_id: str
    person_id: int | None
    fields: str
    sealed: bytes | None
    repairs: bool


def see(db: Connection, chunk: Chunk, contact_ids: Iterable[str]) -> set[str]:
    """Note that these contacts are there; return those that the run has not seen before."""
    values = {"run": chunk.run, "ids": sorted(set(contact_ids))}
    return {row.contact_id for row in execute(db, _SEE, values).all()}


def find(db: Connection, chunk: Chunk, found: Sequence[Found]) -> None:
    """Keep findings."""
    if found:
        columns = {name: [getattr(one, name) for one in found] for name in Found._fields}
        execute(db, _FIND, {"run": chunk.run, **columns})


def take_back(db: Connection, chunk: Chunk, contact_ids: Sequence[str], person_ids: Sequence[int]) -> dict[str, int]:
    """Name these contacts, and those of these people, duplicates and orphans no longer; return how many by class."""
    if not contact_ids and not person_ids:
        return {}
    values = {"run": chunk.run, "contact_ids": list(contact_ids), "person_ids": list(person_ids)}
    return {row.kind: row.contacts for row in execute(db, _TAKE_BACK, values).all()}


def let_go(db: Connection, run: int) -> None:
    """Wait no longer for more repairs of a run."""
    named = {"object_type": CONTACT, "operation": WRITE_CONTACT}
    execute(db, _LET_GO, {"run": run, "seconds": GATHER_SECONDS, **named})


def known(db: Connection, connection: str, person_ids: Iterable[int]) -> dict[int, Known]:
    """Return the rows of these people's contacts."""
    named = {"connection": connection, "object_type": CONTACT, "operation": WRITE_CONTACT}
    rows = execute(db, _KNOWN, {"ids": sorted(set(person_ids)), **named}).all()
    return {row.subject_id: Known(*row) for row in rows}


def unseen(db: Connection, chunk: Chunk, connection: str, *, after: int, limit: int) -> list[Known]:
    """Return rows of people whose contact was on no page, from a person on."""
    named = {"connection": connection, "object_type": CONTACT, "operation": WRITE_CONTACT, "since": chunk.started_at}
    rows = execute(db, _UNSEEN, {"run": chunk.run, "after": after, "limit": limit, **named}).all()
    return [Known(*row) for row in rows]


def values_context(run: int, contact_id: str) -> str:
    """Return the context that a finding's values are sealed for."""
    return f"reconciliation_findings.sealed:{run}:{contact_id}"
