"""Who read or wrote what where: append only, sealed into a chain of hashes in commit order by one chainer.

The hash is not computed on insert, because that would make every writer wait for the one before it.
"""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import orjson
from sqlalchemy import Connection, Row

from integration.storage.statement import execute

_LOCK = 7_226_002

_APPEND = """
INSERT INTO audit (actor, action, connection, subject_type, subject_id, outcome, reference)
VALUES (%(actor)s, %(action)s, %(connection)s, %(subject_type)s, %(subject_id)s, %(outcome)s, %(reference)s)
RETURNING id
"""

_APPEND_PEOPLE = """
INSERT INTO audit (actor, action, subject_type, subject_id, outcome, reference)
SELECT %(actor)s, %(action)s, 'person', t.id, %(outcome)s, %(reference)s FROM unnest(%(ids)s::bigint[]) AS t(id)
"""

_UNSEALED = """
SELECT id, at, actor, action, connection, subject_type, subject_id, fields, outcome, reference
FROM audit WHERE row_hash IS NULL ORDER BY id LIMIT %(limit)s
"""

_SEALED = """
SELECT id, at, actor, action, connection, subject_type, subject_id, fields, outcome, reference, chain, row_hash
FROM audit WHERE chain > %(after)s ORDER BY chain LIMIT %(limit)s
"""

_LAST = "SELECT chain, row_hash FROM audit WHERE chain IS NOT NULL ORDER BY chain DESC LIMIT 1"

_SEAL = """
UPDATE audit a SET chain = t.chain, row_hash = t.row_hash
FROM unnest(%(id)s::bigint[], %(chain)s::bigint[], %(row_hash)s::bytea[]) AS t(id, chain, row_hash)
WHERE a.id = t.id
"""


def append(
    db: Connection,
    *,
    actor: str,
    action: str,
    outcome: str,
    connection: str | None = None,
    subject: tuple[str, int] | None = None,
    reference: str | None = None,
) -> int:
    """Append one entry and return its id; `reference` is an id, never a value."""
    values = {
        "actor": actor,
        "action": action,
        "connection": connection,
        "subject_type": subject[0] if subject else None,
        "subject_id": subject[1] if subject else None,
        "outcome": outcome,
        "reference": reference,
    }
    return int(execute(db, _APPEND, values).scalar_one())


def append_people(db: Connection, ids: Sequence[int], *, actor: str, action: str, outcome: str, reference: str) -> None:
    """Append one entry for each of these people."""
    values = {"actor": actor, "action": action, "outcome": outcome, "reference": reference, "ids": list(ids)}
    execute(db, _APPEND_PEOPLE, values)


def seal(db: Connection, *, limit: int = 5_000) -> int:
    """Chain up to `limit` committed entries behind the last one; return how many. One chainer at a time."""
    if not execute(db, "SELECT pg_try_advisory_xact_lock(%(lock)s)", {"lock": _LOCK}).scalar_one():
        return 0
    last = execute(db, _LAST).one_or_none()
    place, head = (last.chain, bytes(last.row_hash)) if last else (0, b"")
    rows = execute(db, _UNSEALED, {"limit": limit}).fetchall()
    hashes = []
    for row in rows:
        head = _hash(head, row)
        hashes.append(head)
    if rows:
        places = list(range(place + 1, place + 1 + len(rows)))
        execute(db, _SEAL, {"id": [row.id for row in rows], "chain": places, "row_hash": hashes})
    return len(rows)


def verify(db: Connection) -> int | None:
    """Walk the chain; return the id of the first entry that was changed, removed before, or moved, else None."""
    place, head = 0, b""
    while rows := execute(db, _SEALED, {"after": place, "limit": 10_000}).fetchall():
        for row in rows:
            head = _hash(head, row)
            if row.chain != place + 1 or bytes(row.row_hash) != head:
                return int(row.id)
            place = row.chain
    return None


def _hash(head: bytes, row: Row[Any]) -> bytes:
    content = [row.id, row.at, row.actor, row.action, row.connection, row.subject_type, row.subject_id, row.fields]
    return sha256(head + orjson.dumps([*content, row.outcome, row.reference], option=orjson.OPT_UTC_Z)).digest()
