"""The drain of one connection: ask, claim, project, skip, call, settle, until nothing is due.

A lone event is one small batch and goes out at once, beside the call of another one. In a burst one drain works alone
and waits for company: people of whom more is on its way would be written twice, and batches would be small.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from math import ceil
from threading import BoundedSemaphore
from uuid import UUID, uuid4

import structlog
from sqlalchemy import Connection, Engine

from integration import merging
from integration.delivery import joining, policy, trouble
from integration.delivery.budget import Budget
from integration.delivery.contacts import Batch
from integration.delivery.lease import Lease
from integration.errors import Reason, RetryLater
from integration.model.accounts import WRITE_ACCOUNT
from integration.model.contacts import CONTACT, Projected
from integration.observability import logs
from integration.ports import ContactStore
from integration.security.seal import IndexKeys, KeyRing
from integration.storage import (
    attempts,
    breakers,
    calls,
    connections,
    loops,
    outlook,
    people,
    quarantine,
    rings,
    sync_state,
)
from integration.storage.base import AWAY, single, snapshot
from integration.storage.calls import Call
from integration.storage.outlook import Outlook
from integration.storage.roles import Watching
from integration.storage.sync_state import BACKFILL, LIVE, Claimed

log = structlog.get_logger(__name__)

CONTACT_KEY = "contact.key"
"""What a property is left out as that contacts cannot be found by; one that cannot be written: CONTACT."""

Project = Callable[[Connection, str, Sequence[int]], Projected]
"""Say what a connection should hold of these people, as one transaction sees them."""


@dataclass(slots=True)
class Flushed:
    """What one drain did: dead rows by reason, and whether work that it left should be rung for at once.

    `led_to`: (connection, operation) where something is due because of it.
    """

    batches: int = 0
    settled: int = 0
    dead: dict[Reason, list[int]] = field(default_factory=dict)
    ring_again: bool = False
    led_to: set[tuple[str, str]] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Flusher:
    """Writes contacts to one CRM connection; built once per process by the composition root.

    `take_calls` hands over the calls the connector made in this thread since it was last asked. `places` is how many
    threads of this process may drain this connection at once, so that a slow system leaves room for the others.
    `on_link` is told, in the transaction that settles, for whom a contact was found or made.
    """

    engine: Engine
    connection: str
    operation: str
    store: ContactStore
    ring: KeyRing
    keys: IndexKeys
    project: Project
    take_calls: Callable[[], list[Call]]
    budget: Budget
    places: BoundedSemaphore = field(default_factory=lambda: BoundedSemaphore(4))
    on_link: Callable[[Connection, Collection[int]], None] | None = None
    watching: Watching | None = None
    _turns: "count[int]" = field(default_factory=lambda: count(1))

    def flush(self) -> Flushed:
        """Drain what is due; returns when nothing is, when the connection may not be called, or when time is up."""
        if not self.places.acquire(blocking=False):
            return Flushed()  # those who are at it go on until nothing is due
        try:
            return self._flush()
        finally:
            self.places.release()

    def _flush(self) -> Flushed:
        flushed, lease = Flushed(), uuid4()
        size = self.store.capabilities.batch_size
        with single(self.engine) as db:
            alone = rings.start(db, self.connection, self.operation, lease)
            if not alone and not rings.may_help(
                db, self.connection, self.operation, burst=policy.BURST, overdue=policy.OVERDUE_SECONDS
            ):
                return flushed
        try:
            self._drain(flushed, lease if alone else None, size)
        finally:
            if alone:
                with single(self.engine) as db:
                    rings.stop(db, self.connection, self.operation, lease)
        with single(self.engine) as db:
            # Whoever became due between the last look and the end of the drain rang in vain.
            left = outlook.look(db, self.connection, self.operation)
        if left.may_call and left.lane is not None:
            # Not where the calls are used up for longer: each ring would lead to the next one, as fast as it can.
            flushed.ring_again = self.budget.ask(left.lane) <= policy.SHORT_PAUSE
            self.budget.give_back()
        return flushed

    def _drain(self, flushed: Flushed, lease: UUID | None, size: int) -> None:
        """Write batch after batch; without the lease of the drain, one."""
        ends = time.monotonic() + policy.DRAIN_SECONDS
        found, quota = self._look(self._turn()), 1
        if lease and found.coming >= policy.BURST:
            quota, found = self._quota(size, lease), self._look(self._turn())
        while quota and self._batch(flushed, size, found) and lease and time.monotonic() < ends:
            quota = quota - 1 or self._quota(size, lease)
            if quota:
                self._stay(lease)
                found = self._look(self._turn())

    def _quota(self, size: int, lease: UUID) -> int:
        """Return how many batches may be written before the next look; wait for company while a burst is on its way.

        It waits as long as the oldest of these events has: what is far behind is first caught up with. Then it writes
        a part of who is due, those who wait longest; the others may still be told more.
        """
        started = renewed = time.monotonic()
        while True:
            with single(self.engine) as db:
                found = sync_state.backlog(db, self.connection, self.operation, burst=policy.BURST)
            if time.monotonic() - renewed > policy.LINGER_LEAST:
                renewed = time.monotonic()
                self._stay(lease)
            if found.coming < policy.BURST:
                return ceil(found.due / size)
            if time.monotonic() - started >= min(max(found.behind, policy.LINGER_LEAST), policy.LINGER_MOST):
                return ceil(found.due * policy.LINGER_SHARE / size)
            time.sleep(policy.LINGER_STEP)

    def _stay(self, lease: UUID) -> None:
        with single(self.engine) as db:
            rings.start(db, self.connection, self.operation, lease)

    def _turn(self) -> int:
        return BACKFILL if next(self._turns) % policy.BACKFILL_TURN == 0 else LIVE

    def _look(self, first: int) -> Outlook:
        with single(self.engine) as db:
            return outlook.look(db, self.connection, self.operation, first=first, burst=policy.BURST)

    def _claim(self, lease: UUID, size: int, now: Outlook) -> tuple[list[Claimed], Outlook]:
        """Claim what is due, if the connection may be called; a pause that is nearly over is sat out first.

        Breaker and budget are asked before the claim, so that nobody is claimed in vain (rule 23).
        """
        patience = time.monotonic() + policy.LONGEST_WAIT
        while True:
            if now.lane is None or (now.wait == 0 and not now.may_call):
                return [], now
            wait = now.wait or self.budget.ask(now.lane)
            if wait == 0:
                break
            if wait > policy.SHORT_PAUSE or time.monotonic() > patience:
                return [], now
            time.sleep(wait)
            now = self._look(now.lane)
        rows: list[Claimed] = []
        with single(self.engine) as db:
            # Half-open, and one record is enough to see whether the system is there again.
            if not now.is_tripped or breakers.probe(db, self.connection, self.operation, lease):
                limit = 1 if now.is_tripped else size
                rows = sync_state.claim(
                    db,
                    self.connection,
                    self.operation,
                    lease,
                    limit=limit,
                    first=now.lane,
                    suspects=now.max_batch,
                )
        if not rows:
            self.budget.give_back()
        return rows, now

    def _batch(self, flushed: Flushed, size: int, now: Outlook) -> int:
        """Write one batch; return how many rows it had."""
        lease, started = uuid4(), datetime.now(UTC)
        logs.bind(batch=str(lease))
        rows, now = self._claim(lease, size, now)
        if not rows:
            return 0
        self.take_calls()
        with self.budget.lane(min(row.lane for row in rows)):
            batch = self._written(rows, Lease(self.engine, lease, [row.id for row in rows]), now)
        self.budget.give_back()
        made = self.take_calls()
        trouble.settle_in_time(lambda: self._settle(batch, rows, lease, started, now, made, flushed.led_to))
        self._follow(batch.moved)
        flushed.batches += 1
        flushed.settled += len(batch.settled)
        for outcome in batch.settled.values():
            if outcome.status == "dead":
                flushed.dead.setdefault(outcome.reason, []).append(outcome.id)
        return len(rows)

    def _follow(self, moved: Mapping[str, str]) -> None:
        """Follow the merges that reads have shown; what fails is shown again by the next read."""
        for new_id in sorted(set(moved.values())):
            old_ids = [old for old, new in moved.items() if new == new_id]
            with suppress(RetryLater):
                merging.follow(self.engine, self.connection, new_id, old_ids, self.ring, self.keys)

    def _written(self, rows: Sequence[Claimed], lease: Lease, now: Outlook) -> Batch:
        """Project and write a batch; whatever goes wrong, every row has an outcome."""
        batch = Batch(store=self.store, ring=self.ring, owners=self._owners, targets={})
        try:
            batch = self._projected(rows)
            batch.hold, batch.succeeded_at = lease.hold, now.succeeded_at
            batch.run(rows)
        except AWAY:
            batch.give_back(rows)  # only asked for before anything is written; no row is to blame
        except RetryLater as error:  # from the projection: the published rules are of a newer version
            batch.trouble = error
            batch.give_back(rows)
        except Exception as error:  # a row that breaks us must be found, and its neighbours not held for a lease
            log.exception("flush.failed", connection=self.connection, rows=len(rows))
            batch.abandon(rows, error)
        return batch

    def _projected(self, rows: Sequence[Claimed]) -> Batch:
        with snapshot(self.engine).begin() as db:
            projected = self.project(db, self.connection, [row.person_id for row in rows])
            properties = quarantine.known(db, self.connection, CONTACT, CONTACT_KEY)
        return Batch(
            store=self.store,
            upsert=self.store.upsert,
            ring=self.ring,
            owners=self._owners,
            left_out=properties[CONTACT].held,
            retried=properties[CONTACT].retried,
            dead_keys=properties[CONTACT_KEY].held,
            targets=projected.targets,
            unreadable=projected.unreadable,
            rule_set=projected.rule_set,
            along=projected.along,
        )

    def _owners(self, remote_ids: Sequence[str]) -> Mapping[str, int]:
        with single(self.engine) as db:
            known = people.by_link(db, CONTACT, [(self.connection, remote_id) for remote_id in remote_ids])
        return {remote_id: person_id for (_, remote_id), person_id in known.items()}

    def _settle(
        self,
        batch: Batch,
        rows: Sequence[Claimed],
        lease: UUID,
        started: datetime,
        now: Outlook,
        made: Sequence[Call],
        led_to: set[tuple[str, str]],
    ) -> None:
        with self.engine.begin() as db:
            # People are held before rows of sync_state, as everywhere.
            found = _new_links(self.connection, batch.links, rows)
            people.link(db, CONTACT, found)
            if found and self.on_link:
                self.on_link(db, set(found.values()))
            kept = sync_state.settle(db, lease, list(batch.settled.values()), rule_set=batch.rule_set)
            attempts.append(
                db,
                batch.attempts,
                connection=self.connection,
                operation=self.operation,
                batch=lease,
                started_at=started,
                rule_set=batch.rule_set,
            )
            joining.hear_own_roles(db, self.connection, batch, kept, self.watching)
            if joining.join(db, self.connection, batch, rows, kept):
                led_to.add((self.connection, WRITE_ACCOUNT))
            calls.add(db, self.connection, made)
            new_refusals = self._note_fields(db, batch)
            in_loop = loops.count(db, self.connection, batch.rewritten)
            if batch.trouble is not None:
                trouble.note(db, self.connection, self.operation, batch.trouble)
            elif batch.calls and not now.is_clear:
                connections.heal(db, self.connection)
                breakers.succeed(db, self.connection, self.operation)
        for name in new_refusals:
            log.warning("field.quarantined", connection=self.connection, field=name)
        for person_id, name in in_loop:
            log.warning("field.loop", connection=self.connection, person=person_id, field=name)
        log.info(
            "flush.settled",
            connection=self.connection,
            operation=self.operation,
            rows=len(rows),
            late=len(rows) - len(kept),
            calls=batch.calls,
            outcomes=_counts(batch),
            trouble=batch.trouble.reason.value if batch.trouble else None,
            oldest_ms=round(1000 * (datetime.now(UTC) - min(row.wanted_since for row in rows)).total_seconds()),
        )

    def _note_fields(self, db: Connection, batch: Batch) -> list[str]:
        fresh: list[str] = []
        reason = Reason.UNKNOWN_PROPERTY
        if batch.refused_fields:
            fresh += quarantine.add(db, self.connection, CONTACT, batch.refused_fields, reason)
        if batch.refused_keys:
            fresh += quarantine.add(db, self.connection, CONTACT_KEY, batch.refused_keys, reason)
        if batch.accepted_fields & batch.retried:
            quarantine.accept(db, self.connection, CONTACT, batch.accepted_fields & batch.retried)
        return fresh


def _new_links(connection: str, links: Mapping[str, int], rows: Sequence[Claimed]) -> dict[tuple[str, str], int]:
    """Return whom the CRM's ids stand for, without those that an earlier batch has noted with what it saw there."""
    noted = {(row.remote_id, row.person_id) for row in rows if row.remote_values is not None}
    return {(connection, remote_id): who for remote_id, who in links.items() if (remote_id, who) not in noted}


def _counts(batch: Batch) -> dict[str, int]:
    counts: dict[str, int] = {}
    for outcome in batch.settled.values():
        key = f"{outcome.status}:{outcome.reason}"
        counts[key] = counts.get(key, 0) + 1
    return counts
