"""The connector against the Canvas look-alike over real HTTP: found or created, enrolled, ended, listed, believed."""

import socket
import threading
from collections.abc import Iterator

import orjson
import pytest
import uvicorn

from integration.config import ConnectionConfig
from integration.connectors import registry
from integration.errors import ConnectionBroken, Reason, Refused, RetryLater
from integration.model.contacts import Failed
from integration.model.enrollments import Enrolled, EnrollmentWrite, ListedCourse, NewUser, RemoteEnrollment
from integration.model.events import EventType, LearningEvent
from integration.ports import EnrollmentStore
from scripts.sandbox.canvas import CanvasAccount, create_app


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[CanvasAccount, str]]:
    """An account that is served on this machine, and where."""
    account = CanvasAccount()
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(create_app(account), lifespan="off", log_level="critical"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield account, f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()


@pytest.fixture
def account(served: tuple[CanvasAccount, str]) -> CanvasAccount:
    """The account, without anything in it."""
    account, _ = served
    for kept in (account.users, account.courses, account.enrollments, account.calls):
        kept.clear()
    account.throttled, account.token = 0, "canvas-token"
    return account


@pytest.fixture
def config(served: tuple[CanvasAccount, str], monkeypatch: pytest.MonkeyPatch) -> ConnectionConfig:
    """A connection to it, both ways."""
    account, address = served
    monkeypatch.setenv("TEST_CANVAS_API_TOKEN", "canvas-token")
    said = {
        "name": "canvas",
        "system": "canvas",
        "base_url": address,
        "credentials": {"token": {"env": "TEST_CANVAS_API_TOKEN"}},
        "options": {"jwks_url": f"{address}/main/jwks", "root_account_uuid": account.uuid},
    }
    return ConnectionConfig.model_validate(said)


@pytest.fixture
def canvas(account: CanvasAccount, config: ConnectionConfig) -> EnrollmentStore:
    """The connector."""
    assert account.token
    made = registry.enrollments(config)
    assert made
    return made


def test_a_life_of_an_enrolment(account: CanvasAccount, canvas: EnrollmentStore) -> None:
    """Created, found again by everything, enrolled once, concluded, opened again, removed; twice is as once."""
    course = str(account.add_course("Demo")["id"])
    new = NewUser("t1", "Ada@example.com", "Ada Lovelace", "E.7/b")
    ada = canvas.create_users([new])["t1"]
    assert not isinstance(ada, Failed)
    again = canvas.create_users([new])["t1"]
    assert isinstance(again, Failed)
    assert again.reason is Reason.CONFLICT
    for by, value in (("id", ada.id), ("email", "ada@EXAMPLE.com"), ("employee_id", "E.7/b")):
        assert canvas.users(by, [value]) == {value: (ada,)}  # type: ignore[arg-type]
    assert canvas.users("email", ["da@example.com"]) == {}

    assert canvas.enrollments([(ada.id, course)]) == {}
    first = canvas.write([EnrollmentWrite("e1", ada.id, course, "enrolled")])["e1"]
    assert isinstance(first, Enrolled)
    assert first.created
    assert first.id
    there = {(ada.id, course): RemoteEnrollment("enrolled", first.id)}
    assert canvas.enrollments([(ada.id, course)]) == there
    for state, found in (
        ("concluded", {(ada.id, course): RemoteEnrollment("concluded", first.id)}),
        ("enrolled", there),
        ("removed", {}),
        ("removed", {}),
    ):
        write = EnrollmentWrite("e2", ada.id, course, state, remote_id=first.id)  # type: ignore[arg-type]
        done = canvas.write([write])["e2"]
        assert isinstance(done, Enrolled)
        assert canvas.enrollments([(ada.id, course)]) == found


def test_one_course_that_refuses_stops_nobody(account: CanvasAccount, canvas: EnrollmentStore) -> None:
    """Each answer belongs to its record, whatever becomes of the others."""
    ada = str(account.add_user("ada@example.com")["id"])
    good, over = account.add_course("Demo"), account.add_course("Old", "completed")
    places = {"over": str(over["id"]), "gone": "999999", "good": str(good["id"])}
    answers = canvas.write([EnrollmentWrite(trace, ada, course, "enrolled") for trace, course in places.items()])
    assert {trace: type(answer) for trace, answer in answers.items()} == {
        "over": Failed,
        "gone": Failed,
        "good": Enrolled,
    }
    assert account.live() == {(int(ada), good["id"])}


def test_a_throttled_batch_is_finished_later(account: CanvasAccount, canvas: EnrollmentStore) -> None:
    """What was done has its answer; repeating the rest enrols everybody once."""
    ada = str(account.add_user("ada@example.com")["id"])
    courses = [str(account.add_course(name)["id"]) for name in ("a", "b")]
    account.throttled = 1
    with pytest.raises(RetryLater) as raised:
        canvas.write([EnrollmentWrite(course, ada, course, "enrolled") for course in courses])
    assert raised.value.reason is Reason.RATE_LIMITED
    assert account.live() == set()
    assert set(canvas.write([EnrollmentWrite(course, ada, course, "enrolled") for course in courses])) == set(courses)
    assert account.live() == {(int(ada), int(course)) for course in courses}
    account.token = "replaced"
    with pytest.raises(ConnectionBroken):
        canvas.users("id", [ada])


def test_a_long_catalogue_is_whole(account: CanvasAccount, canvas: EnrollmentStore) -> None:
    """Every course once, in order, over several pages."""
    for number in range(250):
        account.add_course(f"Course {number}", "available" if number % 2 else "unpublished")
    expected = [
        ListedCourse(str(one["id"]), one["name"], one["workflow_state"] == "available")
        for one in account.courses.values()
    ]
    assert list(canvas.courses()) == expected
    assert len(account.calls) == 3


def test_its_signed_events_are_believed(
    account: CanvasAccount, canvas: EnrollmentStore, config: ConnectionConfig
) -> None:
    """What we wrote comes back as an event whose ids are the ones that we wrote to."""
    course, ada = account.add_course("Demo"), account.add_user("ada@example.com")
    canvas.write([EnrollmentWrite("e1", str(ada["id"]), str(course["id"]), "enrolled")])
    (made,) = account.enrollments.values()
    raw = account.signed(account.live_event("enrollment_created", made))
    inbound = registry.inbound(config)
    assert inbound
    inbound.verify("POST", "https://sync.test/webhooks/canvas", {}, raw)
    (received,) = inbound.split({}, raw)
    (event,) = inbound.translate(received.payload)
    assert isinstance(event, LearningEvent)
    assert event.type is EventType.ENROLLMENT_CREATED
    assert event.learner.lms_user_id == str(ada["id"])
    assert event.subject.id == str(course["id"])
    with pytest.raises(Refused):
        inbound.verify("POST", "https://sync.test/webhooks/canvas", {}, orjson.dumps({"metadata": {}, "body": {}}))


def test_check_is_content(account: CanvasAccount, config: ConnectionConfig) -> None:
    """Token, account and keys are all well."""
    assert account.token
    doctor = registry.doctor(config)
    assert doctor
    assert [one.ok for one in doctor.check()] == [True, True, True]
