"""Canvas as a place where people are enrolled. It takes one enrolment a request, so every method loops.

Deadlines are never passed on: what Canvas calls `end_at` ends a learner's access on that day.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final

from integration.config import ConnectionConfig
from integration.connectors.client import Call, Gate, OnCall, Reply
from integration.connectors.lms.canvas_api import V1, Api, is_id, sis_user
from integration.connectors.lms.canvas_statuses import RATES, Meaning, denied, is_taken, meaning, said
from integration.connectors.lms.canvas_values import LIVE
from integration.errors import CoursewireError, Reason, RetryLater, UnknownOutcome
from integration.model.contacts import Failed
from integration.model.enrollments import (
    Enrolled,
    EnrollmentWrite,
    ListedCourse,
    NewUser,
    RemoteEnrollment,
    RemoteUser,
    UserKey,
)
from integration.ports import Capabilities

CAPABILITIES: Final = Capabilities(
    receives_webhooks=True,
    enrolls=True,
    due_dates="access_window",
    batch_size=25,
    rates=RATES,
    media_types=("application/jwt", "text/plain"),  # a signed event is nothing but a JWT
    lists_results="everything",
)

_ENDED: Final = ("completed", "inactive")
_JUST_NOW: Final = timedelta(seconds=10)


def store(config: ConnectionConfig, on_call: OnCall = None, gate: Gate = None, _: object = None) -> "Canvas | None":
    """Return what enrols people in this account's courses; None where the connection holds no token."""
    return Canvas(config, on_call, gate) if config.credentials else None


