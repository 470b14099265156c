"""Two people who turn out to be one: what was said of one of them goes to the other (rule 17).

The caller holds both rows of people. What other systems call them is kept for ever: links lead to whoever goes on, and
the journal says which id was merged into which.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import LiteralString, NamedTuple

from sqlalchemy import Connection

from integration.errors import Reason
from integration.storage.statement import execute

_NAMES = """
SELECT object_id, connection, object_type, external_id FROM links
WHERE object_id = ANY(%(ids)s::bigint[]) AND object_type = ANY(%(object_types)s::text[]) ORDER BY 2, 3, 4
"""

_MOVE: tuple[LiteralString, ...] = (
    """
    UPDATE links SET object_id = %(survivor)s
    WHERE object_id = %(loser)s AND object_type = ANY(%(object_types)s::text[])
    """,
    "UPDATE events SET person_id = %(survivor)s, person_version = %(version)s WHERE person_id = %(loser)s",
    "UPDATE deliveries SET person_id = %(survivor)s WHERE person_id = %(loser)s",
    "UPDATE inbox SET person_id = %(survivor)s, person_version = %(version)s WHERE person_id = %(loser)s",
    "UPDATE people SET merged_into = %(survivor)s WHERE id = %(loser)s OR merged_into = %(loser)s",
    "UPDATE overrides SET person_id = %(survivor)s WHERE person_id = %(loser)s",
    "DELETE FROM loops WHERE person_id = %(loser)s",
    # What both deserve is decided anew for the one who goes on; a course that both are in is in step for one of them.
    "UPDATE assignments SET status = 'ended', ended_at = now() WHERE person_id = %(loser)s AND status = 'live'",
    """
    UPDATE enrollments e SET person_id = %(survivor)s
    WHERE person_id = %(loser)s AND NOT EXISTS (
        SELECT FROM enrollments o
        WHERE o.person_id = %(survivor)s AND o.connection = e.connection AND o.course_id = e.course_id)
    """,
    """
    UPDATE enrollments SET status = 'in_step', written = wanted, not_before = NULL, reason = %(reason)s, lease = NULL,
        lease_until = NULL, max_batch = NULL
    WHERE person_id = %(loser)s
    """,
)

# In the order in which `want` takes rows of sync_state, those of contacts before those of their roles.
_HELD = """
SELECT connection, subject_id, remote_id, lane, CASE WHEN status = 'sending' THEN lease_until END AS busy_until
FROM sync_state WHERE subject_id = ANY(%(ids)s::bigint[]) ORDER BY connection, subject_id, operation DESC FOR UPDATE
"""

_END = """
UPDATE sync_state SET status = 'in_step', written = wanted, not_before = NULL, reason = %(reason)s, detail = NULL,
    lease = NULL, lease_until = NULL, max_batch = NULL, remote_id = NULL, remote_values = NULL, remote_at = NULL,
    attempts = 0, failing_since = NULL, doubted_at = NULL
WHERE subject_id = %(loser)s
"""

# A call about the other may still be on its way to the same contact (rule 2): until that call's lease ends the row is
# held by nobody, and no news can make it due before. The sweeper takes it back, as it does with those of the dead.
_GO_ON = """
UPDATE sync_state s SET doubted_at = clock_timestamp(), remote_id = coalesce(s.remote_id, t.remote_id),
    status = CASE WHEN t.busy_until IS NULL THEN s.status ELSE 'sending' END,
    lease = CASE WHEN t.busy_until IS NULL THEN s.lease ELSE gen_random_uuid() END,
    lease_until = CASE WHEN t.busy_until IS NULL THEN s.lease_until ELSE greatest(s.lease_until, t.busy_until) END,
    claimed_with = CASE WHEN t.busy_until IS NULL THEN s.claimed_with ELSE 0 END
FROM unnest(%(connection)s::text[], %(remote_id)s::text[], %(busy_until)s::timestamptz[])
     AS t(connection, remote_id, busy_until)
WHERE s.subject_id = %(survivor)s AND s.connection = t.connection
"""

_REPOINT = """
UPDATE links l SET moved_to = t.new_id, moved_at = now()
FROM unnest(%(old_id)s::text[], %(new_id)s::text[]) AS t(old_id, new_id)
WHERE l.connection = %(connection)s AND l.object_type = %(object_type)s AND l.external_id = t.old_id
  AND l.moved_to IS DISTINCT FROM t.new_id
"""

_READDRESS = """
UPDATE sync_state SET remote_id = %(new_id)s
WHERE connection = %(connection)s AND subject_id = %(survivor)s AND remote_id = ANY(%(old_ids)s::text[])
"""


class Name(NamedTuple):
    """What a system calls one of our people."""

    person_id: int
    connection: str
    object_type: str
    external_id: str


class Held(NamedTuple):
    """What one system holds of one of two people; `busy_until`: a call about them may be on its way until then."""

    connection: str
    person_id: int
    remote_id: str | None
    lane: int
    busy_until: datetime | None


def names(db: Connection, ids: Iterable[int], object_types: Iterable[str]) -> list[Name]:
    """Return what other systems call these people, or called them before a merge of theirs."""
    values = {"ids": sorted(set(ids)), "object_types": sorted(object_types)}
    return [Name(*row) for row in execute(db, _NAMES, values)]


def move(db: Connection, survivor: int, loser: int, version: int, object_types: Iterable[str]) -> None:
    """Give `survivor`, who is at `version` now, everything that was said of `loser`."""
    values = {
        "survivor": survivor,
        "loser": loser,
        "version": version,
        "object_types": sorted(object_types),
        "reason": Reason.PERSON_MERGED.value,
    }
    for statement in _MOVE:
        execute(db, statement, values)


def hold(db: Connection, survivor: int, loser: int) -> list[Held]:
    """Return what systems hold of the two; their rows are held until the transaction ends."""
    return [Held(*row) for row in execute(db, _HELD, {"ids": [survivor, loser]})]


def end(db: Connection, loser: int) -> None:
    """Settle what was due for somebody who is no more; a call under way can say nothing final any more."""
    execute(db, _END, {"loser": loser, "reason": Reason.PERSON_MERGED.value})


def go_on(db: Connection, survivor: int, held: Iterable[Held]) -> None:
    """Let nothing be believed of the survivor's contacts; where they had none, they have the other's.

    Nobody writes the survivor while a call about the other may be on its way.
    """
    others = [row for row in held if row.person_id != survivor]
    values = {
        "survivor": survivor,
        "connection": [row.connection for row in others],
        "remote_id": [row.remote_id for row in others],
        "busy_until": [row.busy_until for row in others],
    }
    execute(db, _GO_ON, values)


def repoint(db: Connection, connection: str, object_type: str, moved: Mapping[str, str]) -> None:
    """Take down that the other side merged records: old id -> the id that it leads to."""
    if not moved:
        return
    values = {
        "connection": connection,
        "object_type": object_type,
        "old_id": list(moved),
        "new_id": list(moved.values()),
    }
    execute(db, _REPOINT, values)


def readdress(db: Connection, connection: str, survivor: int, old_ids: Iterable[str], new_id: str) -> None:
    """Let what is written to one of these contacts go to the new one."""
    values = {"connection": connection, "survivor": survivor, "old_ids": sorted(old_ids), "new_id": new_id}
    execute(db, _READDRESS, values)
