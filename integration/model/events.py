"""Canonical learning events: what every LMS connector translates to.

Frozen and versioned. Score, passed, progress and completion are separate facts: none is derived from another.
"""

from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Kind(StrEnum):
    """What an inbox row is about; each has a task `<kind>.sync`."""

    ENROLLMENT = "enrollment"
    COMPLETION = "completion"
    ROLE_CHANGE = "role_change"
    CONTACT = "contact"
    EMPLOYEE = "employee"


class EventType(StrEnum):
    """The types of architecture section 8, in the order that breaks ties between equal times."""

    ENROLLMENT_CREATED = "enrollment.created"
    COURSE_PROGRESSED = "course.progressed"
    ASSESSMENT_GRADED = "assessment.graded"
    COURSE_COMPLETED = "course.completed"
    CERTIFICATION_ISSUED = "certification.issued"
    CERTIFICATION_EXPIRED = "certification.expired"
    CERTIFICATION_REVOKED = "certification.revoked"
    ENROLLMENT_CANCELLED = "enrollment.cancelled"

    @property
    def rank(self) -> int:
        """The place in the order above: the later one wins where two facts share a time."""
        return _RANKS[self]

    @property
    def kind(self) -> Kind:
        """The task that takes events of this type."""
        return Kind.ENROLLMENT if self.value.startswith("enrollment.") else Kind.COMPLETION

    @property
    def flow(self) -> Literal["enrollment", "completion", "progress"]:
        """The flow of a route that carries events of this type."""
        return _FLOWS[self]


_RANKS = {member: place for place, member in enumerate(EventType)}
_FLOWS: dict[EventType, Literal["enrollment", "completion", "progress"]] = {
    **{member: "enrollment" if member.kind is Kind.ENROLLMENT else "completion" for member in EventType},
    EventType.COURSE_PROGRESSED: "progress",
}


class Frozen(BaseModel):
    """What was said once and does not change."""

    model_config = ConfigDict(frozen=True)


class Learner(Frozen):
    """Who learned, as the LMS knows them. Personal: kept sealed, never logged."""

    lms_user_id: str | None = None
    email: str | None = None
    full_name: str | None = None
    employee_id: str | None = None


class Subject(Frozen):
    """What was learned: a course, a module, an assessment or a certification."""

    type: Literal["course", "module", "assessment", "certification"]
    id: str
    name: str | None = None


class LearningEvent(Frozen):
    """One thing that happened to one learner. `score` and `score_max` as given, `progress` in percent."""

    version: Literal[1] = 1
    type: EventType
    occurred_at: datetime
    learner: Learner
    subject: Subject
    course: Subject | None = None
    module: Subject | None = None
    course_version: str | None = None
    product: str | None = None
    score: float | None = None
    score_max: float | None = None
    passed: bool | None = None
    progress: float | None = Field(None, ge=0, le=100)
    attempt: str | None = None
    expires_at: datetime | None = None

    def fact_key(self, connection: str, learner: str) -> bytes:
        """Return the 16-byte key of the fact: no time in it, so webhook, poll and file agree (rule 8)."""
        return _digest(connection, self.type.value, learner, self.subject.type, self.subject.id, self.attempt or "")

    def content_hash(self) -> bytes:
        """Return 16 bytes over everything the fact says; another content is another revision."""
        said = self.__pydantic_serializer__.to_json(self, exclude=_NOT_SAID)  # `model_dump_json` takes twice as long
        return sha256(said).digest()[:16]


_NOT_SAID = {"learner"}

FUTURE_TOLERANCE = timedelta(minutes=5)
"""How far a sender's clock may be ahead before its word on the time is not taken; signatures allow as much."""


def believable(occurred_at: datetime, received_at: datetime) -> datetime:
    """Return when something happened: a time in the future counts from its arrival (rule 6)."""
    return occurred_at if occurred_at <= received_at + FUTURE_TOLERANCE else received_at


def _digest(*parts: str) -> bytes:
    return sha256("\0".join(parts).encode()).digest()[:16]
