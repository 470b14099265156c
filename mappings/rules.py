"""A published rule set in memory: what one transaction decides by. Immutable, read anew each time (rule 7)."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

ValueType = Literal["string", "number", "date", "datetime", "bool"]


@dataclass(frozen=True, slots=True)
class FieldMap:
    """Where a canonical field goes in one system, and the form its values take there."""

    property: str
    type: ValueType
    passive: bool = False

    def property_for(self, key: str | None) -> str:
        """Return the property's name; `key` fills the place held by `{key}`."""
        return self.property.replace("{key}", key or "")


@dataclass(frozen=True, slots=True)
class RuleSet:
    """`fields`: system -> object type -> canonical field -> its map. `read_at`: the database's now when it was read."""

    id: int
    read_at: datetime
    fields: Mapping[str, Mapping[str, Mapping[str, FieldMap]]]

    def field_maps(self, system: str, object_type: str) -> Mapping[str, FieldMap]:
        """Return the field maps of one object of one system; empty where there are none."""
        return self.fields.get(system, {}).get(object_type, {})
