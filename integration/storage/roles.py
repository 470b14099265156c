"""The roles of contacts: rows of sync_state that are due when a role was left alone for long enough.

`heard` is called where a CRM says that something changed; claims and settlements are those of `sync_state`.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from integration.model.contacts import CONTACT, WRITE_CONTACT
from integration.model.roles import READ_ROLE, Watch
from integration.storage.statement import execute
from integration.storage.sync_state import LIVE

Watching = Callable[[Connection, str], Watch | None]
"""Say, as a transaction sees the rules, what counts of a CRM's contacts; None where their roles lead to nothing."""

PATIENCE = 10
"""A role that is changed again and again is read after so many settle times, though it has not settled."""

ACTED_ON, UNSETTLED = "seen", "unsettled"
"""`remote_origin` of a role that was read: what is deserved was decided by it, or not yet, because it must settle."""

# Each change starts the settle time anew. By the clock and not by the start of the transaction, as with doubts.
_HEAR = """
INSERT INTO sync_state AS s (connection, object_type, operation, subject_id, wanted, lane, not_before, remote_id,
                             doubted_at)
SELECT t.connection, %(object_type)s, %(operation)s, t.person_id, 1, %(live)s,
       now() + t.settle * interval '1 second', t.contact_id, clock_timestamp()
FROM unnest(%(connection)s::text[], %(person_id)s::bigint[], %(contact_id)s::text[], %(settle)s::float8[])
     AS t(connection, person_id, contact_id, settle)
JOIN people p ON p.id = t.person_id AND p.merged_into IS NULL AND p.erased_at IS NULL
ORDER BY t.connection, t.person_id
ON CONFLICT (connection, object_type, operation, subject_id) DO UPDATE SET
    doubted_at = excluded.doubted_at, remote_id = excluded.remote_id, lane = excluded.lane,
    wanted_since = CASE WHEN s.status = 'in_step' THEN now() ELSE s.wanted_since END,
    attempts = CASE WHEN s.status IN ('in_step', 'dead', 'parked') THEN 0 ELSE s.attempts END,
    failing_since = CASE WHEN s.status = 'dead' THEN NULL ELSE s.failing_since END,
    not_before = CASE WHEN s.status = 'in_step' THEN excluded.not_before
                      ELSE least(excluded.not_before,
                                 greatest(now(), s.wanted_since + %(patience)s * (excluded.not_before - now()))) END,
    status = CASE WHEN s.status = 'sending' THEN s.status ELSE 'due' END
RETURNING s.id, s.connection, s.subject_id, s.doubted_at, s.xmax = 0 AS is_new
"""

# What was read before the row was there; whoever has heard something since leaves it in doubt.
_SAW = """
UPDATE sync_state s SET remote_values = t.sealed, remote_at = now(), doubted_at = NULL
FROM unnest(%(id)s::bigint[], %(sealed)s::bytea[], %(doubted_at)s::timestamptz[]) AS t(id, sealed, doubted_at)
WHERE s.id = t.id AND s.doubted_at = t.doubted_at
"""

# Something else than the contact has changed what somebody deserves: nothing has to be read for it.
_AGAIN = """
UPDATE sync_state s SET status = 'due', wanted_since = now(), not_before = now(), lane = %(lane)s, attempts = 0
WHERE id IN (SELECT id FROM sync_state
             WHERE subject_id = ANY(%(ids)s::bigint[]) AND object_type = %(object_type)s AND operation = %(operation)s
               AND status = 'in_step'
             ORDER BY connection, subject_id FOR UPDATE)
RETURNING connection
"""

# Whoever goes on after a merge has the contact that the other one had, and nobody has read it for them.
_HEIRS = """
SELECT s.connection, %(survivor)s::bigint AS person_id, s.remote_id AS contact_id, 0::float8 AS settle
FROM sync_state s
WHERE s.subject_id = %(loser)s AND s.object_type = %(object_type)s AND s.operation = %(operation)s
  AND s.remote_id IS NOT NULL ORDER BY s.connection
"""

_KNOWN = """
SELECT s.id, s.connection, s.subject_id, s.remote_values, s.doubted_at, s.status = 'in_step' AS is_settled,
       extract(epoch FROM clock_timestamp() - s.doubted_at)::float8 AS age, s.remote_id IS NOT NULL AS is_there,
       s.written = 0 AS is_new, s.written > 0 AND s.remote_origin IS DISTINCT FROM %(unsettled)s AS is_acted_on,
       s.guard, s.rule_set
FROM sync_state s
WHERE s.subject_id = ANY(%(ids)s::bigint[]) AND s.object_type = %(object_type)s AND s.operation = %(operation)s
ORDER BY s.connection, s.subject_id
"""


# Once a row was claimed, a call of it may be on its way that the reading has not seen.
_UNTRIED = """
SELECT s.id, s.subject_id FROM sync_state s
WHERE s.connection = %(connection)s AND s.object_type = %(object_type)s AND s.operation = %(operation)s
  AND s.subject_id = ANY(%(ids)s::bigint[]) AND s.claimed_at IS NULL AND s.remote_id IS NULL
ORDER BY s.subject_id FOR UPDATE
"""

