"""Accounts, and whose contact is in which: rows of sync_state that are due when their people change.

An account has a number from the sequence of people, so that a row of sync_state is about one thing, whoever reads it.
In a transaction that holds more these come last: people, rows of contacts, who is in an account by connection and
person, accounts, rows of accounts.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import LiteralString

import orjson
from sqlalchemy import Connection

from integration.model.accounts import ACCOUNT, WRITE_ACCOUNT, Joined, Tally
from integration.storage.statement import execute
from integration.storage.sync_state import LIVE

_MEET = """
INSERT INTO accounts (id, connection, external_id)
SELECT nextval('people_id_seq'), %(connection)s, e.external_id FROM unnest(%(external_ids)s::text[]) AS e(external_id)
WHERE NOT EXISTS (SELECT FROM accounts a WHERE a.connection = %(connection)s AND a.external_id = e.external_id)
ORDER BY e.external_id
ON CONFLICT (connection, external_id) DO NOTHING
"""

# Whose account nobody looked at stays where they are. Only what changes an account is told.
_JOIN = """
WITH t AS MATERIALIZED (
    SELECT u.person_id, b.account_id AS was, b.shows AS showed, u.shows,
           CASE WHEN u.is_seen THEN a.id ELSE b.account_id END AS account_id
    FROM unnest(%(person_id)s::bigint[], %(is_seen)s::bool[], %(external_id)s::text[], %(shows)s::text[]::jsonb[])
         AS u(person_id, is_seen, external_id, shows)
    JOIN people p ON p.id = u.person_id AND p.merged_into IS NULL AND p.erased_at IS NULL
    LEFT JOIN accounts a ON a.connection = %(connection)s AND a.external_id = u.external_id
    LEFT JOIN account_people b ON b.connection = %(connection)s AND b.person_id = u.person_id
), changed AS (
    SELECT * FROM t
    WHERE account_id IS DISTINCT FROM was OR (account_id IS NOT NULL AND shows IS DISTINCT FROM showed)
), held AS MATERIALIZED (
    SELECT m.person_id FROM account_people m JOIN changed c USING (person_id)
    WHERE m.connection = %(connection)s ORDER BY m.person_id FOR UPDATE OF m
), gone AS (
    DELETE FROM account_people m USING changed c JOIN held h USING (person_id)
    WHERE m.connection = %(connection)s AND m.person_id = c.person_id AND c.account_id IS NULL
), put AS (
    INSERT INTO account_people (connection, person_id, account_id, shows)
    SELECT %(connection)s, c.person_id, c.account_id, c.shows
    FROM (SELECT count(*) FROM held) AS all_held CROSS JOIN changed c
    WHERE c.account_id IS NOT NULL ORDER BY c.person_id
    ON CONFLICT (connection, person_id) DO UPDATE SET account_id = excluded.account_id, shows = excluded.shows
)
SELECT was AS account_id FROM changed WHERE was IS NOT NULL
UNION SELECT account_id FROM changed WHERE account_id IS NOT NULL
"""

# What anybody in an account was ever known to have a value of goes on to be written, when they are gone as well.
_EVER = """
UPDATE accounts a SET ever = ARRAY(SELECT DISTINCT unnest(a.ever || t.keys) ORDER BY 1)
FROM (SELECT held.id, array_agg(DISTINCT k.key) AS keys
      FROM (SELECT id FROM accounts WHERE id = ANY(%(ids)s::bigint[]) ORDER BY id FOR NO KEY UPDATE) held
      JOIN account_people m ON m.account_id = held.id CROSS JOIN LATERAL jsonb_object_keys(m.shows) AS k(key)
      WHERE m.person_id = ANY(%(person_id)s::bigint[]) GROUP BY held.id) t
