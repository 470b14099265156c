"""What may happen in a story, as data that Hypothesis draws, and what the CRM must show of it in the end.

`expected` is the judge: it reads what was said plainly and knows nothing of the product. Times of a learner are all
different, so that there is one truth whatever the order of arrival.
"""

import json
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

from tests.db.memory_crm import OUTCOMES
from tests.db.world import Calamity, Place

LEARNERS, COURSES, PRODUCTS = 3, ("a", "b"), ("alpha", "beta")
ZONE = ZoneInfo("Europe/Berlin")
START = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(days=30)
"""When the first minute of all stories is; all of it lies in the past."""
EXPIRY = START + timedelta(days=30)
"""Certificates end some hours after this: in the story's future, and only by its clock."""
LAST = 9_000
"""The minute of the last event of every learner."""

Drawn = TypeVar("Drawn")

TYPES = {
    "done": "course.completed",
    "passed": "course.completed",
    "failed": "course.completed",
    "left": "enrollment.cancelled",
    "progress": "course.progressed",
    "graded": "assessment.graded",
    "issued": "certification.issued",
    "revoked": "certification.revoked",
    "expired": "certification.expired",
}
MORE: dict[str, dict[str, Any]] = {
    "passed": {"passed": True},
    "failed": {"passed": False},
    "progress": {"progress": 50},
}
OF_COURSES = ("done", "passed", "failed", "left", "progress", "graded")
REMOVABLE = ("last_course_completed", "certified_alpha", "certified_beta_until", "lms_sync_status")


class Fact(NamedTuple):
    """What one event says; `minute` is different for each event of a learner."""

    lms: str
    kind: str
    subject: str
    minute: int
    hours: int | None = None

    @property
    def at(self) -> datetime:
        """When it happened."""
        return START + timedelta(minutes=self.minute)

    @property
    def expires_at(self) -> datetime | None:
        """When the certificate ends."""
        return None if self.hours is None else EXPIRY + timedelta(hours=self.hours)

    @property
    def subject_type(self) -> str:
        """What it is about."""
        return "certification" if self.kind in ("issued", "revoked", "expired") else "course"


def body_of(fact: Fact, who: int, email: str | None) -> bytes:
    """Write the event as the LMS sends it."""
    data: dict[str, Any] = {"learner": {"lms_user_id": user_of(who, fact.lms), "email": email}}
    if fact.subject_type == "certification":
        data["certification"] = {"id": f"c-{fact.subject}", "product": fact.subject}
        if fact.expires_at and fact.kind == "issued":
            data["certification"]["expires_at"] = fact.expires_at.isoformat()
    else:
        data["course"] = {"id": fact.subject, "name": f"Course {fact.subject}"}
    data |= MORE.get(fact.kind, {})
    return json.dumps({"type": TYPES[fact.kind], "timestamp": fact.at.isoformat(), "data": data}).encode()


def user_of(who: int, lms: str) -> str:
    """Return what an LMS calls a learner."""
    return f"{lms[0]}-{who}"


def expected(facts: set[Fact], now: datetime) -> dict[str, str]:
    """Return what the contact must show, read plainly from what was said: the latest word on each subject counts."""
    latest: dict[tuple[str, str, str], Fact] = {}
    for fact in sorted(facts, key=lambda one: one.minute):
        if fact.kind not in ("progress", "graded"):
            latest[fact.lms, fact.subject_type, fact.subject] = fact
    completed = [one for one in latest.values() if one.kind in ("done", "passed")]
    last = max(completed, key=lambda one: one.minute, default=None)
    shown = {
        "courses_completed_count": str(len(completed)),
        "last_course_completed": f"Course {last.subject}" if last else "",
        "recent_course_completion_date": last.at.astimezone(ZONE).date().isoformat() if last else "",
        "lms_sync_status": "ok",
    }
    for product in {fact.subject for fact in facts if fact.subject_type == "certification"}:
        held = [
            one
            for one in latest.values()
            if one.subject_type == "certification" and one.subject == product and one.kind == "issued"
            if one.expires_at is None or one.expires_at > now
        ]
        ends = [one.expires_at for one in held if one.expires_at]
        shown[f"certified_{product}"] = "true" if held else "false"
        shown[f"certified_{product}_until"] = max(ends).astimezone(ZONE).date().isoformat() if ends else ""
    return shown


