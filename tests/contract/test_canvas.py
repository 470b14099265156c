"""Canvas's REST API, answer by answer: who is found, enrolled, refused and why, and what is only a pause."""

import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest
import responses
import yaml
from hypothesis import given
from hypothesis import strategies as st
from requests.exceptions import ConnectionError as Broken
from responses.matchers import query_param_matcher

from integration.config import ConnectionConfig
from integration.connectors import registry
from integration.connectors.client import CallRecord, Reply
from integration.connectors.lms.canvas import Canvas, store
from integration.connectors.lms.canvas_statuses import Meaning, meaning, seen
from integration.errors import (
    ConfigError,
    ConnectionBroken,
    CoursewireError,
    Reason,
    Rejected,
    RetryLater,
    UnknownOutcome,
)
from integration.model.contacts import Failed
from integration.model.enrollments import (
    Enrolled,
    EnrollmentState,
    EnrollmentWrite,
    ListedCourse,
    NewUser,
    RemoteEnrollment,
    RemoteUser,
)

HOST = "https://acme.instructure.test"
V1 = f"{HOST}/api/v1"
ADA = {"id": 123, "name": "Ada", "sis_user_id": "E-7", "login_id": "ada", "email": "ada@example.com"}
DENIED = {"status": "unauthorized", "errors": [{"message": "user not authorized to perform that action"}]}
ABSENT = {"errors": [{"message": "The specified resource does not exist."}]}
TOKEN_GONE = {"errors": [{"message": "Invalid access token."}]}
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="canvas-lms"'}
THROTTLED = "403 Forbidden (Rate Limit Exceeded)\n"
DATE = "Sat, 21 Nov 2026 10:00:02 GMT"


@pytest.fixture
def http() -> Iterator[responses.RequestsMock]:
    """Answers instead of a network."""
    with responses.RequestsMock() as mock:
        yield mock


def config(**said: Any) -> ConnectionConfig:
    """A Canvas connection with a token."""
    known: dict[str, Any] = {"base_url": HOST, "credentials": {"token": {"env": "TEST_CANVAS_API_TOKEN"}}}
    return ConnectionConfig.model_validate({"name": "canvas", "system": "canvas", **known, **said})


@pytest.fixture
def canvas(monkeypatch: pytest.MonkeyPatch) -> Canvas:
    """A Canvas connection whose token is `first-token`."""
    monkeypatch.setenv("TEST_CANVAS_API_TOKEN", "first-token")
    return Canvas(config())


def wish(trace: str, state: EnrollmentState = "enrolled", remote_id: str | None = None, **said: str) -> EnrollmentWrite:
    """One write."""
    user_id, course_id = said.get("user_id", "123"), said.get("course_id", "565")
    return EnrollmentWrite(trace, user_id, course_id, state, remote_id=remote_id)


def entry(number: int, state: str = "active", created: str = "2026-11-21T10:00:01Z", **said: Any) -> dict[str, Any]:
    """An enrolment as Canvas returns it."""
    return {"id": number, "enrollment_state": state, "created_at": created, "type": "StudentEnrollment", **said}


def sent(http: responses.RequestsMock, place: int = 0) -> dict[str, Any]:
    """The JSON of a request."""
    body = http.calls[place].request.body
    assert isinstance(body, bytes)
    found: dict[str, Any] = orjson.loads(body)
    return found


def asked(http: responses.RequestsMock, place: int = 0) -> dict[str, list[str]]:
    """The query of a request."""
    return parse_qs(urlsplit(str(http.calls[place].request.url)).query)


# --- users


def test_a_user_by_id(canvas: Canvas, http: responses.RequestsMock) -> None:
    """Ids are text, the token goes in a header, and who is not there or not ours to see is not found."""
    http.add("GET", f"{V1}/users/123", json=ADA)
    http.add("GET", f"{V1}/users/9", json=ABSENT, status=404)
    http.add("GET", f"{V1}/users/8", json=DENIED, status=403)
    found = canvas.users("id", ["123", "9", "8", "123", " ", "self", "1/../2", ".."])
    assert found == {"123": (RemoteUser("123", "ada@example.com", "Ada", "E-7"),)}
    assert [call.request.headers["Authorization"] for call in http.calls] == ["Bearer first-token"] * 3


