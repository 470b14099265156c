"""People whom a CRM knows first: a contact with a role is somebody, though no learning system has named them yet.

The e-mail says whether we know them already, as it does for learners.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection

from integration.model.contacts import CONTACT, Fields
from integration.model.people import Profile, normalise_email
from integration.security.seal import IndexKeys, KeyRing
from integration.storage import people, tombstones
from integration.storage.people import Person
from integration.storage.tombstones import email_name

EMAIL = "email"
"""The property of a contact that says who it is."""


@dataclass(frozen=True, slots=True)
class Stranger:
    """A contact as it was read. Personal."""

    contact_id: str
    email: str | None
    full_name: str | None

    @classmethod
    def of(cls, contact_id: str, fields: Fields, name_properties: Sequence[str]) -> "Stranger":
        """Return what a contact's properties say of somebody."""
        name = " ".join(part for one in name_properties if (part := fields.get(one, "").strip()))
        return cls(contact_id, normalise_email(fields.get(EMAIL)), name or None)


def acquaint(
    db: Connection, connection: str, strangers: Sequence[Stranger], ring: KeyRing, keys: IndexKeys
) -> dict[str, int]:
    """Return the person of each contact, found by its id or its e-mail, or made; whoever has no e-mail is nobody yet.

    Links the contacts. Whoever was erased stays out.
    """
    emails = {one.email for one in strangers if one.email}
    people.serialise(db, {name for email in sorted(emails) for name in people.lock_names(None, email)})
    linked = people.by_link(db, CONTACT, [(connection, one.contact_id) for one in strangers])
    owners = people.by_email(db, sorted(emails), keys)
    buried = tombstones.buried(db, {email_name(email) for email in emails - owners.keys()}, keys)
    found = {contact_id: person_id for (_, contact_id), person_id in linked.items()}
    new: dict[str, Person] = {}
    spare = people.new_ids(db, len(emails - owners.keys()))
    now = datetime.now(UTC)
    for one in strangers:
        if one.contact_id in found or one.email is None or email_name(one.email) in buried:
            continue
        if one.email not in owners:
            profile = Profile(one.email, now, one.full_name, now if one.full_name else None)
            new[one.email] = Person(spare.pop(), 0, profile, is_new=True, is_changed=True)
            owners[one.email] = new[one.email].id
        found[one.contact_id] = owners[one.email]
    people.save(db, new.values(), ring, keys)
    fresh = {(connection, contact_id): who for contact_id, who in found.items()}
    people.link(db, CONTACT, {name: who for name, who in fresh.items() if name not in linked})
    return found
