"""A demo academy over a year and a bit: what 200 learners did, and how messily the LMS reported it.

Seeded: the same seed and moment give the same story to the byte. Business times are all in the past and, for
one learner, all different; the order of arrival has nothing to do with them.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from scripts.sandbox.catalogue import CERTIFICATIONS, COURSES, Certification, Course
from scripts.sandbox.deliveries import Delivery, Details, Item, Learner, compose

__all__ = ["Story", "tell"]

FIRST_NAMES = ("Ada", "Alan", "Barbara", "Carl", "Dorothy", "Edsger", "Frances", "Grace", "Hedy", "Linus")
LAST_NAMES = ("Abel", "Byron", "Curie", "Dijkstra", "Euler", "Gauss", "Hopper", "Ito", "Kay", "Noether")
COMPANIES = ("north", "harbour", "meridian", "quarry", "tallgrass")
RESENT, TWICE_REPORTED = 0.09, 0.05
DETOURS = ("straight", "straight", "straight", "failed", "failed_then_passed", "retaken", "unlearnt", "left")
CERTIFICATE_LIVES = ("open", "valid", "valid", "lapsed", "revoked", "expired", "renewed")


@dataclass(slots=True)
class Story:
    """Who took part, what is sent in which order, and which deliveries are the odd ones."""

    learners: list[Learner]
    deliveries: list[Delivery]
    contacts: list[dict[str, str]]
    odd: dict[str, Delivery] = field(default_factory=dict)


def tell(seed: int = 7, now: datetime | None = None, learners: int = 200, first: int = 0) -> Story:
    """Write the story as seen at `now` (default: this minute); `first` numbers the learners of a further story."""
    moment = now or datetime.now(UTC).replace(second=0, microsecond=0)
    dice = random.Random(seed)
    people = [_learner(n, dice) for n in range(first, first + learners)]
    namesake = Learner(f"u-{first + max(9000, learners) + 1}", people[0].email, "Another Person")
    told: list[Delivery] = []
    for person in [*people, namesake]:
        told += _Chapter(person, dice, moment).deliveries()
    odd = _oddities(people, moment, f"u-{first + max(9000, learners) + 2}")
    told = [replace(one, webhook_id=f"msg_{seed}_{n:05d}") for n, one in enumerate(told)]
    odd = {name: replace(one, webhook_id=f"msg_{seed}_{name}") for name, one in odd.items()}
    again = [one for one in told if dice.random() < RESENT]
    twice = [replace(one, webhook_id=f"{one.webhook_id}_bis") for one in told if dice.random() < TWICE_REPORTED]
    sent = [*told, *again, *twice, *odd.values()]
    dice.shuffle(sent)
    contacts = [_contact(one, dice) for one in people]
    return Story([*people, namesake], sent, contacts, odd)


class _Chapter:
    """The story of one learner, each event at a second of its own."""

    def __init__(self, learner: Learner, dice: random.Random, now: datetime) -> None:
        self._learner = learner
        self._dice = dice
        self._now = now
        self._taken: set[datetime] = set()
        self._clock = now
        self._stride = timedelta()

    def deliveries(self) -> list[Delivery]:
        """Everything that happened to this learner."""
        told: list[Delivery] = []
        for course in self._dice.sample(COURSES, self._dice.randint(1, 3)):
            self._begin()
            told += self._course(course, self._dice.choice(DETOURS))
        if self._dice.random() < 0.4:
            self._begin()
            told += self._certificate(self._dice.choice(CERTIFICATIONS), self._dice.choice(CERTIFICATE_LIVES))
        return told

    def _begin(self) -> None:
        recent = self._dice.random() < 0.25
        days = self._dice.uniform(1, 4) if recent else self._dice.uniform(30, 400)
        self._clock = (self._now - timedelta(days=days)).replace(microsecond=0)
        self._stride = timedelta(hours=1 if recent else 40)

    def _say(self, event_type: str, course: Course | None = None, **details: object) -> Delivery:
        self._clock += timedelta(seconds=int(self._stride.total_seconds() * self._dice.uniform(0.05, 1)))
        while self._clock in self._taken:
            self._clock += timedelta(seconds=1)
        self._taken.add(self._clock)
        known: Details = {"occurred_at": self._clock, **details}  # type: ignore[typeddict-item]
        return compose(event_type, self._learner, course, **known)

    def _course(self, course: Course, detour: str) -> Iterator[Delivery]:
        enrollment = f"e-{self._learner.lms_user_id}-{course.id}"
        yield self._say("enrollment.created", course, enrollment_id=enrollment)
        for progress in sorted(self._dice.sample(range(5, 100, 5), self._dice.randint(0, 2))):
            module = Item(f"{course.id}-m{progress}", f"Module at {progress} %")
            yield self._say("course.progressed", course, progress=progress, module=module)
        if detour == "left":
            yield self._say("enrollment.cancelled", course, enrollment_id=enrollment)
            return
        counted = self._dice.random() < 0.7
        yield from self._exam(course, 1, passed=not detour.startswith("failed"), counted=counted)
        if detour in ("failed_then_passed", "retaken"):
            yield from self._exam(course, 2, passed=True, counted=counted)
        if detour == "unlearnt":
            if self._dice.random() < 0.5:
                yield from self._exam(course, 2, passed=False, counted=counted)
            else:
                yield self._say("enrollment.cancelled", course, enrollment_id=enrollment)

    def _exam(self, course: Course, attempt: int, *, passed: bool, counted: bool) -> Iterator[Delivery]:
        """An assessment and the completion it leads to; `counted` LMSs name the attempt, others do not."""
        score = round(self._dice.uniform(70, 100) if passed else self._dice.uniform(10, 69), 1)
        details: dict[str, object] = {"score": score, "score_max": 100.0}
        if counted:
            details["attempt"] = str(attempt)
        exam = Item(f"{course.id}-exam", f"{course.name}: exam")
        yield self._say("assessment.graded", course, assessment=exam, passed=passed, **details)
        if not passed or self._dice.random() < 0.75:
            details["passed"] = passed
        yield self._say("course.completed", course, **details)

    def _certificate(self, certification: Certification, life: str) -> Iterator[Delivery]:
        lapsed = (self._clock + (self._now - self._clock) * 0.6).replace(microsecond=0)
        ahead = (self._now + timedelta(days=self._dice.randint(60, 700))).replace(microsecond=0)
        if life in ("open", "expired"):
            yield self._say("certification.issued", certification=certification)
        else:
            first = lapsed if life in ("lapsed", "renewed") else ahead
            yield self._say("certification.issued", certification=certification, expires_at=first)
        if life == "revoked":
            yield self._say("certification.revoked", certification=certification)
        if life in ("expired", "renewed"):
            yield self._say("certification.expired", certification=certification)
        if life == "renewed":
            yield self._say("certification.issued", certification=certification, expires_at=ahead)


def _learner(number: int, dice: random.Random) -> Learner:
    first, last = FIRST_NAMES[number % len(FIRST_NAMES)], dice.choice(LAST_NAMES)
    email = f"{first}.{last}.{number}@{dice.choice(COMPANIES)}.example"
    return Learner(f"u-{number + 1}", email if dice.random() < 0.1 else email.lower(), f"{first} {last}")


def _contact(learner: Learner, dice: random.Random) -> dict[str, str]:
    first, last = learner.full_name.split(" ", 1)
    company = learner.email.split("@")[1].split(".")[0].capitalize()
    stage = dice.choice(("lead", "opportunity", "customer"))
    return {
        "email": learner.email.lower(),
        "firstname": first,
        "lastname": last,
        "company": company,
        "lifecyclestage": stage,
    }


def _oddities(people: list[Learner], now: datetime, stranger_id: str) -> dict[str, Delivery]:
    """The deliveries that must end in a reason, not in a field."""
    yesterday = now - timedelta(days=1)
    stranger = Learner(stranger_id, "not-an-email", "No Address")
    hostile = Course("demo-101\0'; --", "Poison")
    return {
        "bad_email": compose("course.completed", stranger, COURSES[1], occurred_at=yesterday, passed=True),
        "poison": compose("course.completed", people[1], hostile, occurred_at=yesterday, passed=True),
        "unknown_type": compose("badge.awarded", people[2], COURSES[0], occurred_at=yesterday),
    }
