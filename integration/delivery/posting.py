"""One claimed batch of activities: what may have arrived is looked for, the rest is written, every row settled once.

No transaction is open here (rule 14).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from integration.delivery import policy
from integration.errors import (
    BatchRejected,
    ConnectionBroken,
    CoursewireError,
    NeedsAttention,
    Reason,
    Rejected,
    RetryLater,
    UnknownOutcome,
)
from integration.model.activities import KINDS, Activity
from integration.model.contacts import Answer, Written
from integration.ports import ActivityStore
from integration.storage.attempts import Attempt
from integration.storage.deliveries import ARRIVING_SECONDS, Claimed, Settled


@dataclass(slots=True, kw_only=True)
class Posting:
    """Outcomes of a batch by row id; `trouble` is what ended its calls early. `hold` is asked before each call."""

    store: ActivityStore
    hold: Callable[[], bool] = lambda: True
    succeeded_at: datetime | None = None
    settled: dict[int, Settled] = field(default_factory=dict)
    attempts: list[Attempt] = field(default_factory=list)
    trouble: CoursewireError | None = None
    calls: int = 0

    def run(self, rows: Sequence[Claimed]) -> None:
        """Settle every row; the first trouble with the whole connection ends the calls and gives the rest back."""
        for row in rows:
            if not row.is_achieved:
                self._settle(row, Settled(row.id, "cancelled", Reason.RETRACTED), was_sent=False)
        if not self.store.takes_once:
            self._find([row for row in rows if row.lost_at and row.id not in self.settled])
        self._write([row for row in rows if row.id not in self.settled])
        self.give_back(rows)

    def abandon(self, rows: Sequence[Claimed], error: Exception) -> None:
        """Settle what an unforeseen error left open: it may have arrived, and is tried again in half the company."""
        left = [row for row in rows if row.id not in self.settled]
        for row in left:
            cause = CoursewireError(Reason.INTERNAL_ERROR, f"the write failed with {type(error).__name__}")
            self._halve(row, len(left), cause, is_lost=True)

    def give_back(self, rows: Sequence[Claimed]) -> None:
        """Return what was not sent, its attempts included: the trouble is not the rows' (rule 23)."""
        reason = self.trouble.reason if self.trouble else Reason.PAUSED
        for row in rows:
            if row.id not in self.settled:
                self.settled[row.id] = Settled(
                    row.id, "pending", reason, after=0.0, attempt_counts=False, max_batch=row.max_batch
                )

    def _find(self, rows: Sequence[Claimed]) -> None:
        """Settle what has arrived already, though its answer was lost (rule 11)."""
        if not rows or not self._may_call():
            return
        try:
            there = self.store.find([_activity(row) for row in rows])
        except (BatchRejected, Rejected) as error:
            for row in rows:
                self._halve(row, len(rows), error)
            return
        except CoursewireError as error:
            self.trouble = error
            return
        for row in rows:
            if (remote_id := there.get(row.key.hex())) is not None:
                self._settle(row, Settled(row.id, "delivered", Reason.DELIVERED, remote_id=remote_id), was_sent=False)

    def _write(self, rows: Sequence[Claimed]) -> None:
        if not rows or not self._may_call():
            return
        try:
            answers = self.store.write([_activity(row) for row in rows])
        except (BatchRejected, Rejected) as error:
            for row in rows:
                self._halve(row, len(rows), error)
        except (RetryLater, ConnectionBroken, NeedsAttention) as error:
            self.trouble = error
            if isinstance(error, UnknownOutcome):
                for row in rows:
                    self._lose(row, len(rows), error)
        else:
            for row in rows:
                self._take(row, answers.get(row.key.hex()))

    def _may_call(self) -> bool:
        """Say whether one more call may be made, and count it; nobody else may have taken the rows meanwhile."""
        if self.trouble is None and not self.hold():
            self.trouble = RetryLater(Reason.LEASE_EXPIRED, "another worker has taken the rows", after=0.0)
        if self.trouble is None:
            self.calls += 1
        return self.trouble is None

    def _take(self, row: Claimed, answer: Answer | None) -> None:
        if answer is None:
            self._lose(row, 1, CoursewireError(Reason.UNKNOWN_OUTCOME, "the answer does not name it"))
        elif isinstance(answer, Written):
            self._settle(row, Settled(row.id, "delivered", Reason.DELIVERED, remote_id=answer.id or None))
        elif answer.reason is Reason.CONTACT_GONE:
            gone = Settled(row.id, "pending", answer.reason, answer.detail or None, failed=True)
            self._retry(row, gone, policy.CAPS[answer.reason])
        else:
            doubt = "an earlier answer was lost, so it may be there already" if row.lost_at else ""
            said = "; ".join(filter(None, (answer.detail, doubt))) or None
            self._settle(row, Settled(row.id, "dead", answer.reason, said))

    def _halve(self, row: Claimed, size: int, error: CoursewireError, *, is_lost: bool = False) -> None:
        """Try again in half the company, because the refusal named nobody; alone it is dead (rule 22)."""
        ended = Settled(row.id, "dead", error.reason, error.detail, is_lost=is_lost)
        if size > 1:
            after = self._wait() if is_lost else 0.0
            ended = replace(ended, status="pending", after=after, max_batch=size // 2)
        self._settle(row, ended)

    def _lose(self, row: Claimed, size: int, error: CoursewireError) -> None:
        """Settle a row that may have arrived: later, behind the others. A 5xx is never halved (rule 22).

        Unless the system has taken others since this row's trouble began: then it may be the row that it fails on.
        """
        is_suspect = bool(self.succeeded_at and row.failing_since and row.failing_since < self.succeeded_at)
        most = max(1, size // 2) if is_suspect else row.max_batch
        said = error.detail or None
        later = Settled(row.id, "pending", error.reason, said, max_batch=most, failed=True, is_lost=True)
        self._retry(row, later, policy.SUSPECT if is_suspect and size == 1 else policy.CAPS[Reason.UNKNOWN_OUTCOME])

    def _wait(self) -> float:
        """Return the seconds after which a try whose answer was lost has surely arrived, where that matters."""
        return 0.0 if self.store.takes_once else ARRIVING_SECONDS

    def _retry(self, row: Claimed, outcome: Settled, cap: policy.Cap) -> None:
        """Settle a row for later, with back-off; beyond its cap it is parked and looked at again, then dead."""
        failing = (datetime.now(UTC) - row.failing_since).total_seconds() if row.failing_since else 0.0
        detail = outcome.detail or f"still so after {row.attempts} tries"
        if cap.seconds is not None and failing > cap.seconds:
            ended = replace(outcome, status="dead", reason=Reason.GAVE_UP, detail=f"{outcome.reason}: {detail}")
            self._settle(row, ended)
        elif cap.tries is not None and row.attempts >= cap.tries:
            again = policy.recheck(row.attempts)
            self._settle(row, replace(outcome, status="parked", detail=detail, max_batch=None, after=again))
        else:
            wait = self._wait() if outcome.is_lost else 0.0
            self._settle(row, replace(outcome, after=max(wait, policy.record_backoff(row.attempts))))

    def _settle(self, row: Claimed, outcome: Settled, *, was_sent: bool = True) -> None:
        self.settled[row.id] = outcome
        self.attempts.append(
            Attempt(
                subject_id=row.id,
                person_id=row.person_id,
                outcome=outcome.status,
                reason=outcome.reason,
                version=0,
                detail=outcome.detail,
                remote_id=outcome.remote_id,
                was_sent=was_sent,
            )
        )


def _activity(row: Claimed) -> Activity:
    return Activity(
        key=bytes(row.key),
        contact=row.contact,
        kind=KINDS[row.type],
        occurred_at=row.occurred_at,
        source=row.source,
        course_id=row.course_id,
        course_name=row.course_name,
        item_id=row.item_id,
        item_name=row.item_name,
        product=row.product,
        score=row.score,
        score_max=row.score_max,
        expires_at=row.expires_at,
        is_doubtful=row.lost_at is not None,
    )
