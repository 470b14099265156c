"""The contacts of the portal and every index over them: no call ever walks the whole list.

What happens to them is told to whoever listens.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from scripts.sandbox.answers import iso_time
from scripts.sandbox.happenings import Announcer, Happening

__all__ = ["ALWAYS_SHOWN", "FIRST_ID", "Contact", "Contacts"]

ALWAYS_SHOWN = ("createdate", "hs_object_id", "lastmodifieddate")
DEFAULT_SHOWN = ("email", "firstname", "lastname")
FIRST_ID = 501


class Contact:
    """One contact record with what was ever written to it."""

    __slots__ = ("archived", "created_ms", "erased", "history", "id", "properties", "traces", "updated_ms", "writes")

    def __init__(self, number: int, now_ms: int) -> None:
        self.id = str(number)
        self.created_ms = self.updated_ms = now_ms
        self.archived = self.erased = False
        self.writes = 0
        stamp = iso_time(now_ms)
        self.properties: dict[str, str] = {
            "createdate": stamp,
            "hs_object_id": self.id,
            "lastmodifieddate": stamp,
        }
        self.history: dict[str, list[tuple[int, str, int]]] = {}
        self.traces: list[tuple[int, str]] = []  # number of the call and trace id of each write, in order

    @property
    def secondary_emails(self) -> list[str]:
        """The e-mails beside the primary one."""
        return [e for e in self.properties.get("hs_additional_emails", "").split(";") if e]

    def document(self, names: Iterable[str] | None = None, history: Iterable[str] = ()) -> dict[str, Any]:
        """The record as the API shows it: the asked properties, null where there is no value."""
        shown = {name: self.properties.get(name) for name in (*(names or DEFAULT_SHOWN), *ALWAYS_SHOWN)}
        answer: dict[str, Any] = {
            "id": self.id,
            "properties": shown,
            "createdAt": iso_time(self.created_ms),
            "updatedAt": iso_time(self.updated_ms),
            "archived": self.archived,
        }
        asked = {name: self.history[name] for name in history if name in self.history}
        if asked:
            answer["propertiesWithHistory"] = {
                name: [
                    {
                        "value": value,
                        "timestamp": iso_time(at),
                        "sourceType": "INTEGRATION" if call else "CRM_UI",
                    }
                    for at, value, call in reversed(entries)
                ]
                for name, entries in asked.items()
            }
        return answer

    def full(self) -> dict[str, Any]:
        """Everything about the record, for the control API."""
        return {
            "id": self.id,
            "properties": self.properties,
            "history": {
                name: [{"at_ms": at, "value": value, "call": call} for at, value, call in entries]
                for name, entries in self.history.items()
            },
            "writes": self.writes,
            "traces": self.traces,
            "archived": self.archived,
        }


class Contacts:
    """Contacts by id, by primary and secondary e-mail, by each unique property; and where merged ids lead."""

    def __init__(self, unique: Iterable[str], tell: Announcer, first_id: int = FIRST_ID) -> None:
        self._tell = tell
        self._by_id: dict[str, Contact] = {}
        self._numbers: list[int] = []
        self._by_email: dict[str, Contact] = {}
        self._by_secondary: dict[str, Contact] = {}
        self._by_unique: dict[str, dict[str, Contact]] = {name: {} for name in unique}
        self._successor: dict[str, str] = {}
        self._next = first_id

    def __iter__(self) -> Iterator[Contact]:
        return iter(self._by_id.values())

    def __len__(self) -> int:
        return len(self._by_id)

    def index(self, name: str) -> None:
        """Keep one more property unique from now on."""
        self._by_unique.setdefault(name, {})

    def forget_property(self, name: str) -> None:
        """Drop a property's values everywhere, as deleting the property does."""
        self._by_unique.pop(name, None)
        for contact in self._by_id.values():
            contact.properties.pop(name, None)

    def by_id(self, record_id: str) -> Contact | None:
        """The live record of exactly this id."""
        contact = self._by_id.get(record_id)
        return contact if contact is not None and not contact.archived else None

    def in_bin(self, record_id: str) -> Contact | None:
        """The archived record of this id that can be restored: not merged away, not erased."""
        contact = self._by_id.get(record_id)
        lost = contact is None or not contact.archived or contact.erased or self.merged_away(record_id)
        return None if lost else contact

    def following(self, record_id: str) -> Contact | None:
        """The live record this id leads to, through any number of merges."""
        while record_id in self._successor:
            record_id = self._successor[record_id]
        return self.by_id(record_id)

    def merged_away(self, record_id: str) -> bool:
        """Whether the id belonged to a record that was merged into another."""
        return record_id in self._successor

    def by_email(self, email: str, *, secondary: bool) -> Contact | None:
        """The record with this normalised e-mail; secondary ones count only when asked."""
        found = self._by_email.get(email)
        return found if found is not None or not secondary else self._by_secondary.get(email)

    def by_unique(self, name: str, value: str) -> Contact | None:
        """The record that holds this value of a unique property."""
        return self._by_unique[name].get(value)

    def add(self, now_ms: int, *, source: str | None = "INTEGRATION") -> Contact:
        """Make an empty record with the next id; without a source nobody is told."""
        contact = Contact(self._next, now_ms)
        self._by_id[contact.id] = contact
        self._numbers.append(self._next)
        self._next += 1
        if source:
            self._tell(Happening("creation", contact.id, now_ms, source))
        return contact

    def write(
        self, contact: Contact, values: Mapping[str, str], now_ms: int, call: int, *, source: str | None = "INTEGRATION"
    ) -> None:
        """Set normalised values, remember who wrote them (call 0 = a person), move `lastmodifieddate`.

        Of values that change, whoever listens is told with `source`; without one nobody is.
        """
        if values.get("email") in contact.secondary_emails:
            values = {**values, "hs_additional_emails": _swapped(contact, values["email"])}
        for name, value in values.items():
            before = contact.properties.get(name, "")
            self._reindex(contact, name, before, value)
            if source and value != before:
                self._tell(Happening("propertyChange", contact.id, now_ms, source, name, value))
            if value:
                contact.properties[name] = value
            else:
                contact.properties.pop(name, None)
            contact.history.setdefault(name, []).append((now_ms, value, call))
        contact.updated_ms = now_ms
        contact.properties["lastmodifieddate"] = iso_time(now_ms)
        contact.writes += call != 0

    def archive(self, contact: Contact, now_ms: int, source: str = "INTEGRATION") -> None:
        """Put a record in the bin: its e-mails and unique values are free again."""
        self._bin(contact)
        self._tell(Happening("deletion", contact.id, now_ms, source))

    def restore(self, contact: Contact, now_ms: int) -> None:
        """Take a record out of the bin, with its values."""
        contact.archived = False
        for name, value in contact.properties.items():
            self._reindex(contact, name, "", value)
        self._tell(Happening("restore", contact.id, now_ms, "CRM_UI"))

    def erase(self, contact: Contact, now_ms: int, *, deletion_first: bool = False) -> None:
        """Delete a record for good, with every value and its history; a deletion is told beside it."""
        self._bin(contact)
        contact.erased = True
        contact.properties = {"hs_object_id": contact.id}
        contact.history, contact.traces = {}, []
        told = [Happening(one, contact.id, now_ms, "CRM_UI") for one in ("privacyDeletion", "deletion")]
        for happening in reversed(told) if deletion_first else told:
            self._tell(happening)

    def merge(self, primary: Contact, other: Contact, now_ms: int, *, keeps_primary_id: bool = False) -> Contact:
        """Make the record both become: the primary's values, blanks filled from the other.

        Unique values of the other record are lost, its e-mail becomes a secondary one. It is a new record, unless it
        keeps the primary's id.
        """
        ends = (other,) if keeps_primary_id else (primary, other)
        values = {k: v for k, v in other.properties.items() if k not in self._by_unique}
        values.update(primary.properties)
        emails = [*primary.secondary_emails, *other.secondary_emails]
        if primary.properties.get("email") and other.properties.get("email"):
            emails.append(other.properties["email"])
        old_ids = [i for c in (primary, other) for i in c.properties.get("hs_merged_object_ids", "").split(";") if i]
        values["hs_additional_emails"] = ";".join(emails)
        values["hs_merged_object_ids"] = ";".join([*old_ids, *(one.id for one in ends)])
        for dead in ends:
            self._bin(dead)
        made = primary if keeps_primary_id else self.add(now_ms, source=None)
        for dead in ends:
            self._successor[dead.id] = made.id
        made.created_ms = min(primary.created_ms, other.created_ms)
        kept = {k: v for k, v in values.items() if k not in ALWAYS_SHOWN}
        self._tell(
            Happening("merge", made.id, now_ms, "CRM_UI", primary_id=primary.id, merged_ids=(other.id,)),
        )
        self.write(made, kept, now_ms, 0, source="MERGE_CONTACTS")
        made.properties["createdate"] = iso_time(made.created_ms)
        return made

    def page(self, first: int, limit: int) -> tuple[list[Contact], int | None]:
        """Up to `limit` live records with ids from `first` on, and the id the next page starts at."""
        position = bisect_left(self._numbers, first)
        found: list[Contact] = []
        while position < len(self._numbers):
            contact = self._by_id[str(self._numbers[position])]
            if not contact.archived:
                if len(found) == limit:
                    return found, int(contact.id)
                found.append(contact)
            position += 1
        return found, None

    def _bin(self, contact: Contact) -> None:
        contact.archived = True
        for name, value in contact.properties.items():
            self._reindex(contact, name, value, "")

    def _reindex(self, contact: Contact, name: str, old: str, new: str) -> None:
        if name == "hs_additional_emails":
            for email in filter(None, old.split(";")):
                self._by_secondary.pop(email, None)
            for email in filter(None, new.split(";")):
                self._by_secondary[email] = contact
            return
        index = self._by_email if name == "email" else self._by_unique.get(name)
        if index is None:
            return
        if index.get(old) is contact:
            del index[old]
        if new:
            index[new] = contact


def _swapped(contact: Contact, promoted: str) -> str:
    """The secondary e-mails after one of them became the primary one."""
    kept = [e for e in contact.secondary_emails if e != promoted]
    return ";".join([*kept, *filter(None, [contact.properties.get("email")])])
