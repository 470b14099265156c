"""Asking Canvas and Moodle what happened: refusals of one course, of a permission, and answers that say nothing."""

from datetime import UTC, datetime
from typing import Any

import pytest
import responses

from integration.config import ConnectionConfig
from integration.connectors.lms.canvas_results import CanvasResults
from integration.connectors.lms.moodle_results import MoodleResults
from integration.errors import ConnectionBroken, Reason, RetryLater
from integration.ports import Scope

CANVAS, MOODLE = "https://acme.instructure.com", "https://lms.example.org"
REST = f"{MOODLE}/webservice/rest/server.php"
SCOPE = Scope(datetime(2026, 11, 1, tzinfo=UTC), ("12", "7"), lambda events: events)
PEOPLE = [{"id": 5, "fullname": "Ada Byron", "email": "ada@example.com", "idnumber": " "}, {"id": 6}]


@pytest.fixture
def canvas(monkeypatch: pytest.MonkeyPatch) -> CanvasResults:
    """An account."""
    monkeypatch.setenv("TEST_TOKEN", "t0ken")
    return CanvasResults(_connection("canvas", CANVAS))


@pytest.fixture
def moodle(monkeypatch: pytest.MonkeyPatch) -> MoodleResults:
    """A site."""
    monkeypatch.setenv("TEST_TOKEN", "t0ken")
    return MoodleResults(_connection("moodle", MOODLE))


def _connection(system: str, address: str) -> ConnectionConfig:
    known = {"name": "lms", "system": system, "base_url": address}
    return ConnectionConfig.model_validate({**known, "credentials": {"token": {"env": "TEST_TOKEN"}}})


def refused(code: str) -> dict[str, str]:
    """Return what Moodle says under HTTP 200."""
    return {"exception": "moodle_exception", "errorcode": code, "message": "Ada may not"}


def status(*times: int | None, completed: bool = True, aggregation: int = 1) -> dict[str, Any]:
    """Return how far somebody is, with the times of criteria."""
    met = [{"complete": at is not None, "timecompleted": at} for at in times]
    return {"completionstatus": {"completed": completed, "aggregation": aggregation, "completions": met}}


@responses.activate
def test_a_course_that_canvas_hides_is_counted_and_the_next_one_read(canvas: CanvasResults) -> None:
    """A permission that lacks in one course breaks no connection."""
    denied = {"status": "unauthorized", "errors": []}
    responses.get(f"{CANVAS}/api/v1/courses/12/enrollments", json=denied, status=403)
    first = canvas.page(None, SCOPE)
    assert (first.events, first.unread) == ((), 1)
    responses.get(f"{CANVAS}/api/v1/courses/12/bulk_user_progress", json=denied, status=401)
    second = canvas.page(first.position, SCOPE)
    assert second.unread == 1
    assert second.position == {"course": "7", "list": "enrollments", "link": None}


@responses.activate
def test_a_course_without_modules_holds_nothing(canvas: CanvasResults) -> None:
    """It has no progress: that is no fault of anybody."""
    responses.get(f"{CANVAS}/api/v1/courses/7/bulk_user_progress", json={"error": {"message": "no"}}, status=400)
    page = canvas.page({"course": "7", "list": "progress", "link": None}, SCOPE)
    assert (page.events, page.unread, page.position) == ((), 0, None)


@responses.activate
def test_entries_of_canvas_that_say_nothing_are_left_out(canvas: CanvasResults) -> None:
    """Not completed, completed before, somebody of another shard, and what is no entry at all."""
    done = "2026-11-20T10:00:00Z"
    entries = [
        {"id": 1, "display_name": "Ada", "progress": {"completed_at": None, "requirement_count": 2}},
        {"id": 2, "progress": {"completed_at": "2019-11-20T10:00:00Z"}},
        {"id": 21070000000000003, "progress": {"completed_at": done}},
        {"id": 4, "progress": {"completed_at": "yesterday"}},
        "nobody",
        {"progress": {"completed_at": done}},
    ]
    responses.get(f"{CANVAS}/api/v1/courses/7/bulk_user_progress", json=entries)
    page = canvas.page({"course": "7", "list": "progress", "link": None}, SCOPE)
    assert [one.learner.lms_user_id for one in page.events] == ["21070000000000003"]
    assert page.unread == 3