class Canvas:
    """One Canvas account, as EnrollmentStore. Keep it: threads share it and its connections.

    Every method raises RetryLater (`after` in seconds), UnknownOutcome (a write that may have been applied),
    ConnectionBroken (token refused, permission missing) or Rejected (a question that Canvas refuses).
    """

    capabilities = CAPABILITIES
    user_keys: tuple[UserKey, ...] = ("id", "employee_id", "email")

    def __init__(self, config: ConnectionConfig, on_call: OnCall = None, gate: Gate = None) -> None:
        """Raises ConfigError where address or token are not named; the token is read with the first call."""
        self._name = config.name
        self._api = Api(config, on_call, gate)

    def __repr__(self) -> str:
        """Name the connection, never what opens it."""
        return f"Canvas({self._name!r})"

    def users(self, by: UserKey, values: Sequence[str]) -> dict[str, tuple[RemoteUser, ...]]:
        """Return the users found, by the value asked for; one request a value.

        An e-mail is looked for among the account's users, where Canvas compares parts of names as well: only who has
        it as primary e-mail or as login counts. Somebody whom the token's user may not see is not found.
        Source: Canvas docs, users API; "object ids" for SIS ids.
        """
        found = {}
        for value in dict.fromkeys(values):
            wanted = value.strip()
            users = (self._by_email(wanted) if by == "email" else self._by_id(by, wanted)) if wanted else ()
            if users:
                found[value] = users
        return found

    def create_users(self, users: Sequence[NewUser]) -> dict[str, RemoteUser | Failed]:
        """Create users in `options.account_id` with their e-mail as login; nobody is sent a mail. Keyed by trace.

        Trouble in the middle is raised: who was made before it is found by e-mail, and nobody else is given up.
        Source: Canvas docs, users API, "create a user".
        """
        return {user.trace: self._create(user) for user in users}

    def enrollments(self, pairs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], RemoteEnrollment]:
        """Return the student enrolments that are there, by (user id, course id); one request a pair.

        Of several (one a section) a live one counts. A course that is absent or may not be read has none: the write
        then says so for its record. Source: Canvas docs, enrollments API, "list enrollments" with user_id.
        """
        found = {}
        for user_id, course_id in dict.fromkeys(pairs):
            entries, _ = self._enrolled(user_id, course_id, (*LIVE, *_ENDED))
            if entries:
                best = min(entries, key=lambda one: one.get("enrollment_state") not in LIVE)
                is_live = best.get("enrollment_state") in LIVE
                found[user_id, course_id] = RemoteEnrollment("enrolled" if is_live else "concluded", _id(best))
        return found

    def write(self, writes: Sequence[EnrollmentWrite]) -> dict[str, Enrolled | Failed]:
        """Enrol (as an active student, without a mail), conclude or remove; keyed by trace.

        Where trouble comes in the middle, the answers so far are returned and the rest has none: the next call meets
        the same trouble first, and raises it. Only trouble with the first write is raised here. The write that it
        came with may have been applied; doing it again changes nothing in Canvas.
        A conclusion or removal is of the enrolment that `remote_id` names, else of all that the student has in the
        course. `created` is said only where Canvas made the enrolment in this very request.
        Source: Canvas docs, enrollments API.
        """
        answers: dict[str, Enrolled | Failed] = {}
        for one in writes:
            try:
                answers[one.trace] = self._write(one)
            except CoursewireError:
                if not answers:
                    raise
                break
        return answers

    def courses(self) -> Iterator[ListedCourse]:
        """Return the account's courses, page by page; one that is not published or is over is not active.

        Source: Canvas docs, accounts API, "list active courses in an account".
        """
        for one in self._api.listed("canvas.courses", f"{V1}/accounts/{self._api.account}/courses"):
            if course_id := _id(one):
                name = one.get("name")
                is_active = one.get("workflow_state") == "available"
                yield ListedCourse(course_id, name if isinstance(name, str) else None, is_active)

    def _by_id(self, by: UserKey, value: str) -> tuple[RemoteUser, ...]:
        if by == "id" and not is_id(value):
            return ()
        name = value if by == "id" else sis_user(value)
        reply = self._api.get("canvas.user", f"{V1}/users/{name}")
        user = _user(reply.body) if meaning(reply) is Meaning.DONE else None
        return (user,) if user else ()

    def _by_email(self, value: str) -> tuple[RemoteUser, ...]:
        query = [("search_term", value), ("include[]", "email")]
        found = {}
        for one in self._api.listed("canvas.users", f"{V1}/accounts/{self._api.account}/users", query):
            names = (one.get("email"), one.get("login_id"))
            is_theirs = any(isinstance(name, str) and name.casefold() == value.casefold() for name in names)
            if is_theirs and (user := _user(one)):
                found[user.id] = user
        return tuple(found.values())

    def _create(self, user: NewUser) -> RemoteUser | Failed:
        pseudonym = {"unique_id": user.email, "send_confirmation": False}
        body = {
            "user": {"name": user.full_name or user.email, "skip_registration": True},
            "pseudonym": pseudonym | ({"sis_user_id": user.employee_id} if user.employee_id else {}),
            "communication_channel": {"type": "email", "address": user.email, "skip_confirmation": True},
        }
        path = f"{V1}/accounts/{self._api.account}/users"
        reply = self._api.send(Call("canvas.create_user", "POST", path, body, records=1))
        match meaning(reply):
            case Meaning.DENIED | Meaning.ABSENT:
                raise denied("canvas.create_user")
            case Meaning.INVALID if is_taken(reply.body):
                return Failed(Reason.CONFLICT, "a user of Canvas has this login or SIS id already")
            case Meaning.INVALID:
                return Failed(Reason.INVALID_VALUE, f"Canvas refuses to create this user ({reply.status})")
        made = _user(reply.body)
        if made is None:
            raise UnknownOutcome(Reason.MALFORMED_ANSWER, "canvas.create_user: the answer holds no user")
        return made

    def _write(self, one: EnrollmentWrite) -> Enrolled | Failed:
        if not (is_id(one.user_id) and is_id(one.course_id) and (one.remote_id is None or is_id(one.remote_id))):
            return Failed(Reason.ENROLLMENT_REFUSED, "the user's or the course's id is none that Canvas could have")
        return self._enrol(one) if one.state == "enrolled" else self._end(one)

    def _enrol(self, one: EnrollmentWrite) -> Enrolled | Failed:
        body = {
            "enrollment": {
                "user_id": one.user_id,
                "type": "StudentEnrollment",
                "enrollment_state": "active",
                "notify": False,
            }
        }
        path = f"{V1}/courses/{one.course_id}/enrollments"
        reply = self._api.send(Call("canvas.enrol", "POST", path, body, records=1))
        if meaning(reply) is not Meaning.DONE:
            return _refused(reply)
        number = _id(reply.body)
        if number is None:
            raise UnknownOutcome(Reason.MALFORMED_ANSWER, "canvas.enrol: the answer holds no enrolment")
        return Enrolled(number, created=_was_made_now(reply))

    def _end(self, one: EnrollmentWrite) -> Enrolled | Failed:
        """End what is there; what is not there any more is done already."""
        numbers: list[str] = [one.remote_id] if one.remote_id else []
        if not numbers:
            states = LIVE if one.state == "concluded" else (*LIVE, *_ENDED)
            entries, refusal = self._enrolled(one.user_id, one.course_id, states)
            if refusal is not None and meaning(refusal) is not Meaning.ABSENT:
                return _refused(refusal)
            numbers = [number for entry in entries if (number := _id(entry))]
        task = "conclude" if one.state == "concluded" else "delete"
        for number in numbers:
            path = f"{V1}/courses/{one.course_id}/enrollments/{number}?task={task}"
            reply = self._api.send(Call(f"canvas.{task}", "DELETE", path, records=1))
            if meaning(reply) not in (Meaning.DONE, Meaning.ABSENT):
                return _refused(reply)
        return Enrolled(numbers[0] if numbers else None)

    def _enrolled(
        self, user_id: str, course_id: str, states: Sequence[str]
    ) -> tuple[list[Mapping[str, Any]], Reply | None]:
        """Return a student's enrolments in a course, or the refusal to say."""
        if not (is_id(user_id) and is_id(course_id)):
            return [], None
        query = [("user_id", user_id), ("type[]", "StudentEnrollment"), ("per_page", "100")]
        query += [("state[]", state) for state in states]
        reply = self._api.get("canvas.enrollments", f"{V1}/courses/{course_id}/enrollments", query)
        if meaning(reply) is not Meaning.DONE:
            return [], reply
        if not isinstance(reply.body, list):
            raise RetryLater(Reason.MALFORMED_ANSWER, "canvas.enrollments: Canvas answered without a list")
        return [one for one in reply.body if isinstance(one, dict)], None


