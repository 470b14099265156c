"""One person's story as Postgres tells it: who they are, and what each system was to hold and was sent."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from integration.storage.statement import execute

_PERSON = """
SELECT id, version, attention, merged_into, erased_at, created_at, next_transition_at
FROM people WHERE id = %(id)s
"""

_STATES = """
SELECT id, connection, operation, status, reason, detail, lane, wanted, written, attempts, not_before, wanted_since,
       remote_id, remote_values, remote_at, remote_origin, rule_set, written_at
FROM sync_state WHERE subject_id = %(id)s ORDER BY connection, operation
"""

_ATTEMPTS = """
SELECT a.* FROM unnest(%(ids)s::bigint[]) AS s(id) CROSS JOIN LATERAL (
    SELECT subject_id, started_at, finished_at, outcome, reason, detail, version, fields, remote_id
    FROM attempts WHERE subject_type = %(subject_type)s AND subject_id = s.id AND version >= %(version)s
    ORDER BY id DESC LIMIT %(limit)s) AS a
ORDER BY a.subject_id, a.started_at DESC
"""

_FORMER = """
SELECT connection, object_type, external_id, moved_to, moved_at FROM links
WHERE object_id = %(id)s AND moved_to IS NOT NULL ORDER BY moved_at, connection, external_id
"""

_LEFT_OUT = """
SELECT connection, object_type, field, reason, retry_at FROM quarantined_fields
WHERE retry_at > now() AND back_at IS NULL ORDER BY connection, object_type, field
"""


class PersonRow(NamedTuple):
    """A person without what is personal."""

    id: int
    version: int
    attention: str | None
    merged_into: int | None
    erased_at: datetime | None
    created_at: datetime
    next_transition_at: datetime | None


class SyncRow(NamedTuple):
    """What one system is to hold of the person; `remote_values` are sealed."""

    id: int
    connection: str
    operation: str
    status: str
    reason: str | None
    detail: str | None
    lane: int
    wanted: int
    written: int
    attempts: int
    not_before: datetime | None
    wanted_since: datetime
    remote_id: str | None
    remote_values: bytes | None
    remote_at: datetime | None
    remote_origin: str | None
    rule_set: int | None
    written_at: datetime | None


class Try(NamedTuple):
    """One try to write; field names, never values."""

    sync_state_id: int
    started_at: datetime
    finished_at: datetime
    outcome: str
    reason: str
    detail: str | None
    version: int
    fields: list[str]
    remote_id: str | None


class Former(NamedTuple):
    """What a system called the person until it merged that into `moved_to`."""

    connection: str
    object_type: str
    external_id: str
    moved_to: str
    moved_at: datetime | None


class LeftOut(NamedTuple):
    """A property that a connection refuses, as what, and when it is tried again."""

    connection: str
    object_type: str
    field: str
    reason: str
    retry_at: datetime


def person(db: Connection, person_id: int) -> PersonRow | None:
    """Return a person's row, None where there is none."""
    row = execute(db, _PERSON, {"id": person_id}).one_or_none()
    return PersonRow(*row) if row else None


def sync_rows(db: Connection, person_id: int) -> list[SyncRow]:
    """Return what each system is to hold of a person."""
    return [SyncRow(*row) for row in execute(db, _STATES, {"id": person_id})]


def tries(
    db: Connection, ids: Sequence[int], *, limit: int, version: int = 0, subject_type: str = "sync_state"
) -> dict[int, list[Try]]:
    """Return the last tries of each row, newest first, from a version of the person on; `subject_type`: of what."""
    found: dict[int, list[Try]] = {row_id: [] for row_id in ids}
    values = {"ids": list(ids), "limit": limit, "version": version, "subject_type": subject_type}
    for row in execute(db, _ATTEMPTS, values):
        found[row.subject_id].append(Try(*row))
    return found


def former(db: Connection, person_id: int) -> list[Former]:
    """Return the ids of a person that were merged away, the oldest first."""
    return [Former(*row) for row in execute(db, _FORMER, {"id": person_id})]


def left_out(db: Connection) -> list[LeftOut]:
    """Return the properties that are left out now."""
    return [LeftOut(*row) for row in execute(db, _LEFT_OUT)]