def test_a_user_by_sis_id(canvas: Canvas, http: responses.RequestsMock) -> None:
    """An employee id with a dot or a slash goes as hex, because Rails would cut it off there."""
    http.add("GET", f"{V1}/users/sis_user_id:E-7", json=ADA)
    http.add("GET", f"{V1}/users/hex:sis_user_id:412f42", json={"id": "7"})
    found = canvas.users("employee_id", ["E-7", "A/B"])
    assert {value: [one.id for one in users] for value, users in found.items()} == {"E-7": ["123"], "A/B": ["7"]}


def test_users_by_email(canvas: Canvas, http: responses.RequestsMock) -> None:
    """Canvas compares parts of names: only who has this very address as e-mail or login counts; several are several."""
    joan = {"id": 5, "name": "Joan", "email": "joada@example.com", "login_id": "joada@example.com"}
    login = {"id": 6, "name": "Ada again", "email": None, "login_id": "ADA@example.com"}
    http.add("GET", f"{V1}/accounts/self/users", json=[ADA, joan, login])
    found = canvas.users("email", ["Ada@Example.com"])
    assert [one.id for one in found["Ada@Example.com"]] == ["123", "6"]
    assert asked(http) == {"search_term": ["Ada@Example.com"], "include[]": ["email"], "per_page": ["100"]}


def test_nobody_is_found_twice_on_pages(canvas: Canvas, http: responses.RequestsMock) -> None:
    """The look-up follows pages, since the one who is meant may stand on the second."""
    path = f"{V1}/accounts/self/users"
    link = {"Link": f'<{path}?page=bookmark:xyz&per_page=100>; rel="next"'}
    http.add(
        "GET", path, json=[{"id": 1, "email": "x"}], headers=link, match=[query_param_matcher({}, strict_match=False)]
    )
    http.add("GET", path, json=[ADA], match=[query_param_matcher({"page": "bookmark:xyz", "per_page": "100"})])
    assert [one.id for one in canvas.users("email", ["ada@example.com"])["ada@example.com"]] == ["123"]


def test_users_that_may_not_be_listed_break_the_connection(canvas: Canvas, http: responses.RequestsMock) -> None:
    """A look-up without permission must not be taken for "not there": somebody would be created twice."""
    http.add("GET", f"{V1}/accounts/self/users", json=DENIED, status=401)
    with pytest.raises(ConnectionBroken) as raised:
        canvas.users("email", ["ada@example.com"])
    assert raised.value.reason is Reason.SCOPE_MISSING


def test_a_user_is_created(canvas: Canvas, http: responses.RequestsMock) -> None:
    """The e-mail is login and channel, nobody gets a mail, and the answer is keyed by trace."""
    http.add("POST", f"{V1}/accounts/self/users", json=ADA)
    made = canvas.create_users([NewUser("t1", "ada@example.com", "Ada", "E-7")])
    assert made == {"t1": RemoteUser("123", "ada@example.com", "Ada", "E-7")}
    assert sent(http) == {
        "user": {"name": "Ada", "skip_registration": True},
        "pseudonym": {"unique_id": "ada@example.com", "send_confirmation": False, "sis_user_id": "E-7"},
        "communication_channel": {"type": "email", "address": "ada@example.com", "skip_confirmation": True},
    }


def test_a_login_that_is_taken_is_a_conflict(canvas: Canvas, http: responses.RequestsMock) -> None:
    """Whoever has the login already is told apart from a value that Canvas refuses; neither stops the others."""
    path = f"{V1}/accounts/self/users"
    taken = {"errors": {"pseudonym": {"unique_id": [{"attribute": "unique_id", "type": "taken", "message": "in use"}]}}}
    invalid = {"errors": {"user": {"name": [{"attribute": "name", "type": "too_long", "message": "too long"}]}}}
    http.add("POST", path, json=taken, status=400)
    http.add("POST", path, json=invalid, status=400)
    http.add("POST", path, json={"id": 7})
    made = canvas.create_users([NewUser(trace, f"{trace}@example.com") for trace in ("a", "b", "c")])
    reasons = {trace: one.reason if isinstance(one, Failed) else one.id for trace, one in made.items()}
    assert reasons == {"a": Reason.CONFLICT, "b": Reason.INVALID_VALUE, "c": "7"}