WHERE a.id = t.id AND NOT a.ever @> t.keys
"""

_WANT = """
INSERT INTO sync_state AS s (connection, object_type, operation, subject_id, wanted, lane, not_before, remote_id)
SELECT a.connection, %(object_type)s, %(operation)s, a.id, 1, %(lane)s, now() + %(after)s * interval '1 second',
       a.external_id
FROM accounts a WHERE a.id = ANY(%(ids)s::bigint[]) ORDER BY a.connection, a.id
ON CONFLICT (connection, object_type, operation, subject_id) DO UPDATE SET
    wanted = s.wanted + 1, remote_id = coalesce(s.remote_id, excluded.remote_id),
    lane = CASE WHEN s.status = 'in_step' THEN excluded.lane ELSE least(s.lane, excluded.lane) END,
    wanted_since = CASE WHEN s.status = 'in_step' THEN now() ELSE s.wanted_since END,
    attempts = CASE WHEN s.status IN ('in_step', 'dead', 'parked') THEN 0 ELSE s.attempts END,
    not_before = least(s.not_before, excluded.not_before),
    status = CASE WHEN s.status = 'sending' THEN s.status ELSE 'due' END,
    failing_since = CASE WHEN s.status = 'dead' THEN NULL ELSE s.failing_since END
RETURNING s.connection
"""

_TALLY = """
SELECT a.id, a.ever, e.key, e.value, count(DISTINCT m.person_id) AS people, grouping(e.key) = 1 AS is_total
FROM accounts a
LEFT JOIN account_people m ON m.account_id = a.id AND m.shows IS NOT NULL
LEFT JOIN LATERAL jsonb_each_text(m.shows) AS e(key, value) ON true
WHERE a.id = ANY(%(ids)s::bigint[])
GROUP BY GROUPING SETS ((a.id, a.ever), (a.id, a.ever, e.key, e.value))
"""

_LEAVE = """
WITH held AS MATERIALIZED (
    SELECT connection, person_id FROM account_people WHERE person_id = ANY(%(ids)s::bigint[])
    ORDER BY connection, person_id FOR UPDATE
)
DELETE FROM account_people m USING held h
WHERE m.connection = h.connection AND m.person_id = h.person_id RETURNING m.account_id
"""

_IDS = """
SELECT external_id, id FROM accounts WHERE connection = %(connection)s AND external_id = ANY(%(external_ids)s::text[])
"""

# Before anything is changed, in the order in which everybody else takes these.
_HOLD: tuple[LiteralString, ...] = (
    """
    SELECT m.person_id FROM account_people m JOIN accounts a ON a.id = m.account_id
    WHERE a.connection = %(connection)s AND a.external_id = ANY(%(old_ids)s::text[])
    ORDER BY m.connection, m.person_id FOR UPDATE OF m
    """,
    """
    SELECT id FROM accounts WHERE connection = %(connection)s AND external_id = ANY(%(old_ids)s::text[])
    ORDER BY id FOR UPDATE
    """,
    """
    SELECT s.id FROM sync_state s JOIN accounts a ON a.id = s.subject_id
    WHERE s.connection = %(connection)s AND s.object_type = %(object_type)s AND a.connection = %(connection)s
      AND a.external_id = ANY(%(old_ids)s::text[] || %(new_ids)s::text[])
    ORDER BY s.connection, s.subject_id FOR UPDATE OF s
    """,
)

# The CRM made one account of two. Where we know that one already its people become more, else it is this one, renamed.
_FOLLOW: tuple[LiteralString, ...] = (
    """
    UPDATE account_people m SET account_id = n.id
    FROM accounts o, accounts n
    WHERE o.connection = %(connection)s AND o.external_id = %(old_id)s
      AND n.connection = %(connection)s AND n.external_id = %(new_id)s AND m.account_id = o.id
    """,
    """
    UPDATE accounts a SET external_id = %(new_id)s
    WHERE a.connection = %(connection)s AND a.external_id = %(old_id)s AND NOT EXISTS (
        SELECT FROM accounts o WHERE o.connection = %(connection)s AND o.external_id = %(new_id)s)
    """,
    """
    UPDATE sync_state s SET status = 'in_step', written = wanted, not_before = NULL, remote_id = NULL,
        remote_values = NULL
    FROM accounts a
    WHERE a.connection = %(connection)s AND a.external_id = %(old_id)s AND s.subject_id = a.id
      AND s.object_type = %(object_type)s AND s.status <> 'sending'
    """,
)


def join(db: Connection, connection: str, joined: Sequence[Joined], *, lane: int) -> bool:
    """Take down in which accounts people are and what they add to them; say whether an account is due because of it.

    The caller holds the rows of sync_state that it looked at these people by, so that what is older never comes last.
    """
    if not joined:
        return False
    seen = sorted({one.account for one in joined if one.account})
    if seen:
        execute(db, _MEET, {"connection": connection, "external_ids": seen})
    ordered = sorted(joined, key=lambda one: one.person_id)
    values = {
        "connection": connection,
        "person_id": [one.person_id for one in ordered],
        "is_seen": [one.account is not None for one in ordered],
        "external_id": [one.account for one in ordered],
        "shows": [None if one.shows is None else orjson.dumps(dict(one.shows)).decode() for one in ordered],
    }
    changed = [row.account_id for row in execute(db, _JOIN, values).all()]
    if not changed:
        return False
    execute(db, _EVER, {"ids": changed, "person_id": values["person_id"]})
    return bool(want(db, changed, lane=lane))


def leave(db: Connection, person_ids: Iterable[int], *, after: float = 0.0) -> int:
    """Let these people be in no account any more; return how many were. Their contacts' rows are held already.

    Their accounts are due in `after` seconds.
    """
    left = [row.account_id for row in execute(db, _LEAVE, {"ids": sorted(set(person_ids))}).all()]
    want(db, left, after=after)
    return len(left)


def want(db: Connection, ids: Iterable[int], *, lane: int = LIVE, after: float = 0.0) -> frozenset[str]:
    """Make accounts due in `after` seconds; return the connections that they are in."""
    if not (wanted := sorted(set(ids))):
        return frozenset()
    values = {"ids": wanted, "object_type": ACCOUNT, "operation": WRITE_ACCOUNT, "lane": lane, "after": after}
    return frozenset(row.connection for row in execute(db, _WANT, values))


def tally(db: Connection, ids: Sequence[int]) -> dict[int, Tally]:
    """Count the people of each account, and by what they show."""
    found: dict[int, tuple[list[int], dict[str, dict[str, int]], frozenset[str]]] = {}
    for row in execute(db, _TALLY, {"ids": list(ids)}).all():
        people, values, _ = found.setdefault(row.id, ([], {}, frozenset(row.ever)))
        if row.is_total:
            people.append(row.people)
        elif row.key is not None:
            values.setdefault(row.key, {})[row.value] = row.people
    return {account: Tally(sum(people), values, ever) for account, (people, values, ever) in found.items()}


def numbers(db: Connection, connection: str, external_ids: Sequence[str]) -> dict[str, int]:
    """Return our number of each account that is known, by the CRM's id."""
    rows = execute(db, _IDS, {"connection": connection, "external_ids": list(external_ids)}).all()
    return {row.external_id: row.id for row in rows}


def follow(db: Connection, connection: str, moved: Mapping[str, str]) -> None:
    """Let the people of accounts that the CRM merged be in those that they lead to: old id -> new one."""
    ids = {"old_ids": list(moved), "new_ids": list(moved.values())}
    for statement in _HOLD:
        execute(db, statement, {"connection": connection, "object_type": ACCOUNT, **ids})
    for old_id, new_id in sorted(moved.items()):
        values = {"connection": connection, "old_id": old_id, "new_id": new_id, "object_type": ACCOUNT}
        for statement in _FOLLOW:
            execute(db, statement, values)
    want(db, numbers(db, connection, sorted(set(moved.values()))).values())
