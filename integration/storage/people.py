"""People and what other systems call them: set-based reads and writes for a batch."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, Literal, LiteralString, NamedTuple

from sqlalchemy import Connection, Row

from integration.errors import NeedsAttention
from integration.model.people import Profile
from integration.security.seal import IndexKeys, KeyRing
from integration.storage.statement import execute

_SERIALISE = """
SELECT pg_advisory_xact_lock(k) FROM unnest(%(keys)s::bigint[]) AS k
"""

_BY_LINK = """
SELECT l.connection, l.external_id, l.object_id
FROM links l JOIN unnest(%(connection)s::text[], %(external_id)s::text[]) AS t(connection, external_id)
     ON l.connection = t.connection AND l.object_type = %(object_type)s AND l.external_id = t.external_id
"""

Field = Literal["email", "employee_id"]
"""What a person is looked up by, beside what other systems call them."""

# Somebody who became one with another is known by what both were known by.
_OWNERS: Mapping[Field, LiteralString] = {
    "email": """
        SELECT coalesce(merged_into, id) AS id, email_key AS key, merged_into IS NOT NULL AS is_alias FROM people
        WHERE email_key = ANY(%(keys)s::bytea[])
        """,
    "employee_id": """
        SELECT coalesce(merged_into, id) AS id, employee_key AS key, merged_into IS NOT NULL AS is_alias FROM people
        WHERE employee_key = ANY(%(keys)s::bytea[])
        """,
}


_LINKED = """
SELECT object_id, connection, external_id, object_type FROM links
WHERE object_id = ANY(%(ids)s::bigint[]) AND object_type = ANY(%(object_types)s::text[]) AND moved_to IS NULL
ORDER BY created_at, connection, external_id
"""

_LINKED_SINCE = """
SELECT object_id, connection, external_id, created_at FROM links
WHERE object_id = ANY(%(ids)s::bigint[]) AND object_type = %(object_type)s AND moved_to IS NULL
ORDER BY created_at, connection, external_id
"""

_LOAD = """
SELECT id, version, profile, attention, merged_into IS NOT NULL OR erased_at IS NOT NULL AS is_gone FROM people
WHERE id = ANY(%(ids)s::bigint[]) ORDER BY id
"""

_NEW_IDS = "SELECT nextval('people_id_seq') FROM generate_series(1, %(count)s)"

_INSERT = """
INSERT INTO people (id, profile, email_key, employee_key, attention)
SELECT * FROM unnest(%(id)s::bigint[], %(profile)s::bytea[], %(email_key)s::bytea[], %(employee_key)s::bytea[],
                     %(attention)s::text[])
"""

_UPDATE = """
UPDATE people p
SET profile = t.profile, email_key = t.email_key, employee_key = t.employee_key, attention = t.attention
FROM unnest(%(id)s::bigint[], %(profile)s::bytea[], %(email_key)s::bytea[], %(employee_key)s::bytea[],
            %(attention)s::text[])
     AS t(id, profile, email_key, employee_key, attention)
WHERE p.id = t.id
"""

# Whoever comes late with a link finds the person merged (then it is the survivor's) or erased (then it must not be).
_LINK = """
WITH living AS MATERIALIZED (
    SELECT id, coalesce(merged_into, id) AS goes_on FROM people
    WHERE id = ANY(%(object_id)s::bigint[]) AND erased_at IS NULL ORDER BY id FOR KEY SHARE
)
INSERT INTO links (connection, object_type, external_id, object_id)
SELECT t.connection, t.object_type, t.external_id, living.goes_on
FROM unnest(%(connection)s::text[], %(object_type)s::text[], %(external_id)s::text[], %(object_id)s::bigint[])
     AS t(connection, object_type, external_id, object_id)
JOIN living ON living.id = t.object_id
ORDER BY 1, 2, 3
ON CONFLICT (connection, object_type, external_id) DO NOTHING
"""

_BUMP = """
UPDATE people p
SET version = greatest(version + 1, %(at_least)s),
    next_transition_at = least(
        (SELECT min(e.expires_at) FROM events e WHERE e.person_id = p.id AND e.expires_at > now()),
        (SELECT min(a.due_at) FROM assignments a
         WHERE a.person_id = p.id AND a.status = 'live' AND a.due_at > now()))
WHERE id = ANY(%(ids)s::bigint[])
"""

_KEPT = "SELECT id FROM people WHERE id = ANY(%(ids)s::bigint[]) AND erased_at IS NULL ORDER BY id FOR SHARE"

_DUE_TRANSITIONS = """
SELECT id FROM people WHERE next_transition_at <= now() ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
"""


def profile_context(person_id: int) -> str:
    """Return the context a person's profile is sealed for."""
    return f"people.profile:{person_id}"


@dataclass(slots=True)
class Person:
    """A person as one transaction sees and changes them."""

    id: int
    version: int
    profile: Profile
    attention: str | None = None
    is_gone: bool = False
    is_unreadable: bool = False
    is_new: bool = False
    is_changed: bool = False


def serialise(db: Connection, names: Iterable[str]) -> None:
    """Hold these names until the transaction ends, so that two workers never decide about one person at once.

    Sorted, so that two workers cannot wait for each other; taken before any row is locked.
    """
    keys = sorted({int.from_bytes(sha256(name.encode()).digest()[:8], "big", signed=True) for name in names})
    execute(db, _SERIALISE, {"keys": keys})


def lock_names(link: tuple[str, str] | None, email: str | None = None, employee_id: str | None = None) -> set[str]:
    """Return what to hold while deciding about a learner, so that two decisions never cross."""
    names = {f"learner\0{link[0]}\0{link[1]}"} if link else set()
    if email:
        names.add(f"email\0{email}")
    if employee_id:
        names.add(f"employee_id\0{employee_id}")
    return names


