"""The users that identity providers push: kept sealed, found by keyed hashes, changed under the lock of their row."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final, Literal, NamedTuple
from uuid import UUID

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from integration.security.seal import IndexKeys
from integration.storage.statement import execute

MOST_FOUND: Final = 200
"""Most users that one look-up returns; who looks up somebody means one."""

By = Literal["user_name", "external_id", "email", "employee_id"]
Known = tuple[By, str]
"""What a user is looked up by; the value as it is compared."""

_COLUMNS: Final = "id, version, created_at, modified_at, sealed"

# The time is taken when the row is in: who waited here for a user of this name to be gone comes after that. Only names
# under older keys are looked for, because that does not wait; the newest one is what the index is for.
_INSERT = """
INSERT INTO scim_users (id, connection, user_name_key, keys, sealed, version, created_at, modified_at)
SELECT %(id)s, %(connection)s, %(user_name_key)s, %(keys)s::bytea[], %(sealed)s, 1, clock_timestamp(), clock_timestamp()
WHERE NOT EXISTS (SELECT FROM scim_users WHERE connection = %(connection)s
                  AND user_name_key = ANY(%(older_names)s::bytea[]))
ON CONFLICT (connection, user_name_key) DO NOTHING
RETURNING version, created_at, modified_at, clock_timestamp() AS at
"""

_READ = f"SELECT {_COLUMNS} FROM scim_users WHERE connection = %(connection)s AND id = %(id)s"  # noqa: S608 - ours
_HOLD = f"{_READ} FOR UPDATE"

_CHANGE = """
UPDATE scim_users u SET user_name_key = %(user_name_key)s, keys = %(keys)s::bytea[], sealed = %(sealed)s,
    version = version + 1, modified_at = greatest(clock_timestamp(), modified_at + interval '1 microsecond')
WHERE id = %(id)s AND connection = %(connection)s AND NOT EXISTS (
    SELECT FROM scim_users o WHERE o.connection = %(connection)s AND o.id <> %(id)s
      AND o.user_name_key = ANY(%(older_names)s::bytea[]))
RETURNING version, created_at, modified_at, modified_at AS at
"""

_REMOVE = """
DELETE FROM scim_users WHERE connection = %(connection)s AND id = %(id)s
RETURNING greatest(clock_timestamp(), modified_at + interval '1 microsecond') AS at
"""

_FIND = f"""
SELECT {_COLUMNS} FROM scim_users WHERE connection = %(connection)s AND keys && %(keys)s::bytea[]
ORDER BY created_at, id LIMIT %(limit)s
"""  # noqa: S608 - ours

_PAGE = f"""
SELECT {_COLUMNS} FROM scim_users WHERE connection = %(connection)s
ORDER BY created_at, id OFFSET %(offset)s LIMIT %(limit)s
"""  # noqa: S608 - ours

_COUNT = "SELECT count(*) FROM scim_users WHERE connection = %(connection)s"

_HOLD_KNOWN = "SELECT FROM scim_users WHERE keys && %(keys)s::bytea[] ORDER BY id FOR UPDATE"
_FORGET = "DELETE FROM scim_users WHERE keys && %(keys)s::bytea[]"


class Kept(NamedTuple):
    """A user as it is kept; what it says is sealed for `context`."""

    id: UUID
    version: int
    created_at: datetime
    modified_at: datetime
    sealed: bytes


class Change(NamedTuple):
    """What became of a row; `at` is when, by the server's clock, after all that was done to it before."""

    version: int
    created_at: datetime
    modified_at: datetime
    at: datetime


class Fresh(NamedTuple):
    """What a row is to hold: its name, all that it is looked up by, and the sealed user."""

    user_name: str
    known_by: Sequence[Known]
    sealed: bytes


def context(user_id: UUID) -> str:
    """Return the context that a user is sealed for."""
    return f"scim_users.sealed:{user_id}"


def insert(db: Connection, connection: str, user_id: UUID, fresh: Fresh, keys: IndexKeys) -> Change | None:
    """Keep a new user; None where the name is another's. It waits for whoever is giving that name up."""
    found = execute(db, _INSERT, _values(connection, user_id, fresh, keys)).one_or_none()
    return Change(*found) if found else None


def read(db: Connection, connection: str, user_id: UUID) -> Kept | None:
    """Return a user, None where there is none of this id."""
    found = execute(db, _READ, {"connection": connection, "id": user_id}).one_or_none()
    return Kept(*found) if found else None


def hold(db: Connection, connection: str, user_id: UUID) -> Kept | None:
    """Return a user and hold its row until the transaction ends, so that of two changes none is lost."""
    found = execute(db, _HOLD, {"connection": connection, "id": user_id}).one_or_none()
    return Kept(*found) if found else None


def change(db: Connection, connection: str, user_id: UUID, fresh: Fresh, keys: IndexKeys) -> Change | None:
    """Let a held user be this; None where the name is another's, and the transaction may then be of no use."""
    try:
        found = execute(db, _CHANGE, _values(connection, user_id, fresh, keys)).one_or_none()
    except IntegrityError:
        return None  # somebody took the name at this moment
    return Change(*found) if found else None


def remove(db: Connection, connection: str, user_id: UUID) -> datetime:
    """Remove a held user; return when that was."""
    at: datetime = execute(db, _REMOVE, {"connection": connection, "id": user_id}).scalar_one()
    return at


def find(db: Connection, connection: str, known: Known, keys: IndexKeys) -> list[Kept]:
    """Return the users of a connection that are known by this."""
    values = {"connection": connection, "keys": _candidates([known], keys), "limit": MOST_FOUND}
    return [Kept(*row) for row in execute(db, _FIND, values).all()]


def page(db: Connection, connection: str, *, offset: int, limit: int) -> list[Kept]:
    """Return users in the order in which they came."""
    values = {"connection": connection, "offset": offset, "limit": limit}
    return [Kept(*row) for row in execute(db, _PAGE, values).all()]


def count(db: Connection, connection: str) -> int:
    """Return how many users a connection has."""
    return int(execute(db, _COUNT, {"connection": connection}).scalar_one())


def hold_known(db: Connection, known: Iterable[Known], keys: IndexKeys) -> None:
    """Hold the users of all connections that are known by any of this; before any name of theirs is held."""
    execute(db, _HOLD_KNOWN, {"keys": _candidates(known, keys)})


def forget(db: Connection, known: Iterable[Known], keys: IndexKeys) -> int:
    """Remove the users of all connections that are known by any of this; return how many."""
    return execute(db, _FORGET, {"keys": _candidates(known, keys)}).rowcount


def _values(connection: str, user_id: UUID, fresh: Fresh, keys: IndexKeys) -> dict[str, object]:
    names = keys.candidates("scim_user", _message(("user_name", fresh.user_name)))
    return {
        "id": user_id,
        "connection": connection,
        "user_name_key": names[0],
        "older_names": names[1:],
        "keys": sorted({keys.newest("scim_user", _message(one)) for one in fresh.known_by}),
        "sealed": fresh.sealed,
    }


def _candidates(known: Iterable[Known], keys: IndexKeys) -> list[bytes]:
    return sorted({key for one in known for key in keys.candidates("scim_user", _message(one))})


def _message(known: Known) -> str:
    return "\0".join(known)
