"""Any LMS that takes our enrolments: six JSON calls under `base_url`, as docs/standard-rest.md describes them.

Every call is about a batch, and every answer names each record, so that nothing has to be guessed.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC
from typing import Any, Final

from integration.config import ConnectionConfig
from integration.connectors.client import Call, Client, Gate, OnCall, Reply
from integration.connectors.tokens import StaticToken, bearer
from integration.errors import (
    BatchRejected,
    ConfigError,
    ConnectionBroken,
    CoursewireError,
    Reason,
    RetryLater,
    UnknownOutcome,
)
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
from integration.ports import Capabilities, Finding

_REASONS: Final[Mapping[str, Reason]] = {
    "conflict": Reason.CONFLICT,
    "unknown_user": Reason.UNKNOWN_LEARNER,
    "unknown_course": Reason.UNKNOWN_COURSE,
}
_STATES = ("enrolled", "concluded", "removed")
_TOO_MANY, _UNAUTHORIZED, _FORBIDDEN, _FAULT = 429, 401, 403, 500
_SHOWN = 200


class StandardRest:
    """One LMS that speaks our contract, as EnrollmentStore. Keep it: threads share it and its connections."""

    user_keys: tuple[UserKey, ...] = ("email", "employee_id")

    def __init__(
        self, config: ConnectionConfig, capabilities: Capabilities, on_call: OnCall = None, gate: Gate = None
    ) -> None:
        """Raises ConfigError where the connection names no token."""
        if config.base_url is None or "token" not in config.credentials:
            raise ConfigError(
                f"connections.{config.name}: to enrol people, standard needs base_url and "
                "credentials: {token: {env: ACADEMY_TOKEN}}"
            )
        self.capabilities = capabilities
        self._token = StaticToken(config.credentials["token"])
        self._client = Client(
            config.base_url,
            connection=config.name,
            allow_private_hosts=config.allow_private_hosts,
            on_call=on_call,
            gate=gate,
        )

    def users(self, by: UserKey, values: Sequence[str]) -> dict[str, tuple[RemoteUser, ...]]:
        """Return the users found by the value asked for; a blank one is nobody's. Source: docs/standard-rest.md."""
        asked: dict[str, list[str]] = {}
        for value in dict.fromkeys(values):
            if value.strip():
                asked.setdefault(value.strip().lower(), []).append(value)
        if not asked:
            return {}
        wanted = [one[0].strip() for one in asked.values()]
        reply = self._call("users.search", "/users/search", {"by": by, "values": wanted}, len(wanted), writes=False)
        found: dict[str, tuple[RemoteUser, ...]] = {}
        for user in map(_user, objects(reply, "users", writes=False)):
            said = {"id": user.id, "email": user.email, "employee_id": user.employee_id}[by]
            for value in asked.get((said or "").strip().lower(), ()):
                found[value] = (*found.get(value, ()), user)
        return found

    def create_users(self, users: Sequence[NewUser]) -> dict[str, RemoteUser | Failed]:
        """Create users; keyed by trace. Source: docs/standard-rest.md."""
        body = [
            {"trace": one.trace, "email": one.email, "full_name": one.full_name, "employee_id": one.employee_id}
            for one in users
        ]
        reply = self._call("users.create", "/users", {"users": body}, len(users), writes=True)
        made = {one.trace: one for one in users}
        answers: dict[str, RemoteUser | Failed] = {}
        for result in objects(reply, "results", writes=True):
            trace = str(result.get("trace"))
            if (failed := _failed(result)) is not None:
                answers[trace] = failed
            elif trace in made and result.get("id"):
                answers[trace] = RemoteUser(str(result["id"]), made[trace].email)
        return answers

    def enrollments(self, pairs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], RemoteEnrollment]:
        """Return the enrolments that are there. Source: docs/standard-rest.md."""
        body = {"pairs": [{"user_id": user, "course_id": course} for user, course in pairs]}
        reply = self._call("enrollments.search", "/enrollments/search", body, len(pairs), writes=False)
        return {
            (str(one.get("user_id")), str(one.get("course_id"))): RemoteEnrollment(one["state"], _text(one.get("id")))
            for one in objects(reply, "enrollments", writes=False)
            if one.get("state") in _STATES
        }

    def write(self, writes: Sequence[EnrollmentWrite]) -> dict[str, Enrolled | Failed]:
        """Bring enrolments to a state; keyed by trace. Source: docs/standard-rest.md."""
        body = [
            {
                "trace": one.trace,
                "user_id": one.user_id,
                "course_id": one.course_id,
                "state": one.state,
                "due_at": one.due_at.astimezone(UTC).isoformat() if one.due_at else None,
            }
            for one in writes
        ]
        reply = self._call("enrollments.write", "/enrollments", {"enrollments": body}, len(writes), writes=True)
        answers: dict[str, Enrolled | Failed] = {}
        for result in objects(reply, "results", writes=True):
            failed = _failed(result)
            done = Enrolled(_text(result.get("id")), created=result.get("created") is True)
            answers[str(result.get("trace"))] = done if failed is None else failed
        return answers

    def courses(self) -> Iterator[ListedCourse]:
        """Return the catalogue, page by page. Source: docs/standard-rest.md."""
        cursor: str | None = None
        while True:
            call = Call("courses.list", "GET", "/courses", params={"cursor": cursor} if cursor else {}, writes=False)
            reply = self.send(call)
            for one in objects(reply, "courses", writes=False):
                yield ListedCourse(str(one["id"]), _text(one.get("name")), one.get("active") is not False)
            following = _text(reply.body.get("next"))
            if following is None or following == cursor:
                return
            cursor = following

    def check(self) -> list[Finding]:
        """Say whether the catalogue can be read; raises nothing."""
        try:
            first = next(self.courses(), None)
        except CoursewireError as error:
            return [Finding(False, f"the catalogue cannot be read: {error.detail}", "see docs/standard-rest.md")]
        return [Finding(True, "the catalogue can be read" + ("" if first else ", and is empty"))]

    def _call(self, operation: str, path: str, body: object, records: int, *, writes: bool) -> Reply:
        return self.send(Call(operation, "POST", path, body=body, records=records, writes=writes))

    def send(self, call: Call) -> Reply:
        """Send a call, once more where its token is replaced. Raises what the whole batch has to hear of."""
        token = self._token.token()
        reply = self._client.call(call, bearer(token))
        if reply.status == _UNAUTHORIZED and (renewed := self._token.renew(token)) != token:
            reply = self._client.call(call, bearer(renewed))
        if reply.ok:
            return reply
        raise _refusal(call, reply)


