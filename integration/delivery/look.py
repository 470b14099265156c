"""Looking something up for rows of the inbox that wait for it as `enriching`: batched, within the budget, in turn.

Nothing else is done about such a row, so a look that fails costs nothing but another one.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar
from uuid import UUID, uuid4

from sqlalchemy import Connection, Engine

from integration.delivery import trouble
from integration.delivery.budget import Budget
from integration.errors import CoursewireError
from integration.ports import Said, Translator
from integration.security.seal import IndexKeys, KeyRing
from integration.storage import breakers, calls, connections, inbox, outlook, rings
from integration.storage.base import single
from integration.storage.calls import Call
from integration.storage.inbox import Claimed, Settled
from integration.storage.outlook import Outlook
from integration.storage.sync_state import LIVE


@dataclass(slots=True)
class Looked:
    """What looks led to: whether contacts are to be written, and (id, kind) of events that go on."""

    is_due: bool = False
    goes_on: list[tuple[int, str]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Look(ABC):
    """Looks things of one connection up; built once per process by the composition root."""

    operation: ClassVar[str]
    engine: Engine
    connection: str
    system: Translator
    ring: KeyRing
    keys: IndexKeys
    take_calls: Callable[[], list[Call]]
    budget: Budget

    @property
    @abstractmethod
    def size(self) -> int:
        """How many rows one look is for."""

    @abstractmethod
    def batch(self, rows: Sequence[Claimed], lease: UUID, now: Outlook, looked: Looked) -> None:
        """Look up what the rows need, and settle them; say in `looked` what is to be done because of it."""

    def run(self) -> Looked:
        """Look at what waits, batch after batch; return what is to be done because of it."""
        turn, looked = uuid4(), Looked()
        with single(self.engine) as db:
            if not rings.start(db, self.connection, self.operation, turn):
                return looked  # whoever is at it goes on until nothing waits
        try:
            self._run(looked)
        finally:
            with single(self.engine) as db:
                rings.stop(db, self.connection, self.operation, turn)
        return looked

    def _run(self, looked: Looked) -> None:
        while True:
            with single(self.engine) as db:
                now = outlook.look(db, self.connection, self.operation)
            if not now.may_call or self.budget.ask(LIVE) > 0:
                return  # the sweeper rings again
            lease = uuid4()
            with single(self.engine) as db:
                rows = inbox.claim_enriching(db, self.connection, lease, limit=self.size)
            if not rows:
                self.budget.give_back()
                return
            try:
                self.take_calls()
                with self.budget.lane(LIVE):
                    self.batch(rows, lease, now, looked)
            except CoursewireError as error:
                with self.engine.begin() as db:
                    trouble.note(db, self.connection, self.operation, error)
                    calls.add(db, self.connection, self.take_calls())
                    inbox.give_back_enriching(db, lease)
                return
            finally:
                self.budget.give_back()

    def read(self, rows: Sequence[Claimed]) -> tuple[dict[int, Sequence[Said]], list[Settled]]:
        """Return what each row says, and what becomes of rows that cannot be read: the others are looked up."""
        said: dict[int, Sequence[Said]] = {}
        settled = []
        for row in rows:
            try:
                payload = self.ring.open(row.payload or b"", inbox.payload_context(row.connection, row.request_id))
                said[row.id] = self.system.translate(payload)
            except CoursewireError as error:
                settled.append(Settled.unread(row.id, error))
        return said, settled

    def note(self, db: Connection, now: Outlook, *, was_called: bool) -> None:
        """Write down the calls, and that the other side works again, in the transaction that settles."""
        calls.add(db, self.connection, self.take_calls())
        if was_called and not now.is_clear:
            connections.heal(db, self.connection)
            breakers.succeed(db, self.connection, self.operation)
