"""Each try to write a record, kept as a row: field names and reasons, never values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, LiteralString
from uuid import UUID

from sqlalchemy import Connection

from integration.errors import Reason
from integration.storage.statement import execute

SubjectType = Literal["sync_state", "delivery", "enrollment"]

_HELD: Mapping[SubjectType, LiteralString] = {
    "sync_state": """
        SELECT id FROM sync_state WHERE id = ANY(%(subject_id)s::bigint[]) ORDER BY connection, subject_id FOR KEY SHARE
        """,
    "delivery": "SELECT id FROM deliveries WHERE id = ANY(%(subject_id)s::bigint[]) ORDER BY id FOR KEY SHARE",
    "enrollment": "SELECT id FROM enrollments WHERE id = ANY(%(subject_id)s::bigint[]) ORDER BY id FOR KEY SHARE",
}

# One statement for both: each try, and an audit row for each that changed the other side. Who was erased meanwhile has
# no row to try for any more: that somebody was written is still true, what they are called there must not come back.
_APPEND = """
WITH held AS MATERIALIZED ({held}), tries AS MATERIALIZED (
    SELECT t.*, string_to_array(t.names, ',') AS fields
    FROM unnest(%(subject_id)s::bigint[], %(person_id)s::bigint[], %(outcome)s::text[], %(reason)s::text[],
                %(detail)s::text[], %(version)s::bigint[], %(names)s::text[], %(remote_id)s::text[], %(sent)s::bool[])
         AS t(subject_id, person_id, outcome, reason, detail, version, names, remote_id, sent)
), appended AS (
    INSERT INTO attempts (subject_type, subject_id, connection, operation, batch, started_at, outcome, reason, detail,
                          version, fields, remote_id, rule_set)
    SELECT %(subject_type)s, subject_id, %(connection)s, %(operation)s, %(batch)s, %(started_at)s, outcome, reason,
           detail, version, fields, remote_id, %(rule_set)s
    FROM tries JOIN held ON held.id = tries.subject_id
)
INSERT INTO audit (actor, action, connection, subject_type, subject_id, fields, outcome, reference)
SELECT %(actor)s, %(action)s, %(connection)s, %(about)s, person_id, fields, reason,
       %(subject_type)s || ':' || subject_id
FROM tries WHERE sent
"""


_STATEMENTS = {kind: _APPEND.format(held=held) for kind, held in _HELD.items()}


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try: the row it was for, the person, the version projected, the fields sent."""

    subject_id: int
    person_id: int
    outcome: str
    reason: Reason
    version: int
    fields: tuple[str, ...] = ()
    detail: str | None = None
    remote_id: str | None = None
    was_sent: bool = True


def append(  # noqa: PLR0913 - what is the same for all tries of a batch
    db: Connection,
    attempts: Sequence[Attempt],
    *,
    connection: str,
    operation: str,
    batch: UUID,
    started_at: datetime,
    rule_set: int | None,
    subject_type: SubjectType = "sync_state",
    action: str = "contact.write",
    about: Literal["person", "account"] = "person",
) -> None:
    """Append a batch of tries, and an audit row for each that changed the other side.

    `subject_type` is what the rows are that they were for, `action` what the audit log calls it, `about`
    what `person_id` is the number of.
    """
    if not attempts:
        return
    values = {
        "actor": "coursewire",
        "action": action,
        "about": about,
        "subject_type": subject_type,
        "connection": connection,
        "operation": operation,
        "batch": batch,
        "started_at": started_at,
        "rule_set": rule_set,
        "subject_id": [a.subject_id for a in attempts],
        "person_id": [a.person_id for a in attempts],
        "outcome": [a.outcome for a in attempts],
        "reason": [a.reason.value for a in attempts],
        "detail": [a.detail for a in attempts],
        "version": [a.version for a in attempts],
        "names": [",".join(a.fields) for a in attempts],
        "remote_id": [a.remote_id for a in attempts],
        "sent": [a.was_sent for a in attempts],
    }
    execute(db, _STATEMENTS[subject_type], values)
