"""What a comparison of a CRM with the truth finds: a class for each contact, and what differs."""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

RECONCILE_CONTACTS = "contact.reconcile"
"""The operation that reads a CRM's contacts to compare them."""


class Class(StrEnum):
    """How a contact compares. The first five are counted and no more; the others are listed as findings."""

    EQUAL = "equal"  # it holds what it should
    PENDING = "pending"  # a change is on its way to it, or came after it was read
    HELD = "held"  # parked or dead: a person is to decide, and is told so elsewhere
    FOREIGN = "foreign"  # nobody of ours, and nothing of ours on it
    EXCLUDED = "excluded"  # somebody of ours about whom nothing is to be written
    THEIRS = "theirs"  # it differs where the CRM's word counts
    DRIFTED = "drifted"  # it differs where ours counts: written again
    MISSING = "missing"  # it is not there any more
    MERGED = "merged"  # it is in another contact now, and no webhook said so: the other one is written from now on
    UNLINKED = "unlinked"  # it is somebody's whom we know without a contact: they are looked for
    DUPLICATE = "duplicate"  # it stands for somebody who has another contact
    ORPHAN = "orphan"  # it says it was written by us, and is nobody's
    UNREADABLE = "unreadable"  # no master key opens what we know of the person


FINDINGS = frozenset(
    {
        Class.THEIRS,
        Class.DRIFTED,
        Class.MISSING,
        Class.MERGED,
        Class.UNLINKED,
        Class.DUPLICATE,
        Class.ORPHAN,
        Class.UNREADABLE,
    }
)
"""What a report lists one by one; the rest is counted."""

DRIFT = (Class.DRIFTED, Class.MISSING, Class.MERGED, Class.UNLINKED)
"""What a run repairs: contacts that are not as they should be where our word counts."""


class Difference(NamedTuple):
    """One property: what the contact held when it was read, and what it should hold. Personal."""

    there: str
    wanted: str


class Finding(NamedTuple):
    """One contact that is not as it should be; `differences` by property. `person_id` None = nobody of ours."""

    kind: Class
    contact_id: str
    person_id: int | None = None
    differences: Mapping[str, Difference] = {}
    repairs: bool = False
