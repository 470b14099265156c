"""What happened at a Moodle site: who has completed which course, asked person by person.

Moodle lists neither what changed nor when somebody was enrolled. It says who is in a course, and of one person in one
course at a time whether and since when it is completed. So nobody is asked about whose completion is known.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from integration.config import ConnectionConfig
from integration.connectors.client import Gate, OnCall
from integration.connectors.lms.moodle import CAPABILITIES, FRONT_PAGE
from integration.connectors.lms.moodle_check import STATUS_OF
from integration.connectors.lms.moodle_consequences import Problem
from integration.connectors.lms.moodle_enrollments import USERS_OF
from integration.connectors.lms.moodle_service import Service, number, rows
from integration.errors import Reason, RetryLater
from integration.model.events import EventType, Learner, LearningEvent, Subject
from integration.ports import ResultPage, Scope

PAGE: Final = 20
"""People of a page: what a killed worker repeats is a call for each of them."""

_ANY: Final = 2
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def lister(
    config: ConnectionConfig, on_call: OnCall = None, gate: Gate = None, _: object = None
) -> "MoodleResults | None":
    """Return what asks this site; None where the connection names none. Raises ConfigError as `moodle.store`."""
    return MoodleResults(config, on_call, gate) if config.base_url or config.credentials else None


class MoodleResults:
    """One Moodle site, as ResultLister. Keep it: threads share its connections."""

    capabilities = CAPABILITIES

    def __init__(self, config: ConnectionConfig, on_call: OnCall = None, gate: Gate = None) -> None:
        """Raises ConfigError where the site or the token is not named."""
        self._name = config.name
        self._service = Service(config, on_call, gate)

    def __repr__(self) -> str:
        """Name the connection, never what opens it."""
        return f"MoodleResults({self._name!r})"

    def page(self, position: Mapping[str, Any] | None, scope: Scope) -> ResultPage:
        """Return the completions of some people of one course: one call, and one for each whose is not known.

        A course whose completions the token may not read is `unread`; one without criteria, or that is gone, holds
        nothing. Source: Moodle, enrol/externallib.php and completion/classes/external.php.
        """
        courses = [course for course in scope.courses if number(course) and course != FRONT_PAGE]
        place = position or _next(courses, None)
        if place is None:
            return ResultPage((), None)
        course, start = str(place["course"]), int(place["from"])
        following = _next(courses, course)
        options = {"userfields": "id,email,fullname,idnumber", "sortby": "id", "limitfrom": start, "limitnumber": PAGE}
        named = [{"name": name, "value": value} for name, value in options.items()]
        answer = self._service.ask(USERS_OF, {"courseid": course, "options": named}, records=1, of_courses=True)
        if isinstance(answer, Problem):
            return ResultPage((), following, int(answer.of_course))
        people = rows(answer, USERS_OF)
        if len(people) >= PAGE:
            following = {"course": course, "from": start + PAGE}
        events: list[LearningEvent] = []
        for candidate in scope.untold([_completion(course, one, scope.since) for one in people]):
            told = self._asked(candidate)
            if isinstance(told, Problem) and told.of_course:
                is_empty = told.reason is Reason.NOTHING_LEARNED
                return ResultPage(tuple(events), _next(courses, course), int(not is_empty))
            if isinstance(told, LearningEvent) and told.occurred_at >= scope.since:
                events.append(told)
        return ResultPage(tuple(events), following)

    def _asked(self, one: LearningEvent) -> LearningEvent | Problem | None:
        """Return the completion with its time, None where there is none (yet); or what the question met."""
        asked = {"courseid": one.subject.id, "userid": one.learner.lms_user_id}
        answer = self._service.ask(STATUS_OF, asked, records=1, of_courses=True)
        if isinstance(answer, Problem):
            return answer
        status = answer.get("completionstatus") if isinstance(answer, dict) else None
        if not isinstance(status, dict):
            raise RetryLater(Reason.MALFORMED_ANSWER, f"{STATUS_OF}: answered without a status")
        at = _completed_at(status)
        return one.model_copy(update={"occurred_at": at}) if at else None


def _next(courses: Sequence[str], course: str | None) -> dict[str, Any] | None:
    """Return where the course after this one begins; courses are in order, and may have come or gone meanwhile."""
    at = 0 if course is None else bisect_right(courses, course)
    return {"course": courses[at], "from": 0} if at < len(courses) else None


def _completion(course: str, person: Mapping[str, Any], at: datetime) -> LearningEvent:
    r"""Return a completion as `\core\event\course_completed` says it, with name and e-mail where they are shown."""
    about = Subject(type="course", id=course)
    email, name, employee = (_text(person.get(key)) for key in ("email", "fullname", "idnumber"))
    learner = Learner(lms_user_id=number(person["id"]), email=email, full_name=name, employee_id=employee)
    return LearningEvent(type=EventType.COURSE_COMPLETED, occurred_at=at, learner=learner, subject=about, course=about)


def _completed_at(status: Mapping[str, Any]) -> datetime | None:
    """Return when a course was completed: with the last of its criteria, or with the first where any is enough.

    Moodle's event comes when cron has found out, so never before that.
    """
    if status.get("completed") not in (True, 1):
        return None
    criteria = status.get("completions")
    done = [one for one in criteria if isinstance(one, dict)] if isinstance(criteria, list) else []
    times = [int(at) for one in done if one.get("complete") in (True, 1) and (at := number(one.get("timecompleted")))]
    if not times:
        return None
    try:
        return _EPOCH + timedelta(seconds=min(times) if status.get("aggregation") == _ANY else max(times))
    except OverflowError:
        return None


def _text(value: object) -> str | None:
    return value.strip() or None if isinstance(value, str) else None
