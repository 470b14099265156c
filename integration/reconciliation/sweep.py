"""Working on the chunks of a run: pages are read, compared, and what follows is recorded in one transaction.

The next chunk is open as soon as the last page of one was read, so a worker reads on while another one compares. Live
events go first: pages are read in the backfill lane, and nobody is held but in the transaction that settles a chunk.
"""

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from threading import BoundedSemaphore
from typing import NamedTuple
from uuid import UUID, uuid4

import orjson
import structlog
from sqlalchemy import Connection, Engine

from integration.delivery import trouble
from integration.delivery.belief import Belief
from integration.delivery.budget import Budget
from integration.delivery.ownership import same_value
from integration.errors import BatchRejected, CoursewireError, Reason, Rejected
from integration.model.contacts import CONTACT, Projected, RemoteContact
from integration.model.hints import ContactHint, HintType
from integration.model.people import LEARNER, normalise_email, normalise_employee_id
from integration.model.reconciliation import FINDINGS, RECONCILE_CONTACTS, Class, Finding
from integration.ports import ContactStore, Received
from integration.reconciliation.comparison import Ground
from integration.reconciliation.patience import TURN_SECONDS
from integration.reconciliation.reading import EMAIL, Read, Reader, Subject
from integration.security.seal import IndexKeys, KeyRing
from integration.storage import (
    breakers,
    calls,
    connections,
    doubts,
    inbox,
    outlook,
    people,
    reconciliation_findings,
    reconciliations,
    rings,
    roles,
)
from integration.storage.base import AWAY, single, snapshot
from integration.storage.calls import Call
from integration.storage.outlook import Outlook
from integration.storage.reconciliation_findings import Found
from integration.storage.reconciliations import Chunk, ChunkTaken
from integration.storage.roles import Watching
from integration.told import Told

log = structlog.get_logger(__name__)

LISTED = 1_000
"""Most contacts of a class that are listed though nothing is repaired; the rest is counted."""


