"""The guard against a storm of role changes: how many people of a CRM were acted on lately, and who waits for a word.

Counted in the transaction that acts, one after the other for each CRM, so that no number of workers passes more people
together than one would.
"""

from collections.abc import Collection, Mapping, Sequence
from uuid import UUID

from sqlalchemy import Connection

from integration.errors import Reason
from integration.model.contacts import CONTACT
from integration.model.roles import READ_ROLE, Mark
from integration.storage import people
from integration.storage.statement import execute

HOUR_SECONDS = 3600.0
"""How far back people are counted."""

# A statement of its own after the lock, so that it sees what whoever held it before has committed.
_LATELY = """
SELECT subject_id FROM sync_state
WHERE connection = %(connection)s AND acted_at > clock_timestamp() - %(seconds)s * interval '1 second'
"""

# All rows of the batch are held, in the order in which `settle` and `hear` take them, or these would wait for each
# other. Whoever lost the lease has acted nevertheless, so it counts; the word about the row is its new holder's. Who is
# held stays in doubt since before the read, or a role that was mended meanwhile would go by what was read today.
_NOTE = """
WITH batch AS MATERIALIZED (
    SELECT id, subject_id FROM sync_state WHERE id = ANY(%(ids)s::bigint[])
    ORDER BY connection, subject_id FOR UPDATE
)
UPDATE sync_state s SET
    guard = CASE WHEN s.lease IS DISTINCT FROM %(lease)s THEN s.guard WHEN t.is_held THEN 'held' END,
    doubted_at = CASE WHEN t.is_held THEN coalesce(s.doubted_at, s.claimed_at) ELSE s.doubted_at END,
    acted_at = CASE WHEN t.is_counted THEN clock_timestamp() ELSE s.acted_at END
FROM batch b JOIN unnest(%(person_id)s::bigint[], %(is_held)s::bool[], %(is_counted)s::bool[])
     AS t(person_id, is_held, is_counted) ON b.subject_id = t.person_id
WHERE s.id = b.id
"""

_WAITING = """
SELECT connection, count(*) AS people FROM sync_state
WHERE status = 'parked' AND operation = %(operation)s AND reason = %(reason)s AND object_type = %(object_type)s
GROUP BY connection ORDER BY connection
"""


def let_through(db: Connection, connection: str, person_ids: Collection[int], *, most: int) -> frozenset[int]:
    """Return who of these people, whose roles changed, may be acted on: at most `most` of a CRM within the hour.

    Whoever was acted on within the hour is one of them already. Nobody else decides until the transaction ends, which
    writes down by `note` whom it acted on; the people's rows are held by the caller.
    """
    if not person_ids:
        return frozenset()
    people.serialise(db, [f"storm\0{connection}"])
    values = {"connection": connection, "seconds": HOUR_SECONDS}
    lately = {row.subject_id for row in execute(db, _LATELY, values)}
    new = sorted(set(person_ids) - lately)
    return frozenset(lately & set(person_ids)) | frozenset(new[: max(0, most - len(lately))])


def note(db: Connection, lease: UUID, row_ids: Sequence[int], marks: Mapping[int, Mark]) -> None:
    """Write down what the guard says of people whose roles are settled: `row_ids` are all rows of the batch."""
    if marks:
        values = {
            "lease": lease,
            "ids": list(row_ids),
            "person_id": list(marks),
            "is_held": [mark.is_held for mark in marks.values()],
            "is_counted": [mark.is_counted for mark in marks.values()],
        }
        execute(db, _NOTE, values)


def waiting(db: Connection) -> dict[str, int]:
    """Return how many people's changes of role wait for somebody's word, by CRM."""
    values = {"operation": READ_ROLE, "reason": Reason.STORM_GUARD.value, "object_type": CONTACT}
    return {row.connection: row.people for row in execute(db, _WAITING, values)}