@pytest.mark.parametrize(("status", "body"), [(401, DENIED), (403, DENIED), (404, ABSENT)])
def test_an_account_that_cannot_be_written_to_breaks_the_connection(
    canvas: Canvas, http: responses.RequestsMock, status: int, body: Any
) -> None:
    """Nobody can be created there, so it is nobody's own failure."""
    http.add("POST", f"{V1}/accounts/self/users", json=body, status=status)
    with pytest.raises(ConnectionBroken) as raised:
        canvas.create_users([NewUser("t1", "ada@example.com")])
    assert raised.value.reason is Reason.SCOPE_MISSING


# --- enrolments


def test_enrolments_that_are_there(canvas: Canvas, http: responses.RequestsMock) -> None:
    """A live one counts before an ended one; what is absent or may not be read has none; teachers are not asked for."""
    http.add("GET", f"{V1}/courses/565/enrollments", json=[entry(1, "completed"), entry(2, "invited")])
    http.add("GET", f"{V1}/courses/566/enrollments", json=[entry(3, "inactive")])
    http.add("GET", f"{V1}/courses/567/enrollments", json=[])
    http.add("GET", f"{V1}/courses/568/enrollments", json=ABSENT, status=404)
    http.add("GET", f"{V1}/courses/569/enrollments", json=DENIED, status=401)
    pairs = [("123", course) for course in ("565", "566", "567", "568", "569", "565", "a/b")]
    assert canvas.enrollments(pairs) == {
        ("123", "565"): RemoteEnrollment("enrolled", "2"),
        ("123", "566"): RemoteEnrollment("concluded", "3"),
    }
    assert len(http.calls) == 5
    states = ["active", "invited", "creation_pending", "completed", "inactive"]
    known = {"user_id": ["123"], "type[]": ["StudentEnrollment"], "per_page": ["100"], "state[]": states}
    assert asked(http) == known


def test_somebody_is_enrolled(canvas: Canvas, http: responses.RequestsMock) -> None:
    """As an active student, without a mail and never with an end; what Canvas made now is ours."""
    http.add("POST", f"{V1}/courses/565/enrollments", json=entry(46825), headers={"Date": DATE})
    assert canvas.write([wish("t1")]) == {"t1": Enrolled("46825", created=True)}
    student = {"user_id": "123", "type": "StudentEnrollment", "enrollment_state": "active", "notify": False}
    assert sent(http) == {"enrollment": student}
    assert canvas.capabilities.due_dates == "access_window"


@pytest.mark.parametrize(
    ("created", "date"),
    [
        ("2026-11-20T10:00:01Z", DATE),
        ("2026-11-21T10:00:01Z", "soon"),
        ("2026-11-21T10:00:01Z", ""),
        (None, DATE),
        ("soon", DATE),
    ],
)
def test_who_was_enrolled_before_is_not_there_by_our_doing(
    canvas: Canvas, http: responses.RequestsMock, created: Any, date: str
) -> None:
    """Canvas answers an enrolment that was there in the same way; where in doubt it is a human's, and stays theirs."""
    http.add("POST", f"{V1}/courses/565/enrollments", json=entry(7, created=created), headers={"Date": date})
    assert canvas.write([wish("t1")]) == {"t1": Enrolled("7", created=False)}


@pytest.mark.parametrize(("state", "task"), [("concluded", "conclude"), ("removed", "delete")])
def test_an_enrolment_is_ended(canvas: Canvas, http: responses.RequestsMock, state: EnrollmentState, task: str) -> None:
    """Under its id, else all that the student has in the course; what is gone already is no failure."""
    there = query_param_matcher({"task": task})
    http.add("DELETE", f"{V1}/courses/565/enrollments/7", json=entry(7), match=[there])
    http.add("DELETE", f"{V1}/courses/566/enrollments/8", json=ABSENT, status=404, match=[there])
    http.add("GET", f"{V1}/courses/567/enrollments", json=[entry(1), entry(2)])
    http.add("DELETE", f"{V1}/courses/567/enrollments/1", json=entry(1), match=[there])
    http.add("DELETE", f"{V1}/courses/567/enrollments/2", json=entry(2), match=[there])
    http.add("GET", f"{V1}/courses/568/enrollments", json=[])
    http.add("GET", f"{V1}/courses/569/enrollments", json=ABSENT, status=404)
    writes = [
        wish("a", state, "7"),
        wish("b", state, "8", course_id="566"),
        *(wish(course, state, course_id=course) for course in ("567", "568", "569")),
    ]
    assert canvas.write(writes) == {
        "a": Enrolled("7"),
        "b": Enrolled("8"),
        "567": Enrolled("1"),
        "568": Enrolled(),
        "569": Enrolled(),
    }


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (404, ABSENT, "not in Canvas any more"),
        (401, DENIED, "no permission in this course"),
        (403, DENIED, "no permission in this course"),
        (400, {"message": "Can't add an enrollment to a concluded course."}, "the course is concluded"),
        (400, {"errors": {"user": "Ada Lovelace is a fool"}}, "Canvas refuses it"),
        (422, {}, "Canvas refuses it"),
    ],
)
def test_a_refusal_is_one_record_s(
    canvas: Canvas, http: responses.RequestsMock, status: int, body: Any, words: str
) -> None:
    """One learner or course that Canvas does not take stops nobody else, and its own words are not repeated."""
    http.add("POST", f"{V1}/courses/565/enrollments", json=body, status=status)
    http.add("POST", f"{V1}/courses/566/enrollments", json=entry(2))
    answers = canvas.write([wish("bad"), wish("good", course_id="566")])
    assert answers["good"] == Enrolled("2")
    bad = answers["bad"]
    assert isinstance(bad, Failed)
    assert bad.reason is Reason.ENROLLMENT_REFUSED
    assert words in bad.detail
    assert "Ada" not in bad.detail


