"""Contacts that stand for nobody here, and that a rule means: they become people, and are decided by what was read.

What was read counts unless something else is heard meanwhile.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from integration.acquaintance import Stranger, acquaint
from integration.delivery.belief import Belief
from integration.model.contacts import RemoteContact
from integration.model.deals import Stay
from integration.model.roles import Watch
from integration.security.seal import IndexKeys, KeyRing
from integration.storage import roles
from integration.storage.roles import Heard


@dataclass(frozen=True, slots=True)
class Meeting:
    """Meets contacts of one CRM; `names` are the properties that make up a full name."""

    connection: str
    names: Sequence[str]
    ring: KeyRing
    keys: IndexKeys

    def meet(
        self,
        db: Connection,
        watch: Watch,
        contacts: Mapping[str, RemoteContact],
        stays: Mapping[str, Sequence[Stay]],
    ) -> dict[str, int]:
        """Make people of contacts for whom there are rules, and let that be acted on when it has settled; return them.

        `stays` are those of the contacts' deals. Called before any row is held.
        """
        told = {
            one: contact.fields
            for one, contact in contacts.items()
            if watch.means_something(contact.fields, stays.get(one, ()))
        }
        strangers = [Stranger.of(one, fields, self.names) for one, fields in told.items()]
        met = acquaint(db, self.connection, strangers, self.ring, self.keys)
        rows = roles.hear(db, [Heard(self.connection, who, one, watch.settle) for one, who in met.items()])
        read = {who: Belief({name: told[one].get(name, "") for name in watch.properties}) for one, who in met.items()}
        sealed = [(row, read[row.person_id].sealed(self.ring, row.id, watch.properties)) for row in rows if row.is_new]
        roles.saw(db, sealed)
        return met
