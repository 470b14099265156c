"""Taking back what a run's repairs overwrote, where nobody has touched it since.

Each batch: take the leases of its people and hold their properties for a moment; read their contacts; write the old
value back where ours still stands; settle. What was given back is left to the CRM for `days`, so that the projection
does not write it again at once; what was not is not held. Whoever is killed between leaves nothing that the next undo
does not see: a property that holds its old value again counts as given back.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from uuid import UUID, uuid4

import orjson
import structlog

from integration.delivery import trouble
from integration.delivery.lease import Lease
from integration.delivery.ownership import same_value
from integration.errors import BatchRejected, CoursewireError, Reason, Rejected, RetryLater
from integration.model.contacts import CONTACT, WRITE_CONTACT, Answer, ContactWrite, Failed, RemoteContact, Written
from integration.model.reconciliation import RECONCILE_CONTACTS
from integration.reconciliation.patience import wait_for_call
from integration.reconciliation.sweep import Sweep
from integration.storage import (
    attempts,
    breakers,
    calls,
    connections,
    doubts,
    loops,
    outlook,
    quarantine,
    reconciliation_findings,
    sync_state,
    undoing,
)
from integration.storage.attempts import Attempt
from integration.storage.base import single, snapshot
from integration.storage.outlook import Outlook
from integration.storage.sync_state import BACKFILL, LEASE_SECONDS, Settled
from integration.storage.undoing import Repaired

log = structlog.get_logger(__name__)

DAYS = 30
"""How long a property that was given back is left to the CRM, unless somebody says otherwise."""

AT_WORK_SECONDS = 600.0
"""How long its properties are held while an undo is at them: a killed one is begun again within that."""

LOOK_SECONDS = 0.5
DAY_SECONDS = 86_400.0


@dataclass(slots=True, kw_only=True)
class Undone:
    """What an undo has done so far: contacts looked at, their properties by outcome, and calls.

    `kept` were changed since and are left; `gone` are contacts that are not there or another person's; `refused` were
    not taken back by the CRM. `left` is what was not looked at, because it is being written at this moment.
    """

    contacts: int = 0
    given_back: int = 0
    kept: int = 0
    gone: int = 0
    refused: int = 0
    calls: int = 0
    left: int = 0


@dataclass(slots=True)
class _Seen:
    """One contact as it was read: what is to be written back, and what holds its old value already."""

    repaired: Repaired
    back: dict[str, str] = field(default_factory=dict)
    fields: set[str] = field(default_factory=set)
    given: set[str] = field(default_factory=set)
    is_gone: bool = False
    answer: Answer | None = None

    @property
    def is_refused(self) -> bool:
        """Whether the CRM did not take its old values."""
        return bool(self.back) and not isinstance(self.answer, Written)


@dataclass(frozen=True, kw_only=True)
class Undo:
    """Takes one run of a connection back, with what its sweep has; may be begun again at any time, and side by side."""

    sweep: Sweep
    run: int
    days: int = DAYS

    def work(self, tell: Callable[[Undone], None] = lambda _: None) -> Undone:
        """Work until nothing is left; `tell` is called after each batch.

        Raises RetryLater where the CRM may not be called, and what a ContactStore raises; what was done is kept.
        """
        sweep, total, refused = self.sweep, Undone(), list[int]()
        size, patience = sweep.store.capabilities.batch_size, time.monotonic() + 2 * LEASE_SECONDS
        while True:
            with single(sweep.engine) as db:
                now = outlook.look(db, sweep.connection, RECONCILE_CONTACTS)
                undoing.leave_nobodys(db, sweep.connection, self.run)
                total.left = undoing.left(db, self.run).contacts - len(refused)
            if total.left <= 0:
                return total
            if not now.may_call and 0 < now.wait < LEASE_SECONDS and time.monotonic() < patience:
                time.sleep(min(now.wait, LOOK_SECONDS))
                continue
            if not now.may_call:
                see = f"see `coursewire connections show {sweep.connection}`"
                raise RetryLater(Reason.PAUSED, f"{sweep.connection} may not be called now; {see}")
            rows = self._claim(lease := uuid4(), size, refused)
            if not rows:
                if time.monotonic() > patience:
                    return total
                time.sleep(LOOK_SECONDS)
                continue
            refused += self._batch(rows, lease, now, total)
            patience = time.monotonic() + 2 * LEASE_SECONDS
            tell(total)

    def _claim(self, lease: UUID, size: int, but: Sequence[int]) -> list[Repaired]:
        sweep = self.sweep
        with sweep.engine.begin() as db:
            rows = undoing.claim(db, sweep.connection, self.run, lease, limit=size, but=but)
            held = [(row.person_id, name) for row in rows for name in self._values(row)]
            loops.hold(db, sweep.connection, held, seconds=AT_WORK_SECONDS)
        return rows

    def _batch(self, rows: Sequence[Repaired], lease: UUID, now: Outlook, total: Undone) -> list[int]:
        """Work on one batch; return the findings whose values the CRM refused. Raises what its calls raise."""
        sweep, started = self.sweep, datetime.now(UTC)
        hold = Lease(sweep.engine, lease, [row.row for row in rows])
        seen: list[_Seen] = []
        sweep.take_calls()
        try:
            with sweep.budget.lane(BACKFILL):
                seen = self._looked(rows, hold)
                self._write([one for one in seen if one.back], hold)
        except CoursewireError as error:
            trouble.settle_in_time(partial(self._give_up, rows, lease, error))
            raise
        finally:
            sweep.budget.give_back()
        made = sweep.take_calls()
        trouble.settle_in_time(partial(self._settle, seen, lease, started, now, made))
        for one in seen:
            total.contacts += 1
            total.gone += one.is_gone
            total.given_back += len(one.given)
            total.refused += len(one.back.keys() - one.given)
            total.kept += 0 if one.is_gone else len(one.fields - one.given - one.back.keys())
        total.calls += len(made)
        log.info("undo.settled", connection=sweep.connection, run=self.run, rows=len(rows), calls=len(made))
        return [one.repaired.finding for one in seen if one.is_refused]

    def _values(self, row: Repaired) -> Mapping[str, Sequence[str]]:
        """Return what each property held before, and what we wrote."""
        context = reconciliation_findings.values_context(self.run, row.contact_id)
        values: dict[str, list[str]] = orjson.loads(self.sweep.ring.open(bytes(row.sealed), context))
        return values

    def _looked(self, rows: Sequence[Repaired], hold: Lease) -> list[_Seen]:
        sweep = self.sweep
        with snapshot(sweep.engine).begin() as db:
            targets = sweep.project(db, sweep.connection, [row.person_id for row in rows]).targets
            refused = quarantine.known(db, sweep.connection, CONTACT)[CONTACT]
        values = {row.finding: self._values(row) for row in rows}
        asked = {name for one in values.values() for name in one} - refused.held - refused.retried
        self._wait(hold)
        there = sweep.store.read(None, [row.contact_id for row in rows], sorted(asked))
        seen = []
        for row in rows:
            target = targets.get(row.person_id)
            types = target.types if target else {}
            seen.append(_compared(row, values[row.finding], there.get(row.contact_id), asked, types))
        return seen

    def _write(self, seen: Sequence[_Seen], hold: Lease) -> None:
        """Write old values back; where nobody is named as the culprit of a refusal, in halves."""
        if not seen:
            return
        writes = [ContactWrite(f"undo-{one.repaired.finding}", one.back, id=one.repaired.contact_id) for one in seen]
        self._wait(hold)
        try:
            answers = self.sweep.store.update(writes)
        except (BatchRejected, Rejected) as error:
            if len(seen) == 1:
                seen[0].answer = Failed(error.reason, error.detail)
                return
            self._write(seen[: len(seen) // 2], hold)
            self._write(seen[len(seen) // 2 :], hold)
            return
        for one, write in zip(seen, writes, strict=True):
            one.answer = answers.get(write.trace)
            if isinstance(one.answer, Written):
                one.given |= set(one.back)

    def _wait(self, hold: Lease) -> None:
        wait_for_call(self.sweep.budget, self.sweep.connection, partial(_still_ours, hold))

    def _settle(
        self, seen: Sequence[_Seen], lease: UUID, started: datetime, now: Outlook, made: Sequence[calls.Call]
    ) -> None:
        sweep = self.sweep
        with sweep.engine.begin() as db:
            kept = sync_state.settle(db, lease, [_settled(one) for one in seen], rule_set=None)
            ours = [one for one in seen if one.repaired.row in kept]
            doubts.add(db, sorted(kept))  # read by the next flush, which leaves alone what is held
            attempts.append(
                db,
                [_attempt(one, self.run) for one in ours if one.back],
                connection=sweep.connection,
                operation=WRITE_CONTACT,
                batch=lease,
                started_at=started,
                rule_set=None,
                action="contact.undo",
            )
            given = [(one.repaired.person_id, name) for one in ours for name in one.given]
            others = [(one.repaired.person_id, name) for one in ours for name in one.fields - one.given]
            loops.hold(db, sweep.connection, given, seconds=self.days * DAY_SECONDS)
            loops.release(db, sweep.connection, others, within=AT_WORK_SECONDS)
            undoing.done(db, {one.repaired.finding: sorted(one.given) for one in ours if not one.is_refused})
            calls.add(db, sweep.connection, made)
            if made and not now.is_clear:
                connections.heal(db, sweep.connection)
                breakers.succeed(db, sweep.connection, RECONCILE_CONTACTS)

    def _give_up(self, rows: Sequence[Repaired], lease: UUID, error: CoursewireError) -> None:
        """Give the people back; whether anything arrived is not known, so they are read before they are written."""
        sweep = self.sweep
        with sweep.engine.begin() as db:
            kept = sync_state.settle(db, lease, [_settled(_Seen(row)) for row in rows], rule_set=None)
            doubts.add(db, sorted(kept))
            trouble.note(db, sweep.connection, RECONCILE_CONTACTS, error)
            calls.add(db, sweep.connection, sweep.take_calls())


def _compared(
    row: Repaired,
    values: Mapping[str, Sequence[str]],
    contact: RemoteContact | None,
    asked: set[str],
    types: Mapping[str, str],
) -> _Seen:
    """Return what of a repair still stands in a contact."""
    seen = _Seen(row, fields=set(values))
    if contact is None or contact.id != row.contact_id or row.remote_id != row.contact_id:
        seen.is_gone = True
        return seen
    for name in seen.fields & asked:
        before, ours = values[name]
        now, kind = contact.fields.get(name, ""), types.get(name, "")
        if same_value(before, now, kind):
            seen.given.add(name)
        elif same_value(ours, now, kind):
            seen.back[name] = before
    return seen


def _still_ours(hold: Lease) -> None:
    if not hold.hold():
        raise RetryLater(Reason.LEASE_EXPIRED, "another worker has taken the people; run it again", after=0.0)


def _settled(one: _Seen) -> Settled:
    """Return what becomes of the row: nothing is believed of the contact any more, and nothing was projected."""
    was_sent = bool(one.back)
    return Settled(
        one.repaired.row,
        "in_step",
        Reason.WRITTEN if was_sent else Reason.UNCHANGED,
        projected=one.repaired.written,
        attempt_counts=False,
        forget=True,
        remote_id=one.repaired.remote_id,
        remote_origin="sent" if was_sent else None,
    )


def _attempt(one: _Seen, run: int) -> Attempt:
    """Return the try; its row is read again, whatever became of it."""
    answer = one.answer
    return Attempt(
        subject_id=one.repaired.row,
        person_id=one.repaired.person_id,
        outcome="due",
        reason=answer.reason if isinstance(answer, Failed) else Reason.WRITTEN,
        version=one.repaired.written,
        fields=tuple(sorted(one.back)),
        detail=f"values of before comparison {run} were written back" if isinstance(answer, Written) else None,
        remote_id=one.repaired.contact_id,
        was_sent=not isinstance(answer, Failed),
    )