@pytest.mark.parametrize("value", ["self", "..", "1/2", "1?x", "", "1 2"])
def test_what_is_no_id_never_becomes_a_path(canvas: Canvas, http: responses.RequestsMock, value: str) -> None:
    """Nobody is enrolled, and nothing is called, under an id that would lead elsewhere."""
    writes = [wish("u", user_id=value), wish("c", course_id=value), wish("e", "removed", f"{value}/")]
    reasons = {one.reason for one in canvas.write(writes).values() if isinstance(one, Failed)}
    assert reasons == {Reason.ENROLLMENT_REFUSED}
    assert not http.calls


def test_trouble_in_the_middle_costs_nobody_their_answer(canvas: Canvas, http: responses.RequestsMock) -> None:
    """What was done is answered, what was not has no answer; the next call meets the trouble first and says it."""
    http.add("POST", f"{V1}/courses/565/enrollments", json=entry(1))
    http.add("POST", f"{V1}/courses/566/enrollments", body=THROTTLED, status=403)
    writes = [wish(course, course_id=course) for course in ("565", "566", "567")]
    assert canvas.write(writes) == {"565": Enrolled("1")}
    with pytest.raises(RetryLater) as raised:
        canvas.write(writes[1:])
    assert (raised.value.reason, raised.value.after) == (Reason.RATE_LIMITED, 10.0)
    assert len(http.calls) == 3


TROUBLE = {"throttled": 403, "away": 502, "lost": 200}


@given(st.lists(st.sampled_from(["done", "refused", *TROUBLE]), min_size=1, max_size=6))
def test_wherever_trouble_comes_what_was_done_is_said(fates: list[str]) -> None:
    """Everything before the trouble has its own answer, everything from it on has none, and nothing is called after."""
    with pytest.MonkeyPatch.context() as patch, responses.RequestsMock(assert_all_requests_are_fired=False) as http:
        patch.setenv("TEST_CANVAS_API_TOKEN", "first-token")
        for place, fate in enumerate(fates):
            path = f"{V1}/courses/{place}/enrollments"
            if fate == "done":
                http.add("POST", path, json=entry(place))
            elif fate == "refused":
                http.add("POST", path, json=ABSENT, status=404)
            else:
                http.add("POST", path, body=THROTTLED, status=TROUBLE[fate])
        first = next((place for place, fate in enumerate(fates) if fate in TROUBLE), len(fates))
        writes = [wish(str(place), course_id=str(place)) for place in range(len(fates))]
        if first == 0:
            with pytest.raises(RetryLater):
                Canvas(config()).write(writes)
        else:
            answers = Canvas(config()).write(writes)
            kinds = {trace: "done" if isinstance(one, Enrolled) else "refused" for trace, one in answers.items()}
            assert kinds == {str(place): fates[place] for place in range(first)}
        assert len(http.calls) == min(first + 1, len(fates))


