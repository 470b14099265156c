"""The keys of look-up hashes, kept sealed in Postgres: they must outlive every rotation of the master keys."""

from sqlalchemy import Connection

from integration.security.seal import IndexKeys, KeyRing, new_key
from integration.storage.statement import execute

_LOCK = 7_226_003


def load(db: Connection, ring: KeyRing) -> IndexKeys:
    """Return the index keys; the first process of an installation makes the first one.

    Raises NeedsAttention(SEAL_KEY_MISSING) where the master keys do not open them.
    """
    keys = _read(db, ring)
    if not keys:
        execute(db, "SELECT pg_advisory_xact_lock(%(lock)s)", {"lock": _LOCK})
        keys = _read(db, ring)
    if not keys:
        keys = {1: new_key()}
        sealed = ring.seal(keys[1], _context(1))
        execute(db, "INSERT INTO index_keys (version, sealed) VALUES (1, %(sealed)s)", {"sealed": sealed})
    return IndexKeys(keys)


def _read(db: Connection, ring: KeyRing) -> dict[int, bytes]:
    rows = execute(db, "SELECT version, sealed FROM index_keys")
    return {row.version: ring.open(bytes(row.sealed), _context(row.version)) for row in rows}


def _context(version: int) -> str:
    return f"index_keys.sealed:{version}"
