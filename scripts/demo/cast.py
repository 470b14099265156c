"""Who takes part and what is sent: the sandbox's story, faults for the CRM, and what each odd delivery must lead to."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from integration.errors import Reason
from scripts.demo.ledger import Ended
from scripts.sandbox.catalogue import COURSES
from scripts.sandbox.deliveries import Delivery, Learner, compose
from scripts.sandbox.faults import fault
from scripts.sandbox.story import Story

__all__ = ["Cast", "faults"]

STRANGERS = slice(7, None, 16)
"""Learners whom the CRM does not know, so that Coursewire creates them."""
LIVE = range(40, 60)
AGAIN = 60
ODD = {
    "poison": Ended("dead", Reason.INVALID_EVENT),
    "unknown_type": Ended("ignored", Reason.UNKNOWN_TYPE),
    "bad_email": Ended("parked", Reason.INVALID_EMAIL),
}
WRITES = ("contacts.batch_update", "contacts.batch_upsert")


@dataclass(frozen=True)
class Cast:
    """The story with the roles given out."""

    story: Story
    known: list[dict[str, str]]
    strangers: list[dict[str, str]]
    live: list[Learner]
    odd: Mapping[str, tuple[str, Ended]] = field(default_factory=dict)

    @classmethod
    def of(cls, story: Story) -> "Cast":
        """Decide whom the CRM knows, whose completions are sent live, and how each oddity must end."""
        strangers = story.contacts[STRANGERS]
        unknown = {one["email"] for one in strangers}
        known = [one for one in story.contacts if one["email"] not in unknown]
        live = [one for n, one in enumerate(story.learners) if n in LIVE and one.email.lower() not in unknown]
        odd = {name: (story.odd[name].webhook_id, must) for name, must in ODD.items()}
        return cls(story, known, strangers, live, odd)

    @property
    def again(self) -> list[Delivery]:
        """Deliveries that are sent once more when all is quiet."""
        return [one for one in self.story.deliveries if one.webhook_id not in self._odd_ids][:AGAIN]

    @property
    def _odd_ids(self) -> set[str]:
        return {webhook_id for webhook_id, _ in self.odd.values()}

    @staticmethod
    def completion(number: int, learner: Learner) -> Delivery:
        """A completion that happens now."""
        course = COURSES[number % len(COURSES)]
        return compose("course.completed", learner, course, score=90.0 + number / 10, passed=True, attempt="live")


def faults() -> list[dict[str, Any] | None]:
    """What goes wrong at the CRM, call by call: 429s, and connections cut before and after the work was done."""
    limited = fault("rate_limited", retry_after=1)
    cut = fault("drop")
    cut_after_write = fault("processed_then_drop", operations=WRITES)
    fine = None
    return [*[fine] * 4, limited, *[fine] * 4, cut, fine, fine, cut_after_write, *[fine] * 3, limited, fine, cut_after_write]
