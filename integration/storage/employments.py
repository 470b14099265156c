"""What HR says of people's work, kept sealed, one row for each person. Whoever writes holds the people concerned."""

from collections.abc import Collection, Iterable, Mapping

from sqlalchemy import Connection

from integration.errors import NeedsAttention
from integration.model.employees import EmploymentStatus, Work
from integration.model.people import normalise_employee_id
from integration.security.seal import IndexKeys, KeyRing
from integration.storage.statement import execute

_LOAD = "SELECT person_id, connections, sealed FROM employments WHERE person_id = ANY(%(ids)s::bigint[])"

_SAVE = """
INSERT INTO employments AS e (person_id, connections, sealed, status, manager_key)
SELECT t.person_id, string_to_array(t.connections, ' '), t.sealed, t.status, t.manager_key
FROM unnest(%(person_id)s::bigint[], %(connections)s::text[], %(sealed)s::bytea[], %(status)s::text[],
            %(manager_key)s::bytea[]) AS t(person_id, connections, sealed, status, manager_key)
ORDER BY t.person_id
ON CONFLICT (person_id) DO UPDATE SET connections = excluded.connections, sealed = excluded.sealed,
    status = excluded.status, manager_key = excluded.manager_key, updated_at = now()
"""

_FORGET = "DELETE FROM employments WHERE person_id = ANY(%(ids)s::bigint[])"

# A manager is named by their employee id; whoever became one with another goes on to be named by both ids.
_REPORTS = """
SELECT e.person_id FROM employments e
WHERE e.manager_key = ANY(%(keys)s::bytea[]) OR e.manager_key = ANY(ARRAY(
    SELECT p.employee_key FROM people p
    WHERE (p.id = ANY(%(ids)s::bigint[]) OR p.merged_into = ANY(%(ids)s::bigint[])) AND p.employee_key IS NOT NULL))
"""

_MANAGERS = """
SELECT e.person_id, coalesce(p.merged_into, p.id) AS manager FROM employments e
JOIN people p ON p.employee_key = e.manager_key WHERE e.person_id = ANY(%(ids)s::bigint[])
"""

_LEFT = "SELECT person_id FROM employments WHERE person_id = ANY(%(ids)s::bigint[]) AND status = %(left)s"


def sealed_context(person_id: int) -> str:
    """Return the context that what is said of a person's work is sealed for."""
    return f"employments.sealed:{person_id}"


def load(db: Connection, ids: Iterable[int], ring: KeyRing) -> dict[int, Work | None]:
    """Return what HR says of these people; None where it cannot be opened. Of whom it says nothing is not in it."""
    if not (wanted := sorted(set(ids))):
        return {}
    rows = execute(db, _LOAD, {"ids": wanted}).all()
    return {row.person_id: _opened(row.person_id, bytes(row.sealed), row.connections, ring) for row in rows}


def save(db: Connection, works: Mapping[int, Work], ring: KeyRing, keys: IndexKeys) -> None:
    """Keep this of these people, in the place of what was kept before."""
    if not works:
        return
    managers = {who: normalise_employee_id(work.get("manager_id")) for who, work in works.items()}
    values = {
        "person_id": list(works),
        # Names of connections hold no blank.
        "connections": [" ".join(sorted(work.connections)) for work in works.values()],
        "sealed": [ring.seal(work.dump(), sealed_context(who)) for who, work in works.items()],
        "status": [work.get("status") for work in works.values()],
        "manager_key": [keys.newest("employee_id", named) if (named := managers[who]) else None for who in works],
    }
    execute(db, _SAVE, values)


def forget(db: Connection, ids: Iterable[int]) -> int:
    """Keep nothing of these people; return of how many something was kept."""
    return execute(db, _FORGET, {"ids": sorted(set(ids))}).rowcount


def reports(db: Connection, manager_ids: Iterable[int], employee_ids: Iterable[str], keys: IndexKeys) -> set[int]:
    """Return the people whose manager is one of these people, or is said to be one of these (normalised) ids."""
    named = [key for employee_id in employee_ids for key in keys.candidates("employee_id", employee_id)]
    values = {"ids": sorted(set(manager_ids)), "keys": named}
    return {row.person_id for row in execute(db, _REPORTS, values)}


def managers(db: Connection, ids: Collection[int]) -> dict[int, int]:
    """Return the manager of each of these people, where that is somebody we know."""
    return {row.person_id: row.manager for row in execute(db, _MANAGERS, {"ids": sorted(ids)})} if ids else {}


def left(db: Connection, ids: Collection[int]) -> set[int]:
    """Return who of these people has left."""
    values = {"ids": sorted(ids), "left": EmploymentStatus.LEFT.value}
    return {row.person_id for row in execute(db, _LEFT, values)} if ids else set()


def _opened(person_id: int, sealed: bytes, connections: Iterable[str], ring: KeyRing) -> Work | None:
    try:
        return Work.parse(ring.open(sealed, sealed_context(person_id)), frozenset(connections))
    except NeedsAttention:
        return None
