"""What is read of a contact to know which pathways its role deserves."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from integration.model.contacts import Fields

READ_ROLE = "contact.role"
"""The operation that reads roles and acts on them."""


class Watch(NamedTuple):
    """What counts of a CRM's contacts: the property that holds the role, all properties that rules ask about.

    `settle`: seconds that these must have been left alone before they are read. `means_something` says whether there
    are rules, of whatever day, for a contact with these properties, `is_asked` whether there are any at all.
    """

    role: str
    properties: frozenset[str]
    settle: float
    means_something: Callable[[Fields], bool]
    is_asked: bool = True


@dataclass(frozen=True, slots=True)
class Decided:
    """What became of roles that were read: where something is due because of it, and by which rule set.

    `put_off` are people whose role must settle for so many seconds more; `again` says in how many seconds the clock
    alone changes what somebody deserves.
    """

    rule_set: int
    led_to: frozenset[tuple[str, str]] = frozenset()
    put_off: Mapping[int, float] = field(default_factory=dict)
    again: Mapping[int, float] = field(default_factory=dict)
