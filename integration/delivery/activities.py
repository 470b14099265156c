"""The drain of activities: what may have arrived is looked for, the rest is written once.

An activity is in no hurry, and its contact goes first. Batches fill by themselves while contacts are written.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar
from uuid import UUID

import structlog
from sqlalchemy import Connection

from integration.delivery import policy
from integration.delivery.drain import Claim, Drain, Turn
from integration.delivery.lease import Lease
from integration.delivery.posting import Posting
from integration.errors import ConnectionBroken, Reason
from integration.model.activities import WRITE_ACTIVITY
from integration.ports import ActivityStore
from integration.storage import attempts, breakers, deliveries, outlook
from integration.storage.base import AWAY
from integration.storage.deliveries import Claimed, Settled

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Poster(Drain[Claimed, Posting]):
    """Writes activities to one connection."""

    operation: ClassVar[str] = WRITE_ACTIVITY
    queue: ClassVar[outlook.Queue] = "deliveries"
    store: ActivityStore

    @property
    def endpoint(self) -> str:
        """The class of the calls that write activities."""
        return self.store.endpoint

    @property
    def size(self) -> int:
        """How many activities one call takes."""
        return self.store.batch_size

    def claim(self, db: Connection, lease: UUID, *, limit: int, first: int, suspects: int | None) -> Claim[Claimed]:
        """Claim activities whose contact is known; the others are put off."""
        return Claim(
            *deliveries.claim(db, self.connection, WRITE_ACTIVITY, lease, limit=limit, first=first, suspects=suspects)
        )

    def work(self, rows: Sequence[Claimed], turn: Turn) -> Posting:
        """Look for what may have arrived, and write the rest."""
        held = Lease(self.engine, turn.lease, [row.id for row in rows], deliveries.renew)
        posting = Posting(store=self.store, hold=held.hold, succeeded_at=turn.now.succeeded_at)
        try:
            posting.run(rows)
        except AWAY:
            posting.give_back(rows)  # only asked for before anything is written; no row is to blame
        except Exception as error:  # a row that breaks us must be found, and its neighbours not held for a lease
            log.exception("activities.failed", connection=self.connection, rows=len(rows))
            posting.abandon(rows, error)
        return posting

    def settle(self, done: Posting, rows: Sequence[Claimed], turn: Turn) -> Sequence[Settled]:
        """Write the outcomes, the tries and the calls."""
        outcomes = list(done.settled.values())
        with self.engine.begin() as db:
            kept = deliveries.settle(db, turn.lease, outcomes)
            attempts.append(
                db,
                done.attempts,
                connection=self.connection,
                operation=WRITE_ACTIVITY,
                batch=turn.lease,
                started_at=turn.started,
                rule_set=None,
                subject_type="delivery",
                action=WRITE_ACTIVITY,
            )
            is_alone = isinstance(done.trouble, ConnectionBroken) and done.trouble.reason in _ALONE
            self.note(db, turn, None if is_alone else done.trouble, was_called=bool(done.calls) and not is_alone)
            if is_alone and done.trouble:
                # The contacts go on: what is missing is missing for the timeline only.
                breakers.trip(db, self.connection, WRITE_ACTIVITY, _ALONE[done.trouble.reason], policy.REFUSED_SECONDS)
                log.error("activities.refused", connection=self.connection, reason=done.trouble.reason.value)
        log.info("activities.settled", **self.told(done, rows, kept, outcomes))
        return outcomes


_ALONE = {
    Reason.SCOPE_MISSING: Reason.ACTIVITY_REFUSED,
    Reason.ACTIVITY_UNDEFINED: Reason.ACTIVITY_UNDEFINED,
}
"""What breaks only this operation off, and what its breaker then says."""
