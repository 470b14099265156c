"""Enrolments in Moodle's courses: which there are, and bringing them in step with what is wanted.

Only the manual enrolment is written. What is there already is left alone, whoever made it: writing it again would take
away the end of access that a teacher gave it.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from integration.connectors.lms.moodle_consequences import Problem
from integration.connectors.lms.moodle_service import Service, apart, number, rows
from integration.errors import CoursewireError, Reason, UnknownOutcome
from integration.model.contacts import Failed
from integration.model.enrollments import Enrolled, EnrollmentWrite, RemoteEnrollment

COURSES_OF: Final = "core_enrol_get_users_courses"
USERS_OF: Final = "core_enrol_get_enrolled_users"
ENROL: Final = "enrol_manual_enrol_users"
UNENROL: Final = "enrol_manual_unenrol_users"
_PAGE: Final = 1000
_MOST_PAGES: Final = 100

Pair = tuple[str, str]
Answers = dict[str, Enrolled | Failed]


class Standing(NamedTuple):
    """The enrolments found, by (user id, course id), and the courses of which only active ones could be seen."""

    found: dict[Pair, RemoteEnrollment]
    unseen: frozenset[str]


def standing(service: Service, pairs: Sequence[Pair]) -> Standing:
    """Return which enrolments there are.

    One call per user, which lists active enrolments only, and for what is then left one per course, which lists the
    suspended ones: the first is small however large the course, the second short. Raises as `Service.ask`.
    Source: Moodle, enrol/externallib.php.
    """
    wanted = [pair for pair in dict.fromkeys(pairs) if number(pair[0]) and number(pair[1])]
    found: dict[Pair, RemoteEnrollment] = {}
    for user in dict.fromkeys(user for user, _ in wanted):
        answer = service.ask(COURSES_OF, {"userid": user, "returnusercount": False}, records=1)
        active = set() if isinstance(answer, Problem) else {number(row["id"]) for row in rows(answer, COURSES_OF)}
        found |= {pair: RemoteEnrollment("enrolled") for pair in wanted if pair[0] == user and pair[1] in active}
    left: dict[str, set[str]] = defaultdict(set)
    for user, course in wanted:
        if (user, course) not in found:
            left[course].add(user)
    unseen = set()
    for course, users in left.items():
        suspended = _suspended(service, course)
        if suspended is None:
            unseen.add(course)
            continue
        found |= {(user, course): RemoteEnrollment("concluded") for user in users & suspended}
    return Standing(found, frozenset(unseen))


def write(service: Service, writes: Sequence[EnrollmentWrite], role_id: int) -> Answers:
    """Enrol, suspend or remove; keyed by trace. What has no answer is not known to be done: it may be written again.

    Raises as `Service.ask`, where nobody was answered for.
    """
    answers, sound = _sorted_out(writes)
    try:
        staying = [one for one in sound if one.state != "removed"]
        _enrol(service, staying, standing(service, [_pair(one) for one in staying]), role_id, answers)
        _remove(service, [one for one in sound if one.state == "removed"], answers)
    except CoursewireError:
        if not answers:
            raise
    return answers


def _sorted_out(writes: Sequence[EnrollmentWrite]) -> tuple[Answers, list[EnrollmentWrite]]:
    """Return the failures of writes that cannot be sent, and the others, course by course."""
    answers: Answers = {}
    sound: dict[Pair, EnrollmentWrite] = {}
    for one in sorted(writes, key=lambda one: (one.course_id, one.user_id)):
        if not (number(one.user_id) and number(one.course_id)):
            answers[one.trace] = Failed(Reason.INVALID_VALUE, "Moodle's users and courses have numbers")
        elif sound.setdefault(_pair(one), one) is not one:
            answers[one.trace] = Failed(Reason.CONFLICT, f"for the same user and course as {sound[_pair(one)].trace}")
    return answers, list(sound.values())


def _enrol(
    service: Service, writes: Sequence[EnrollmentWrite], before: Standing, role_id: int, answers: Answers
) -> None:
    """Enrol and suspend, as far as that is not so already; nobody is enrolled only to be suspended."""
    needed = []
    for one in writes:
        state = before.found[_pair(one)].state if _pair(one) in before.found else "removed"
        if one.state == state or (one.state, state) == ("concluded", "removed"):
            answers[one.trace] = Enrolled()
        else:
            needed.append(one)

    def send(part: Sequence[EnrollmentWrite]) -> Any:
        return _sent(service, ENROL, [_record(one, role_id) for one in part])

    for one, problem in _one_by_one(needed, send):
        is_new = one.state == "enrolled" and _pair(one) not in before.found and one.course_id not in before.unseen
        answers[one.trace] = _failed(problem) if problem else Enrolled(created=is_new)


def _remove(service: Service, writes: Sequence[EnrollmentWrite], answers: Answers) -> None:
    def send(part: Sequence[EnrollmentWrite]) -> Any:
        return _sent(service, UNENROL, [{"userid": one.user_id, "courseid": one.course_id} for one in part])

    for one, problem in _one_by_one(writes, send):
        if problem and not problem.of_course and _is_gone(service, _pair(one)):
            problem = None  # noqa: PLW2901 - nothing of it is left
        answers[one.trace] = _failed(problem) if problem else Enrolled()


def _is_gone(service: Service, pair: Pair) -> bool:
    """Say whether there is nothing to remove: Moodle refuses to, where user or course are deleted."""
    left = standing(service, [pair])
    return not left.found and not left.unseen


def _one_by_one(writes: Sequence[EnrollmentWrite], send: Any) -> Iterator[tuple[EnrollmentWrite, Problem | None]]:
    """Yield each write with its problem; a course that takes nobody is found out once."""
    closed: dict[str, Problem] = {}
    for part, answer in apart(writes, send, known=lambda one: closed.get(one.course_id)):
        problem = answer if isinstance(answer, Problem) else None
        if problem and problem.of_course:
            closed[part[0].course_id] = problem
        yield from ((one, problem) for one in part)


def _sent(service: Service, function: str, records: Sequence[Mapping[str, object]]) -> Any:
    """Return the Problem of a call that Moodle refuses, None of one that is done: its success is a null."""
    answer = service.ask(function, {"enrolments": list(records)}, records=len(records), writes=True, of_courses=True)
    if answer and not isinstance(answer, Problem):
        raise UnknownOutcome(Reason.MALFORMED_ANSWER, f"{function}: answered something else than null")
    return answer or None


def _record(one: EnrollmentWrite, role_id: int) -> dict[str, object]:
    """Return what enrols; without an end, because Moodle's end of an enrolment locks the learner out."""
    record = {"roleid": role_id, "userid": one.user_id, "courseid": one.course_id}
    return record | ({"suspend": 1} if one.state == "concluded" else {"suspend": 0})


def _suspended(service: Service, course: str) -> set[str] | None:
    """Return the users whose enrolment in a course is suspended or over, None where the token may not see them.

    A course that does not exist has none.
    """
    users: set[str] = set()
    for page in range(_MOST_PAGES):
        options = {"onlysuspended": 1, "userfields": "id", "limitfrom": page * _PAGE, "limitnumber": _PAGE}
        named = [{"name": name, "value": value} for name, value in options.items()]
        answer = service.ask(USERS_OF, {"courseid": course, "options": named}, records=1, of_courses=True)
        if isinstance(answer, Problem):
            return None if answer.of_course else users
        listed = rows(answer, USERS_OF)
        users |= {number(row["id"]) for row in listed}
        if len(listed) < _PAGE:
            break
    return users


def _pair(one: EnrollmentWrite) -> Pair:
    return one.user_id, one.course_id


def _failed(problem: Problem) -> Failed:
    return Failed(problem.reason, problem.detail)
