"""Reading the chunks of a run: pages of contacts, then by id the contacts that were on no page."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection, Engine

from integration.delivery.budget import Budget
from integration.errors import RetryLater
from integration.model.contacts import CONTACT, RemoteContact
from integration.model.roles import Watch
from integration.ports import ContactStore
from integration.reconciliation.patience import wait_for_call
from integration.storage import quarantine, reconciliation_findings, reconciliations
from integration.storage.base import single
from integration.storage.reconciliation_findings import Known
from integration.storage.reconciliations import Chunk, ChunkTaken
from integration.storage.roles import Watching
from integration.storage.sync_state import BACKFILL

PAGES = 10
"""How many pages a chunk has: what is repeated when a worker is killed, and what one transaction records."""

EMAIL = "email"


class Subject(NamedTuple):
    """What is read of each contact, as the published rules say.

    `fields` are the properties that rules fill, `marks` those that nobody but us does, `user` the one that holds
    `connection:id` of the LMS, `employee` the one that holds the employee id.
    """

    fields: frozenset[str] = frozenset()
    marks: frozenset[str] = frozenset()
    user: str | None = None
    employee: str | None = None


class Read(NamedTuple):
    """A chunk as it was read; `cursor` None = there is nothing after it; `trouble` is why it ends before its time.

    `missing` are contacts that are not there, `merged` those that are in another one now, each with its id.
    """

    contacts: Sequence[RemoteContact]
    cursor: str | None
    asked: frozenset[str] = frozenset()
    subject: Subject = Subject()
    watch: Watch | None = None
    missing: Sequence[Known] = ()
    merged: Sequence[tuple[Known, str]] = ()
    trouble: RetryLater | None = None


@dataclass(frozen=True, kw_only=True)
class Reader:
    """Reads the contacts of one CRM in the backfill lane, holding the chunk that it reads."""

    engine: Engine
    connection: str
    store: ContactStore
    budget: Budget
    subject: Callable[[Connection, str], Subject]
    watching: Watching

    def read(self, chunk: Chunk, lease: UUID) -> Read:
        """Return what a chunk stands for. Raises ChunkTaken, and what the CRM and the budget raise."""
        with self.budget.lane(BACKFILL):
            return self._pages(chunk, lease) if chunk.phase == "list" else self._unseen(chunk, lease)

    def _pages(self, chunk: Chunk, lease: UUID) -> Read:
        with single(self.engine) as db:
            subject, watch = self.subject(db, self.connection), self.watching(db, self.connection)
            refused = quarantine.known(db, self.connection, CONTACT)[CONTACT]
        asked = (subject.fields | (watch.properties if watch else frozenset())) - refused.held - refused.retried
        found: dict[str, RemoteContact] = {}  # pages shift while people create and delete: one may come twice
        after, trouble = chunk.cursor, None
        for _ in range(PAGES):
            try:
                self._wait(chunk, lease)
                page = self.store.page(after, sorted(asked | {EMAIL}))
            except RetryLater as error:
                if not found:
                    raise
                trouble = error
                break  # what was read is not read again; the next chunk meets the trouble
            found |= {contact.id: contact for contact in page.contacts}
            after = page.after
            if after is None:
                break
        return Read(list(found.values()), after, asked, subject, watch, trouble=trouble)

    def _unseen(self, chunk: Chunk, lease: UUID) -> Read:
        """Ask by id for contacts that were on no page: some are missing indeed, and some are in another one now."""
        size = self.store.capabilities.batch_size
        with single(self.engine) as db:
            left = reconciliation_findings.unseen(
                db, chunk, self.connection, after=int(chunk.cursor or 0), limit=PAGES * size
            )
        there: dict[str, RemoteContact] = {}
        for start in range(0, len(left), size):
            self._wait(chunk, lease)
            ids = [row.remote_id for row in left[start : start + size] if row.remote_id]
            there |= self.store.read(None, ids, [EMAIL])
        found = [(row, there.get(row.remote_id or "")) for row in left]
        return Read(
            (),
            str(left[-1].person_id) if len(left) == PAGES * size else None,
            missing=[row for row, contact in found if contact is None],
            merged=[(row, contact.id) for row, contact in found if contact and contact.id != row.remote_id],
        )

    def _wait(self, chunk: Chunk, lease: UUID) -> None:
        wait_for_call(self.budget, self.connection, partial(self._still_ours, chunk, lease))

    def _still_ours(self, chunk: Chunk, lease: UUID) -> None:
        with single(self.engine) as db:
            if not reconciliations.hold(db, chunk, lease):
                raise ChunkTaken
