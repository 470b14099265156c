"""A published rule set in memory: what one transaction decides by. Immutable, read anew each time (rule 7)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, NamedTuple

from integration.model.identity import Identity
from mappings.pathways import PathwayRules
from mappings.transforms import Step

ValueType = Literal["string", "number", "date", "datetime", "bool", "enumeration"]
Owner = Literal["lms", "crm"]
WriteRule = Literal["always", "only_if_blank", "never_clear", "max", "min", "append"]
Aggregate = Literal["count", "percent", "any", "all", "sum"]


class Scope(NamedTuple):
    """Whom rules are for: every connection of a system, or one connection alone; the other one is empty."""

    system: str = ""
    connection: str = ""

    def __str__(self) -> str:
        """Return it as a rule file says it."""
        return f"connection {self.connection}" if self.connection else f"system {self.system}"


@dataclass(frozen=True, slots=True)
class FieldRule:
    """How one property of one object is filled; `{key}` in `property` is the product or the connection.

    `of` picks one of the values that a field has for each product, connection or bucket: '' = all of them. `aggregate`
    is what a rule of accounts makes of its people, '' for contacts; `counted` are the texts that count, where not any.
    """

    name: str
    source: str
    property: str
    type: ValueType
    transform: tuple[Step, ...] = ()
    owner: Owner = "lms"
    rule: WriteRule = "always"
    required: bool = False
    passive: bool = False
    of: str = ""
    aggregate: Aggregate | Literal[""] = ""
    counted: tuple[str, ...] = ()

    def filled_from(self) -> str:
        """Return what the property is filled from, in words."""
        said = f"{self.source} of {self.of}" if self.of else self.source
        said += f" is {' or '.join(self.counted)}" if self.counted else ""
        return f"{self.aggregate} of people: {said}" if self.aggregate else said

    def property_for(self, key: str | None) -> str:
        """Return the property's name; `key` fills the place held by `{key}`."""
        return self.property.replace("{key}", key or "")


FieldRules = Sequence[FieldRule]
Fields = Mapping[Scope, Mapping[str, FieldRules]]
"""Scope -> object type -> rules."""


@dataclass(frozen=True, slots=True)
class RuleSet:
    """All policy. `id` is 0 for one that is in no table; `read_at`: the database's now when it was read.

    `where` says in which file and line a rule stands, by scope, object and name; empty for rules from no file.
    """

    id: int
    read_at: datetime
    fields: Fields
    identity: Identity = field(default_factory=dict)
    pathways: PathwayRules = field(default_factory=PathwayRules)
    where: Mapping[tuple[Scope, str, str], str] = field(default_factory=dict, compare=False)

    def field_rules(self, connection: str, system: str, object_type: str) -> FieldRules:
        """Return the rules for one object of one connection: its own where there are any, else its system's."""
        own = self.fields.get(Scope(connection=connection), {})
        return own.get(object_type) or self.fields.get(Scope(system=system), {}).get(object_type, ())

    def each(self) -> Iterator[tuple[Scope, str, FieldRule]]:
        """Return every field rule with its scope and object type."""
        for scope, objects in self.fields.items():
            for object_type, rules in objects.items():
                for rule in rules:
                    yield scope, object_type, rule
