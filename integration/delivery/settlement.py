"""What became of each row of a batch: one `Settled` and one `Attempt` per row, decided in one place."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Literal

from integration.delivery import policy
from integration.errors import CoursewireError, Reason, UnknownOutcome
from integration.model.contacts import Target
from integration.storage.attempts import Attempt
from integration.storage.sync_state import Claimed, Settled


@dataclass(slots=True, kw_only=True)
class Settlement:
    """Outcomes of a batch by row id. `trouble` is what ended its calls early, if anything did.

    `succeeded_at`: when the system last answered somebody after a failure.
    """

    targets: Mapping[int, Target]
    settled: dict[int, Settled] = field(default_factory=dict)
    attempts: list[Attempt] = field(default_factory=list)
    trouble: CoursewireError | None = None
    succeeded_at: datetime | None = None

    def _settle(self, row: Claimed, outcome: Settled, fields: Iterable[str] = (), *, was_sent: bool = True) -> None:
        """Take down what became of a row and the try it was; `fields` are the properties sent."""
        self.settled[row.id] = replace(outcome, projected=self._version(row))
        self.attempts.append(
            Attempt(
                subject_id=row.id,
                person_id=row.person_id,
                outcome=outcome.status,
                reason=outcome.reason,
                version=self._version(row),
                fields=tuple(fields),
                detail=outcome.detail,
                remote_id=outcome.remote_id,
                was_sent=was_sent,
            )
        )

    def _trace(self, row: Claimed) -> str:
        return f"{row.id}-{self._version(row)}"

    def _version(self, row: Claimed) -> int:
        target = self.targets.get(row.person_id)
        return target.version if target else row.wanted

    def _halve(self, row: Claimed, size: int, fields: Iterable[str], error: CoursewireError) -> None:
        """Try again in half the company, because the refusal named nobody; alone it is dead (rule 22)."""
        if size == 1:
            self._settle(row, Settled(row.id, "dead", error.reason, error.detail), fields)
        else:
            half = Settled(row.id, "due", error.reason, error.detail, after=0.0, max_batch=size // 2)
            self._settle(row, half, fields)

    def _blame(self, row: Claimed, size: int, fields: Iterable[str], error: CoursewireError) -> None:
        """Settle a record whose call failed over there: later, behind the others, so that the next try is another's.

        A 5xx is never halved (rule 22), unless the system has answered others since this record's trouble began:
        then it may be the record that it fails on.
        """
        is_lost = isinstance(error, UnknownOutcome)
        later = Settled(row.id, "waiting", error.reason, error.detail, failed=True, max_batch=row.max_batch)
        if is_lost:
            later = replace(later, forget=True, remote_id=row.remote_id)
        if self.succeeded_at and row.failing_since and row.failing_since < self.succeeded_at:
            later = replace(later, max_batch=max(1, size // 2))
            if size == 1:
                self._retry(row, later, fields, cap=policy.SUSPECT)
                return
        after = policy.record_backoff(row.attempts)
        self._settle(row, replace(later, after=after, attempt_counts=is_lost), fields, was_sent=is_lost)

    def _retry(
        self, row: Claimed, outcome: Settled, fields: Iterable[str] = (), *, cap: policy.Cap | None = None
    ) -> None:
        """Settle a row for later, with back-off where `after` is not given; beyond its cap it is parked, then dead."""
        cap = cap or policy.CAPS[outcome.reason]
        failing = (datetime.now(UTC) - row.failing_since).total_seconds() if row.failing_since else 0.0
        if cap.seconds is not None and failing > cap.seconds:
            said = f"{outcome.reason}: {outcome.detail}" if outcome.detail else str(outcome.reason)
            self._settle(row, Settled(row.id, "dead", Reason.GAVE_UP, said), fields)
        elif cap.tries is not None and row.attempts >= cap.tries:
            self._park(row, outcome.reason, outcome.detail or f"still so after {row.attempts} tries", failed=True)
        else:
            after = policy.record_backoff(row.attempts) if outcome.after is None else outcome.after
            self._settle(row, replace(outcome, after=after, failed=True), fields)

    def _park(self, row: Claimed, reason: Reason, detail: str, *, failed: bool = False) -> None:
        """Leave a row to a person, and look again from time to time: what they mend in the CRM needs no word to us."""
        again = policy.recheck(row.attempts)
        self._settle(row, Settled(row.id, "parked", reason, detail, after=again, failed=failed), was_sent=False)

    def _leave_out(self, row: Claimed, by: str) -> Literal[False]:
        """Settle a person whom a rule leaves out, without a look: what the CRM has of them stays as it is."""
        left_out = Settled(row.id, "in_step", Reason.EXCLUDED, by, written=self._version(row))
        self._settle(row, left_out, was_sent=False)
        return False

    def abandon(self, rows: Iterable[Claimed], error: Exception) -> None:
        """Settle what an unforeseen error left open: believe nothing, and try again in half the company."""
        open_rows = [row for row in rows if row.id not in self.settled]
        cause = CoursewireError(Reason.INTERNAL_ERROR, f"the write failed with {type(error).__name__}")
        for row in open_rows:
            self._halve(row, len(open_rows), (), cause)
            self.settled[row.id] = replace(self.settled[row.id], forget=True, remote_id=row.remote_id)

    def give_back(self, rows: Iterable[Claimed]) -> None:
        """Return what was not sent, its attempts included: the trouble is not the rows' (rule 23)."""
        reason = self.trouble.reason if self.trouble else Reason.PAUSED
        for row in rows:
            if row.id not in self.settled:
                self.settled[row.id] = Settled(
                    row.id, "due", reason, after=0.0, attempt_counts=False, max_batch=row.max_batch
                )
