"""The drain of deals: what something was heard of is read, and whoever has one that matters is decided again.

The webhook is a hint, the CRM's record of where the deal was is the word: it also says what was reached and left
between two readings. People are decided by what was read of their contact before, so that a deal costs no read of
theirs; who is nobody yet is read once, and becomes somebody where a rule could mean them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar
from uuid import UUID

import structlog
from sqlalchemy import Connection

from integration.acquaintance import EMAIL
from integration.delivery import policy
from integration.delivery.belief import Belief
from integration.delivery.drain import Claim, Drain, Turn, counts
from integration.delivery.lease import Lease
from integration.delivery.meeting import Meeting
from integration.errors import BatchRejected, CoursewireError, Reason, Rejected
from integration.model.contacts import CONTACT, RemoteContact
from integration.model.deals import READ_DEAL, RemoteDeal, Stay
from integration.model.roles import READ_ROLE, Watch
from integration.ports import ContactStore, DealStore
from integration.security.seal import IndexKeys, KeyRing
from integration.storage import deals, people, roles, sync_state, tombstones
from integration.storage.base import AWAY, single
from integration.storage.roles import Heard, Watching
from integration.storage.sync_state import Claimed, Settled

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class DealsRead:
    """What was read: `found` by row id; `as_known` are rows of which nothing was heard since, `gone` deals not there.

    `strangers` are their contacts who stand for nobody here, where a rule could mean them.
    """

    watch: Watch | None = None
    rule_set: int | None = None
    found: dict[int, RemoteDeal] = field(default_factory=dict)
    as_known: set[int] = field(default_factory=set)
    gone: set[int] = field(default_factory=set)
    strangers: Mapping[str, RemoteContact] = field(default_factory=dict)
    failed: dict[int, Settled] = field(default_factory=dict)
    trouble: CoursewireError | None = None
    was_away: bool = False
    calls: int = 0
    is_due: bool = False


@dataclass(frozen=True, kw_only=True)
class DealReader(Drain[Claimed, DealsRead]):
    """Reads deals of one CRM; `watching` says, as a transaction sees the rules, which of them matter.

    `published` is the rule set that counts.
    """

    operation: ClassVar[str] = READ_DEAL
    source: DealStore
    store: ContactStore
    ring: KeyRing
    keys: IndexKeys
    watching: Watching
    published: Callable[[Connection], int]

    @property
    def size(self) -> int:
        """How many deals one read takes."""
        return self.source.batch_size

    def claim(self, db: Connection, lease: UUID, *, limit: int, first: int, suspects: int | None) -> Claim[Claimed]:
        """Claim deals that something was heard of."""
        return Claim(
            sync_state.claim(db, self.connection, READ_DEAL, lease, limit=limit, first=first, suspects=suspects)
        )

    def work(self, rows: Sequence[Claimed], turn: Turn) -> DealsRead:
        """Read what something was heard of since, or of which nothing is known."""
        done = DealsRead()
        try:
            with single(self.engine) as db:
                # In this order: whoever is settled was looked at by these rules, or by later ones.
                done.rule_set = self.published(db)
                done.watch = self.watching(db, self.connection)
            if done.watch is not None and done.watch.asks_for is not None:
                self._read(rows, done, done.watch, Lease(self.engine, turn.lease, [row.id for row in rows]))
        except AWAY:
            done.was_away = True
        except BatchRejected as error:
            done.failed = {row.id: _halved(row, len(rows), error) for row in rows}
        except CoursewireError as error:
            done.trouble = error
        return done

    def _read(self, rows: Sequence[Claimed], done: DealsRead, watch: Watch, lease: Lease) -> None:
        asked = {row.remote_id: row.id for row in rows if row.remote_id and (row.is_doubted or not row.remote_values)}
        done.as_known = {row.id for row in rows} - set(asked.values())
        if not asked or not lease.hold():
            return
        try:
            done.calls += 1
            found = self.source.read(list(asked))
            if strange := self._strange(watch, found):
                done.calls += 1
                contacts = self._contacts(watch, strange, lease)
                if contacts is None:
                    return
                done.strangers = contacts
        except Rejected as error:
            raise BatchRejected(error.reason, error.detail) from None
        done.found = {asked[name]: deal for name, deal in found.items()}
        done.gone = set(asked.values()) - done.found.keys()

    def _strange(self, watch: Watch, found: Mapping[str, RemoteDeal]) -> list[str]:
        """Return the contacts, who are nobody here, of deals that rules ask for."""
        named = {one for deal in found.values() if _matters(watch, deal) for one in deal.contacts}
        with single(self.engine) as db:
            known = people.by_link(db, CONTACT, [(self.connection, one) for one in sorted(named)])
        return sorted(named - {one for _, one in known})

    def _contacts(self, watch: Watch, ids: Sequence[str], lease: Lease) -> dict[str, RemoteContact] | None:
        """Read contacts, however many deals name; None where the deals are no longer held."""
        able, found = self.store.capabilities, dict[str, RemoteContact]()
        fields = sorted({EMAIL, *able.name_properties, *watch.properties})
        for start in range(0, len(ids), able.batch_size):
            if not lease.hold():
                return None
            found |= self.store.read(None, ids[start : start + able.batch_size], fields)
        return found

    def settle(self, done: DealsRead, rows: Sequence[Claimed], turn: Turn) -> Sequence[Settled]:
        """Keep what was read and let whom it concerns be decided again, in one transaction."""
        outcomes = [self._outcome(row, done) for row in rows]
        with self.engine.begin() as db:
            # Names before people, people before rows of work, as everywhere.
            met = self._meet(db, done)
            deal_ids = {row.id: row.person_id for row in rows if row.id in done.found}
            whose = self._hold(db, self._concerned(db, done, {deal_ids[one]: done.found[one] for one in deal_ids}))
            kept = sync_state.settle(db, turn.lease, outcomes, rule_set=done.rule_set)
            # A reading that comes late must not undo one that was made after it.
            deals.put(db, self.connection, {deal_ids[one]: done.found[one] for one in kept & deal_ids.keys()})
            self._decide_again(db, whose)
            self.note(db, turn, done.trouble, was_called=bool(done.calls))
        done.is_due = bool(whose or met)
        log.info(
            "deals.settled",
            connection=self.connection,
            rows=len(rows),
            late=len(rows) - len(kept),
            people=len(whose),
            calls=done.calls,
            outcomes=counts(outcomes),
            trouble=done.trouble.reason.value if done.trouble else None,
        )
        return outcomes

    def led_to(self, done: DealsRead) -> set[tuple[str, str]]:
        """Return where somebody is to be decided because of it."""
        return {(self.connection, READ_ROLE)} if done.is_due else set()

    def _meet(self, db: Connection, done: DealsRead) -> Mapping[str, int]:
        """Make people of strangers whom a rule could mean; whoever was erased stays out, and of no deal."""
        named = {(CONTACT, self.connection, one) for deal in done.found.values() for one in deal.contacts}
        if not named or done.watch is None:
            return {}
        erased = {one for _, _, one in tombstones.buried(db, named, self.keys)}
        done.found = {row_id: replace(deal, contacts=deal.contacts - erased) for row_id, deal in done.found.items()}
        strangers = {one: contact for one, contact in done.strangers.items() if one not in erased}
        stays: dict[str, list[Stay]] = {}
        for deal in done.found.values():
            for one in deal.contacts & strangers.keys():
                stays.setdefault(one, []).extend(deal.stays)
        meeting = Meeting(self.connection, self.store.capabilities.name_properties, self.ring, self.keys)
        return meeting.meet(db, done.watch, strangers, stays)

    def _concerned(self, db: Connection, done: DealsRead, read: Mapping[int, RemoteDeal]) -> set[str]:
        """Return the contacts of deals that are otherwise than they were, where rules ask for them or did."""
        before = deals.known(db, {deal_id: deal.id for deal_id, deal in read.items()})
        return {
            one
            for deal_id, deal in read.items()
            if deal != before[deal_id] and done.watch and any(_matters(done.watch, d) for d in (deal, before[deal_id]))
            for one in deal.contacts | before[deal_id].contacts
        }

    def _hold(self, db: Connection, contacts: Iterable[str]) -> dict[int, str]:
        """Return the people whose contacts these are, and hold them; a merge may show others once they are held."""
        names, held = [(self.connection, one) for one in sorted(contacts)], set[int]()
        while True:
            whose = {who: contact for (_, contact), who in people.by_link(db, CONTACT, names).items()} if names else {}
            if whose.keys() <= held:
                return whose
            held |= people.load(db, whose, self.ring, lock=True).keys()

    def _decide_again(self, db: Connection, whose: Mapping[int, str]) -> None:
        """Let people be decided by what was read of their contact, and read the contact first where nothing was."""
        there = {one.person_id for one in roles.known(db, whose) if one.connection == self.connection and one.is_there}
        unread = [Heard(self.connection, who, contact, 0.0) for who, contact in whose.items() if who not in there]
        roles.hear(db, unread)
        roles.again(db, there)

    def _outcome(self, row: Claimed, done: DealsRead) -> Settled:
        if row.id in done.failed:
            return done.failed[row.id]
        if done.was_away or done.trouble:
            reason = done.trouble.reason if done.trouble else Reason.PAUSED
            return Settled(row.id, "due", reason, after=0.0, attempt_counts=False, max_batch=row.max_batch)
        if done.watch is None or done.watch.asks_for is None:
            # Nobody asks for deals any more; where somebody does again, it is read before it counts.
            forgotten = Settled(row.id, "in_step", Reason.DEAL_NOT_ASKED, written=row.wanted, forget=True)
            return replace(forgotten, remote_id=row.remote_id)
        if row.id in done.as_known:
            return Settled(row.id, "in_step", Reason.DEAL_READ, written=row.wanted)
        if row.id in done.found or row.id in done.gone:
            reason = Reason.DEAL_READ if row.id in done.found else Reason.DEAL_GONE
            seen = Belief({}).sealed(self.ring, row.id, ())
            return Settled(row.id, "in_step", reason, written=row.wanted, remote_values=seen, remote_origin="seen")
        return Settled(row.id, "due", Reason.LEASE_EXPIRED, after=0.0, attempt_counts=False, max_batch=row.max_batch)


def _matters(watch: Watch, deal: RemoteDeal) -> bool:
    return watch.asks_for is not None and watch.asks_for(deal.stays)


def _halved(row: Claimed, size: int, error: CoursewireError) -> Settled:
    """Read again in half the company, because the refusal named nobody; alone it is left for a while."""
    if size > 1:
        return Settled(row.id, "due", error.reason, error.detail, after=0.0, max_batch=size // 2)
    return Settled(row.id, "waiting", error.reason, error.detail, after=policy.recheck(row.attempts), max_batch=1)
