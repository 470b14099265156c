"""The drain of accounts: what rules make of the people in an account is written to it, where it differs.

An account is somebody else's record. It is read and updated, never created, and what is counted is counted anew each
time, so that nothing hangs on the order in which its people came, learned and left.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import structlog
from sqlalchemy import Connection

from integration.delivery import policy
from integration.delivery.contacts import Batch
from integration.delivery.drain import StateDrain, Turn
from integration.delivery.lease import Lease
from integration.errors import Reason, RetryLater
from integration.model.accounts import ACCOUNT, WRITE_ACCOUNT
from integration.model.contacts import Projected
from integration.ports import RecordStore
from integration.security.seal import KeyRing
from integration.storage import accounts, attempts, breakers, quarantine, sync_state
from integration.storage.base import AWAY, single, snapshot
from integration.storage.outlook import Outlook
from integration.storage.sync_state import Claimed, Settled

log = structlog.get_logger(__name__)

Project = Callable[[Connection, str, Sequence[int]], Projected]
"""Say what a connection's accounts should hold, by our numbers of them, as one transaction sees their people."""

IsOpening = Callable[[Connection, str], bool]
"""Say whether the people of a connection are being looked at by new rules: what is counted would be a part of them."""


class AccountBatch(Batch):
    """One claimed batch of accounts on its way; their numbers stand where a contact's batch has people."""

    def _is_wanted(self, row: Claimed) -> bool:
        """Leave alone what is not there: its contacts say where they are now when they are read."""
        gone = Settled(row.id, "in_step", Reason.ACCOUNT_GONE, written=self._version(row), forget=True)
        self._settle(row, replace(gone, remote_id=row.remote_id), was_sent=False)
        return False


@dataclass(frozen=True, kw_only=True)
class AccountWriter(StateDrain[AccountBatch]):
    """Writes the accounts of one CRM."""

    operation: ClassVar[str] = WRITE_ACCOUNT
    store: RecordStore
    ring: KeyRing
    project: Project
    is_opening: IsOpening

    @property
    def size(self) -> int:
        """How many accounts one call takes."""
        return self.store.capabilities.batch_size

    def look(self, first: int) -> Outlook:
        """Return the outlook; nobody is due while only a part of the people was looked at by the published rules."""
        found = super().look(first)
        if found.lane is None:
            return found
        with single(self.engine) as db:
            return found._replace(lane=None) if self.is_opening(db, self.connection) else found

    def work(self, rows: Sequence[Claimed], turn: Turn) -> AccountBatch:
        """Count, compare, and write what differs; whatever goes wrong, every row has an outcome."""
        batch = AccountBatch(store=self.store, ring=self.ring, owners=self._owners, targets={})
        try:
            batch = self._projected(rows)
            batch.hold = Lease(self.engine, turn.lease, [row.id for row in rows]).hold
            batch.succeeded_at = turn.now.succeeded_at
            batch.run(rows)
        except AWAY:
            batch.give_back(rows)
        except RetryLater as error:  # from the projection: the published rules are of a newer version
            batch.trouble = error
            batch.give_back(rows)
        except Exception as error:
            log.exception("accounts.failed", connection=self.connection, rows=len(rows))
            batch.abandon(rows, error)
        return batch

    def settle(self, done: AccountBatch, rows: Sequence[Claimed], turn: Turn) -> Sequence[Settled]:
        """Write down what became of each account, in one transaction."""
        outcomes = list(done.settled.values())
        with self.engine.begin() as db:
            kept = sync_state.settle(db, turn.lease, outcomes, rule_set=done.rule_set)
            attempts.append(
                db,
                done.attempts,
                connection=self.connection,
                operation=self.operation,
                batch=turn.lease,
                started_at=turn.started,
                rule_set=done.rule_set,
                action="account.write",
                about="account",
            )
            if done.refused_fields:
                quarantine.add(db, self.connection, ACCOUNT, done.refused_fields, Reason.UNKNOWN_PROPERTY)
            if back := done.accepted_fields & done.retried:
                quarantine.accept(db, self.connection, ACCOUNT, back)
            is_alone = done.trouble is not None and done.trouble.reason is Reason.SCOPE_MISSING
            self.note(db, turn, None if is_alone else done.trouble, was_called=bool(done.calls) and not is_alone)
            if is_alone:
                # The contacts go on: the permission is missing for companies only.
                breakers.trip(db, self.connection, WRITE_ACCOUNT, Reason.SCOPE_MISSING, policy.REFUSED_SECONDS)
                log.error("accounts.refused", connection=self.connection, reason=Reason.SCOPE_MISSING.value)
        if done.moved:
            with self.engine.begin() as db:
                accounts.follow(db, self.connection, done.moved)
        log.info("accounts.settled", **self.told(done, rows, kept, outcomes))
        return outcomes

    def _projected(self, rows: Sequence[Claimed]) -> AccountBatch:
        with snapshot(self.engine).begin() as db:
            projected = self.project(db, self.connection, [row.person_id for row in rows])
            left_out = quarantine.known(db, self.connection, ACCOUNT)[ACCOUNT]
        wanted = {row.person_id: row.wanted for row in rows}
        return AccountBatch(
            store=self.store,
            ring=self.ring,
            owners=self._owners,
            left_out=left_out.held,
            retried=left_out.retried,
            # What was claimed is no later than what was counted, so the account stays due where it is.
            targets={number: replace(one, version=wanted[number]) for number, one in projected.targets.items()},
            rule_set=projected.rule_set,
        )

    def _owners(self, remote_ids: Sequence[str]) -> Mapping[str, int]:
        with single(self.engine) as db:
            return accounts.numbers(db, self.connection, remote_ids)
