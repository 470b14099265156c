"""Who takes part and what is sent: the sandbox's story, faults for the CRM, and what each odd delivery must lead to."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
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
FIRST_LIVE, LIVE = 40, 20
AGAIN = 60
ODD = {
    "poison": Ended("dead", Reason.INVALID_EVENT),
    "unknown_type": Ended("ignored", Reason.UNKNOWN_TYPE),
    "bad_email": Ended("parked", Reason.INVALID_EMAIL),
}
WRITES = ("contacts.batch_update", "contacts.batch_upsert")
READS = ("contacts.batch_read", "contacts.get", "contacts.list")
PROMOTED, PARTNER = 12, 13
RENAMED, MISCOUNTED, ONE_HUMAN = 8, 10, (11, 21)
"""Whose first name and whose count sales changes by hand, and which two learners are one human: they share a name."""


@dataclass(frozen=True)
class Cast:
    """The story with the roles given out."""

    story: Story
    known: list[dict[str, str]]
    strangers: list[dict[str, str]]
    live: list[Learner]
    odd: Mapping[str, Ended]
    contenders: list[set[str]]

    @classmethod
    def of(cls, story: Story) -> "Cast":
        """Decide whom the CRM knows, whose completions are sent live, and how each oddity must end."""
        strangers = story.contacts[STRANGERS]
        unknown = {one["email"] for one in strangers}
        known = [one for one in story.contacts if one["email"] not in unknown]
        live = [one for one in story.learners[FIRST_LIVE:] if one.email.lower() not in unknown][:LIVE]
        odd = {story.odd[name].webhook_id: must for name, must in ODD.items()}
        first, last = story.learners[0], story.learners[-1]  # they share an e-mail
        return cls(story, known, strangers, live, odd, [_about(story, first), _about(story, last)])

    @property
    def renamed(self) -> Learner:
        """Whose first name sales knows better than the LMS."""
        return self.story.learners[RENAMED]

    @property
    def miscounted(self) -> Learner:
        """Whose number of courses sales overwrites."""
        return self.story.learners[MISCOUNTED]

    @property
    def one_human(self) -> tuple[Learner, Learner]:
        """Two learners whose contacts sales merges, the one that stays first."""
        first, second = (self.story.learners[place] for place in ONE_HUMAN)
        return first, second

    @property
    def promoted(self) -> Learner:
        """Who comes as an SDR and becomes an AE."""
        return self.story.learners[PROMOTED]

    @property
    def partner(self) -> Learner:
        """Whose certificate opens a partner's status, and closes it."""
        return self.story.learners[PARTNER]

    @property
    def webhook_ids(self) -> set[str]:
        """The ids of the story; some are sent more than once."""
        return {one.webhook_id for one in self.story.deliveries}

    @property
    def again(self) -> list[Delivery]:
        """What is sent once more when all is quiet: resends, and the same facts under new ids."""
        strange = set(self.odd).union(*self.contenders)
        plain = [one for one in self.story.deliveries if one.webhook_id not in strange][:AGAIN]
        return [*plain, *(replace(one, webhook_id=f"{one.webhook_id}_again") for one in plain[: AGAIN // 3])]

    @staticmethod
    def completion(number: int, learner: Learner) -> Delivery:
        """A completion that happens now."""
        course = COURSES[number % len(COURSES)]
        return compose("course.completed", learner, course, score=90.0 + number / 10, passed=True, attempt="live")


def _about(story: Story, learner: Learner) -> set[str]:
    about = f'"lms_user_id":"{learner.lms_user_id}"'.encode()
    return {one.webhook_id for one in story.deliveries if about in one.body}


def faults() -> list[dict[str, Any] | None]:
    """What goes wrong at the CRM, call by call: 429s, and connections cut before and after the work was done."""
    limited = fault("rate_limited", retry_after=1)
    cut_before, cut_after = fault("drop"), fault("processed_then_drop", operations=WRITES)
    fine = [None] * 4
    return [*fine, limited, *fine, cut_before, *fine, cut_after, *fine, limited]
