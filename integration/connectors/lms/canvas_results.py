"""What happened in a Canvas account: the enrolments and completions of one course after the other.

Canvas lists neither by what changed nor for the whole account, so every course that anything here names is read.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from integration.config import ConnectionConfig
from integration.connectors.client import Call, Gate, OnCall
from integration.connectors.lms.canvas import CAPABILITIES
from integration.connectors.lms.canvas_api import V1, Api, is_id, path_with
from integration.connectors.lms.canvas_events import as_listed
from integration.connectors.lms.canvas_statuses import Meaning, meaning
from integration.connectors.lms.canvas_values import LIVE, LOST
from integration.errors import Ignored, Reason, Rejected, RetryLater
from integration.model.events import LearningEvent
from integration.ports import ResultPage, Scope

List = Literal["enrollments", "progress"]


def lister(
    config: ConnectionConfig, on_call: OnCall = None, gate: Gate = None, _: object = None
) -> "CanvasResults | None":
    """Return what asks this account; None where the connection holds no token."""
    return CanvasResults(config, on_call, gate) if config.credentials else None


class CanvasResults:
    """One Canvas account, as ResultLister. Keep it: threads share its connections."""

    capabilities = CAPABILITIES

    def __init__(self, config: ConnectionConfig, on_call: OnCall = None, gate: Gate = None) -> None:
        """Raises ConfigError where address or token are not named; the token is read with the first call."""
        self._name = config.name
        self._api = Api(config, on_call, gate)

    def __repr__(self) -> str:
        """Name the connection, never what opens it."""
        return f"CanvasResults({self._name!r})"

    def page(self, position: Mapping[str, Any] | None, scope: Scope) -> ResultPage:
        """Return one page of one list of one course, in one request.

        A course whose list the token may not read is `unread`; one that is gone, or has no modules and so no progress,
        holds nothing. Source: Canvas docs, enrollments API and courses API ("get bulk user progress").
        """
        courses = [course for course in scope.courses if is_id(course)]
        place = position or _next(courses, None)
        if place is None:
            return ResultPage((), None)
        course, kind = str(place["course"]), place["list"]
        operation = f"canvas.{kind}_of"
        path = place["link"] or (_enrollments(course) if kind == "enrollments" else _progress(course))
        reply = self._api.send(Call(operation, "GET", path, writes=False))
        following: Mapping[str, Any] | None = _next(courses, place)
        said = meaning(reply)
        if said is not Meaning.DONE:
            is_unread = said is Meaning.DENIED or (said is Meaning.INVALID and kind == "enrollments")
            return ResultPage((), following, int(is_unread))
        if not isinstance(reply.body, list):
            raise RetryLater(Reason.MALFORMED_ANSWER, f"{operation}: Canvas answered without a list")
        link = self._api.following(operation, reply, path)
        if link is not None:
            following = {"course": course, "list": kind, "link": link}
        events, unread = [], 0
        for one in reply.body:
            try:
                events += [event for event in _said(kind, course, one) if event.occurred_at >= scope.since]
            except Ignored:
                continue
            except Rejected:
                unread += 1
        return ResultPage(tuple(events), following, unread)


def _next(courses: Sequence[str], place: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Return where the list after this one begins; courses are in order, and may have come or gone meanwhile."""
    if place is not None and place["list"] == "enrollments":
        return {"course": place["course"], "list": "progress", "link": None}
    at = 0 if place is None else bisect_right(courses, str(place["course"]))
    return {"course": courses[at], "list": "enrollments", "link": None} if at < len(courses) else None


def _said(kind: List, course: str, one: Any) -> Iterator[LearningEvent]:
    """Yield the event of an entry, in the words of the live event. Raises Ignored or Rejected as that."""
    if not isinstance(one, dict):
        raise Rejected(Reason.INVALID_EVENT, "an entry is no object")
    if kind == "enrollments":
        state = one.get("enrollment_state")
        user = one.get("user")
        body = {name: one.get(name) for name in ("type", "user_id", "course_id", "created_at", "updated_at")}
        body |= {"workflow_state": state, "enrollment_id": one.get("id")}
        body |= {"user_name": user.get("name")} if isinstance(user, dict) else {}
        yield as_listed("enrollment_updated" if state in LOST else "enrollment_created", body)
        return
    progress = one.get("progress")
    # Without the moment of the completion there is nothing to say: how far somebody is has no time of its own.
    if isinstance(progress, dict) and progress.get("completed_at"):
        person = {"id": one.get("id"), "name": one.get("display_name")}
        yield as_listed("course_completed", {"user": person, "course": {"id": course}, "progress": progress})


def _enrollments(course: str) -> str:
    query = [("type[]", "StudentEnrollment"), ("per_page", "100")]
    query += [("state[]", state) for state in (*LIVE, *LOST)]
    return path_with(f"{V1}/courses/{course}/enrollments", query)


def _progress(course: str) -> str:
    return path_with(f"{V1}/courses/{course}/bulk_user_progress", [("per_page", "100")])
