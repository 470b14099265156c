"""Doubt in what we believe of contacts: somebody said that they changed, so they are read before anything is skipped.

What is believed stays beside the doubt: compared with what is read, it says who put a property back.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from integration.errors import Reason
from integration.model.contacts import CONTACT, WRITE_CONTACT
from integration.storage.statement import execute
from integration.storage.sync_state import BACKFILL

_BELIEVED = """
SELECT l.connection, l.external_id, l.object_id, s.id, s.status, s.remote_id, s.remote_values, s.remote_at, s.doubted_at
FROM unnest(%(connection)s::text[], %(contact_id)s::text[]) AS t(connection, contact_id)
JOIN links l ON l.connection = t.connection AND l.object_type = %(object_type)s AND l.external_id = t.contact_id
LEFT JOIN sync_state s ON s.connection = l.connection AND s.object_type = l.object_type
    AND s.operation = %(operation)s AND s.subject_id = l.object_id
"""

# By the clock and not by the start of the transaction: a worker that claims the row meanwhile may have read before.
_ADD = """
WITH held AS MATERIALIZED (
    SELECT id FROM sync_state WHERE id = ANY(%(ids)s::bigint[]) ORDER BY connection, subject_id FOR UPDATE
)
UPDATE sync_state s SET doubted_at = clock_timestamp(),
    wanted_since = CASE WHEN s.status = 'in_step' THEN now() ELSE s.wanted_since END,
    lane = CASE WHEN s.status = 'in_step' THEN %(backfill)s ELSE s.lane END,
    attempts = CASE WHEN s.status IN ('in_step', 'dead', 'parked') THEN 0 ELSE s.attempts END,
    failing_since = CASE WHEN s.status = 'dead' THEN NULL ELSE s.failing_since END,
    not_before = CASE WHEN s.status = 'sending' THEN s.not_before ELSE least(s.not_before, {at}) END,
    status = CASE WHEN s.status = 'sending' THEN s.status ELSE 'due' END
FROM held WHERE s.id = held.id
"""
_ADD_NOW = _ADD.format(at="now()")
_ADD_LATER = _ADD.format(at="to_timestamp((floor(extract(epoch FROM now()) / %(seconds)s) + 1) * %(seconds)s)")

_WAKE = """
UPDATE sync_state SET status = 'due', wanted_since = now(), not_before = now(), attempts = 0
WHERE id IN (SELECT id FROM sync_state
             WHERE connection = %(connection)s AND operation = %(operation)s AND subject_id = ANY(%(ids)s::bigint[])
               AND status = 'parked' AND reason = ANY(%(reasons)s::text[])
             ORDER BY subject_id FOR UPDATE)
RETURNING subject_id
"""

_WAITS = """
SELECT DISTINCT connection FROM sync_state
WHERE status = 'parked' AND connection = ANY(%(connections)s::text[]) AND reason = ANY(%(reasons)s::text[])
"""

FOR_A_CONTACT = (Reason.UNKNOWN_PERSON.value, Reason.CONTACT_DELETED.value)
"""Why a person is parked whom a contact that appears may be."""


class Believed(NamedTuple):
    """What we believe of a contact, still sealed, and since when; `row_id` None = nothing was ever due of the person.

    `remote_id` is the contact that is written for this person, which may be another one of theirs.
    """

    person_id: int
    row_id: int | None
    status: str | None
    remote_id: str | None
    remote_values: bytes | None
    remote_at: datetime | None
    doubted_at: datetime | None


def believed(db: Connection, contacts: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Believed]:
    """Return what we believe of each (connection, contact id) that stands for somebody."""
    values = {
        "connection": [connection for connection, _ in contacts],
        "contact_id": [contact_id for _, contact_id in contacts],
        "object_type": CONTACT,
        "operation": WRITE_CONTACT,
    }
    rows = execute(db, _BELIEVED, values).all() if contacts else []
    return {(row.connection, row.external_id): Believed(*row[2:]) for row in rows}


def add(db: Connection, row_ids: Sequence[int], *, gather: float = 0) -> None:
    """Let these rows be read again; whoever is being written now comes once more.

    `gather`: those of so many seconds come at once, at the end of them, so that a call takes many.
    """
    if row_ids:
        values = {"ids": sorted(set(row_ids)), "backfill": BACKFILL, "seconds": gather}
        execute(db, _ADD_LATER if gather else _ADD_NOW, values)


def waits(db: Connection, connections: Sequence[str]) -> set[str]:
    """Return the connections where somebody waits for a contact to appear."""
    values = {"connections": sorted(set(connections)), "reasons": list(FOR_A_CONTACT)}
    return {row.connection for row in execute(db, _WAITS, values)} if connections else set()


def wake(db: Connection, connection: str, person_ids: Sequence[int]) -> set[int]:
    """Make those of these people due who wait for a contact to appear; return them."""
    values = {
        "connection": connection,
        "operation": WRITE_CONTACT,
        "ids": list(person_ids),
        "reasons": list(FOR_A_CONTACT),
    }
    return {row.subject_id for row in execute(db, _WAKE, values)}
