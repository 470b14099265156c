"""The timelines of the portal's contacts: definitions of custom events, the events sent, and notes."""

import re
from dataclasses import dataclass, field
from typing import Any

from scripts.sandbox.answers import Refusal, iso_time, not_found, now_ms
from scripts.sandbox.contacts import Contacts
from scripts.sandbox.inputs import required_text

__all__ = ["LONGEST_BATCH", "Timeline"]

LONGEST_BATCH = 500
LONGEST_TEXT = 256
LONGEST_NOTE = 65_536
NOTE_TO_CONTACT = 202
NAME = re.compile(r"[a-z][a-z0-9_]{0,49}")
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
TYPES = ("string", "number", "enumeration", "datetime", "bool", "date")
Document = dict[str, Any]


@dataclass(slots=True)
class Note:
    """One note and the contact it was made on."""

    id: str
    contact: str
    properties: dict[str, str]
    call: int

    def document(self, names: list[str]) -> Document:
        """The note as the API shows it."""
        return {"id": self.id, "properties": {name: self.properties.get(name) for name in names}, "archived": False}


@dataclass(slots=True)
class Timeline:
    """What is on the timelines; a deleted definition's name stays taken for ever."""

    portal_id: int
    definitions: dict[str, Document] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    events: list[Document] = field(default_factory=list)
    notes: dict[str, Note] = field(default_factory=dict)
    repeats: int = 0
    _uuids: set[tuple[str, str]] = field(default_factory=set)
    _next: int = 90_001

    def clear(self) -> None:
        """Forget events and notes; definitions stay, like properties."""
        self.events.clear()
        self.notes.clear()
        self._uuids.clear()
        self.repeats = 0

    # -- definitions

    def define(self, asked: Document) -> Document:
        """Create a definition; refused when its name is taken, was ever, or is no name."""
        name = required_text(asked.get("name"), "name")
        if not NAME.fullmatch(name):
            raise Refusal(400, "VALIDATION_ERROR", f"Event name {name} is not valid.")
        if asked.get("primaryObject") != "CONTACT":
            raise Refusal(400, "VALIDATION_ERROR", "Some required fields were not set: [primaryObject]")
        whole = f"pe{self.portal_id}_{name}"
        if whole in self.definitions or whole in self.deleted:
            raise Refusal(409, "OBJECT_ALREADY_EXISTS", f"An event named {name} already exists, or has existed.")
        properties = [self._property(one) for one in asked.get("propertyDefinitions") or ()]
        made = {
            "name": name,
            "fullyQualifiedName": whole,
            "labels": {"singular": required_text(asked.get("label"), "label")},
            "primaryObject": "CONTACT",
            "properties": properties,
            "archived": False,
        }
        self.definitions[whole] = made
        return made

    def delete(self, name: str) -> None:
        """Delete a definition and all its occurrences, as an admin does."""
        whole = name if name.startswith("pe") else f"pe{self.portal_id}_{name}"
        if self.definitions.pop(whole, None) is not None:
            self.deleted.add(whole)
            self.events = [one for one in self.events if one["eventName"] != whole]

    def undefine(self) -> None:
        """Forget that anything was ever defined."""
        self.clear()
        self.definitions.clear()
        self.deleted.clear()

    @staticmethod
    def _property(asked: Document) -> Document:
        name = required_text(asked.get("name"), "name")
        if not NAME.fullmatch(name) or asked.get("type") not in TYPES:
            raise Refusal(400, "VALIDATION_ERROR", f"Event property {name} is not valid.")
        return {"name": name, "label": required_text(asked.get("label"), "label"), "type": asked["type"]}

    # -- events

    def send(self, inputs: list[Document], contacts: Contacts, call: int, *, refuse_repeats: bool) -> None:
        """Take events, all or none; a contact that is not there is noticed only after the answer, and by nobody."""
        checked = [self._event(one) for one in inputs]
        fresh: list[Document] = []
        for one in checked:
            key = (one["eventName"], one["uuid"])
            if key in self._uuids or any(key == (other["eventName"], other["uuid"]) for other in fresh):
                self.repeats += 1
                if refuse_repeats:
                    raise Refusal(409, "CONFLICT", "An event with this uuid has been sent already.")
                continue
            fresh.append(one)
        for one in fresh:
            self._uuids.add((one["eventName"], one["uuid"]))
            if contacts.following(one["objectId"]) is not None:
                self.events.append({**one, "call": call})

    def _event(self, asked: Document) -> Document:
        whole = required_text(asked.get("eventName"), "eventName")
        known = self.definitions.get(whole)
        if known is None:
            raise Refusal(400, "VALIDATION_ERROR", f"No event definition is called {whole}.")
        uuid = str(asked.get("uuid", "")).lower()
        if not UUID.fullmatch(uuid):
            raise Refusal(400, "VALIDATION_ERROR", "uuid is not valid.")
        types = {one["name"]: one["type"] for one in known["properties"]}
        properties = asked.get("properties") or {}
        for name, value in properties.items():
            if name not in types or not isinstance(value, str):
                raise Refusal(400, "VALIDATION_ERROR", f"Event property {name} is not defined, or no text.")
            if len(value.encode("utf-16-le")) // 2 > LONGEST_TEXT:
                raise Refusal(400, "VALIDATION_ERROR", f"The value of {name} is too long.")
            if types[name] == "number":
                _number(name, value)
        return {
            "eventName": whole,
            "uuid": uuid,
            "objectId": required_text(asked.get("objectId"), "objectId"),
            "occurredAt": required_text(asked.get("occurredAt"), "occurredAt"),
            "properties": dict(properties),
        }

    # -- notes

    def note(self, asked: Document, contacts: Contacts, call: int) -> Note:
        """Create a note on the one contact it names."""
        properties = asked.get("properties")
        if not isinstance(properties, dict) or not properties.get("hs_timestamp"):
            raise Refusal(400, "VALIDATION_ERROR", "Some required fields were not set: [hs_timestamp]")
        if len(str(properties.get("hs_note_body", ""))) > LONGEST_NOTE:
            raise Refusal(400, "VALIDATION_ERROR", "hs_note_body is too long.")
        try:
            (association,) = asked["associations"]
            contact, (kind,) = str(association["to"]["id"]), association["types"]
        except (KeyError, TypeError, ValueError):
            raise Refusal(400, "VALIDATION_ERROR", "The associations are not as they must be.") from None
        if kind != {"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": NOTE_TO_CONTACT}:
            raise Refusal(400, "VALIDATION_ERROR", "The association type does not lead from a note to a contact.")
        if contacts.following(contact) is None:
            raise not_found([contact])
        stamp = iso_time(now_ms())
        made = Note(str(self._next), contact, {**properties, "hs_createdate": stamp}, call)
        self._next += 1
        self.notes[made.id] = made
        return made

    def notes_of(self, contact_id: str, contacts: Contacts) -> list[str]:
        """The ids of a contact's notes; those of contacts merged into it are its own."""
        contact = contacts.following(contact_id)
        return [one.id for one in self.notes.values() if contact and contacts.following(one.contact) is contact]

    def of(self, contact_id: str, contacts: Contacts) -> Document:
        """Everything on one contact's timeline, for the control API."""
        contact = contacts.following(contact_id)
        events = [one for one in self.events if contact and contacts.following(one["objectId"]) is contact]
        notes = [self.notes[one] for one in self.notes_of(contact_id, contacts)]
        shown = [{"id": one.id, "contact": one.contact, "call": one.call, **one.properties} for one in notes]
        return {"events": events, "notes": shown}


def _number(name: str, value: str) -> None:
    try:
        float(value)
    except ValueError:
        raise Refusal(400, "VALIDATION_ERROR", f"The value of {name} is no number.") from None