def _refused(reply: Reply) -> Failed:
    """Return why Canvas does not take this learner in this course, in words of ours: its own quote names."""
    words = {
        Meaning.ABSENT: "the user or the course is not in Canvas any more",
        Meaning.DENIED: "the token's user has no permission in this course",
    }.get(meaning(reply), f"Canvas refuses it ({reply.status})")
    is_over = meaning(reply) is Meaning.INVALID and "concluded course" in said(reply)
    return Failed(Reason.ENROLLMENT_REFUSED, "the course is concluded" if is_over else words)


def _was_made_now(reply: Reply) -> bool:
    """Say whether the enrolment was made in this request, by Canvas's own clock; where in doubt, it was not.

    An enrolment that was there is answered in the same way, and is not ours to remove.
    """
    created = reply.body.get("created_at")
    try:
        answered = parsedate_to_datetime(reply.headers["date"])
        age = answered.astimezone(UTC) - datetime.fromisoformat(created).astimezone(UTC)
    except (KeyError, TypeError, ValueError, IndexError):
        return False
    return abs(age) <= _JUST_NOW


def _user(thing: Any) -> RemoteUser | None:
    number = _id(thing)
    if number is None:
        return None
    email, name, employee_id = (
        found if isinstance(found := thing.get(key), str) and found else None
        for key in ("email", "name", "sis_user_id")
    )
    return RemoteUser(number, email, name, employee_id)


def _id(thing: Any) -> str | None:
    """Return the id of an object as text; Canvas writes it as a number, or as text where it is asked to."""
    found = thing.get("id") if isinstance(thing, dict) else None
    return str(found) if isinstance(found, int | str) and not isinstance(found, bool) and str(found) else None
