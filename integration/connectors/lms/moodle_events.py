"""From one event of Moodle's log, as its webhook plugin posts it, to a canonical event.

`userid` is who acted, `relateduserid` whom it was about. Numbers come as numbers or as text, and 0 is nobody and no
course. An event says neither name nor e-mail; nothing is invented for what it does not say.
"""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, Final, Literal, NamedTuple

from integration.connectors.lms.moodle_php import MOST_CHARACTERS, unserialize
from integration.errors import Ignored, Reason, Rejected
from integration.model.events import EventType, Learner, LearningEvent, Subject


class Line(NamedTuple):
    """What an event of Moodle means, and what it is about.

    `graded`: who acts is the one who grades, so without a `relateduserid` nobody knows whose event it is.
    """

    type: EventType
    about: Literal["course", "module", "assessment", "grade_item", "certificate", "certifying_module"]
    graded: bool = False


EVENTS: Final[Mapping[str, Line]] = {
    r"\core\event\user_enrolment_created": Line(EventType.ENROLLMENT_CREATED, "course"),
    # Suspended or active again: the event does not say which, only that the enrolment is there.
    r"\core\event\user_enrolment_updated": Line(EventType.ENROLLMENT_CREATED, "course"),
    r"\core\event\user_enrolment_deleted": Line(EventType.ENROLLMENT_CANCELLED, "course"),
    r"\core\event\course_module_completion_updated": Line(EventType.COURSE_PROGRESSED, "module"),
    r"\core\event\course_completed": Line(EventType.COURSE_COMPLETED, "course"),
    r"\core\event\user_graded": Line(EventType.ASSESSMENT_GRADED, "grade_item", graded=True),
    r"\mod_quiz\event\attempt_submitted": Line(EventType.ASSESSMENT_GRADED, "assessment"),
    r"\mod_assign\event\submission_graded": Line(EventType.ASSESSMENT_GRADED, "assessment", graded=True),
    r"\tool_certificate\event\certificate_issued": Line(EventType.CERTIFICATION_ISSUED, "certificate"),
    r"\tool_certificate\event\certificate_revoked": Line(EventType.CERTIFICATION_REVOKED, "certificate"),
    r"\mod_customcert\event\issue_created": Line(EventType.CERTIFICATION_ISSUED, "certifying_module"),
    r"\mod_customcert\event\issue_deleted": Line(EventType.CERTIFICATION_REVOKED, "certifying_module"),
    r"\mod_customcert\event\certificate_issued": Line(EventType.CERTIFICATION_ISSUED, "certifying_module"),
    r"\mod_customcert\event\certificate_deleted": Line(EventType.CERTIFICATION_REVOKED, "certifying_module"),
}
"""Every other event is ignored: `course_completion_updated`, for one, says that a teacher edited the criteria."""

_IDS: Final = ("userid", "relateduserid", "courseid", "objectid", "contextlevel", "contextinstanceid")
_MODULE_LEVEL: Final = "70"
_IN_MODULES: Final = ("module", "assessment", "certifying_module")
_LACKING: Final = {
    "module": "courseid or contextinstanceid",
    "certificate": "objectid",
    "certifying_module": "objectid",
}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DIGITS: Final = re.compile("[0-9]{1,19}")
_SHOWN, _LONGEST = 100, 255
_COMPLETE_STATES: Final = {"0": (0.0, None), "1": (100.0, None), "2": (100.0, True), "3": (100.0, False)}
"""Of an activity: incomplete, complete, complete with a pass, complete with a fail. Source: Moodle, completionlib."""


