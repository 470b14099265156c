"""Each try to write a record, kept as a row: field names and reasons, never values."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection

from integration.errors import Reason

_APPEND = """
INSERT INTO attempts (subject_type, subject_id, connection, operation, batch, started_at, outcome, reason, detail,
                      version, fields, remote_id, rule_set)
SELECT 'sync_state', t.subject_id, %(connection)s, %(operation)s, %(batch)s, %(started_at)s, t.outcome, t.reason,
       t.detail, t.version, string_to_array(t.fields, ','), t.remote_id, %(rule_set)s
FROM unnest(%(subject_id)s::bigint[], %(outcome)s::text[], %(reason)s::text[], %(detail)s::text[],
            %(version)s::bigint[], %(fields)s::text[], %(remote_id)s::text[])
     AS t(subject_id, outcome, reason, detail, version, fields, remote_id)
"""

_AUDIT = """
INSERT INTO audit (actor, action, connection, subject_type, subject_id, fields, outcome, reference)
SELECT %(actor)s, t.action, %(connection)s, 'person', t.subject_id, string_to_array(t.fields, ','), t.outcome,
       t.reference
FROM unnest(%(action)s::text[], %(subject_id)s::bigint[], %(fields)s::text[], %(outcome)s::text[],
            %(reference)s::text[]) AS t(action, subject_id, fields, outcome, reference)
"""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try: the row it was for, the person, the version projected, the fields sent."""

    sync_state_id: int
    person_id: int
    outcome: str
    reason: Reason
    version: int
    fields: tuple[str, ...] = ()
    detail: str | None = None
    remote_id: str | None = None
    was_sent: bool = True


def append(
    db: Connection,
    attempts: Sequence[Attempt],
    *,
    connection: str,
    operation: str,
    batch: UUID,
    started_at: datetime,
    rule_set: int | None,
) -> None:
    """Append a batch of tries, and an audit row for each that changed the other side."""
    if not attempts:
        return
    values = {
        "connection": connection,
        "operation": operation,
        "batch": batch,
        "started_at": started_at,
        "rule_set": rule_set,
        "subject_id": [a.sync_state_id for a in attempts],
        "outcome": [a.outcome for a in attempts],
        "reason": [a.reason.value for a in attempts],
        "detail": [a.detail for a in attempts],
        "version": [a.version for a in attempts],
        "fields": [",".join(a.fields) for a in attempts],
        "remote_id": [a.remote_id for a in attempts],
    }
    db.exec_driver_sql(_APPEND, values)
    sent = [a for a in attempts if a.was_sent]
    if sent:
        audit = {
            "actor": "coursewire",
            "connection": connection,
            "action": ["contact.write"] * len(sent),
            "subject_id": [a.person_id for a in sent],
            "fields": [",".join(a.fields) for a in sent],
            "outcome": [a.reason.value for a in sent],
            "reference": [a.remote_id for a in sent],
        }
        db.exec_driver_sql(_AUDIT, audit)