def test_each_request_spends_a_call(monkeypatch: pytest.MonkeyPatch, http: responses.RequestsMock) -> None:
    """The gate is asked before every request, and may end a batch in the middle; every call is taken down once."""
    monkeypatch.setenv("TEST_CANVAS_API_TOKEN", "first-token")
    spent: list[str] = []
    records: list[CallRecord] = []

    def gate(endpoint: str) -> None:
        if len(spent) == 2:
            raise RetryLater(Reason.BUDGET_SPENT)
        spent.append(endpoint)

    http.add("GET", f"{V1}/courses/565/enrollments", json=[entry(1)])
    http.add("DELETE", f"{V1}/courses/565/enrollments/1", json=entry(1), headers={"X-Rate-Limit-Remaining": "598.5"})
    made = registry.enrollments(config(), records.append, gate)
    assert made
    writes = [wish("a", "removed"), wish("b"), wish("c")]
    assert made.write(writes) == {"a": Enrolled("1")}
    with pytest.raises(RetryLater):
        made.write(writes)
    assert spent == ["any", "any"]
    assert [record.operation for record in records] == ["canvas.enrollments", "canvas.delete"]
    assert records[1].limits == {"x-rate-limit-remaining": "598.5"}


# --- trouble


@pytest.mark.parametrize(
    ("answer", "error", "reason"),
    [
        ({"body": THROTTLED, "status": 403}, RetryLater, Reason.RATE_LIMITED),
        ({"json": {"errors": "Rate Limit Exceeded"}, "status": 403}, RetryLater, Reason.RATE_LIMITED),
        ({"body": "", "status": 429, "headers": {"Retry-After": "7"}}, RetryLater, Reason.RATE_LIMITED),
        ({"json": TOKEN_GONE, "status": 401, "headers": CHALLENGE}, ConnectionBroken, Reason.CREDENTIALS_REFUSED),
        ({"json": DENIED, "status": 401, "headers": CHALLENGE}, ConnectionBroken, Reason.CREDENTIALS_REFUSED),
        ({"json": {"status": "unauthenticated"}, "status": 401}, ConnectionBroken, Reason.CREDENTIALS_REFUSED),
        ({"body": "<html>", "status": 401}, ConnectionBroken, Reason.CREDENTIALS_REFUSED),
        ({"body": "oops", "status": 500}, UnknownOutcome, Reason.SERVER_ERROR),
        ({"body": "oops", "status": 503}, UnknownOutcome, Reason.SERVER_ERROR),
        ({"body": "", "status": 408}, UnknownOutcome, Reason.SERVER_ERROR),
        ({"body": "", "status": 302, "headers": {"Location": "https://x.test/login"}}, RetryLater, Reason.SERVER_ERROR),
        ({"body": "<html>"}, UnknownOutcome, Reason.MALFORMED_ANSWER),
        ({"json": []}, UnknownOutcome, Reason.MALFORMED_ANSWER),
        ({"json": {"id": None}}, UnknownOutcome, Reason.MALFORMED_ANSWER),
    ],
)
def test_trouble_of_the_whole_connection_is_raised(
    canvas: Canvas, http: responses.RequestsMock, answer: dict[str, Any], error: type[CoursewireError], reason: Reason
) -> None:
    """A 403 is two things and a 401 as well; a write whose answer is lost may have been applied."""
    http.add("POST", f"{V1}/courses/565/enrollments", **answer)
    with pytest.raises(error) as raised:
        canvas.write([wish("t1"), wish("t2")])
    assert type(raised.value) is error
    assert raised.value.reason is reason
    if isinstance(raised.value, RetryLater):
        assert raised.value.after == (7.0 if answer.get("status") == 429 else 10.0 if "403" in str(answer) else None)


def test_a_lost_connection_is_known_for_what_it_is(canvas: Canvas, http: responses.RequestsMock) -> None:
    """Nothing was sent, so nothing was applied; a read is only ever repeated."""
    http.add("POST", f"{V1}/courses/565/enrollments", body=Broken("x"))
    http.add("GET", f"{V1}/users/1", body="oops", status=500)
    with pytest.raises(RetryLater) as raised:
        canvas.write([wish("t1")])
    assert raised.value.reason is Reason.NETWORK_ERROR
    with pytest.raises(RetryLater) as failed:
        canvas.users("id", ["1"])
    assert type(failed.value) is RetryLater


