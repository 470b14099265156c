"""What Postgres says about the demo: how far the work is, and where every event ended."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection, Engine

from integration.observability import books
from integration.observability.books import Books
from integration.storage import inbox
from integration.storage.statement import execute
from scripts.demo.place import ACADEMY, CRM

__all__ = ["Ended", "Ledger", "Standing"]

# For the night wait contacts that are due, but not yet; whatever else is not in step is still being worked on, such as
# a role that has not settled.
_STANDING = """
SELECT (SELECT count(*) FROM inbox_keys WHERE connection = %(academy)s) AS accepted,
       (SELECT count(*) FROM inbox
        WHERE connection = %(academy)s AND status NOT IN ('received', 'claimed', 'enriching')) AS applied,
       (SELECT count(*) FROM people) AS people,
       (SELECT count(*) FROM sync_state
        WHERE operation = 'contact.upsert'
          AND (status = 'in_step' OR (status = 'due' AND not_before > now()))) AS in_step,
       (SELECT count(*) FROM inbox WHERE status IN ('received', 'claimed', 'enriching'))
       + (SELECT count(*) FROM sync_state
          WHERE status IN ('sending', 'waiting')
             OR (status = 'due' AND (not_before <= now() OR operation = 'contact.role')))
       + (SELECT count(*) FROM enrollments WHERE status IN ('due', 'sending', 'waiting'))
       + (SELECT count(*) FROM deliveries WHERE status IN ('pending', 'sending')) AS open
"""

_FOR_THE_NIGHT = """
SELECT count(*) FROM inbox i WHERE i.status = 'done' AND EXISTS (
    SELECT FROM sync_state s
    WHERE s.subject_id = i.person_id AND s.written < i.person_version AND s.status = 'due' AND s.not_before > now())
"""

_ENDED = "SELECT connection, key, status, reason, detail, park_keys IS NOT NULL AS waits_behind FROM inbox"

_STORED = "SELECT count(*) FROM inbox_keys"

_SAID = """
SELECT status, coalesce(reason, '') AS reason, count(*) AS hints FROM inbox WHERE connection = %(crm)s GROUP BY 1, 2
"""

_PEOPLE = """
SELECT count(DISTINCT object_id) FROM links
WHERE connection = %(academy)s AND object_type = 'learner' AND external_id = ANY(%(learners)s::text[])
"""

_UNWRITTEN = """
SELECT status, coalesce(reason, '') AS reason, count(*) AS people FROM sync_state
WHERE status IN ('parked', 'dead') GROUP BY 1, 2
"""


class Standing(NamedTuple):
    """How far the LMS's events are; `open` is whatever still has to be done before the night."""

    accepted: int
    applied: int
    people: int
    in_step: int
    open: int


@dataclass(frozen=True, slots=True)
class Ended:
    """Where one event ended, and why. `waits_behind`: what would release it is known."""

    status: str
    reason: str
    detail: str = ""
    waits_behind: bool = False


@dataclass(frozen=True)
class Ledger:
    """Reads the demo's database; each call sees one moment."""

    engine: Engine

    def standing(self) -> Standing:
        """How far the work is now."""
        with self._look() as db:
            return Standing(*execute(db, _STANDING, {"academy": ACADEMY}).one())

    def stored(self) -> int:
        """How many webhooks were ever stored, whoever sent them."""
        with self._look() as db:
            return int(execute(db, _STORED).scalar_one())

    def said(self) -> dict[tuple[str, str], int]:
        """What became of the CRM's own webhooks: how many by state and reason."""
        with self._look() as db:
            return {(row.status, row.reason): row.hints for row in execute(db, _SAID, {"crm": CRM})}

    def people(self, lms_user_ids: Iterable[str]) -> int:
        """How many people these learners of the academy are to us."""
        with self._look() as db:
            values = {"academy": ACADEMY, "learners": list(lms_user_ids)}
            return int(execute(db, _PEOPLE, values).scalar_one())

    def books(self) -> tuple[Books, int]:
        """Where the accepted events are, and how many of them wait for the night."""
        with self._look() as db, db.begin():
            return books.balance(db), execute(db, _FOR_THE_NIGHT).scalar_one()

    def ended(self, webhook_ids: Iterable[str]) -> dict[str, Ended]:
        """Where the events of these webhook ids ended; one that is not stored is not in the answer."""
        names = {(ACADEMY, inbox.key_of(one)): one for one in webhook_ids}
        with self._look() as db:
            rows = execute(db, _ENDED).fetchall()
        return {
            names[place]: Ended(row.status, row.reason or "", row.detail or "", row.waits_behind)
            for row in rows
            if (place := (row.connection, bytes(row.key))) in names
        }

    def unwritten(self) -> dict[tuple[str, str], int]:
        """People who could not be brought in step, by state and reason."""
        with self._look() as db:
            return {(row.status, row.reason): row.people for row in execute(db, _UNWRITTEN)}

    def _look(self) -> Connection:
        return self.engine.connect().execution_options(isolation_level="REPEATABLE READ")
