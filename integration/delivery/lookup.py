"""Looking at contacts that nobody here stands for, because somebody waits for one to appear: is it theirs?

Hints about them wait in the inbox as `enriching`. One read answers for up to a batch of contacts; whoever has the
address of one of them and waits is due, and finds the contact in the usual way.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID, uuid4

import structlog
from sqlalchemy import Connection, Engine

from integration.acquaintance import EMAIL, Stranger, acquaint
from integration.delivery import trouble
from integration.delivery.belief import Belief
from integration.delivery.budget import Budget
from integration.errors import CoursewireError, Reason
from integration.model.contacts import RemoteContact
from integration.model.hints import ContactHint
from integration.model.people import normalise_email
from integration.model.roles import Watch
from integration.ports import ContactStore, Inbound
from integration.security.seal import IndexKeys, KeyRing
from integration.storage import breakers, calls, connections, doubts, inbox, outlook, people, rings, roles
from integration.storage.base import single
from integration.storage.calls import Call
from integration.storage.inbox import Claimed, Settled
from integration.storage.outlook import Outlook
from integration.storage.roles import Heard, Watching
from integration.storage.sync_state import LIVE

log = structlog.get_logger(__name__)

LOOK_UP: Final = "contact.look_up"
"""The operation that looks at contacts nobody here stands for."""


@dataclass(frozen=True, slots=True)
class Lookup:
    """Looks contacts of one connection up; built once per process by the composition root."""

    engine: Engine
    connection: str
    store: ContactStore
    system: Inbound
    ring: KeyRing
    keys: IndexKeys
    take_calls: Callable[[], list[Call]]
    budget: Budget
    watching: Watching = lambda _db, _connection: None

    def run(self) -> bool:
        """Look at what waits, batch after batch; return whether somebody is due because of it."""
        turn = uuid4()
        with single(self.engine) as db:
            if not rings.start(db, self.connection, LOOK_UP, turn):
                return False  # whoever is at it goes on until nothing waits
        try:
            return self._run()
        finally:
            with single(self.engine) as db:
                rings.stop(db, self.connection, LOOK_UP, turn)

    def _run(self) -> bool:
        found = False
        while True:
            with single(self.engine) as db:
                now = outlook.look(db, self.connection, LOOK_UP)
            if not now.may_call or self.budget.ask(LIVE) > 0:
                return found  # the sweeper rings again
            lease = uuid4()
            with single(self.engine) as db:
                rows = inbox.claim_enriching(db, self.connection, lease, limit=self.store.capabilities.batch_size)
            if not rows:
                self.budget.give_back()
                return found
            try:
                found |= self._batch(rows, lease, now)
            except CoursewireError as error:
                with self.engine.begin() as db:
                    trouble.note(db, self.connection, LOOK_UP, error)
                    calls.add(db, self.connection, self.take_calls())
                    inbox.give_back_enriching(db, lease)
                return found
            finally:
                self.budget.give_back()

    def _batch(self, rows: Sequence[Claimed], lease: UUID, now: Outlook) -> bool:
        asked, settled = self._asked(rows)
        self.take_calls()
        with single(self.engine) as db:
            watch = self.watching(db, self.connection)
        names = self.store.capabilities.name_properties if watch else ()
        contacts: Mapping[str, RemoteContact] = {}
        if asked:
            fields = sorted({EMAIL, *names, *(watch.properties if watch else ())})
            with self.budget.lane(LIVE):
                contacts = self.store.read(None, sorted({hint.contact_id for hint in asked.values()}), fields)
        emails = {one: normalise_email(contact.fields.get(EMAIL)) for one, contact in contacts.items()}
        with self.engine.begin() as db:
            owners = people.by_email(db, sorted({email for email in emails.values() if email}), self.keys)
            found: dict[str, int | None] = {one: owners.get(email or "") for one, email in emails.items()}
            met = self._meet(db, watch, contacts) if watch else {}
            found |= met
            woken = doubts.wake(db, self.connection, sorted({who for who in found.values() if who is not None}))
            for row_id, hint in asked.items():
                person_id = found.get(hint.contact_id)
                settled.append(
                    Settled(row_id, "done", Reason.APPLIED, person_id=person_id)
                    if person_id in woken or hint.contact_id in met
                    else Settled(row_id, "ignored", Reason.UNKNOWN_CONTACT, person_id=person_id)
                )
            inbox.settle(db, lease, settled)
            calls.add(db, self.connection, self.take_calls())
            if asked and not now.is_clear:
                connections.heal(db, self.connection)
                breakers.succeed(db, self.connection, LOOK_UP)
        log.info("contacts.looked_up", connection=self.connection, rows=len(rows), due=len(woken))
        return bool(woken)

    def _meet(self, db: Connection, watch: Watch, contacts: Mapping[str, RemoteContact]) -> dict[str, int]:
        """Make people of contacts that have a role, and let that be acted on when it has settled.

        What was read just now is what is decided by, unless something else is heard meanwhile.
        """
        names = self.store.capabilities.name_properties
        told = {
            one: fields for one, contact in contacts.items() if (fields := contact.fields).get(watch.role, "").strip()
        }
        met = acquaint(
            db, self.connection, [Stranger.of(one, fields, names) for one, fields in told.items()], self.ring, self.keys
        )
        rows = roles.hear(db, [Heard(self.connection, who, one, watch.settle) for one, who in met.items()])
        read = {who: Belief({name: told[one].get(name, "") for name in watch.properties}) for one, who in met.items()}
        roles.saw(db, [(row, read[row.person_id].sealed(self.ring, row.id, watch.properties)) for row in rows])
        return met

    def _asked(self, rows: Sequence[Claimed]) -> tuple[dict[int, ContactHint], list[Settled]]:
        """Return the hint in each row, and what becomes of rows that cannot be read."""
        asked: dict[int, ContactHint] = {}
        settled = []
        for row in rows:
            try:
                payload = self.ring.open(row.payload or b"", inbox.payload_context(row.connection, row.request_id))
                said = self.system.translate(payload)
            except CoursewireError as error:  # of the row, and not of the connection: the others are looked up
                settled.append(Settled.unread(row.id, error))
                continue
            for hint in said:
                if isinstance(hint, ContactHint):
                    asked[row.id] = hint
        return asked, settled
