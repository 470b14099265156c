"""The drain of one connection: ask, claim, project, skip, call, settle, until nothing is due.

A lone event is one small batch and goes out at once. In a burst one drain works alone, finds ever fuller batches and
may wait half a second for one to fill; a second drain starts only when a full batch waits already.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID, uuid4

import structlog
from sqlalchemy import Connection, Engine

from integration.delivery import policy
from integration.delivery.contacts import Batch
from integration.errors import ConnectionBroken, CoursewireError, Reason, UnknownOutcome
from integration.model.contacts import CONTACT, Projected
from integration.observability import logs
from integration.ports import ContactStore
from integration.security.seal import KeyRing
from integration.storage import attempts, calls, connections, inbox, people, quarantine, rings, sync_state
from integration.storage.base import AWAY, single
from integration.storage.calls import Call
from integration.storage.sync_state import Claimed

log = structlog.get_logger(__name__)

CONTACT_KEY = "contact.key"
"""What a property is left out as that contacts cannot be found by; one that cannot be written: CONTACT."""

Project = Callable[[Connection, str, Sequence[int]], Projected]
"""Say what a connection should hold of these people, as one transaction sees them."""


@dataclass(slots=True)
class Flushed:
    """What one drain did: dead rows by reason, and whether work that it left should be rung for at once."""

    batches: int = 0
    settled: int = 0
    dead: dict[Reason, list[int]] = field(default_factory=dict)
    ring_again: bool = False


@dataclass(frozen=True, slots=True)
class Flusher:
    """Writes contacts to one CRM connection; built once per process by the composition root.

    `take_calls` hands over the calls the connector made in this thread since it was last asked.
    """

    engine: Engine
    connection: str
    operation: str
    store: ContactStore
    ring: KeyRing
    project: Project
    take_calls: Callable[[], list[Call]]

    def flush(self) -> Flushed:
        """Drain what is due; returns when nothing is, when the connection may not be called, or when time is up."""
        flushed, lease = Flushed(), uuid4()
        size = self.store.capabilities.batch_size
        with single(self.engine) as db:
            alone = rings.start(db, self.connection, self.operation, lease)
            if not alone:
                rings.hear(db, self.connection, self.operation)
                if not self._may_help(db, size):
                    return flushed
        try:
            self._drain(flushed, lease if alone else None, size)
        finally:
            if alone:
                with single(self.engine) as db:
                    rings.stop(db, self.connection, self.operation, lease)
        with single(self.engine) as db:
            # Whoever became due between the last look and the end of the drain rang in vain.
            may_call = connections.state(db, self.connection).may_call
            flushed.ring_again = may_call and sync_state.due(db, self.connection, self.operation, limit=1) > 0
        return flushed

    def _may_help(self, db: Connection, size: int) -> bool:
        """Say whether a second drain may start: a full batch waits, or the first drain is dead."""
        if sync_state.due(db, self.connection, self.operation, limit=size) >= size:
            return True
        return sync_state.is_overdue(db, self.connection, self.operation, seconds=policy.OVERDUE_SECONDS)

    def _drain(self, flushed: Flushed, lease: UUID | None, size: int) -> None:
        """Write batch after batch; without the lease of the drain, one."""
        ends = time.monotonic() + policy.DRAIN_SECONDS
        while self._batch(flushed, size) and lease and time.monotonic() < ends:
            with single(self.engine) as db:
                rings.start(db, self.connection, self.operation, lease)
            self._linger(size)

    def _linger(self, size: int) -> None:
        """Wait for a full batch, but only while events are still on their way in."""
        ends = time.monotonic() + policy.LINGER_SECONDS
        while time.monotonic() < ends:
            with single(self.engine) as db:
                due = sync_state.due(db, self.connection, self.operation, limit=size)
                if due >= size or not inbox.is_open(db):
                    return
            time.sleep(policy.LINGER_STEP)

    def _claim(self, lease: UUID, size: int) -> list[Claimed]:
        """Claim what is due, if the connection may be called; a pause that is nearly over is sat out first."""
        while True:
            with single(self.engine) as db:
                state = connections.state(db, self.connection)
                if state.may_call:
                    return sync_state.claim(db, self.connection, self.operation, lease, limit=size)
            if not 0 < state.wait <= policy.SHORT_PAUSE:
                return []
            time.sleep(state.wait)

    def _batch(self, flushed: Flushed, size: int) -> int:
        """Write one batch; return how many rows it had."""
        lease, started = uuid4(), datetime.now(UTC)
        logs.bind(batch=str(lease))
        rows = self._claim(lease, size)
        if not rows:
            return 0
        self.take_calls()
        batch = self._written(rows)
        try:
            self._settle(batch, rows, lease, started)
        except AWAY:
            # A deadlock or a lost connection: what was written must not be forgotten for the length of a lease.
            self._settle(batch, rows, lease, started)
        flushed.batches += 1
        flushed.settled += len(batch.settled)
        for outcome in batch.settled.values():
            if outcome.status == "dead":
                flushed.dead.setdefault(outcome.reason, []).append(outcome.id)
        return len(rows)

    def _written(self, rows: Sequence[Claimed]) -> Batch:
        """Project and write a batch; whatever goes wrong, every row has an outcome."""
        batch = Batch(store=self.store, ring=self.ring, owners=self._owners, targets={})
        try:
            batch = self._projected(rows)
            batch.run(rows)
        except AWAY:
            batch.give_back(rows)  # only asked for before anything is written; no row is to blame
        except Exception as error:  # a row that breaks us must be found, and its neighbours not held for a lease
            log.exception("flush.failed", connection=self.connection, rows=len(rows))
            batch.abandon(rows, error)
        return batch

    def _projected(self, rows: Sequence[Claimed]) -> Batch:
        with self.engine.connect().execution_options(isolation_level="REPEATABLE READ") as db, db.begin():
            projected = self.project(db, self.connection, [row.person_id for row in rows])
            left_out = quarantine.held(db, self.connection, CONTACT, CONTACT_KEY)
        return Batch(
            store=self.store,
            ring=self.ring,
            owners=self._owners,
            left_out=left_out[CONTACT],
            dead_keys=left_out[CONTACT_KEY],
            targets=projected.targets,
            unreadable=projected.unreadable,
            rule_set=projected.rule_set,
        )

    def _owners(self, remote_ids: Sequence[str]) -> Mapping[str, int]:
        with single(self.engine) as db:
            known = people.by_link(db, CONTACT, [(self.connection, remote_id) for remote_id in remote_ids])
        return {remote_id: person_id for (_, remote_id), person_id in known.items()}

    def _settle(self, batch: Batch, rows: Sequence[Claimed], lease: UUID, started: datetime) -> None:
        made = self.take_calls()
        with self.engine.begin() as db:
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
            people.link(db, CONTACT, {(self.connection, remote_id): who for remote_id, who in batch.links.items()})
            calls.add(db, self.connection, made)
            new_refusals = self._note_fields(db, batch)
            self._note_trouble(db, batch.trouble, had_calls=batch.calls > 0)
        for name in new_refusals:
            log.warning("field.quarantined", connection=self.connection, field=name)
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
        if batch.accepted_fields:
            quarantine.drop(db, self.connection, CONTACT, batch.accepted_fields)
        return fresh

    def _note_trouble(self, db: Connection, trouble: CoursewireError | None, *, had_calls: bool) -> None:
        if trouble is None:
            if had_calls:
                connections.heal(db, self.connection)
            return
        if isinstance(trouble, ConnectionBroken):
            connections.break_off(db, self.connection, trouble.reason)
            log.error("connection.broken", connection=self.connection, reason=trouble.reason.value)
            return
        failures = connections.state(db, self.connection).failures
        asked = getattr(trouble, "after", None)
        if isinstance(trouble, UnknownOutcome) and asked is None and failures < policy.PATIENCE:
            seconds = 0.0
        else:
            seconds = policy.connection_backoff(failures, asked)
        # A wait that was asked for is good manners between two systems, and no failure of either.
        connections.pause(db, self.connection, seconds, trouble.reason, counts=asked is None)
        log.warning(
            "connection.paused", connection=self.connection, reason=trouble.reason.value, seconds=round(seconds, 3)
        )


def _counts(batch: Batch) -> dict[str, int]:
    counts: dict[str, int] = {}
    for outcome in batch.settled.values():
        key = f"{outcome.status}:{outcome.reason}"
        counts[key] = counts.get(key, 0) + 1
    return counts