# As old as the claim that the reading came after.
_TELL = """
UPDATE sync_state s
SET remote_id = t.remote_id, remote_values = t.sealed, remote_origin = 'seen', remote_at = r.claimed_at
FROM unnest(%(id)s::bigint[], %(person_id)s::bigint[], %(remote_id)s::text[], %(sealed)s::bytea[])
     AS t(id, person_id, remote_id, sealed)
JOIN sync_state r ON r.connection = %(connection)s AND r.object_type = %(object_type)s AND r.operation = %(read)s
     AND r.subject_id = t.person_id
WHERE s.id = t.id
"""


class Heard(NamedTuple):
    """A contact whose role may have changed; `settle` in seconds."""

    connection: str
    person_id: int
    contact_id: str
    settle: float


class Row(NamedTuple):
    """A row as it was made or changed."""

    id: int
    connection: str
    person_id: int
    doubted_at: datetime
    is_new: bool


class Known(NamedTuple):
    """What was read last of somebody's contact, still sealed; `age`: seconds since something was heard after it.

    `is_there`: as far as is known, there is a contact. `is_new`: nothing was ever decided by it. `is_acted_on`: what
    was read last is what was decided by. `guard`: a change waits for somebody's word (`held`), or has it (`approved`).
    `rule_set`: by which rules it was decided last.
    """

    id: int
    connection: str
    person_id: int
    remote_values: bytes | None
    doubted_at: datetime | None
    is_settled: bool
    age: float | None
    is_there: bool
    is_new: bool
    is_acted_on: bool
    guard: str | None
    rule_set: int | None


def hear(db: Connection, heard: Iterable[Heard]) -> list[Row]:
    """Let these roles be read when they have settled; each change starts that anew."""
    latest = {(one.connection, one.person_id): one for one in heard}
    if not latest:
        return []
    ordered = [latest[place] for place in sorted(latest)]
    values = {name: [getattr(one, name) for one in ordered] for name in Heard._fields}
    named = {"object_type": CONTACT, "operation": READ_ROLE, "live": LIVE, "patience": PATIENCE}
    return [Row(*row) for row in execute(db, _HEAR, {**values, **named}).all()]


def saw(db: Connection, seen: Sequence[tuple[Row, bytes]]) -> None:
    """Keep what was read, sealed for each row, of contacts that were read before their row was there."""
    if seen:
        values = {
            "id": [row.id for row, _ in seen],
            "sealed": [sealed for _, sealed in seen],
            "doubted_at": [row.doubted_at for row, _ in seen],
        }
        execute(db, _SAW, values)


def untried(db: Connection, connection: str, person_ids: Collection[int]) -> list[tuple[int, int]]:
    """Return (row, person) of contacts that are to be written and were never looked at for it; holds the rows."""
    if not person_ids:
        return []
    named = {"connection": connection, "object_type": CONTACT, "operation": WRITE_CONTACT}
    return [(row.id, row.subject_id) for row in execute(db, _UNTRIED, {"ids": sorted(person_ids), **named}).all()]


def tell(db: Connection, connection: str, told: Sequence[tuple[int, int, str, bytes]]) -> None:
    """Keep what was read with a role as what a contact holds: (row, person, id in the CRM, sealed values) of each."""
    if told:
        ids, person_ids, remote_ids, sealed = (list(column) for column in zip(*told, strict=True))
        values = {"id": ids, "person_id": person_ids, "remote_id": remote_ids, "sealed": sealed}
        named = {"connection": connection, "object_type": CONTACT, "read": READ_ROLE}
        execute(db, _TELL, {**values, **named})


def known(db: Connection, person_ids: Iterable[int]) -> list[Known]:
    """Return what was read last of these people's contacts, in every CRM."""
    ids = sorted(set(person_ids))
    values = {"ids": ids, "object_type": CONTACT, "operation": READ_ROLE, "unsettled": UNSETTLED}
    return [Known(*row) for row in execute(db, _KNOWN, values).all()]


def left_by(db: Connection, loser: int, survivor: int) -> list[Heard]:
    """Return what `survivor` is to be heard of because `loser` becomes one with them."""
    values = {"loser": loser, "survivor": survivor, "object_type": CONTACT, "operation": READ_ROLE}
    return [Heard(*row) for row in execute(db, _HEIRS, values).all()]


def again(db: Connection, person_ids: Iterable[int], *, lane: int = LIVE) -> frozenset[str]:
    """Let what these people deserve be decided once more, without a look; return the CRMs where somebody is due."""
    values = {"ids": sorted(set(person_ids)), "object_type": CONTACT, "operation": READ_ROLE, "lane": lane}
    return frozenset(row.connection for row in execute(db, _AGAIN, values).all())