def _refusal(call: Call, reply: Reply) -> CoursewireError:
    """Return what a status means for the whole batch."""
    said = f"{call.operation}: {reply.status}"
    if reply.status == _UNAUTHORIZED:
        return ConnectionBroken(Reason.CREDENTIALS_REFUSED, f"{said}: {StaticToken.advice}")
    if reply.status == _FORBIDDEN:
        return ConnectionBroken(Reason.SCOPE_MISSING, f"{said}: the token may not do this")
    if reply.status == _TOO_MANY:
        return RetryLater(Reason.RATE_LIMITED, said, after=reply.retry_after if reply.retry_after is not None else 1.0)
    if reply.status >= _FAULT:
        kind = UnknownOutcome if call.writes else RetryLater
        return kind(Reason.SERVER_ERROR, said, after=reply.retry_after)
    return BatchRejected(Reason.BATCH_REJECTED, said)


def objects(reply: Reply, name: str, *, writes: bool) -> list[dict[str, Any]]:
    """Return the objects of an answer's list. Raises RetryLater, or UnknownOutcome of a write, where it holds none."""
    found = reply.body.get(name) if isinstance(reply.body, dict) else None
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        kind = UnknownOutcome if writes else RetryLater
        raise kind(Reason.MALFORMED_ANSWER, f"the answer holds no list of {name}")
    return found


def _user(one: Mapping[str, Any]) -> RemoteUser:
    return RemoteUser(
        str(one.get("id")),
        _text(one.get("email")),
        _text(one.get("full_name")),
        _text(one.get("employee_id")),
        one.get("active") is not False,
    )


def _failed(result: Mapping[str, Any]) -> Failed | None:
    error = result.get("error")
    if not isinstance(error, dict):
        return None
    code = str(error.get("code"))
    # The code alone: a message may quote the record.
    return Failed(_REASONS.get(code, Reason.BATCH_REJECTED), f"the system says {code[:_SHOWN]}")


def _text(value: object) -> str | None:
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) and value != "" else None
