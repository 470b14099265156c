"""From a Canvas live event to the canonical one. Who acted (`metadata.user_*`) is not who learned (in `body`).

Source of all field names: canvas-lms, doc/api/data_services/json/canvas/event-types.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, Literal, NoReturn

from integration.connectors.lms.canvas_values import (
    LIVE,
    LOST,
    home_of,
    local_id,
    moment_of,
    number_of,
    part_of,
    text_of,
)
from integration.errors import Ignored, Reason, Rejected
from integration.model.events import EventType, Learner, LearningEvent, Subject

_SHOWN: Final = 64
_PASSED: Final = MappingProxyType({"complete": True, "pass": True, "incomplete": False, "fail": False})


@dataclass(frozen=True, slots=True)
class LiveEvent:
    """One live event: its name, its two halves, and the shard that its local ids belong to."""

    name: str
    metadata: Mapping[str, Any]
    body: Mapping[str, Any]
    home: int | None

    def id(self, value: object, place: str) -> str | None:
        """Return an id of the event in the form that local and global ids share."""
        return local_id(value, self.home, place)

    def moment(self, *candidates: tuple[object, str]) -> datetime:
        """Return the first of these times that is there, else when Canvas sent the event."""
        for value, place in (*candidates, (self.metadata.get("event_time"), "metadata.event_time")):
            if found := moment_of(value, place):
                return found
        raise Rejected(Reason.MISSING_FIELD, "metadata.event_time is missing")

    def subject(
        self, kind: Literal["course", "assessment"], value: object, place: str, name: str | None = None
    ) -> Subject:
        """Return what was learned. Raises Rejected where its id is missing."""
        return Subject(type=kind, id=self._needed(value, place), name=name)

    def learner(self, value: object, place: str, **known: str | None) -> Learner:
        """Return who learned. Raises Rejected where their id is missing."""
        return Learner(lms_user_id=self._needed(value, place), **known)

    def course_around(self) -> Subject | None:
        """Return the course that an event without one of its own happened in."""
        if self.metadata.get("context_type") != "Course":
            return None
        found = self.id(self.metadata.get("context_id"), "metadata.context_id")
        return Subject(type="course", id=found) if found else None

    def _needed(self, value: object, place: str) -> str:
        found = self.id(value, place)
        if found is None:
            raise Rejected(Reason.MISSING_FIELD, f"{place} is missing")
        return found


def event_from(envelope: Mapping[str, Any], root_account_uuid: str | None) -> LearningEvent:
    """Return the canonical event of one live event in the Canvas format.

    `root_account_uuid` is the account whose events count, None = any. Raises Ignored (UNKNOWN_TYPE, OTHER_ACCOUNT,
    NOTHING_LEARNED) or Rejected (MISSING_FIELD, INVALID_EVENT).
    """
    if "dataVersion" in envelope and isinstance(envelope.get("data"), list):
        raise Ignored(Reason.UNKNOWN_TYPE, "Caliper format; choose the format Canvas in the subscription")
    metadata = part_of(envelope, "metadata", "metadata")
    name = metadata.get("event_name")
    if name is None:
        raise Rejected(Reason.MISSING_FIELD, "metadata.event_name is missing")
    if not isinstance(name, str):
        raise Rejected(Reason.INVALID_EVENT, "metadata.event_name: must be text")
    if root_account_uuid is not None and metadata.get("root_account_uuid") != root_account_uuid:
        raise Ignored(Reason.OTHER_ACCOUNT, "root_account_uuid is not options.root_account_uuid of this connection")
    translate = _TAKEN.get(name)
    if translate is None:
        raise Ignored(Reason.UNKNOWN_TYPE, "".join(filter(str.isprintable, name))[:_SHOWN])
    body = part_of(envelope, "body", "body")
    return translate(LiveEvent(name, metadata, body, home_of(metadata.get("root_account_id"))))


def as_listed(name: str, body: Mapping[str, Any]) -> LearningEvent:
    """Return the canonical event of what the REST API lists, in the words of the live event `name`.

    Ids in REST are local, or global for another shard. Raises Ignored or Rejected as `event_from`.
    """
    return _TAKEN[name](LiveEvent(name, {}, body, home=0))


def _enrollment(event: LiveEvent) -> LearningEvent:
    """Only deleted and declined enrolments are lost: a concluded or deactivated one keeps what was learned."""
    body = event.body
    role, state = text_of(body.get("type"), "body.type"), text_of(body.get("workflow_state"), "body.workflow_state")
    if role is None or state is None:
        raise Rejected(Reason.MISSING_FIELD, f"body.{'workflow_state' if role else 'type'} is missing")
    if role != "StudentEnrollment":
        _nothing("the enrolment is not a student's")
    if state not in (*LIVE, *LOST):
        _nothing("the enrolment ended and its record is kept (concluded or inactive)")
    changed = (body.get("updated_at"), "body.updated_at")
    created = (body.get("created_at"), "body.created_at")
    course = event.subject("course", body.get("course_id"), "body.course_id")
    return LearningEvent(
        type=EventType.ENROLLMENT_CREATED if state in LIVE else EventType.ENROLLMENT_CANCELLED,
        occurred_at=event.moment(*((created, changed) if event.name == "enrollment_created" else (changed,))),
        learner=event.learner(
            body.get("user_id"), "body.user_id", full_name=text_of(body.get("user_name"), "body.user_name")
        ),
        subject=course,
        course=course,
        attempt=event.id(body.get("enrollment_id"), "body.enrollment_id"),
    )


def _course(event: LiveEvent) -> LearningEvent:
    user = part_of(event.body, "user", "body.user")
    course = part_of(event.body, "course", "body.course")
    progress = part_of(event.body, "progress", "body.progress")
    name = text_of(course.get("name"), "body.course.name")
    subject = event.subject("course", course.get("id"), "body.course.id", name)
    is_completed = event.name == "course_completed"
    return LearningEvent(
        type=EventType.COURSE_COMPLETED if is_completed else EventType.COURSE_PROGRESSED,
        occurred_at=event.moment((progress.get("completed_at"), "body.progress.completed_at")),
        learner=event.learner(
            user.get("id"),
            "body.user.id",
            email=text_of(user.get("email"), "body.user.email"),
            full_name=text_of(user.get("name"), "body.user.name"),
        ),
        subject=subject,
        course=subject,
        progress=_percent(progress),
    )


def _percent(progress: Mapping[str, Any]) -> float | None:
    """Return how much of the course's requirements is done; None where it has none."""
    done = number_of(progress.get("requirement_completed_count"), "body.progress.requirement_completed_count")
    of = number_of(progress.get("requirement_count"), "body.progress.requirement_count")
    if done is None or of is None or of <= 0 or done < 0:
        return None
    return min(100.0, round(100 * done / of, 2))