def test_a_token_that_was_replaced_is_read_anew(
    canvas: Canvas, http: responses.RequestsMock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rotating the token needs no restart; a missing permission does not have it read again."""
    http.add("GET", f"{V1}/users/123", json=ADA)
    canvas.users("id", ["123"])
    monkeypatch.setenv("TEST_CANVAS_API_TOKEN", "second-token")
    http.add("GET", f"{V1}/users/7", json=DENIED, status=401)
    assert canvas.users("id", ["7"]) == {}
    http.add("GET", f"{V1}/users/8", json=TOKEN_GONE, status=401, headers=CHALLENGE)
    http.add("GET", f"{V1}/users/8", json={"id": 8})
    assert canvas.users("id", ["8"])
    tokens = [call.request.headers["Authorization"].removeprefix("Bearer ") for call in http.calls]
    assert tokens == ["first-token", "first-token", "first-token", "second-token"]


@pytest.mark.parametrize(
    ("status", "body", "text", "found"),
    [
        (200, {}, "", Meaning.DONE),
        (401, DENIED, "", Meaning.DENIED),
        (401, None, "unauthorized", Meaning.TOKEN),
        (403, None, THROTTLED, Meaning.THROTTLED),
        (403, DENIED, "", Meaning.DENIED),
        (403, None, "<html>Forbidden</html>", Meaning.ELSEWHERE),
        (403, None, "", Meaning.ELSEWHERE),
        (409, {}, "", Meaning.INVALID),
        (504, None, "", Meaning.FAILED),
        (600, None, "", Meaning.FAILED),
        (301, None, "", Meaning.ELSEWHERE),
    ],
)
def test_what_an_answer_means(status: int, body: Any, text: str, found: Meaning) -> None:
    """One table, for every method."""
    assert meaning(Reply(status, body, {}, text=text)) is found


def test_the_quota_is_read_in_calls() -> None:
    """Canvas counts what requests cost: dear ones leave fewer of them."""
    assert seen({"x-rate-limit-remaining": "598.5", "x-request-cost": "0.4"}).remaining == 598
    assert seen({"x-rate-limit-remaining": "600", "x-request-cost": "30"}).remaining == 20
    assert seen({"x-rate-limit-remaining": "0.0"}).remaining == 0
    assert [seen({"x-rate-limit-remaining": odd}).remaining for odd in ("", "x", "nan", "inf", "-1")] == [None] * 5
    assert seen({}).remaining is None


# --- the catalogue


def test_the_catalogue_is_read_page_by_page(canvas: Canvas, http: responses.RequestsMock) -> None:
    """Links are followed as they are, `last` or not; unpublished and ended courses are not active."""
    path = f"{V1}/accounts/self/courses"
    links = {"LINK": f'<{path}?page=first>; rel="first", <{path}?per_page=100&page=bookmark:WzFd>; rel="next"'}
    first = [{"id": 1, "name": "One", "workflow_state": "available"}, {"id": 2, "workflow_state": "unpublished"}, 7]
    second = [{"id": "3", "name": "Three", "workflow_state": "completed"}, {"name": "no id"}]
    http.add("GET", path, json=first, headers=links, match=[query_param_matcher({"per_page": "100"})])
    more = query_param_matcher({"per_page": "100", "page": "bookmark:WzFd"})
    http.add("GET", path, json=second, headers={"Link": f'<{path}?page=1>; rel="current"'}, match=[more])
    assert list(canvas.courses()) == [
        ListedCourse("1", "One"),
        ListedCourse("2", None, is_active=False),
        ListedCourse("3", "Three", is_active=False),
    ]


@pytest.mark.parametrize(
    "link",
    [
        "https://evil.test/api/v1/accounts/self/courses?page=2",
        f"{V1}/accounts/self/courses?per_page=100",
        "http://[",
        "/api/v1/accounts/self/courses?page=2",
    ],
)
def test_the_token_follows_no_link_to_elsewhere(canvas: Canvas, http: responses.RequestsMock, link: str) -> None:
    """A link to another host, or back to the same page, ends the list with an error, not with half a catalogue."""
    http.add("GET", f"{V1}/accounts/self/courses", json=[{"id": 1}], headers={"Link": f'<{link}>; rel="next"'})
    with pytest.raises(RetryLater) as raised:
        list(canvas.courses())
    assert raised.value.reason is Reason.MALFORMED_ANSWER
    assert len(http.calls) == 1


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [(403, DENIED, ConnectionBroken), (400, {}, Rejected), (200, {"courses": []}, RetryLater), (502, None, RetryLater)],
)
def test_a_catalogue_that_cannot_be_read_is_an_error(
    canvas: Canvas, http: responses.RequestsMock, status: int, body: Any, error: type[Exception]
) -> None:
    """An empty catalogue would retire every course."""
    http.add("GET", f"{V1}/accounts/self/courses", json=body, status=status)
    with pytest.raises(error):
        list(canvas.courses())


# --- settings and check


def test_a_connection_without_a_token_enrols_nobody() -> None:
    """It may still receive events; half of what is needed is an error that says the rest."""
    bare = ConnectionConfig.model_validate({"name": "canvas", "system": "canvas"})
    assert store(bare) is None
    for said in ({"base_url": None}, {"credentials": {"key": {"env": "X"}}}):
        with pytest.raises(ConfigError, match="needs base_url"):
            store(config(**said))


def test_the_account_is_a_setting(monkeypatch: pytest.MonkeyPatch, http: responses.RequestsMock) -> None:
    """Users are found, and courses listed, in the account that the options name."""
    monkeypatch.setenv("TEST_CANVAS_API_TOKEN", "first-token")
    http.add("GET", f"{V1}/accounts/79/courses", json=[])
    assert list(Canvas(config(options={"account_id": "79"})).courses()) == []
    with pytest.raises(ValueError, match="account_id"):
        config(options={"account_id": "1/../2"})


def verdicts(said: ConnectionConfig) -> list[tuple[bool, str]]:
    """What `check` says."""
    doctor = registry.doctor(said)
    assert doctor
    return [(one.ok, one.what) for one in doctor.check()]


def test_check_reads_the_account(monkeypatch: pytest.MonkeyPatch, http: responses.RequestsMock) -> None:
    """A good connection says so; another account's uuid, which would ignore every event, is found."""
    monkeypatch.setenv("TEST_CANVAS_API_TOKEN", "first-token")
    http.add("GET", f"{V1}/users/self", json={"id": 1})
    http.add("GET", f"{V1}/accounts/self", json={"id": 1, "root_account_id": None, "uuid": "ours"})
    good = [(True, f"the token is accepted at {HOST}"), (True, "the account can be read")]
    assert verdicts(config()) == good
    assert verdicts(config(options={"root_account_uuid": "ours"})) == good
    wrong = (False, "options.root_account_uuid is not this account's")
    assert verdicts(config(options={"root_account_uuid": "theirs"})) == [*good, wrong]


@pytest.mark.parametrize(
    ("me", "account", "what"),
    [
        ({"json": TOKEN_GONE, "status": 401, "headers": CHALLENGE}, None, f"Canvas refuses the token at {HOST}"),
        ({"body": Broken("x")}, None, f"Canvas does not answer at {HOST}"),
        ({"json": {}}, {"json": DENIED, "status": 403}, "the account self cannot be read"),
        ({"json": ABSENT, "status": 404}, {"json": {}}, f"{HOST} does not know the token's user"),
    ],
)
def test_check_names_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch, http: responses.RequestsMock, me: Any, account: Any, what: str
) -> None:
    """One finding says it, with advice, and nothing is raised."""
    monkeypatch.setenv("TEST_CANVAS_API_TOKEN", "first-token")
    http.add("GET", f"{V1}/users/self", **me)
    if account:
        http.add("GET", f"{V1}/accounts/self", **account)
    assert (False, what) in verdicts(config())


def test_check_without_anything_to_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that can do nothing, or whose token is nowhere, is not called well."""
    monkeypatch.delenv("TEST_CANVAS_API_TOKEN", raising=False)
    bare = ConnectionConfig.model_validate({"name": "canvas", "system": "canvas"})
    assert verdicts(bare) == [(False, "it neither receives events nor enrols anybody")]
    assert [ok for ok, _ in verdicts(config())] == [False]
    assert [ok for ok, _ in verdicts(config(base_url=None))] == [False]


def test_the_settings_on_the_page_load() -> None:
    """What an administrator copies from docs/canvas.md is taken, and what its first block says is enough for events."""
    text = (Path(__file__).parents[2] / "docs/canvas.md").read_text("utf-8")
    blocks = [yaml.safe_load(dedent(block)) for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)]
    events, unsigned, rest = blocks
    assert registry.inbound(config(**events["connections"]["canvas"], credentials={}, base_url=None))
    assert registry.inbound(config(**unsigned))
    assert registry.enrollments(config(**rest))