class Swept(NamedTuple):
    """What a turn led to: whether there is more to do at once, rows of the inbox to ring for, and if anybody is due."""

    is_more: bool = False
    told: tuple[int, ...] = ()
    is_due: bool = False


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Compares the contacts of one CRM; built once per process by the composition root.

    `subject` says, as a transaction sees the rules, what is read of contacts, `project` what they should hold.
    `max_repairs`: most contacts that one run makes due.
    """

    engine: Engine
    connection: str
    store: ContactStore
    ring: KeyRing
    keys: IndexKeys
    budget: Budget
    take_calls: Callable[[], list[Call]]
    project: Callable[[Connection, str, Sequence[int]], Projected]
    subject: Callable[[Connection, str], Subject]
    watching: Watching = lambda _db, _connection: None
    max_repairs: int = 100_000
    places: BoundedSemaphore = field(default_factory=lambda: BoundedSemaphore(2))

    @cached_property
    def reader(self) -> Reader:
        """What reads the contacts."""
        return Reader(
            engine=self.engine,
            connection=self.connection,
            store=self.store,
            budget=self.budget,
            subject=self.subject,
            watching=self.watching,
        )

    def run(self, tell: Callable[[], None] = lambda: None) -> Swept:
        """Work on open chunks until there is none, the CRM may not be called, or time is up.

        `tell` is called where there is a chunk more that somebody else could work on.
        """
        if not self.places.acquire(blocking=False):
            return Swept()
        try:
            with single(self.engine) as db:
                rings.heard(db, self.connection, RECONCILE_CONTACTS)
            return self._run(time.monotonic() + TURN_SECONDS, tell)
        finally:
            self.places.release()

    def _run(self, ends: float, tell: Callable[[], None]) -> Swept:
        swept = Swept()
        while time.monotonic() < ends:
            with single(self.engine) as db:
                now = outlook.look(db, self.connection, RECONCILE_CONTACTS)
            if not now.may_call:
                return swept
            lease = uuid4()
            with single(self.engine) as db:
                chunk = reconciliations.claim(db, self.connection, lease)
            if chunk is None:
                return swept
            if chunk.attempts > reconciliations.DEATHS:
                self._fail(chunk, Reason.CRASH_LOOP)
                return swept
            done = self._chunk(chunk, lease, now, tell)
            if done is None:
                return swept
            swept = Swept(told=swept.told + done.told, is_due=swept.is_due or done.is_due)
        return swept._replace(is_more=True)

    def _fail(self, chunk: Chunk, reason: Reason) -> None:
        with self.engine.begin() as db:
            calls.add(db, self.connection, self.take_calls())
            reconciliations.finish(db, chunk.run, "failed", reason.value)
        log.error(
            "reconciliation.failed",
            connection=self.connection,
            run=chunk.run,
            place=chunk.place,
            reason=reason.value,
        )

    def _chunk(self, chunk: Chunk, lease: UUID, now: Outlook, tell: Callable[[], None]) -> Swept | None:
        """Work on one chunk; None where the run cannot go on for now."""
        self.take_calls()
        try:
            read = self.reader.read(chunk, lease)
            if read.cursor is not None:
                with single(self.engine) as db:
                    is_new = reconciliations.follow(db, chunk, lease, read.cursor)
                if is_new:
                    tell()
                elif read.trouble is not None:
                    # Whoever had this chunk before came further: what lies between would be left out.
                    raise read.trouble
            findings, hints = self._compare(read, chunk)
            return self._settle(chunk, lease, now, read, findings, hints)
        except (ChunkTaken, *AWAY) as error:
            # Whoever finds the chunk abandoned goes on with it.
            why = type(error).__name__
            log.warning("reconciliation.left", connection=self.connection, run=chunk.run, place=chunk.place, error=why)
            return None
        except (Rejected, BatchRejected) as error:
            self._fail(chunk, error.reason)  # refused as it is: it would be asked for again for ever
            return None
        except CoursewireError as error:
            with self.engine.begin() as db:
                trouble.note(db, self.connection, RECONCILE_CONTACTS, error)
                calls.add(db, self.connection, self.take_calls())
                reconciliations.give_back(db, chunk, lease)
            return None
        finally:
            self.budget.give_back()

    def _compare(self, read: Read, chunk: Chunk) -> tuple[list[Finding], dict[str, Received]]:
        """Return a finding for each contact, and by contact what the inbox is to be told of roles."""
        ids = [(self.connection, contact.id) for contact in read.contacts]
        with snapshot(self.engine).begin() as db:
            linked = {name: who for (_, name), who in people.by_link(db, CONTACT, ids).items()}
            named = self._named(db, read, linked)
            known = reconciliation_findings.known(db, self.connection, {*linked.values(), *named.values()})
            whole = sorted({*linked.values(), *named.values()} & known.keys())
            projected = self.project(db, self.connection, whole)
            heard = self._roles(db, read, linked, chunk)
        ground = Ground(
            began=chunk.claimed_at,
            asked=read.asked,
            linked=linked,
            named=named,
            known=known,
            targets=projected.targets,
            unreadable=projected.unreadable,
            marks=read.subject.marks,
            rule_set=projected.rule_set,
        )
        findings = [ground.compare(contact) for contact in read.contacts]
        findings += [Finding(Class.MISSING, row.remote_id or "", row.person_id, repairs=True) for row in read.missing]
        findings += [Finding(Class.MERGED, row.remote_id or "", row.person_id, repairs=True) for row, _ in read.merged]
        return findings, heard

    def _named(self, db: Connection, read: Read, linked: Mapping[str, int]) -> dict[str, int]:
        """Return whom contacts that are nobody's yet name: by their LMS user, their employee id or their e-mail."""
        strangers = [contact for contact in read.contacts if contact.id not in linked]
        subject = read.subject

        def said(contact: RemoteContact, name: str | None) -> str:
            return contact.fields.get(name, "").strip() if name else ""

        users = {
            one.id: (start, end) for one in strangers for start, _, end in [said(one, subject.user).partition(":")]
        }
        employees = {one.id: normalise_employee_id(said(one, subject.employee)) for one in strangers}
        emails = {one.id: normalise_email(said(one, EMAIL)) for one in strangers}
        learners = people.by_link(db, LEARNER, sorted({user for user in users.values() if all(user)}))
        staff = people.owners(db, "employee_id", sorted({one for one in employees.values() if one}), self.keys)
        owners = people.by_email(db, sorted({one for one in emails.values() if one}), self.keys)
        found = {}
        for one in strangers:
            employee = staff.get(employees[one.id] or "")
            who = learners.get(users[one.id])
            who = employee.person_id if who is None and employee else who
            who = owners.get(emails[one.id] or "") if who is None else who
            if who is not None:
                found[one.id] = who
        return found

    def _roles(self, db: Connection, read: Read, linked: Mapping[str, int], chunk: Chunk) -> dict[str, Received]:
        """Return hints about roles that are not what was read last: they enter the inbox like any other (rule 25)."""
        watch = read.watch
        if watch is None:
            return {}
        rows = {
            row.person_id: row for row in roles.known(db, set(linked.values())) if row.connection == self.connection
        }
        told = {}
        for contact in read.contacts:
            row = rows.get(linked.get(contact.id, 0))
            if row is None:
                is_news = watch.is_asked and watch.means_something(contact.fields, ())
            elif not row.is_settled or row.doubted_at is not None:
                is_news = False  # it will be read anyway
            else:
                belief = Belief.opened(self.ring, row.id, row.remote_values)
                is_news = belief is None or any(
                    not same_value(contact.fields.get(name, ""), belief.known.get(name, ""))
                    for name in watch.properties
                )
            if is_news:
                hint = ContactHint(type=HintType.CHANGED, contact_id=contact.id, occurred_at=chunk.claimed_at)
                told[contact.id] = Told(hint=hint).received(f"reconciliation:{chunk.run}:{contact.id}")
        return told

    def _settle(
        self,
        chunk: Chunk,
        lease: UUID,
        now: Outlook,
        read: Read,
        findings: Sequence[Finding],
        heard: Mapping[str, Received],
    ) -> Swept:
        """Record what a chunk has found, and everything that follows from it, in one transaction. Raises ChunkTaken."""
        with self.engine.begin() as db:
            before = reconciliations.counts(db, chunk)
            new = reconciliation_findings.see(db, chunk, [one.contact_id for one in findings])
            named = [one.person_id for one in findings if one.person_id and one.kind in FINDINGS]
            erased = set(named) - people.kept(db, named)
            fresh = [one for one in findings if one.contact_id in new and one.person_id not in erased]
            allowed = max(0, self.max_repairs - before.get("repaired", 0))
            repairs = [] if chunk.is_dry else [one for one in fresh if one.repairs][:allowed]
            self._repair(db, repairs)
            chosen = {one.contact_id for one in repairs}
            listed = _listed(fresh, chosen, before)
            reconciliation_findings.find(
                db, chunk, [self._found(chunk, one, one.contact_id in chosen) for one in listed]
            )
            taken_back = reconciliation_findings.take_back(
                db, chunk, [contact for _, contact in read.merged], [row.person_id for row in read.missing]
            )
            said = [] if chunk.is_dry else list(heard.values())
            told = inbox.tell(db, self.connection, "reconciliation", said, self.ring, f"reconciliation:{chunk.run}")
            made = self.take_calls()
            added = _tally(fresh, taken_back) | {
                "contacts": len(fresh),
                "repaired": len(repairs),
                "put_off": 0 if chunk.is_dry else sum(one.repairs for one in fresh) - len(repairs),
                "roles": len(new & heard.keys()) if chunk.is_dry else len(told),
                "calls": len(made),
            }
            is_last = reconciliations.settle(db, chunk, lease, added, before)
            is_over = is_last and self._end(db, chunk)
            rests = not is_over and reconciliations.rest(db, chunk.run)
            if is_over or rests:
                reconciliation_findings.let_go(db, chunk.run)
            calls.add(db, self.connection, made)
            if made and not now.is_clear:
                connections.heal(db, self.connection)
                breakers.succeed(db, self.connection, RECONCILE_CONTACTS)
        log.info("reconciliation.chunk", connection=self.connection, run=chunk.run, place=chunk.place, counts=added)
        return Swept(told=tuple(told), is_due=is_over or rests)

    def _end(self, db: Connection, chunk: Chunk) -> bool:
        """Go on with what was on no page, or end the run; return whether it is over."""
        if chunk.phase == "list":
            reconciliations.next_phase(db, chunk)
            return False
        if reconciliations.finish(db, chunk.run):
            log.info("reconciliation.finished", connection=self.connection, run=chunk.run)
        return True

    def _repair(self, db: Connection, findings: Sequence[Finding]) -> None:
        """Let people be looked at again: what was read here is never written, only a newer reading is (rule 25)."""
        rows = reconciliation_findings.known(db, self.connection, {one.person_id for one in findings if one.person_id})
        doubts.add(db, [row.id for row in rows.values()], gather=reconciliation_findings.GATHER_SECONDS)

    def _found(self, chunk: Chunk, one: Finding, is_repaired: bool) -> Found:
        values = {name: list(pair) for name, pair in one.differences.items()}
        context = reconciliation_findings.values_context(chunk.run, one.contact_id)
        sealed = self.ring.seal(orjson.dumps(values), context) if values else None
        return Found(one.kind.value, one.contact_id, one.person_id, ",".join(sorted(values)), sealed, is_repaired)


def _tally(findings: Sequence[Finding], taken_back: Mapping[str, int]) -> dict[str, int]:
    """Return how often each class came, less what turned out to be something else."""
    found = Counter(one.kind.value for one in findings)
    found.subtract(taken_back)
    return dict(found)


def _listed(findings: Sequence[Finding], chosen: Collection[str], before: Mapping[str, int]) -> list[Finding]:
    """Return the findings to keep one by one: all that are repaired, and of each class some that are not."""
    counted, kept = dict(before), []
    for one in findings:
        counted[one.kind.value] = counted.get(one.kind.value, 0) + 1
        if one.kind in FINDINGS and (one.contact_id in chosen or counted[one.kind.value] <= LISTED):
            kept.append(one)
    return kept
