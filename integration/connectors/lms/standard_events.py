"""From the JSON of `system: standard` to canonical events: lenient about form, strict about meaning.

Numbers may come as text and ids as numbers, because many senders cannot help it. Nothing is invented: a field that
is absent stays empty, and a value that is wrong rejects the event.
"""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict

from integration.errors import Reason, Rejected
from integration.model.events import EventType, Learner, LearningEvent, Subject

_ABOUT = {"assessment": "assessment", "certification": "certification"}
_ID_LENGTH = 255
_NAME_LENGTH = 500
_EXACT = 2**53
_WHOLE = 100
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?", re.ASCII)
_UNHOLDABLE = re.compile("[\0\ud800-\udfff]")
_ZONE = re.compile(r"[Zz]|[+-]\d\d:\d\d", re.ASCII)


def _text(value: object) -> str | None:
    """Return trimmed text or None for nothing; raises ValueError for what Postgres or UTF-8 cannot hold."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError("must be text")  # noqa: TRY004 - pydantic collects ValueError
    if _UNHOLDABLE.search(value):
        raise ValueError("holds a character that text cannot have")
    return value.strip() or None


def _label(value: object) -> str | None:
    """Return text, or a whole number as text."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        return str(int(value))
    return _text(value)


def _id(value: object) -> str | None:
    found = _label(value)
    if found is not None and len(found) > _ID_LENGTH:
        raise ValueError(f"is longer than {_ID_LENGTH} characters")
    return found


def _name(value: object) -> str | None:
    found = _label(value)
    return found[:_NAME_LENGTH] if found is not None else None


def _number(value: object) -> float | None:
    if isinstance(value, str):
        text = value.strip()
        if not text:
            return None
        value = float(text) if _NUMBER.fullmatch(text) else None
    elif value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < float("inf"):
        raise ValueError("must be a number")
    return float(value)


def _percent(value: object) -> float | None:
    found = _number(value)
    if found is not None and not 0 <= found <= _WHOLE:
        raise ValueError("must be between 0 and 100")
    return found


def _truth(value: object) -> bool | None:
    if isinstance(value, str):
        value = {"true": True, "false": False, "": None}.get(value.strip(), value)
    if value is None or isinstance(value, bool):
        return value
    raise ValueError("must be true or false")


def _moment(value: object) -> datetime | None:
    """Return the time in UTC; a time without a zone would be a guess of up to a day."""
    text = _text(value) if not isinstance(value, int | float) else ""
    if text is None:
        return None
    start = _TIME.match(text)
    if start is None:
        raise ValueError("must be a time such as 2026-11-21T10:00:00Z")
    if start.end() == len(text):
        raise ValueError("has no time zone; write Z or an offset such as +01:00 behind it")
    if not _ZONE.fullmatch(text, start.end()):
        raise ValueError("must end with Z or an offset such as +01:00")
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("is not a time that exists") from None


_Id = Annotated[str | None, BeforeValidator(_id)]
_Name = Annotated[str | None, BeforeValidator(_name)]
_Text = Annotated[str | None, BeforeValidator(_text)]
_Number = Annotated[float | None, BeforeValidator(_number)]
_Percent = Annotated[float | None, BeforeValidator(_percent)]
_Moment = Annotated[datetime | None, BeforeValidator(_moment)]
_Truth = Annotated[bool | None, BeforeValidator(_truth)]


class _Input(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)


class _LearnerIn(_Input):
    lms_user_id: _Id = None
    email: _Text = None
    full_name: _Name = None
    employee_id: _Id = None


class _ThingIn(_Input):
    id: _Id = None
    name: _Name = None


class _CourseIn(_ThingIn):
    version: _Id = None


class _CertificationIn(_ThingIn):
    product: _Id = None
    expires_at: _Moment = None


class _DataIn(_Input):
    learner: _LearnerIn | None = None
    course: _CourseIn | None = None
    module: _ThingIn | None = None
    assessment: _ThingIn | None = None
    certification: _CertificationIn | None = None
    score: _Number = None
    score_max: _Number = None
    passed: _Truth = None
    progress: _Percent = None
    attempt: _Id = None
    enrollment_id: _Id = None
    expires_at: _Moment = None


class _EventIn(_Input):
    timestamp: _Moment = None
    data: _DataIn | None = None


def event_from(kind: EventType, body: dict[str, Any]) -> LearningEvent:
    """Return the canonical event of type `kind` in `body`, times in UTC.

    Raises Rejected (MISSING_FIELD) or pydantic's ValidationError, whose place names the field in the body.
    Source: docs/architecture.md, "canonical inbound event".
    """
    event = _EventIn.model_validate(body)
    data = event.data or _DataIn()
    if event.timestamp is None:
        raise _missing("timestamp is missing")
    subject = _subject(kind, data)
    certified = kind.value.startswith("certification.")
    certification = data.certification or _CertificationIn()
    return LearningEvent(
        type=kind,
        occurred_at=event.timestamp,
        learner=_learner(data.learner or _LearnerIn()),
        subject=subject,
        course=_named("course", data.course),
        module=_named("module", data.module),
        course_version=data.course.version if data.course else None,
        product=certification.product if certified else None,
        score=data.score,
        score_max=data.score_max,
        passed=data.passed,
        progress=data.progress,
        attempt=data.attempt or data.enrollment_id,
        expires_at=(certification.expires_at or data.expires_at) if certified else None,
    )


def _learner(given: _LearnerIn) -> Learner:
    if given.lms_user_id is None and given.email is None:
        raise _missing("data.learner needs lms_user_id or email")
    return Learner(**given.model_dump())


def _subject(kind: EventType, data: _DataIn) -> Subject:
    subject = subject_of(
        kind,
        _named("course", data.course),
        _named("module", data.module),
        _named("assessment", data.assessment),
        _named("certification", data.certification),
    )
    if subject is None:
        raise _missing(f"data.{_ABOUT.get(kind.value.partition('.')[0], 'course')}.id is missing")
    return subject


def subject_of(
    kind: EventType,
    course: Subject | None,
    module: Subject | None,
    assessment: Subject | None,
    certification: Subject | None,
) -> Subject | None:
    """Return what an event is about: the narrowest thing that its type can be about and that it names."""
    narrower: Subject | None = None
    match kind:
        case EventType.COURSE_PROGRESSED:
            narrower = module if course else None
        case EventType.ASSESSMENT_GRADED:
            narrower = assessment or module
        case EventType.CERTIFICATION_ISSUED | EventType.CERTIFICATION_EXPIRED | EventType.CERTIFICATION_REVOKED:
            # A course that certifies by itself: still a certification, or its standing would overwrite the course's.
            certifies = course and Subject(type="certification", id=course.id, name=course.name)
            narrower = certification or certifies
    return narrower or course


def _named(kind: Literal["course", "module", "assessment", "certification"], given: _ThingIn | None) -> Subject | None:
    """Return `given` as a subject, None where nothing is given; half a thing is not taken for another one."""
    if given is None or not any(given.model_dump().values()):
        return None
    if given.id is None:
        raise _missing(f"data.{kind}.id is missing")
    return Subject(type=kind, id=given.id, name=given.name)


def _missing(sentence: str) -> Rejected:
    return Rejected(Reason.MISSING_FIELD, sentence)
