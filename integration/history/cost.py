"""What an import would cost, counted without doing it: who would be new, which facts, how many contacts and calls."""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from datetime import datetime
from math import ceil
from types import TracebackType
from typing import NamedTuple, Self

from sqlalchemy import Connection, Engine

from integration.history.chunks import Said
from integration.model.people import LEARNER
from integration.security.seal import IndexKeys
from integration.sighting import Sighting, learner_key
from integration.storage.base import single
from integration.storage.statement import execute

# Kept by the database and not by us, so that a file of any size costs us the same. `stored` is a key under which the
# address may be stored, in a row for each.
_TABLES = """
CREATE TEMPORARY TABLE looked_up (user_id text, email bytea, stored bytea);
CREATE TEMPORARY TABLE looked_at (fact_key bytea, content_hash bytea)
"""

_LOOK_UP = """
INSERT INTO looked_up SELECT * FROM unnest(%(user_id)s::text[], %(email)s::bytea[], %(stored)s::bytea[])
"""

_LOOK_AT = "INSERT INTO looked_at SELECT * FROM unnest(%(fact_key)s::bytea[], %(content_hash)s::bytea[])"

_PEOPLE = """
SELECT count(*) AS people, count(*) FILTER (WHERE is_known) AS known
FROM (SELECT bool_or(k.object_id IS NOT NULL OR EXISTS (SELECT FROM people p WHERE p.email_key = l.stored)) AS is_known
      FROM (SELECT DISTINCT user_id, email, stored FROM looked_up) AS l
      LEFT JOIN links k ON k.connection = %(connection)s AND k.object_type = %(learner)s AND k.external_id = l.user_id
      GROUP BY coalesce(l.user_id, encode(l.email, 'hex'))) AS named
"""

_FACTS = """
SELECT count(*) AS facts, count(*) FILTER (WHERE is_known) AS known
FROM (SELECT EXISTS (SELECT FROM events e WHERE e.fact_key = t.fact_key AND e.content_hash = t.content_hash) AS is_known
      FROM (SELECT DISTINCT fact_key, content_hash FROM looked_at) AS t) AS told
"""


class Cost(NamedTuple):
    """People and facts in a file, and how many of them are known; an e-mail that has two ids counts as two people."""

    people: int
    known_people: int
    facts: int
    known_facts: int

    def calls(self, batch: int) -> tuple[int, int]:
        """Return the most calls that a CRM gets for it, to read and to write, in full batches."""
        if self.facts == self.known_facts:
            return 0, 0
        return ceil(self.people / batch), ceil(self.people / batch)


class Ledger(AbstractContextManager["Ledger"]):
    """Who and what a file names, kept in tables of one session of the database."""

    def __init__(self, engine: Engine, connection: str, keys: IndexKeys, now: datetime) -> None:
        self._engine, self._connection, self._keys, self._now = engine, connection, keys, now
        self._open: AbstractContextManager[Connection] | None = None

    def __enter__(self) -> Self:
        """Open the session."""
        self._open = single(self._engine)
        self._db = self._open.__enter__()
        execute(self._db, "SET statement_timeout = '10min'")
        execute(self._db, _TABLES)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the session, and the tables with it."""
        self._db.invalidate()
        assert self._open is not None  # noqa: S101 - entered
        self._open.__exit__(None, None, None)

    def hear(self, said: Iterable[Said]) -> None:
        """Note what some rows say."""
        learners = set[tuple[str | None, str | None]]()
        facts = set[tuple[bytes, bytes]]()
        for _, event, content in said:
            sighting = Sighting.of(self._connection, event, self._now)
            learners.add((event.learner.lms_user_id, sighting.email))
            learner = learner_key(sighting, self._keys)
            facts.add((event.fact_key(self._connection, learner), content))
        rows: list[tuple[str | None, bytes | None, bytes | None]] = []
        for user_id, email in learners:
            stored = self._keys.candidates("email", email) if email else [None]
            rows += [(user_id, stored[0], one) for one in stored]
        values = {name: [row[place] for row in rows] for place, name in enumerate(("user_id", "email", "stored"))}
        execute(self._db, _LOOK_UP, values)
        told = {name: [fact[place] for fact in facts] for place, name in enumerate(("fact_key", "content_hash"))}
        execute(self._db, _LOOK_AT, told)

    def cost(self) -> Cost:
        """Return what it comes to."""
        people = execute(self._db, _PEOPLE, {"connection": self._connection, "learner": LEARNER}).one()
        facts = execute(self._db, _FACTS).one()
        return Cost(people.people, people.known, facts.facts, facts.known)