def kept(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `event_from` needs of an event, the same for each delivery of it; above all, not its token."""
    slim = {"eventname": _flat(event.get("eventname")), "host": _flat(event.get("host"))}
    slim |= {name: _number(event.get(name)) for name in ("id", *_IDS, "timecreated")}
    other = event.get("other")
    if name_of(event) in EVENTS and not (isinstance(other, str) and len(other) > MOST_CHARACTERS):
        slim["other"] = other
    return {name: value for name, value in slim.items() if value is not None}


def written(event: Mapping[str, Any]) -> bytes:
    """Return compact JSON; broken text and NaN as they came, so that who reads it gives the event its reason."""
    return json.dumps(event, separators=(",", ":"), sort_keys=True).encode()


def identity(slim: bytes) -> str:
    """Return what tells an event from every other one: all that is kept, because log ids often do not come along."""
    return sha256(slim).hexdigest()


def name_of(event: Mapping[str, Any]) -> str:
    r"""Return the class of the event, such as `\core\event\course_completed`; empty where it has none."""
    name = event.get("eventname")
    return "\\" + name.strip().lstrip("\\").lower() if isinstance(name, str) and name.strip() else ""


def event_from(event: Mapping[str, Any]) -> LearningEvent:
    """Return the canonical event, its time in UTC; with an empty learner where nobody can say whose it is.

    Raises Ignored (UNKNOWN_TYPE) or Rejected (MISSING_FIELD, INVALID_EVENT), nothing else. The text names the field,
    never its value. Source: Moodle, lib/classes/event/base.php and the classes of the events.
    """
    name = name_of(event)
    line = EVENTS.get(name)
    if not name:
        raise Rejected(Reason.MISSING_FIELD, "eventname is missing or no text")
    if line is None:
        raise Ignored(Reason.UNKNOWN_TYPE, "".join(filter(str.isprintable, name))[:_SHOWN])
    ids = {one: _id(event, one) for one in _IDS}
    details = _details(event.get("other"))
    if line.type is EventType.ENROLLMENT_CANCELLED and _has_another(details):
        raise Ignored(Reason.UNKNOWN_TYPE, f"{name}: they are enrolled in another way still")
    course = Subject(type="course", id=ids["courseid"]) if ids["courseid"] else None
    # Of a course or the whole site the number means something else.
    number = ids["contextinstanceid"] if ids["contextlevel"] in (None, _MODULE_LEVEL) else None
    module = Subject(type="module", id=number) if number and line.about in _IN_MODULES else None
    progress, passed = _state(details) if line.about == "module" else (None, None)
    return LearningEvent(
        type=line.type,
        occurred_at=_moment(event),
        learner=Learner(lms_user_id=ids["relateduserid"] or (None if line.graded else ids["userid"])),
        subject=_subject(line, course, module, ids["objectid"], details),
        course=course,
        module=module,
        score=_score(details) if line.about == "grade_item" else None,
        progress=progress,
        passed=passed,
        attempt=ids["objectid"] if line.about == "assessment" or line.type.value.startswith("enrollment.") else None,
    )


def _subject(
    line: Line, course: Subject | None, module: Subject | None, issue: str | None, details: Mapping[str, Any]
) -> Subject:
    found: Subject | None = course
    if line.about == "module":
        found = module if course else None
    elif line.about == "assessment" and module:
        found = Subject(type="assessment", id=module.id)
    elif line.about == "grade_item" and (item := _short(details.get("itemid"))):
        found = Subject(type="assessment", id=f"grade-item-{item}")
    elif line.about in ("certificate", "certifying_module"):
        # An activity certifies everybody for the same thing; a template of the site is not named by its events.
        number = module.id if module else _short(details.get("code")) or issue
        found = Subject(type="certification", id=number) if number else None
    if found is None:
        raise Rejected(Reason.MISSING_FIELD, f"{_LACKING.get(line.about, 'courseid')} is missing")
    return found


def _details(other: object) -> Mapping[str, Any]:
    """Return `other` as a mapping, whether it came as JSON, as JSON in a text or serialized; {} where unreadable."""
    if isinstance(other, str):
        try:
            other = json.loads(other) if other.lstrip().startswith("{") else unserialize(other)
        except (ValueError, RecursionError):
            return {}
    return other if isinstance(other, dict) else {}


def _has_another(details: Mapping[str, Any]) -> bool:
    """Say whether an enrolment that ended was one of several in this course. Source: Moodle, enrol_plugin."""
    ended = details.get("userenrolment")
    last = ended.get("lastenrol") if isinstance(ended, dict) else None
    return last is not None and str(last).lower() in ("0", "false", "")


def _state(details: Mapping[str, Any]) -> tuple[float | None, bool | None]:
    return _COMPLETE_STATES.get(str(_number(details.get("completionstate"))), (None, None))


def _score(details: Mapping[str, Any]) -> float | None:
    given = details.get("finalgrade")
    try:
        score = float(given) if isinstance(given, str | int | float) and not isinstance(given, bool) else None
    except ValueError:
        return None
    return score if score is not None and abs(score) < float("inf") else None


def _id(event: Mapping[str, Any], name: str) -> str | None:
    """Return a record's number; None for 0 and for less, which is how Moodle writes nobody and nothing."""
    given = _number(event.get(name))
    if given in (None, "") or (isinstance(given, str) and re.fullmatch("-[0-9]{1,19}", given)):
        return None
    if not isinstance(given, str) or not _DIGITS.fullmatch(given):
        raise Rejected(Reason.INVALID_EVENT, f"{name}: must be the number of a record")
    return given.lstrip("0") or None


def _moment(event: Mapping[str, Any]) -> datetime:
    given = _number(event.get("timecreated"))
    if given in (None, "", "0"):
        raise Rejected(Reason.MISSING_FIELD, "timecreated is missing")
    if isinstance(given, str) and _DIGITS.fullmatch(given):
        try:
            return _EPOCH + timedelta(seconds=int(given))
        except OverflowError:
            pass
    raise Rejected(Reason.INVALID_EVENT, "timecreated: must be seconds since 1970")


def _short(given: object) -> str | None:
    text = _number(given)
    is_name = isinstance(text, str) and text.isprintable() and len(text) <= _LONGEST
    return str(text) if is_name and text else None


def _number(given: object) -> object:
    """Return a whole number as text, whichever way it was written; what is none as `_flat` does."""
    if isinstance(given, float) and given.is_integer() and abs(given) < 2**53:
        given = int(given)
    if isinstance(given, int) and not isinstance(given, bool):
        return str(given)
    return given.strip() if isinstance(given, str) else _flat(given)


def _flat(given: object) -> object:
    return {} if isinstance(given, dict | list) else given
