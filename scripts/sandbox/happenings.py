"""What happens to a contact or a deal of the portal, as whoever listens is told: webhooks are made of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

__all__ = ["Announcer", "Happened", "Happening", "nobody"]

Happened = Literal["creation", "propertyChange", "deletion", "restore", "merge", "privacyDeletion", "associationChange"]


class Happening(NamedTuple):
    """One thing that happened to the record `contact_id`, of a contact or a deal as `thing` says.

    `source` is HubSpot's word for who did it. An association is with the record `other_id`, or `is_removed`.

    A merge names both records as they were, and `contact_id` is the one that goes on.
    """

    happened: Happened
    contact_id: str
    at_ms: int
    source: str
    property: str = ""
    value: str = ""
    primary_id: str = ""
    merged_ids: tuple[str, ...] = ()
    thing: Literal["contact", "deal"] = "contact"
    other_id: str = ""
    is_removed: bool = False


def nobody(_told: Happening) -> None:
    """Listen to nothing."""


@dataclass(slots=True)
class Announcer:
    """Tells the one who listens now."""

    listener: Callable[[Happening], None] = nobody

    def __call__(self, happening: Happening) -> None:
        """Tell it."""
        self.listener(happening)
