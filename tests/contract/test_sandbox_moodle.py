"""The connector against a Moodle site over real HTTP, whose behaviour was written from Moodle's own code."""

from collections.abc import Iterator

import pytest

from integration.config import ConnectionConfig
from integration.connectors.lms.moodle import Moodle
from integration.connectors.lms.moodle_webhooks import Webhooks
from integration.errors import Reason, RetryLater
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
from scripts.sandbox.moodle import MoodleSite, event, serving

TOKEN, SECRET = "0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"


@pytest.fixture
def site() -> MoodleSite:
    """A site with three courses, one of which takes nobody."""
    found = MoodleSite(TOKEN, {12: "Algebra", 13: "Closed", 14: "Geometry"})
    found.closed = {13}
    return found


@pytest.fixture
def config(site: MoodleSite, monkeypatch: pytest.MonkeyPatch) -> Iterator[ConnectionConfig]:
    """A connection to the site while it is served."""
    monkeypatch.setenv("TEST_MOODLE_WS", TOKEN)
    monkeypatch.setenv("TEST_MOODLE_SECRET", SECRET)
    with serving(site) as url:
        named = {"name": "academy", "system": "moodle", "base_url": url, "options": {"create_users": True}}
        secrets = {
            "credentials": {"token": {"env": "TEST_MOODLE_WS"}},
            "webhook": {"secrets": [{"env": "TEST_MOODLE_SECRET"}]},
        }
        yield ConnectionConfig.model_validate(named | secrets)


@pytest.fixture
def moodle(config: ConnectionConfig) -> Moodle:
    """The connector."""
    return Moodle(config)


def write(user: str, course: int, state: EnrollmentState = "enrolled") -> EnrollmentWrite:
    """One write, whose trace says what it is."""
    return EnrollmentWrite(f"{user}-{course}-{state}", user, str(course), state)


def test_from_a_stranger_to_the_end_of_an_enrolment(site: MoodleSite, moodle: Moodle) -> None:
    """Somebody is made known, enrolled once, suspended, enrolled again and removed."""
    assert moodle.users("email", ["ada@example.com"]) == {}
    ada = moodle.create_users([NewUser("t", "ada@example.com", "Ada Byron", "E-7")])["t"]
    assert isinstance(ada, RemoteUser)
    assert moodle.users("employee_id", ["E-7"])["E-7"][0].id == ada.id
    steps: list[tuple[EnrollmentState, bool]] = [
        ("enrolled", True),
        ("enrolled", False),
        ("concluded", False),
        ("concluded", False),
        ("enrolled", False),
        ("removed", False),
        ("removed", False),
    ]
    for state, is_new in steps:
        (answer,) = moodle.write([write(ada.id, 12, state)]).values()
        assert answer == Enrolled(created=is_new)
        there = {} if state == "removed" else {(ada.id, "12"): RemoteEnrollment(state)}
        assert moodle.enrollments([(ada.id, "12")]) == there
    assert [state for _, _, state in site.writes] == [0, 1, 0, None, None]


def test_a_batch_with_bad_records(site: MoodleSite, moodle: Moodle) -> None:
    """A closed course and an unknown user cost the others nothing."""
    users = [str(site.add_user(f"u{place}@example.com")) for place in range(10)]
    answers = moodle.write([write(user, course) for user in [*users, "999"] for course in (12, 13, 14)])
    reasons = {trace: one.reason for trace, one in answers.items() if isinstance(one, Failed)}
    assert set(reasons) == {f"{user}-13-enrolled" for user in [*users, "999"]} | {"999-12-enrolled", "999-14-enrolled"}
    assert reasons["999-12-enrolled"] is Reason.INVALID_VALUE
    assert reasons[f"{users[0]}-13-enrolled"] is Reason.UNKNOWN_COURSE
    assert len(site.enrolments) == len(site.writes) == 20


def test_the_catalogue_and_the_check(site: MoodleSite, moodle: Moodle) -> None:
    """Every function that is called exists, and the front page is no course."""
    assert all(one.ok for one in moodle.check())
    assert [*moodle.courses()] == [
        ListedCourse("12", "Algebra"),
        ListedCourse("13", "Closed"),
        ListedCourse("14", "Geometry"),
    ]


def test_maintenance_is_waited_for(site: MoodleSite, moodle: Moodle) -> None:
    """A site that is down for a while refuses nobody."""
    site.down = True
    with pytest.raises(RetryLater):
        moodle.write([write("2", 12)])


def test_what_the_plugin_posts_is_taken(config: ConnectionConfig) -> None:
    """Its event is proven, split and read."""
    assert config.webhook is not None
    inbound = Webhooks(config.webhook)
    body = event(r"\core\event\course_completed", learner=7, course=12, at=1_795_000_000, token=SECRET)
    inbound.verify("POST", "", {}, body)
    (received,) = inbound.split({}, body)
    (said,) = inbound.translate(received.payload)
    assert (said.learner.lms_user_id, said.subject.id) == ("7", "12")
