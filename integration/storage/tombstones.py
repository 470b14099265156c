"""Whom an erased person was known by, as keyed hashes: enough to know a late event, not enough to know anybody."""

from collections.abc import Iterable, Mapping

from sqlalchemy import Connection

from integration.security.seal import IndexKeys
from integration.storage.statement import execute

_BURY = """
INSERT INTO tombstones (key, person_id) SELECT k, %(person_id)s FROM unnest(%(keys)s::bytea[]) AS k ORDER BY k
ON CONFLICT DO NOTHING
"""

_BURIED = "SELECT key FROM tombstones WHERE key = ANY(%(keys)s::bytea[])"

Name = tuple[str, str, str]
"""(object type, connection, id) as another system calls somebody; an e-mail is ('email', '', address), an employee id
('employee_id', '', id)."""


def email_name(email: str) -> Name:
    """Return an address as a name of somebody."""
    return "email", "", email


def employee_name(employee_id: str) -> Name:
    """Return an employee id as a name of somebody."""
    return "employee_id", "", employee_id


def bury(db: Connection, names: Iterable[Name], keys: IndexKeys, person_id: int | None) -> int:
    """Keep these names as tombstones; return how many are new."""
    buried = [keys.newest("tombstone", "\0".join(name)) for name in names]
    return execute(db, _BURY, {"keys": sorted(buried), "person_id": person_id}).rowcount


def buried(db: Connection, names: Iterable[Name], keys: IndexKeys) -> set[Name]:
    """Return those of these names that have a tombstone; look-up keys of any age are tried (rule 18)."""
    known: Mapping[bytes, Name] = {key: name for name in names for key in keys.candidates("tombstone", "\0".join(name))}
    rows = execute(db, _BURIED, {"keys": sorted(known)}).all() if known else []
    return {known[bytes(row.key)] for row in rows}
