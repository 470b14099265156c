"""What is read of a contact to know which pathways its role deserves."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from integration.model.contacts import Fields
from integration.model.deals import AsksFor, Stay

READ_ROLE = "contact.role"
"""The operation that reads roles and acts on them."""


class Watch(NamedTuple):
    """What counts of a CRM's contacts: the property that holds the role, all properties that rules ask about.

    `settle`: seconds that these must have been left alone before they are read. `means_something` says whether there
    are rules, of whatever day, for a contact with these properties and deals, `is_asked` whether there are any at all.
    `asks_for` says whether a deal could matter; None where no rule asks for deals. `beside` are properties that rules
    fill: read in the same call, they save the look before the contact is written first.
    """

    role: str
    properties: frozenset[str]
    settle: float
    means_something: Callable[[Fields, Sequence[Stay]], bool]
    is_asked: bool = True
    asks_for: AsksFor | None = None
    beside: frozenset[str] = frozenset()


class Mark(NamedTuple):
    """What the guard says of one change of role: it waits for somebody's word, or counts as one acted on."""

    is_held: bool = False
    is_counted: bool = False


@dataclass(frozen=True, slots=True)
class Decided:
    """What became of roles that were read: where something is due because of it, and by which rule set.

    `put_off` are people whose role must settle for so many seconds more; `again` says in how many seconds the clock
    alone changes what somebody deserves. `marks` are the people about whom the guard has something to say, or had.
    """

    rule_set: int
    led_to: frozenset[tuple[str, str]] = frozenset()
    put_off: Mapping[int, float] = field(default_factory=dict)
    again: Mapping[int, float] = field(default_factory=dict)
    marks: Mapping[int, Mark] = field(default_factory=dict)

    def is_held(self, person_id: int) -> bool:
        """Return whether somebody's change of role waits for a word."""
        return self.marks.get(person_id, Mark()).is_held
