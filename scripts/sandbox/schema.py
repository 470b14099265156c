"""The schema of the portal: its properties and groups, and what HubSpot demands of a new one."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from scripts.sandbox.answers import Refusal
from scripts.sandbox.properties import YES_NO, Property

__all__ = ["Schema"]

FIELD_TYPES: dict[str, frozenset[str]] = {
    "string": frozenset({"text", "textarea", "html", "file", "phonenumber"}),
    "number": frozenset({"number"}),
    "date": frozenset({"date"}),
    "datetime": frozenset({"date"}),
    "bool": frozenset({"booleancheckbox"}),
    "enumeration": frozenset({"select", "radio", "checkbox", "booleancheckbox"}),
}
NAME = re.compile(r"[a-z][a-z0-9_]*")
MAX_UNIQUE = 10


@dataclass(slots=True)
class Schema:
    """Every property and property group of the portal, by name; archived properties are in the bin."""

    properties: dict[str, Property] = field(default_factory=dict)
    groups: dict[str, dict[str, Any]] = field(default_factory=dict)
    bin: dict[str, Property] = field(default_factory=dict)
    exclusive: frozenset[str] = frozenset({"email"})
    forward_only: frozenset[str] = frozenset()

    @classmethod
    def of(cls, properties: Iterable[Property]) -> "Schema":
        """Build a schema whose groups are those the properties mention."""
        schema = cls()
        for one in properties:
            schema._put(one)
            schema.groups.setdefault(
                one.group, {"name": one.group, "label": one.group, "displayOrder": -1, "archived": False}
            )
        return schema

    def add_group(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Create a group; refused when the name is taken or missing."""
        name = asked.get("name")
        if not isinstance(name, str) or not NAME.fullmatch(name) or not isinstance(asked.get("label"), str):
            raise Refusal(400, "VALIDATION_ERROR", "A property group needs a valid name and a label.")
        if name in self.groups:
            raise Refusal(409, "OBJECT_ALREADY_EXISTS", f"Property group {name} already exists.")
        group = {
            "name": name,
            "label": asked["label"],
            "displayOrder": asked.get("displayOrder", -1),
            "archived": False,
        }
        self.groups[name] = group
        return group

    @property
    def custom(self) -> int:
        """How many properties the customer has made."""
        return sum(one.group != "contactinformation" for one in self.properties.values())

    def add(self, asked: dict[str, Any], *, most: int) -> Property:
        """Create a property from the body of an API call; refused when taken, malformed, or beyond `most`."""
        for key in ("groupName", "name", "label", "type", "fieldType"):
            if not isinstance(asked.get(key), str) or not asked[key]:
                raise Refusal(400, "VALIDATION_ERROR", f"Some required fields were not set: [{key}]")
        name, kind, group = asked["name"], asked["type"], asked["groupName"]
        if not NAME.fullmatch(name):
            raise Refusal(400, "VALIDATION_ERROR", f"Property name {name} is not valid.")
        if name in self.properties or name in self.bin:
            raise Refusal(409, "OBJECT_ALREADY_EXISTS", f'A property named "{name}" already exists.')
        if group not in self.groups:
            raise Refusal(400, "VALIDATION_ERROR", f"Property group {group} does not exist.")
        if asked["fieldType"] not in FIELD_TYPES.get(kind, frozenset()):
            raise Refusal(400, "VALIDATION_ERROR", f"{asked['fieldType']} is no field type of {kind}.")
        options = tuple(str(o["value"]) for o in asked.get("options") or ())
        if kind == "bool" and set(options) != set(YES_NO):
            raise Refusal(400, "VALIDATION_ERROR", "Boolean properties must have the options true and false.")
        unique = asked.get("hasUniqueValue") is True
        if unique and sum(p.unique for p in self.properties.values()) >= MAX_UNIQUE:
            raise Refusal(400, "VALIDATION_ERROR", f"At most {MAX_UNIQUE} unique properties are allowed.")
        if self.custom >= most:
            raise Refusal(400, "VALIDATION_ERROR", f"The limit of {most} custom properties is reached.")
        made = Property(
            name,
            asked["label"],
            kind,
            asked["fieldType"],
            group,
            unique,
            options=options,
            description=str(asked.get("description", "")),
        )
        self._put(made)
        return made

    def archive(self, name: str) -> None:
        """Put a property in the bin, from which an admin can restore it; unknown names are fine."""
        found = self.properties.get(name)
        self.remove(name)
        if found:
            self.bin[name] = found

    def remove(self, name: str) -> None:
        """Delete a property for good; unknown names are fine."""
        self.properties.pop(name, None)
        self.bin.pop(name, None)
        self.exclusive -= {name} - {"email"}
        self.forward_only -= {name}

    def _put(self, made: Property) -> None:
        self.properties[made.name] = made
        if made.unique:
            self.exclusive |= {made.name}
        if made.forward_only:
            self.forward_only |= {made.name}
