"""The drain of one operation of a connection: ask, claim, work, settle, until nothing may go.

One drain at a time works on it, in all processes together; contacts, which must be fast, have a drain of their own
(`flush`).
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from threading import BoundedSemaphore
from typing import ClassVar, Generic, NamedTuple, Protocol, TypeVar
from uuid import UUID, uuid4

from sqlalchemy import Connection, Engine

from integration.delivery import policy, trouble
from integration.delivery.budget import Budget
from integration.delivery.flush import Flushed
from integration.errors import CoursewireError, Reason
from integration.observability import logs
from integration.ports import ANY_CALL
from integration.storage import breakers, calls, connections, outlook, rings, sync_state
from integration.storage.base import single
from integration.storage.calls import Call
from integration.storage.outlook import Outlook
from integration.storage.sync_state import BACKFILL, LIVE, Claimed


class Row(Protocol):
    """What a row of work must tell."""

    @property
    def id(self) -> int:
        """Its number."""

    @property
    def lane(self) -> int:
        """Live or backfill."""


class Outcome(Protocol):
    """What became of one row."""

    @property
    def id(self) -> int:
        """Its number."""

    @property
    def status(self) -> str:
        """The state that it ends in."""

    @property
    def reason(self) -> Reason:
        """Why."""


class Done(Protocol):
    """What work on a batch came to."""

    @property
    def calls(self) -> int:
        """How many calls it took."""

    @property
    def trouble(self) -> CoursewireError | None:
        """What stopped it, where something did."""


R = TypeVar("R", bound=Row)
B = TypeVar("B", bound=Done)


class Claim(NamedTuple, Generic[R]):
    """What was claimed, and how many others were put off meanwhile."""

    rows: Sequence[R]
    put_off: int = 0


@dataclass(frozen=True, slots=True)
class Turn:
    """One batch: its lease, when it began, the outlook it began with, and the calls that it made."""

    lease: UUID
    started: datetime
    now: Outlook
    calls: Sequence[Call] = ()


@dataclass(frozen=True, kw_only=True)
class Drain(ABC, Generic[R, B]):
    """Works on what is due; built once per process by the composition root.

    `take_calls` hands over the calls the connector made in this thread since it was last asked.
    """

    operation: ClassVar[str]
    queue: ClassVar[outlook.Queue] = "sync_state"
    engine: Engine
    connection: str
    take_calls: Callable[[], list[Call]]
    budget: Budget
    places: BoundedSemaphore = field(default_factory=lambda: BoundedSemaphore(1))
    _turns: "count[int]" = field(default_factory=lambda: count(1))

    @property
    def endpoint(self) -> str:
        """The class of the calls that are asked for before anything is claimed."""
        return ANY_CALL

    @property
    @abstractmethod
    def size(self) -> int:
        """How many rows a batch has at most."""

    @abstractmethod
    def claim(self, db: Connection, lease: UUID, *, limit: int, first: int, suspects: int | None) -> Claim[R]:
        """Claim what waits longest; the statement commits by itself."""

    @abstractmethod
    def work(self, rows: Sequence[R], turn: Turn) -> B:
        """Call the other side; no transaction is open. Whatever goes wrong, every row has an outcome."""

    @abstractmethod
    def settle(self, done: B, rows: Sequence[R], turn: Turn) -> Sequence[Outcome]:
        """Write the outcomes in one transaction, and return them; called again where the database was away."""

    def led_to(self, done: B) -> set[tuple[str, str]]:
        """Return (connection, operation) where something is due because of a batch that was settled."""
        return set()

    def note(self, db: Connection, turn: Turn, error: CoursewireError | None, *, was_called: bool) -> None:
        """Write down the calls, and what they say of the connection, in the transaction that settles."""
        calls.add(db, self.connection, turn.calls)
        if error is not None:
            trouble.note(db, self.connection, self.operation, error)
        elif was_called and not turn.now.is_clear:
            connections.heal(db, self.connection)
            breakers.succeed(db, self.connection, self.operation)

    def told(self, done: B, rows: Sequence[R], kept: Collection[int], outcomes: Sequence[Outcome]) -> dict[str, object]:
        """Return what the log says of a settled batch; `kept` are the rows whose outcome did not come too late."""
        return {
            "connection": self.connection,
            "rows": len(rows),
            "late": len(rows) - len(kept),
            "calls": done.calls,
            "outcomes": counts(outcomes),
            "trouble": done.trouble.reason.value if done.trouble else None,
        }

    def flush(self) -> Flushed:
        """Drain what is due; returns when nothing is, when the connection may not be called, or when time is up."""
        if not self.places.acquire(blocking=False):
            return Flushed()
        try:
            return self._flush()
        finally:
            self.places.release()

    def is_due(self) -> bool:
        """Say whether there is something to do and nothing that forbids it."""
        found = self.look(LIVE)
        return found.may_call and found.lane is not None

    def look(self, first: int) -> Outlook:
        """Return the outlook."""
        with single(self.engine) as db:
            return outlook.look(db, self.connection, self.operation, first=first, queue=self.queue)

    def _flush(self) -> Flushed:
        flushed, lease, ends = Flushed(), uuid4(), time.monotonic() + policy.DRAIN_SECONDS
        if not self._stay(lease):
            return flushed
        try:
            while self._batch(flushed) and time.monotonic() < ends:
                self._stay(lease)
        finally:
            with single(self.engine) as db:
                rings.stop(db, self.connection, self.operation, lease)
        left = self.look(LIVE)
        if left.may_call and left.lane is not None:
            flushed.ring_again = self.budget.ask(left.lane, self.endpoint) <= policy.SHORT_PAUSE
            self.budget.give_back()
        return flushed

    def _stay(self, lease: UUID) -> bool:
        with single(self.engine) as db:
            return rings.start(db, self.connection, self.operation, lease)

    def _may_claim(self) -> Outlook | None:
        """Ask breaker and budget, so that nothing is claimed in vain (rule 23); a short pause is sat out."""
        first = BACKFILL if next(self._turns) % policy.BACKFILL_TURN == 0 else LIVE
        patience = time.monotonic() + policy.LONGEST_WAIT
        while True:
            now = self.look(first)
            if now.lane is None or (now.wait == 0 and not now.may_call):
                return None
            wait = now.wait or self.budget.ask(now.lane, self.endpoint)
            if wait == 0:
                return now
            if wait > policy.SHORT_PAUSE or time.monotonic() > patience:
                return None
            time.sleep(wait)

    def _batch(self, flushed: Flushed) -> bool:
        """Work on one batch; say whether there may be another one."""
        lease = uuid4()
        logs.bind(batch=str(lease))
        now = self._may_claim()
        if now is None:
            return False
        claimed = self._claim(lease, now)
        if not claimed.rows:
            self.budget.give_back()
            return claimed.put_off > 0
        turn = Turn(lease, datetime.now(UTC), now)
        self.take_calls()
        with self.budget.lane(min(row.lane for row in claimed.rows)):
            done = self.work(claimed.rows, turn)
        self.budget.give_back()
        turn = Turn(lease, turn.started, now, self.take_calls())
        settled: list[Outcome] = []
        trouble.settle_in_time(lambda: settled.extend(self.settle(done, claimed.rows, turn)))
        flushed.batches += 1
        flushed.settled += len(claimed.rows)
        flushed.led_to |= self.led_to(done)
        for outcome in settled:
            if outcome.status == "dead":
                flushed.dead.setdefault(outcome.reason, []).append(outcome.id)
        return True

    def _claim(self, lease: UUID, now: Outlook) -> Claim[R]:
        with single(self.engine) as db:
            # Half-open, and one record is enough to see whether it is taken again.
            if now.is_tripped and not breakers.probe(db, self.connection, self.operation, lease):
                return Claim([])
            limit = 1 if now.is_tripped else self.size
            lane = LIVE if now.lane is None else now.lane
            return self.claim(db, lease, limit=limit, first=lane, suspects=now.max_batch)


@dataclass(frozen=True, kw_only=True)
class StateDrain(Drain[Claimed, B]):
    """A drain whose rows are of `sync_state`."""

    def claim(self, db: Connection, lease: UUID, *, limit: int, first: int, suspects: int | None) -> Claim[Claimed]:
        """Claim what is due."""
        return Claim(
            sync_state.claim(db, self.connection, self.operation, lease, limit=limit, first=first, suspects=suspects)
        )


def counts(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """Return how often each outcome came, for the log."""
    found: dict[str, int] = {}
    for outcome in outcomes:
        key = f"{outcome.status}:{outcome.reason}"
        found[key] = found.get(key, 0) + 1
    return found
