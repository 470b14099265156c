"""What is said of the company of a contact: the words that storage, delivery and rules share."""

from collections.abc import Mapping
from typing import NamedTuple

ACCOUNT = "account"
"""The object type of an account, the company that a CRM keeps a contact under, in sync state and rules."""

WRITE_ACCOUNT = "account.upsert"
"""The operation that brings an account in step with its people. Accounts are never created."""

Shown = Mapping[str, str]
"""What one person adds to their account: what is counted -> its value as text. Nothing personal is among it."""


class Tally(NamedTuple):
    """How many `people` an account has, and of each thing that is counted how many have which value.

    `ever`: what anybody in the account was ever known to have a value of.
    """

    people: int
    values: Mapping[str, Mapping[str, int]]
    ever: frozenset[str]


class Joined(NamedTuple):
    """What was seen of one person: the CRM's id of their account, and what they add to it.

    `account`: '' = they have none, None = nobody looked. `shows` None: they are not counted.
    """

    person_id: int
    account: str | None
    shows: Shown | None