@responses.activate
def test_deleted_enrolments_are_cancelled_and_concluded_ones_are_not(canvas: CanvasResults) -> None:
    """As the live events say it, with the enrolment's number and the times of its own."""
    entry = {"id": 9, "user_id": 5, "course_id": 12, "type": "StudentEnrollment", "user": {"name": "Ada"}}
    entry |= {"created_at": "2026-11-02T10:00:00Z", "updated_at": "2026-11-05T10:00:00Z"}
    states = ("active", "deleted", "completed")
    responses.get(
        f"{CANVAS}/api/v1/courses/12/enrollments", json=[{**entry, "enrollment_state": state} for state in states]
    )
    page = canvas.page(None, SCOPE)
    assert [(one.type, one.occurred_at.day, one.attempt) for one in page.events] == [
        ("enrollment.created", 2, "9"),
        ("enrollment.cancelled", 5, "9"),
    ]
    assert page.unread == 0


@responses.activate
def test_our_token_follows_no_link_to_another_host(canvas: CanvasResults) -> None:
    """Whatever the link says."""
    responses.get(
        f"{CANVAS}/api/v1/courses/12/enrollments", json=[], headers={"link": '<https://evil.example/x>; rel="next"'}
    )
    with pytest.raises(RetryLater) as raised:
        canvas.page(None, SCOPE)
    assert raised.value.reason is Reason.MALFORMED_ANSWER


@responses.activate
def test_a_moodle_completion_is_dated_by_its_criteria(moodle: MoodleResults) -> None:
    """By the last of them, or the first where any is enough; one without a time is none."""
    at = int(datetime(2026, 11, 20, tzinfo=UTC).timestamp())
    for answer in (PEOPLE, status(at, at + 86_400), status(at, at + 86_400, aggregation=2)):
        responses.post(REST, json=answer)
    page = moodle.page(None, SCOPE)
    assert [one.occurred_at.day for one in page.events] == [21, 20]
    assert page.events[0].learner.email == "ada@example.com"
    assert page.events[0].learner.employee_id is None
    assert page.position == {"course": "7", "from": 0}
    for answer in (PEOPLE, status(None), status(at, completed=False)):
        responses.post(REST, json=answer)
    assert moodle.page(page.position, SCOPE).events == ()


@responses.activate
@pytest.mark.parametrize(("code", "unread"), [("nocriteriaset", 0), ("cannotviewreport", 1), ("nopermissions", 1)])
def test_what_moodle_refuses_of_a_course_is_said_once(moodle: MoodleResults, code: str, unread: int) -> None:
    """Nobody else of it is asked about, and the next course is."""
    responses.post(REST, json=PEOPLE)
    responses.post(REST, json=refused(code))
    page = moodle.page(None, SCOPE)
    assert (page.events, page.unread, page.position) == ((), unread, {"course": "7", "from": 0})
    assert len(responses.calls) == 2


@responses.activate
def test_a_person_whom_moodle_does_not_track_is_left_out(moodle: MoodleResults) -> None:
    """A teacher among the enrolled, say; the others are asked about."""
    at = int(datetime(2026, 11, 20, tzinfo=UTC).timestamp())
    for answer in (PEOPLE, refused("usernotenroled"), status(at)):
        responses.post(REST, json=answer)
    assert [one.learner.lms_user_id for one in moodle.page(None, SCOPE).events] == ["6"]


@responses.activate
def test_a_function_that_the_token_lacks_is_a_permission(moodle: MoodleResults) -> None:
    """The poll then fails with that reason, and enrolments go on."""
    responses.post(REST, json=PEOPLE)
    responses.post(REST, json=refused("accessexception"))
    with pytest.raises(ConnectionBroken) as raised:
        moodle.page(None, SCOPE)
    assert raised.value.reason is Reason.SCOPE_MISSING


@responses.activate
def test_nobody_is_asked_about_whose_completion_is_known(moodle: MoodleResults) -> None:
    """Or each night would cost a call for everybody who ever learned."""
    responses.post(REST, json=PEOPLE)
    assert moodle.page(None, SCOPE._replace(untold=lambda _: [])).events == ()
    assert len(responses.calls) == 1


def test_without_a_course_nothing_is_asked(canvas: CanvasResults, moodle: MoodleResults) -> None:
    """Nothing here names one yet."""
    for lister in (canvas, moodle):
        assert lister.page(None, SCOPE._replace(courses=("no course", "self"))).position is None