def _grade(event: LiveEvent) -> LearningEvent:
    """A grade that students may not see yet, or that is not final, goes nowhere."""
    body = event.body
    if body.get("muted") in (True, "true"):
        _nothing("the grade is muted: its students may not see it yet")
    if body.get("grading_complete") in (False, "false"):
        _nothing("the grade is provisional: grading is not complete")
    who = "user_id" if body.get("user_id") is not None else "student_id"
    grade = body.get("grade")
    return LearningEvent(
        type=EventType.ASSESSMENT_GRADED,
        occurred_at=event.moment(),
        learner=event.learner(
            body.get(who),
            f"body.{who}",
            employee_id=text_of(body.get("student_sis_id"), "body.student_sis_id", longest=255),
        ),
        subject=event.subject("assessment", body.get("assignment_id"), "body.assignment_id"),
        course=event.course_around(),
        score=number_of(body.get("score"), "body.score"),
        score_max=number_of(body.get("points_possible"), "body.points_possible"),
        passed=_PASSED.get(grade) if isinstance(grade, str) else None,
    )


def _quiz(event: LiveEvent) -> LearningEvent:
    """The body names no learner. Only where a student acted is the actor the learner; the score comes as a grade."""
    if event.metadata.get("context_role") != "StudentEnrollment" or event.metadata.get("user_id") is None:
        _nothing("the event does not say whose quiz it is: no student sent it in")
    return LearningEvent(
        type=EventType.ASSESSMENT_GRADED,
        occurred_at=event.moment(),
        learner=event.learner(event.metadata.get("user_id"), "metadata.user_id"),
        subject=event.subject("assessment", event.body.get("quiz_id"), "body.quiz_id"),
        course=event.course_around(),
        attempt=event.id(event.body.get("submission_id"), "body.submission_id"),
    )


def _nothing(why: str) -> NoReturn:
    raise Ignored(Reason.NOTHING_LEARNED, why)


_TAKEN: Final[Mapping[str, Callable[[LiveEvent], LearningEvent]]] = MappingProxyType(
    {
        "enrollment_created": _enrollment,
        "enrollment_updated": _enrollment,
        "course_completed": _course,
        "course_progress": _course,
        "grade_change": _grade,
        "quiz_submitted": _quiz,
    }
)
