"""The drain of activities: ask, claim, look for what may have arrived, write, settle, until nothing may go.

One drain per connection: an activity is in no hurry, and its contact goes first. Batches fill by themselves while
contacts are written.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from threading import BoundedSemaphore
from uuid import UUID, uuid4

import structlog
from sqlalchemy import Engine

from integration.delivery import policy, trouble
from integration.delivery.budget import Budget
from integration.delivery.flush import Flushed
from integration.delivery.lease import Lease
from integration.delivery.posting import Posting
from integration.errors import ConnectionBroken, Reason
from integration.model.activities import WRITE_ACTIVITY
from integration.observability import logs
from integration.ports import ActivityStore
from integration.storage import attempts, breakers, calls, connections, deliveries, outlook, rings
from integration.storage.base import AWAY, single
from integration.storage.calls import Call
from integration.storage.deliveries import Claimed
from integration.storage.outlook import Outlook
from integration.storage.sync_state import BACKFILL, LIVE

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Poster:
    """Writes activities to one connection; built once per process by the composition root, as a Flusher is."""

    engine: Engine
    connection: str
    store: ActivityStore
    take_calls: Callable[[], list[Call]]
    budget: Budget
    places: BoundedSemaphore = field(default_factory=lambda: BoundedSemaphore(1))
    _turns: "count[int]" = field(default_factory=lambda: count(1))

    def flush(self) -> Flushed:
        """Drain what is due; returns when nothing is, when the connection may not be called, or when time is up."""
        if not self.places.acquire(blocking=False):
            return Flushed()
        try:
            return self._flush()
        finally:
            self.places.release()

    def is_due(self) -> bool:
        """Say whether there is something to write and nothing that forbids it."""
        found = self._look(LIVE)
        return found.may_call and found.lane is not None

    def _flush(self) -> Flushed:
        flushed, lease, ends = Flushed(), uuid4(), time.monotonic() + policy.DRAIN_SECONDS
        if not self._stay(lease):
            return flushed
        try:
            while self._batch(flushed) and time.monotonic() < ends:
                self._stay(lease)
        finally:
            with single(self.engine) as db:
                rings.stop(db, self.connection, WRITE_ACTIVITY, lease)
        left = self._look(LIVE)
        if left.may_call and left.lane is not None:
            flushed.ring_again = self.budget.ask(left.lane, self.store.endpoint) <= policy.SHORT_PAUSE
            self.budget.give_back()
        return flushed

    def _stay(self, lease: UUID) -> bool:
        with single(self.engine) as db:
            return rings.start(db, self.connection, WRITE_ACTIVITY, lease)

    def _look(self, first: int) -> Outlook:
        with single(self.engine) as db:
            return outlook.look(db, self.connection, WRITE_ACTIVITY, first=first, queue="deliveries")

    def _may_claim(self) -> Outlook | None:
        """Ask breaker and budget, so that nothing is claimed in vain (rule 23); a short pause is sat out."""
        first = BACKFILL if next(self._turns) % policy.BACKFILL_TURN == 0 else LIVE
        patience = time.monotonic() + policy.LONGEST_WAIT
        while True:
            now = self._look(first)
            if now.lane is None or (now.wait == 0 and not now.may_call):
                return None
            wait = now.wait or self.budget.ask(now.lane, self.store.endpoint)
            if wait == 0:
                return now
            if wait > policy.SHORT_PAUSE or time.monotonic() > patience:
                return None
            time.sleep(wait)

    def _batch(self, flushed: Flushed) -> bool:
        """Write one batch; say whether there may be another one."""
        lease, started = uuid4(), datetime.now(UTC)
        logs.bind(batch=str(lease))
        now = self._may_claim()
        if now is None:
            return False
        rows, put_off = self._claim(lease, now)
        if not rows:
            self.budget.give_back()
            return put_off > 0
        self.take_calls()
        with self.budget.lane(min(row.lane for row in rows)):
            posting = self._posted(rows, lease, now)
        self.budget.give_back()
        made = self.take_calls()
        trouble.settle_in_time(lambda: self._settle(posting, rows, lease, started, made, now))
        flushed.batches += 1
        flushed.settled += len(rows)
        for outcome in posting.settled.values():
            if outcome.status == "dead":
                flushed.dead.setdefault(outcome.reason, []).append(outcome.id)
        return True

    def _claim(self, lease: UUID, now: Outlook) -> tuple[list[Claimed], int]:
        with single(self.engine) as db:
            # Half-open, and one record is enough to see whether it is taken again.
            if now.is_tripped and not breakers.probe(db, self.connection, WRITE_ACTIVITY, lease):
                return [], 0
            limit = 1 if now.is_tripped else self.store.batch_size
            lane = LIVE if now.lane is None else now.lane
            return deliveries.claim(
                db, self.connection, WRITE_ACTIVITY, lease, limit=limit, first=lane, suspects=now.max_batch
            )

    def _posted(self, rows: Sequence[Claimed], lease: UUID, now: Outlook) -> Posting:
        held = Lease(self.engine, lease, [row.id for row in rows], deliveries.renew)
        posting = Posting(store=self.store, hold=held.hold, succeeded_at=now.succeeded_at)
        try:
            posting.run(rows)
        except AWAY:
            posting.give_back(rows)  # only asked for before anything is written; no row is to blame
        except Exception as error:  # a row that breaks us must be found, and its neighbours not held for a lease
            log.exception("activities.failed", connection=self.connection, rows=len(rows))
            posting.abandon(rows, error)
        return posting

    def _settle(
        self,
        posting: Posting,
        rows: Sequence[Claimed],
        lease: UUID,
        started: datetime,
        made: Sequence[Call],
        now: Outlook,
    ) -> None:
        with self.engine.begin() as db:
            kept = deliveries.settle(db, lease, list(posting.settled.values()))
            attempts.append(
                db,
                posting.attempts,
                connection=self.connection,
                operation=WRITE_ACTIVITY,
                batch=lease,
                started_at=started,
                rule_set=None,
                subject_type="delivery",
                action=WRITE_ACTIVITY,
            )
            calls.add(db, self.connection, made)
            if isinstance(posting.trouble, ConnectionBroken) and posting.trouble.reason in _ALONE:
                # The contacts go on: what is missing is missing for the timeline only.
                breakers.trip(
                    db, self.connection, WRITE_ACTIVITY, _ALONE[posting.trouble.reason], policy.REFUSED_SECONDS
                )
                log.error("activities.refused", connection=self.connection, reason=posting.trouble.reason.value)
            elif posting.trouble is not None:
                trouble.note(db, self.connection, WRITE_ACTIVITY, posting.trouble)
            elif posting.calls and not now.is_clear:
                connections.heal(db, self.connection)
                breakers.succeed(db, self.connection, WRITE_ACTIVITY)
        log.info(
            "activities.settled",
            connection=self.connection,
            rows=len(rows),
            late=len(rows) - len(kept),
            calls=posting.calls,
            outcomes=_counts(posting),
            trouble=posting.trouble.reason.value if posting.trouble else None,
        )


_ALONE = {
    Reason.SCOPE_MISSING: Reason.ACTIVITY_REFUSED,
    Reason.ACTIVITY_UNDEFINED: Reason.ACTIVITY_UNDEFINED,
}
"""What breaks only this operation off, and what its breaker then says."""


def _counts(posting: Posting) -> dict[str, int]:
    found: dict[str, int] = {}
    for outcome in posting.settled.values():
        key = f"{outcome.status}:{outcome.reason}"
        found[key] = found.get(key, 0) + 1
    return found
