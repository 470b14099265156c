"""The pathways that people deserve: who has which, since when, until when it is due, and what caused it."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from integration.storage.statement import execute

_OF = """
SELECT person_id, pathway, cause, connection, priority, on_leave, in_progress, due_at, assigned_at
FROM assignments WHERE person_id = ANY(%(ids)s::bigint[]) AND status = 'live' ORDER BY person_id, pathway
"""

_PAST = """
SELECT DISTINCT person_id, pathway FROM assignments
WHERE person_id = ANY(%(ids)s::bigint[]) AND status = 'ended' ORDER BY person_id, pathway
"""

_HOLD = """
SELECT id FROM people
WHERE merged_into IS NULL AND erased_at IS NULL
  AND (id IN (SELECT person_id FROM assignments WHERE pathway = ANY(%(pathways)s::text[]) AND status = 'live')
       OR id IN (SELECT person_id FROM events WHERE subject_type = 'course' AND connection = %(connection)s
                 AND subject_id = ANY(%(courses)s::text[])))
ORDER BY id FOR UPDATE
"""

_NUMBER = """
SELECT count(DISTINCT person_id) FROM assignments WHERE pathway = ANY(%(pathways)s::text[]) AND status = 'live'
"""

_STORY = """
SELECT pathway, cause, connection, rule_set, status, assigned_at, due_at, ended_at
FROM assignments WHERE person_id = %(id)s ORDER BY status DESC, priority DESC, due_at, pathway, ended_at DESC
"""

_PUT = """
INSERT INTO assignments AS a (person_id, pathway, cause, connection, priority, on_leave, in_progress, due_at,
                              assigned_at, rule_set)
SELECT t.*, %(rule_set)s
FROM unnest(%(person_id)s::bigint[], %(pathway)s::text[], %(cause)s::text[], %(connection)s::text[],
            %(priority)s::bigint[], %(on_leave)s::text[], %(in_progress)s::text[], %(due_at)s::timestamptz[],
            %(assigned_at)s::timestamptz[])
     AS t(person_id, pathway, cause, connection, priority, on_leave, in_progress, due_at, assigned_at)
ORDER BY t.person_id, t.pathway
ON CONFLICT (person_id, pathway) WHERE status = 'live' DO UPDATE
SET cause = excluded.cause, connection = excluded.connection, priority = excluded.priority,
    on_leave = excluded.on_leave, in_progress = excluded.in_progress, due_at = excluded.due_at,
    rule_set = excluded.rule_set
"""

_END = """
UPDATE assignments a SET status = 'ended', ended_at = now()
FROM unnest(%(person_id)s::bigint[], %(pathway)s::text[]) AS t(person_id, pathway)
WHERE a.person_id = t.person_id AND a.pathway = t.pathway AND a.status = 'live'
"""


class Assigned(NamedTuple):
    """One live assignment; `cause` is the rule or override (`rule:ae`, `override:12`), `connection` the CRM or ''."""

    person_id: int
    pathway: str
    cause: str
    connection: str
    priority: int
    on_leave: str
    in_progress: str
    due_at: datetime | None
    assigned_at: datetime


class Told(NamedTuple):
    """One assignment as it was decided, live or ended; `rule_set` is the one that last decided it."""

    pathway: str
    cause: str
    connection: str
    rule_set: int
    status: str
    assigned_at: datetime
    due_at: datetime | None
    ended_at: datetime | None


def live(db: Connection, person_ids: Iterable[int]) -> dict[int, list[Assigned]]:
    """Return what these people are assigned now, by person."""
    found: dict[int, list[Assigned]] = {}
    for row in execute(db, _OF, {"ids": sorted(set(person_ids))}).all():
        found.setdefault(row.person_id, []).append(Assigned(*row))
    return found


def past(db: Connection, person_ids: Iterable[int]) -> dict[int, list[str]]:
    """Return the pathways that each of these people had once, by person."""
    found: dict[int, list[str]] = {}
    for row in execute(db, _PAST, {"ids": sorted(set(person_ids))}).all():
        found.setdefault(row.person_id, []).append(row.pathway)
    return found


def hold(db: Connection, pathways: Iterable[str], connection: str, courses: Iterable[str]) -> list[int]:
    """Return who has one of these pathways now, or any fact about these courses of an LMS, and hold their rows."""
    values = {"pathways": sorted(set(pathways)), "connection": connection, "courses": sorted(set(courses))}
    return [row.id for row in execute(db, _HOLD, values).all()]


def number(db: Connection, pathways: Iterable[str]) -> int:
    """Return how many people have one of these pathways now."""
    return int(execute(db, _NUMBER, {"pathways": sorted(set(pathways))}).scalar_one())


def told(db: Connection, person_id: int) -> list[Told]:
    """Return everything that a person was ever assigned, what is live first, in the order of what a contact shows."""
    return [Told(*row) for row in execute(db, _STORY, {"id": person_id}).all()]


def put(db: Connection, assigned: Sequence[Assigned], *, rule_set: int) -> None:
    """Start assignments, or change live ones of the same pathway; the rows of the people are held by the caller."""
    if assigned:
        values = {name: [getattr(one, name) for one in assigned] for name in Assigned._fields}
        execute(db, _PUT, {**values, "rule_set": rule_set})


def end(db: Connection, assigned: Sequence[Assigned]) -> None:
    """End these; the rows of the people are held by the caller."""
    if assigned:
        values = {"person_id": [one.person_id for one in assigned], "pathway": [one.pathway for one in assigned]}
        execute(db, _END, values)