def by_link(db: Connection, object_type: str, names: Sequence[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """Return our id for each (connection, external id) that is linked."""
    values = {
        "object_type": object_type,
        "connection": [connection for connection, _ in names],
        "external_id": [external_id for _, external_id in names],
    }
    return {(row.connection, row.external_id): row.object_id for row in execute(db, _BY_LINK, values).all()}


class Owner(NamedTuple):
    """Whose an address or employee id is; `is_alias`: it was that of somebody who became one with them."""

    person_id: int
    is_alias: bool


def owners(db: Connection, field: Field, values: Iterable[str], keys: IndexKeys) -> dict[str, Owner]:
    """Return whose each of these normalised addresses or employee ids is."""
    candidates = {key: value for value in values for key in keys.candidates(field, value)}
    if not candidates:
        return {}
    rows = execute(db, _OWNERS[field], {"keys": sorted(candidates)}).all()
    return {candidates[bytes(row.key)]: Owner(row.id, row.is_alias) for row in rows}


def by_email(db: Connection, emails: Iterable[str], keys: IndexKeys) -> dict[str, int]:
    """Return the person each of these normalised addresses belongs to."""
    return {email: owner.person_id for email, owner in owners(db, "email", emails, keys).items()}


def linked(db: Connection, ids: Iterable[int], object_types: Sequence[str]) -> dict[int, list[tuple[str, str, str]]]:
    """Return (connection, external id, object type) of each person, the oldest link first."""
    found: dict[int, list[tuple[str, str, str]]] = {}
    if not (wanted := sorted(set(ids))):
        return found
    for row in execute(db, _LINKED, {"ids": wanted, "object_types": list(object_types)}).all():
        found.setdefault(row.object_id, []).append((row.connection, row.external_id, row.object_type))
    return found


def linked_since(db: Connection, ids: Iterable[int], object_type: str) -> dict[int, list[tuple[str, str, datetime]]]:
    """Return (connection, external id, since when) of each person, the oldest link first."""
    found: dict[int, list[tuple[str, str, datetime]]] = {}
    for row in execute(db, _LINKED_SINCE, {"ids": sorted(set(ids)), "object_type": object_type}).all():
        found.setdefault(row.object_id, []).append((row.connection, row.external_id, row.created_at))
    return found


def load(db: Connection, ids: Iterable[int], ring: KeyRing, *, lock: bool = False) -> dict[int, Person]:
    """Return people by id; with `lock`, hold their rows, taken in id order.

    Whose profile cannot be opened is `is_unreadable`, with an empty profile that must not be saved.
    """
    rows = execute(db, _LOAD + (" FOR UPDATE" if lock else ""), {"ids": sorted(set(ids))}).all()
    return {row.id: _person(row, ring) for row in rows}


def kept(db: Connection, ids: Iterable[int]) -> set[int]:
    """Return who of these was not erased, and hold off an erasure until the transaction ends; taken in id order."""
    return {row.id for row in execute(db, _KEPT, {"ids": sorted(set(ids))}).all()}


def new_ids(db: Connection, count: int) -> list[int]:
    """Return `count` ids for people to come; an id must be known before what is personal is sealed."""
    return [row[0] for row in execute(db, _NEW_IDS, {"count": count}).all()] if count else []


def save(db: Connection, people: Iterable[Person], ring: KeyRing, keys: IndexKeys) -> None:
    """Insert the new and update the changed ones, in id order."""
    for is_new, sql in ((True, _INSERT), (False, _UPDATE)):
        chosen = sorted((p for p in people if p.is_changed and p.is_new is is_new), key=lambda person: person.id)
        if not chosen:
            continue
        values: dict[str, list[object]] = {
            "id": [p.id for p in chosen],
            "profile": [ring.seal(p.profile.dump(), profile_context(p.id)) for p in chosen],
            "email_key": [_key(keys, "email", p.profile.email) for p in chosen],
            "employee_key": [_key(keys, "employee_id", p.profile.employee_id) for p in chosen],
            "attention": [p.attention for p in chosen],
        }
        execute(db, sql, values)


def link(db: Connection, object_type: str, names: Mapping[tuple[str, str], int]) -> None:
    """Remember what other systems call people; a name that is taken stays as it is.

    Holds the people, so it comes before any row of sync_state is held. Who was erased gets no link.
    """
    if not names:
        return
    values = {
        "connection": [connection for connection, _ in names],
        "object_type": [object_type] * len(names),
        "external_id": [external_id for _, external_id in names],
        "object_id": list(names.values()),
    }
    execute(db, _LINK, values)


def bump(db: Connection, ids: Iterable[int], *, at_least: int = 0) -> None:
    """Count a change of these people, whose rows the caller holds; look up their next expiry or deadline on the way.

    `at_least` is the version that they then have, or more.
    """
    execute(db, _BUMP, {"ids": sorted(set(ids)), "at_least": at_least})


def due_transitions(db: Connection, *, limit: int) -> list[int]:
    """Return, locked, people whose projection changes by the clock alone (a certificate expired)."""
    return [row.id for row in execute(db, _DUE_TRANSITIONS, {"limit": limit}).all()]


def _key(keys: IndexKeys, field: str, value: str | None) -> bytes | None:
    return keys.newest(field, value) if value else None


def _person(row: Row[Any], ring: KeyRing) -> Person:
    try:
        opened = ring.open(bytes(row.profile), profile_context(row.id)) if row.profile else None
    except NeedsAttention:
        return Person(row.id, row.version, Profile(), row.attention, row.is_gone, is_unreadable=True)
    profile = Profile.parse(opened) if opened else Profile()
    return Person(row.id, row.version, profile, row.attention, row.is_gone)
