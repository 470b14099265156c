"""Looking at contacts that nobody here stands for, because somebody waits for one to appear: is it theirs?

Hints about them wait in the inbox as `enriching`. One read answers for up to a batch of contacts; whoever has the
address of one of them and waits is due, and finds the contact in the usual way.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final
from uuid import UUID

import structlog
from sqlalchemy import Connection

from integration.acquaintance import EMAIL
from integration.delivery.look import Look, Looked
from integration.delivery.meeting import Meeting
from integration.errors import Reason
from integration.model.contacts import CONTACT, RemoteContact
from integration.model.hints import ContactHint
from integration.model.people import normalise_email
from integration.model.roles import Watch
from integration.ports import ContactStore
from integration.storage import deals, doubts, inbox, people
from integration.storage.base import single
from integration.storage.inbox import Claimed, Settled
from integration.storage.outlook import Outlook
from integration.storage.roles import Watching

log = structlog.get_logger(__name__)

LOOK_UP: Final = "contact.look_up"
"""The operation that looks at contacts nobody here stands for."""


@dataclass(frozen=True, kw_only=True)
class Lookup(Look):
    """Looks contacts of one CRM up."""

    operation: ClassVar[str] = LOOK_UP
    store: ContactStore
    watching: Watching = lambda _db, _connection: None

    @property
    def size(self) -> int:
        """How many contacts one read takes."""
        return self.store.capabilities.batch_size

    def batch(self, rows: Sequence[Claimed], lease: UUID, now: Outlook, looked: Looked) -> None:
        """Read the contacts, and make due who waited for one of them; whoever has a role becomes known."""
        said, settled = self.read(rows)
        asked = {row_id: one for row_id, found in said.items() for one in found if isinstance(one, ContactHint)}
        with single(self.engine) as db:
            watch = self.watching(db, self.connection)
            # An earlier batch may have made somebody known: what is said of them since goes the usual way, unread.
            known = people.by_link(db, CONTACT, [(self.connection, hint.contact_id) for hint in asked.values()])
        goes_on = {row_id for row_id, hint in asked.items() if (self.connection, hint.contact_id) in known}
        asked = {row_id: hint for row_id, hint in asked.items() if row_id not in goes_on}
        names = self.store.capabilities.name_properties if watch else ()
        contacts: Mapping[str, RemoteContact] = {}
        if asked:
            fields = sorted({EMAIL, *names, *(watch.properties if watch else ())})
            contacts = self.store.read(None, sorted({hint.contact_id for hint in asked.values()}), fields)
        emails = {one: normalise_email(contact.fields.get(EMAIL)) for one, contact in contacts.items()}
        with self.engine.begin() as db:
            owners = people.by_email(db, sorted({email for email in emails.values() if email}), self.keys)
            found: dict[str, int | None] = {one: owners.get(email or "") for one, email in emails.items()}
            met = self._meet(db, watch, contacts, names) if watch else {}
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
            looked.goes_on += inbox.go_on(db, lease, goes_on)
            self.note(db, now, was_called=bool(asked))
        log.info("contacts.looked_up", connection=self.connection, rows=len(rows), due=len(woken))
        looked.is_due |= bool(woken)

    def _meet(
        self, db: Connection, watch: Watch, contacts: Mapping[str, RemoteContact], names: Sequence[str]
    ) -> dict[str, int]:
        stays = deals.of_contacts(db, self.connection, list(contacts)) if watch.asks_for else {}
        return Meeting(self.connection, names, self.ring, self.keys).meet(db, watch, contacts, stays)
