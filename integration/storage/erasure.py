"""What is removed of an erased person, table by table; what stays is their number and that they were erased."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import LiteralString, NamedTuple

from sqlalchemy import Connection

from integration.errors import Reason
from integration.model.contacts import CONTACT
from integration.storage.statement import execute

_ALL = "SELECT id FROM people WHERE id = ANY(%(ids)s::bigint[]) OR merged_into = ANY(%(ids)s::bigint[]) ORDER BY id"

# What others have by mistake of them: a contact that was taken for theirs as well. Held before anything is removed, in
# the order in which `want` takes rows of sync_state, those of contacts before those of roles; whoever settles a call
# comes before us or finds nothing.
_HOLD = """
SELECT FROM sync_state s
WHERE s.subject_id = ANY(%(ids)s::bigint[]) OR (s.connection, s.remote_id) IN (
    SELECT connection, external_id FROM links WHERE object_id = ANY(%(ids)s::bigint[]) AND object_type = %(contact)s)
ORDER BY s.connection, s.subject_id, s.operation DESC FOR UPDATE
"""

_FORGET: tuple[LiteralString, ...] = (
    """
    UPDATE sync_state s SET remote_id = NULL, remote_values = NULL, remote_at = NULL
    FROM links l WHERE l.object_id = ANY(%(ids)s::bigint[]) AND l.object_type = %(contact)s
      AND s.connection = l.connection AND s.remote_id = l.external_id
    """,
    """
    UPDATE attempts a SET remote_id = NULL
    FROM links l WHERE l.object_id = ANY(%(ids)s::bigint[]) AND l.object_type = %(contact)s
      AND a.connection = l.connection AND a.remote_id = l.external_id
    """,
)

# In this order: tries before the rows they were for, what was to be delivered before the facts it was about.
_REMOVE: Mapping[str, LiteralString] = MappingProxyType(
    {
        "attempts": """
            DELETE FROM attempts a
            WHERE (subject_type = 'sync_state' AND subject_id IN (
                       SELECT id FROM sync_state WHERE subject_id = ANY(%(ids)s::bigint[])))
               OR (subject_type = 'delivery' AND subject_id IN (
                       SELECT id FROM deliveries WHERE person_id = ANY(%(ids)s::bigint[])))
               OR (subject_type = 'enrollment' AND subject_id IN (
                       SELECT id FROM enrollments WHERE person_id = ANY(%(ids)s::bigint[])))
            """,
        "deliveries": "DELETE FROM deliveries WHERE person_id = ANY(%(ids)s::bigint[])",
        "enrollments": "DELETE FROM enrollments WHERE person_id = ANY(%(ids)s::bigint[])",
        "assignments": "DELETE FROM assignments WHERE person_id = ANY(%(ids)s::bigint[])",
        "events": "DELETE FROM events WHERE person_id = ANY(%(ids)s::bigint[])",
        "sync_state": "DELETE FROM sync_state WHERE subject_id = ANY(%(ids)s::bigint[])",
        "employments": "DELETE FROM employments WHERE person_id = ANY(%(ids)s::bigint[])",
        "overrides": "DELETE FROM overrides WHERE person_id = ANY(%(ids)s::bigint[])",
        "reconciliation_findings": "DELETE FROM reconciliation_findings WHERE person_id = ANY(%(ids)s::bigint[])",
        "loops": "DELETE FROM loops WHERE person_id = ANY(%(ids)s::bigint[])",
        "deal_contacts": """
            DELETE FROM deal_contacts c USING links l
            WHERE l.object_id = ANY(%(ids)s::bigint[]) AND l.object_type = %(contact)s
              AND c.connection = l.connection AND c.contact_id = l.external_id
            """,
        "links": """
            DELETE FROM links WHERE object_id = ANY(%(ids)s::bigint[]) AND object_type = ANY(%(object_types)s::text[])
            """,
        "people": """
            UPDATE people SET profile = NULL, email_key = NULL, employee_key = NULL, role = NULL, attention = NULL,
                next_transition_at = NULL, erased_at = coalesce(erased_at, now())
            WHERE id = ANY(%(ids)s::bigint[])
            """,
    }
)

# The key stays, so that a duplicate is still one; the hash of the body goes, because a body can be guessed.
_SHRED = """
WITH shredded AS (
    UPDATE inbox SET payload = NULL, original_payload = NULL, detail = NULL, park_keys = NULL, person_id = NULL,
        person_version = NULL,
        status = CASE WHEN status = 'claimed' THEN status ELSE 'ignored' END,
        reason = CASE WHEN status = 'claimed' THEN reason ELSE %(reason)s END,
        settled_at = CASE WHEN status = 'claimed' THEN NULL ELSE coalesce(settled_at, now()) END
    WHERE person_id = ANY(%(person_ids)s::bigint[]) OR id = ANY(%(ids)s::bigint[])
    RETURNING id, connection, key
), unhashed AS (
    UPDATE inbox_keys k SET body_hash = '' FROM shredded s WHERE k.connection = s.connection AND k.key = s.key
)
SELECT count(*) FROM shredded
"""

_NOBODYS = """
SELECT id, connection, request_id, payload, original_payload FROM inbox
WHERE id > %(after)s AND status IN ('parked', 'dead', 'ignored', 'enriching') AND person_id IS NULL
  AND payload IS NOT NULL
ORDER BY id LIMIT %(limit)s
"""


class Nobodys(NamedTuple):
    """An event that is kept and belongs to nobody yet; its payloads are sealed."""

    id: int
    connection: str
    request_id: str
    payload: bytes
    original_payload: bytes | None


def everybody(db: Connection, ids: Sequence[int]) -> list[int]:
    """Return these people and all who became one with them."""
    return [row.id for row in execute(db, _ALL, {"ids": list(ids)})]


def remove(db: Connection, ids: Sequence[int], object_types: Sequence[str]) -> dict[str, int]:
    """Remove what is known of these people, whose rows the caller holds; return how many rows of which table."""
    values = {"ids": list(ids), "object_types": list(object_types), "contact": CONTACT}
    for statement in _FORGET:
        execute(db, statement, values)
    return {table: execute(db, statement, values).rowcount for table, statement in _REMOVE.items()}


def hold(db: Connection, ids: Sequence[int]) -> None:
    """Hold what any system holds of these people, whose rows the caller holds."""
    execute(db, _HOLD, {"ids": list(ids), "contact": CONTACT})


def shred(db: Connection, person_ids: Sequence[int], ids: Sequence[int] = ()) -> int:
    """Drop the payloads of everything received about these people, and of these events; return how many."""
    values = {"person_ids": list(person_ids), "ids": list(ids), "reason": Reason.ERASED.value}
    return int(execute(db, _SHRED, values).scalar_one())


def nobodys(db: Connection, *, after: int, limit: int) -> list[Nobodys]:
    """Return kept events of nobody's, from an id on."""
    return [Nobodys(*row) for row in execute(db, _NOBODYS, {"after": after, "limit": limit})]