class Happening(NamedTuple):
    """Something a learner does or an LMS says; `what` is how, and decides which of the rest counts."""

    who: int
    what: str
    lms: str
    kind: str
    subject: str
    minute: int
    hours: int | None


class Trouble(NamedTuple):
    """What the CRM does from now on: the outcomes of its next calls, and one lasting mood."""

    outcomes: list[str | None]
    what: str
    who: int


class Change(NamedTuple):
    """What a person does in the CRM."""

    what: str
    who: int


class Interlude(NamedTuple):
    """What happens between two steps of a worker."""

    place: Place
    what: str
    who: int
    subject: str


def rarely(strategy: st.SearchStrategy[Drawn]) -> st.SearchStrategy[Drawn | None]:
    """Draw one time in four, or nothing."""
    return st.integers(0, 3).flatmap(lambda dice: st.none() if dice else strategy)


class Turn(NamedTuple):
    """What happens, in this order; `calamity` befalls the worker at that step of its work.

    `hears`: what becomes of what the CRM has said by then.
    """

    seconds: int
    trouble: Trouble | None
    change: Change | None
    hears: str
    events: list[Happening]
    between: Interlude | None
    work: str
    worker: int
    at: int
    calamity: Calamity | None


learners = st.integers(0, LEARNERS - 1)
lmss = st.sampled_from(["academy", "academy", "campus"])
minutes = st.integers(0, 3_000)
hours = st.sampled_from([None, 5, 30, 60, 96, -5])
ways = st.sampled_from(
    ["turns back"] * 4 + ["new"] * 3 + ["again", "again as news", "another body", "moves", "nameless"]
)
of_courses = st.tuples(st.sampled_from(OF_COURSES), st.sampled_from(COURSES), st.none())
of_certificates = st.tuples(
    st.sampled_from(["issued", "issued", "revoked", "expired"]), st.sampled_from(PRODUCTS), hours
)
happenings = st.builds(
    lambda who, how, lms, minute, about: Happening(who, how, lms, about[0], about[1], minute, about[2]),
    learners,
    ways,
    lmss,
    minutes,
    of_courses | of_certificates,
)
moods = st.sampled_from(["only that"] * 4 + ["refuses", "poison", "takes all", "tampers", "tampers", *REMOVABLE])
troubles = st.builds(Trouble, st.lists(st.none() | st.sampled_from(OUTCOMES), max_size=3), moods, learners)
changes = st.builds(
    Change,
    st.sampled_from(["edit", "edit ours", "edit ours", "merge", "merge into", "merge two", "delete or make"]),
    learners,
)
interludes = st.builds(
    Interlude,
    st.sampled_from(["translated", "projected", "called", "answered"]),
    st.sampled_from(["news", "news", "another worker", "taken for dead", "a person", "two become one"]),
    learners,
    st.sampled_from([*COURSES, *PRODUCTS]),
)
calamities: st.SearchStrategy[Calamity | None] = st.sampled_from(
    [None, None, None, "die", "die_answered", "die_answered", "answer_lost", "answer_lost", "hiccup", "lost_commit"]
)
turns = st.builds(
    Turn,
    st.sampled_from([130, 1, 20, 45, 700, 4_000, 4_000, 90_000, 90_000]),
    rarely(troubles),
    rarely(changes),
    st.sampled_from(["at once", "at once", "at once", "later", "later", "twice, backwards", "never"]),
    st.lists(happenings, min_size=1, max_size=3),
    st.none() | interludes,
    st.sampled_from(["all", "all", "all", "all", "sweep", "nothing, and the broker forgets"]),
    st.integers(0, 1),
    st.integers(1, 40),
    calamities,
)
