"""The drain of roles: contacts whose role was left alone for long enough are read, and what it deserves is decided.

The webhook is a hint, the contact is the word: one read answers for up to a batch of people, however often each of them
changed. What follows from a role is decided in the transaction that settles it.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import ClassVar

import structlog
from sqlalchemy import Connection

from integration import merging
from integration.delivery import policy
from integration.delivery.belief import Belief
from integration.delivery.drain import StateDrain, Turn
from integration.delivery.lease import Lease
from integration.errors import BatchRejected, CoursewireError, Reason, Rejected, RetryLater
from integration.model.contacts import Fields, RemoteContact
from integration.model.roles import READ_ROLE, Decided, Watch
from integration.ports import ContactStore
from integration.security.seal import IndexKeys, KeyRing
from integration.storage import roles, storm, sync_state
from integration.storage.base import AWAY, single
from integration.storage.roles import ACTED_ON, UNSETTLED, Watching
from integration.storage.sync_state import Claimed, Settled

log = structlog.get_logger(__name__)

Decide = Callable[[Connection, str, Mapping[int, Fields], Mapping[int, float]], Decided]
"""Act on what was read of a connection's contacts, by person, in the transaction that settles it.

The last argument says how many seconds ago something was heard of a person's role.
"""


@dataclass(slots=True)
class Reading:
    """What was read: values by row id; `gone` are rows whose contact is not there, `moved` ids that lead to others.

    `beside` is what was read in passing, by person; `was_away`: our own database was, so nothing is known of any row.
    """

    watch: Watch | None = None
    seen: dict[int, Fields] = field(default_factory=dict)
    fresh: dict[int, str] = field(default_factory=dict)
    beside: dict[int, RemoteContact] = field(default_factory=dict)
    gone: set[int] = field(default_factory=set)
    failed: dict[int, Settled] = field(default_factory=dict)
    moved: dict[str, str] = field(default_factory=dict)
    trouble: CoursewireError | None = None
    was_away: bool = False
    calls: int = 0
    led_to: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True, kw_only=True)
class RoleReader(StateDrain[Reading]):
    """Reads roles of one CRM; `watching` says, as a transaction sees the rules, what is to be read."""

    operation: ClassVar[str] = READ_ROLE
    store: ContactStore
    ring: KeyRing
    keys: IndexKeys
    watching: Watching
    decide: Decide

    @property
    def size(self) -> int:
        """How many contacts one read takes."""
        return self.store.capabilities.batch_size

    def work(self, rows: Sequence[Claimed], turn: Turn) -> Reading:
        """Read what is in doubt or not known; the rest is decided by what was read before."""
        reading = Reading()
        try:
            with single(self.engine) as db:
                reading.watch = self.watching(db, self.connection)
            self._read(rows, reading, Lease(self.engine, turn.lease, [row.id for row in rows]))
        except AWAY:
            reading.was_away = True
        except BatchRejected as error:
            reading.failed = {row.id: _halved(row, len(rows), error) for row in rows}
        except CoursewireError as error:
            reading.trouble = error
        return reading

    def _read(self, rows: Sequence[Claimed], reading: Reading, lease: Lease) -> None:
        if reading.watch is None:
            return
        asked: dict[str, Claimed] = {}
        for row in rows:
            belief = Belief.opened(self.ring, row.id, row.remote_values)
            if row.remote_id is None:
                reading.gone.add(row.id)
            elif belief is None or row.is_doubted or not reading.watch.properties <= belief.known.keys():
                asked[row.remote_id] = row
            else:
                reading.seen[row.id] = belief.known
        if not asked or not lease.hold():
            return
        reading.calls += 1
        try:
            found = self.store.read(None, list(asked), sorted(reading.watch.properties | reading.watch.beside))
        except Rejected as error:
            raise BatchRejected(error.reason, error.detail) from None
        for contact_id, row in asked.items():
            self._take(row, found.get(contact_id), reading.watch, reading)

    def _take(self, row: Claimed, contact: RemoteContact | None, watch: Watch, reading: Reading) -> None:
        if contact is None:
            reading.gone.add(row.id)
            return
        reading.seen[row.id] = {name: contact.fields.get(name, "") for name in watch.properties}
        reading.fresh[row.id] = contact.id
        if row.remote_id and contact.id != row.remote_id:
            reading.moved[row.remote_id] = contact.id
        elif watch.beside:
            fields = {name: contact.fields.get(name, "") for name in watch.beside}
            reading.beside[row.person_id] = RemoteContact(contact.id, fields)

    def settle(self, done: Reading, rows: Sequence[Claimed], turn: Turn) -> Sequence[Settled]:
        """Decide by what was read and settle, in one transaction."""
        with self.engine.begin() as db:
            decided = self._decided(db, done, rows)
            self._tell(db, done.beside)
            outcomes = [self._outcome(row, done, decided) for row in rows]
            if decided:
                storm.note(db, turn.lease, [row.id for row in rows], decided.marks)
            kept = sync_state.settle(db, turn.lease, outcomes, rule_set=decided.rule_set if decided else None)
            self.note(db, turn, done.trouble, was_called=bool(done.calls))
        done.led_to = decided.led_to if decided else frozenset()
        if held := sum(outcome.reason is Reason.STORM_GUARD for outcome in outcomes):
            log.warning("roles.held", connection=self.connection, count=held)
        self._follow(done.moved)
        log.info("roles.settled", **self.told(done, rows, kept, outcomes))
        return outcomes

    def led_to(self, done: Reading) -> set[tuple[str, str]]:
        """Return where somebody is to be enrolled or written because of it."""
        return set(done.led_to)

    def _decided(self, db: Connection, done: Reading, rows: Sequence[Claimed]) -> Decided | None:
        """Decide what can be; also of nobody, because whoever is settled was looked at by the published rules."""
        if done.trouble or done.was_away:
            return None
        seen = {row.person_id: done.seen[row.id] for row in rows if row.id in done.seen}
        heard = [one for one in roles.known(db, seen) if one.connection == self.connection] if seen else []
        ages = {one.person_id: one.age for one in heard if one.age is not None}
        return self.decide(db, self.connection, seen, ages)

    def _tell(self, db: Connection, beside: Mapping[int, RemoteContact]) -> None:
        """Tell contacts that are yet to be written first what they hold: nobody has to look for it."""
        untried = roles.untried(db, self.connection, beside)
        told = [
            (row_id, who, beside[who].id, Belief(beside[who].fields).sealed(self.ring, row_id, beside[who].fields))
            for row_id, who in untried
        ]
        roles.tell(db, self.connection, told)

    def _outcome(self, row: Claimed, done: Reading, decided: Decided | None) -> Settled:
        if row.id in done.failed:
            return done.failed[row.id]
        if done.watch is None and done.trouble is None and not done.was_away:
            # Nobody asks for roles of this connection any more.
            return Settled(row.id, "in_step", Reason.NOT_MAPPED, written=row.wanted)
        if row.id in done.gone:
            return Settled(row.id, "in_step", Reason.CONTACT_DELETED, written=row.wanted, forget=True)
        if decided is None or row.id not in done.seen:
            reason = done.trouble.reason if done.trouble else Reason.PAUSED
            return Settled(row.id, "due", reason, after=0.0, attempt_counts=False, max_batch=row.max_batch)
        return self._decided_outcome(row, done, decided)

    def _decided_outcome(self, row: Claimed, done: Reading, decided: Decided) -> Settled:
        if decided.is_held(row.person_id):
            # What was read is not kept, because it is not acted on: whoever looks at the row next reads it again.
            after = policy.recheck(row.attempts)
            return Settled(row.id, "parked", Reason.STORM_GUARD, projected=row.wanted, after=after)
        rest = decided.put_off.get(row.person_id)
        if rest is None:
            again = decided.again.get(row.person_id)
            outcome = Settled(
                row.id, "in_step", Reason.DECIDED, written=row.wanted, after=again, remote_origin=ACTED_ON
            )
        else:
            outcome = Settled(
                row.id, "waiting", Reason.SETTLING, after=rest, attempt_counts=False, remote_origin=UNSETTLED
            )
        if (contact_id := done.fresh.get(row.id)) is None:
            return outcome
        belief = Belief(done.seen[row.id])
        sealed = belief.sealed(self.ring, row.id, belief.known)
        return replace(outcome, remote_id=contact_id, remote_values=sealed)

    def _follow(self, moved: Mapping[str, str]) -> None:
        """Follow the merges that reads have shown; what fails is shown again by the next read."""
        for old_id, new_id in sorted(moved.items()):
            with suppress(RetryLater):
                merging.follow(self.engine, self.connection, new_id, [old_id], self.ring, self.keys)


def _halved(row: Claimed, size: int, error: CoursewireError) -> Settled:
    """Read again in half the company, because the refusal named nobody; alone it is parked and looked at again."""
    if size > 1:
        return Settled(row.id, "due", error.reason, error.detail, after=0.0, max_batch=size // 2)
    return Settled(row.id, "parked", error.reason, error.detail, after=policy.recheck(row.attempts))
