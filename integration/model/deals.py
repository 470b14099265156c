"""What a CRM says of its deals, and what is kept of it: the stages that they have been in, and whose they are."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple

from integration.model.events import Frozen

DEAL = "deal"
"""The object type of a deal in sync state."""

READ_DEAL = "deal.read"
"""The operation that reads deals and tells whom it concerns."""


class DealHint(Frozen):
    """Something is said to have happened to the deal `deal_id`; the deal is read again, and nothing else is believed.

    `occurred_at` is the CRM's word.
    """

    version: Literal[1] = 1
    deal_id: str
    occurred_at: datetime


class Stay(NamedTuple):
    """A deal in one stage of a pipeline, as the CRM calls them, from `since` on; `until` None = it is there now."""

    deal: str
    pipeline: str
    stage: str
    since: datetime
    until: datetime | None


@dataclass(frozen=True, slots=True)
class RemoteDeal:
    """A deal as the CRM has it: everywhere that it was, in order, and the ids of its contacts."""

    id: str
    stays: tuple[Stay, ...]
    contacts: frozenset[str]


AsksFor = Callable[[Sequence[Stay]], bool]
"""Say whether any rule, of whatever day, could mean a contact because of these."""
