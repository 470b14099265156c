"""Which deals a role rule asks for, and when a deal counts: a pure function of where it was and of the clock.

A stage once reached stays reached, wherever the deal goes from there. It is reached by a deal that has been in it for
the rule's settle time, so that a slip of the hand reaches nothing.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from integration.model.deals import Stay
from integration.model.patterns import meets


@dataclass(frozen=True, slots=True)
class DealCondition:
    """A deal in one of these stages, by pattern; of one of these pipelines, where any are named."""

    stages: tuple[str, ...]
    pipelines: tuple[str, ...] = ()

    def is_about(self, stay: Stay) -> bool:
        """Return whether this stage of this pipeline is meant, however long the deal was there."""
        return meets(stay.stage, self.stages) and (not self.pipelines or meets(stay.pipeline, self.pipelines))

    def reached(self, stays: Iterable[Stay], settle: int, now: datetime) -> Stay | None:
        """Return the first stay that counts at `now`, None where there is none yet; `settle` in seconds."""
        needed = timedelta(seconds=settle)
        found = [one for one in stays if self.is_about(one) and (one.until or now) - one.since >= needed]
        return min(found, key=lambda one: (one.since, one.deal), default=None)

    def turns(self, stays: Iterable[Stay], settle: int) -> Iterator[datetime]:
        """Yield the moments from which on a deal counts that is in one of the stages now."""
        for one in stays:
            if one.until is None and self.is_about(one):
                yield one.since + timedelta(seconds=settle)
