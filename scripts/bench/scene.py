"""Who completes what in one measurement, and what each contact must show afterwards: from a few numbers and a seed.

Both ends compose a scene from the same numbers: the load generator to send it, the judge to know the truth.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from scripts.sandbox.catalogue import Course
from scripts.sandbox.deliveries import Delivery, Learner, compose
from scripts.sandbox.lms import sign
from scripts.sandbox.truth import Properties, expected_contacts

__all__ = ["ACADEMY", "TIMEZONE", "Scene", "request_of", "seeds_of", "truth_of", "truth_of_deliveries"]

ACADEMY, TIMEZONE = "academy", "Europe/Berlin"


@dataclass(frozen=True, slots=True)
class Scene:
    """`events` completions, dealt out evenly over `people`, in an order that the seed shuffles.

    `name` keeps scenes apart. `at` is the time of the last completion, in seconds since 1970; the others lie a second
    apart before it. `version` tells a second round about the same people from the first.
    """

    name: str
    people: int
    events: int
    seed: int
    at: float
    version: int = 1

    def learner(self, number: int) -> Learner:
        """One of the people, as the LMS knows them."""
        name = f"{self.name}-{number}"
        return Learner(name, f"{name}@example.com", f"Learner {number}")

    def emails(self) -> list[str]:
        """The e-mail of everybody, in order."""
        return [self.learner(number).email for number in range(self.people)]

    def deliveries(self) -> list[Delivery]:
        """The webhooks, in the order in which they are to be sent."""
        last = datetime.fromtimestamp(self.at, UTC)
        made = []
        for number in range(self.events):
            rank = (self.version - 1) * (self.events // self.people + 1) + number // self.people
            course = Course(f"c-{rank}", f"Course {rank}", "1")
            made.append(
                compose(
                    "course.completed",
                    self.learner(number % self.people),
                    course,
                    score=92.5,
                    passed=True,
                    occurred_at=last - timedelta(seconds=self.events - number),
                    webhook_id=f"msg_{self.name}_{self.version}_{number}",
                )
            )
        random.Random(self.seed).shuffle(made)
        return made

    def addressed(self) -> list[str]:
        """The e-mail each webhook is about, in the order in which they are sent."""
        about = [self.learner(number % self.people).email for number in range(self.events)]
        random.Random(self.seed).shuffle(about)
        return about


def truth_of(*scenes: Scene) -> dict[str, Properties]:
    """What each contact must show, by e-mail, once these scenes are in."""
    return truth_of_deliveries(one for scene in scenes for one in scene.deliveries())


def truth_of_deliveries(deliveries: Iterable[Delivery]) -> dict[str, Properties]:
    """What each contact must show, by e-mail, once these webhooks are in."""
    return expected_contacts(deliveries, ACADEMY, TIMEZONE, datetime.now(UTC))


def request_of(delivery: Delivery, path: str, secret: str, now: int) -> bytes:
    """The whole HTTP request of a webhook, signed at `now` (seconds since 1970)."""
    head = (
        f"POST {path} HTTP/1.1",
        "host: 127.0.0.1",
        "content-type: application/json",
        f"content-length: {len(delivery.body)}",
        f"webhook-id: {delivery.webhook_id}",
        f"webhook-timestamp: {now}",
        f"webhook-signature: {sign(secret, delivery.webhook_id, now, delivery.body)}",
    )
    return "\r\n".join((*head, "", "")).encode("ascii") + delivery.body


def seeds_of(scenes: Iterable[Scene]) -> list[dict[str, str]]:
    """The people of these scenes as contacts that a CRM has always known."""
    return [{"email": email} for email in dict.fromkeys(e for scene in scenes for e in scene.emails())]
