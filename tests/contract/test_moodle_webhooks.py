"""Moodle's webhook plugin: who may send, what is kept of an event, and what each event means."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from integration.config import ConnectionConfig
from integration.connectors import registry
from integration.connectors.lms import moodle_webhooks
from integration.connectors.lms.moodle_events import EVENTS
from integration.connectors.lms.moodle_php import unserialize
from integration.connectors.lms.moodle_webhooks import Webhooks
from integration.errors import Ignored, Reason, Refused, Rejected
from integration.model.events import EventType, Kind, LearningEvent
from integration.webhook.body import check_media_type

SAMPLES = Path(__file__).parents[3] / "shared/samples"
NAMES = sorted(path.name for path in (SAMPLES / "moodle").glob("*.json"))
TOKEN, FORMER = "967b2286-0874-4938-b088-efdbcf8a79bc", "an-older-token-of-ours"
KINDS = {
    "enrollment": (EventType.ENROLLMENT_CREATED, EventType.ENROLLMENT_CANCELLED),
    "progress": (EventType.COURSE_PROGRESSED,),
    "completion": (EventType.COURSE_COMPLETED,),
    "assessment": (EventType.ASSESSMENT_GRADED,),
    "certification": (EventType.CERTIFICATION_ISSUED, EventType.CERTIFICATION_REVOKED),
}


@pytest.fixture
def moodle(monkeypatch: pytest.MonkeyPatch) -> Webhooks:
    """A connection with two tokens, so that one can follow the other."""
    monkeypatch.setenv("TEST_MOODLE_TOKEN", TOKEN)
    monkeypatch.setenv("TEST_MOODLE_FORMER", FORMER)
    secrets = [{"env": "TEST_MOODLE_TOKEN"}, {"env": "TEST_MOODLE_FORMER"}]
    named = {"name": "academy", "system": "moodle", "webhook": {"secrets": secrets}}
    found = moodle_webhooks.inbound(ConnectionConfig.model_validate(named))
    assert found is not None
    return found


def event(name: str = r"\core\event\course_completed", **fields: Any) -> dict[str, Any]:
    """One event as the plugin posts it."""
    body = {"eventname": name, "userid": "3", "relateduserid": "7", "courseid": "12", "objectid": "90"}
    return body | {"timecreated": 1_795_000_000, "host": "lms.test", "token": TOKEN, "extra": "ours"} | fields


def raw(**fields: Any) -> bytes:
    """The body of a request."""
    return orjson.dumps(event(**fields))


def read(moodle: Webhooks, body: dict[str, Any]) -> LearningEvent:
    """What an event means, by the way it goes: split, kept, translated."""
    (received,) = moodle.split({}, orjson.dumps(body))
    (said,) = moodle.translate(received.payload)
    return said


# --- the shared samples


@pytest.mark.skipif(not NAMES, reason="the shared samples are not here")
@pytest.mark.parametrize("name", NAMES)
def test_samples_are_read_as_expected(moodle: Webhooks, name: str) -> None:
    """Each payload of public origin means what was written down about it, and nothing that it does not say."""
    expected = json.loads((SAMPLES / "expected.json").read_text("utf-8"))[f"moodle/{name}"]
    payload = (SAMPLES / "moodle" / name).read_bytes()
    if expected["kind"] == "unsupported":
        with pytest.raises(Ignored) as raised:
            moodle.translate(payload)
        assert raised.value.reason is Reason.UNKNOWN_TYPE
        return
    (said,) = moodle.translate(payload)
    assert said == read(moodle, json.loads(payload))
    assert any(said.type in KINDS[kind] for kind in expected.get("kind_any_of", [expected["kind"]]))
    shown = {
        "learner_external_id": said.learner.lms_user_id,
        "course_id": said.course.id if said.course else None,
        "occurred_at": said.occurred_at.isoformat().replace("+00:00", "Z"),
        "attempt_id": said.attempt,
        "certificate_code": said.subject.id,
        "score": said.score,
        "passed": said.passed,
    }
    assert {key: shown[key] for key in expected if key in shown} == {
        key: expected[key] for key in expected if key in shown
    }
    assert [key for key in expected.get("absent", ()) if shown[key] is not None] == []
    for key, value in expected.get("must_not", {}).items():
        assert shown[key] != value


# --- who may send


def test_each_token_of_the_connection_opens(moodle: Webhooks) -> None:
    """The current token and the one before it are taken, so that one can replace the other."""
    moodle.verify("POST", "", {}, raw())
    moodle.verify("POST", "", {}, raw(token=FORMER))


@pytest.mark.parametrize(
    "body", [raw(token="guess"), raw(token=TOKEN[:-1]), raw(token=TOKEN + "x"), raw(token="ä" * 20)]
)
def test_another_token_is_refused(moodle: Webhooks, body: bytes) -> None:
    """Only the whole token opens."""
    with pytest.raises(Refused) as raised:
        moodle.verify("POST", "", {}, body)
    assert (raised.value.status, raised.value.reason) == (401, Reason.BAD_SIGNATURE)


@pytest.mark.parametrize(
    "body", [raw(token=""), raw(token=None), raw(token=[TOKEN]), b"{}", b"[]", b"token", b"", b'{"token":', b"[" * 5000]
)
def test_a_body_without_a_token_is_refused(moodle: Webhooks, body: bytes) -> None:
    """Whatever has no token is nobody's, also where it is no JSON at all."""
    with pytest.raises(Refused) as raised:
        moodle.verify("POST", "", {}, body)
    assert (raised.value.status, raised.value.reason) == (401, Reason.MISSING_SIGNATURE)


def test_a_secret_that_cannot_be_read_is_our_trouble(moodle: Webhooks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without our own secret the sender hears 503; a short one is not taken either."""
    for bad in ("", "short"):
        monkeypatch.setenv("TEST_MOODLE_TOKEN", bad)
        with pytest.raises(Refused) as raised:
            moodle.verify("POST", "", {}, raw())
        assert (raised.value.status, raised.value.reason) == (503, Reason.SECRET_UNREADABLE)


# --- what is kept


def test_neither_token_nor_extra_is_kept(moodle: Webhooks) -> None:
    """What proves the sender is not stored."""
    (received,) = moodle.split({}, raw())
    assert TOKEN.encode() not in received.payload
    assert set(json.loads(received.payload)).isdisjoint({"token", "extra"})


def test_a_repeat_is_known_whatever_its_numbers_look_like(moodle: Webhooks) -> None:
    """Numbers as text and as numbers are one event; another log row, second, person or course is another."""
    (first,) = moodle.split({}, raw(id=5))
    (again,) = moodle.split({}, raw(id="5", userid=3, relateduserid=7, courseid=12.0, extra="", token=FORMER))
    assert again == first
    others = [raw(id=6), raw(id=5, timecreated=1_795_000_001), raw(id=5, relateduserid=8), raw(id=5, courseid=13)]
    assert len({moodle.split({}, body)[0].external_id for body in [*others, raw(), raw(id=5)]}) == 6


@pytest.mark.parametrize(("name", "kind"), [(name, line.type.kind) for name, line in EVENTS.items()])
def test_each_event_goes_to_its_task(moodle: Webhooks, name: str, kind: Kind) -> None:
    """Enrolments to the task of enrolments, everything else to that of completions."""
    assert moodle.split({}, raw(name=name))[0].kind is kind


def test_the_page_names_each_event() -> None:
    """An administrator finds every event to choose, and what it becomes."""
    text = (Path(__file__).resolve().parents[2] / "docs/moodle.md").read_text("utf-8")
    for name, line in EVENTS.items():
        assert name.rpartition("\\")[2].rpartition("_")[2] in text
        assert name.split("\\")[1] in text
        assert f".{line.type.value.rpartition('.')[2]}" in text


@pytest.mark.parametrize("body", [b"[]", b"1", b"no", b""])
def test_what_is_no_object_is_no_event(moodle: Webhooks, body: bytes) -> None:
    """A body that can never be an event is the sender's mistake."""
    with pytest.raises(Refused) as raised:
        moodle.split({}, body)
    assert (raised.value.status, raised.value.reason) == (400, Reason.MALFORMED_BODY)


# --- what it means


def test_a_completed_course(moodle: Webhooks) -> None:
    """The learner is whom it was about, and not who acted; the time is in seconds."""
    said = read(moodle, event())
    assert (said.type, said.learner.lms_user_id, said.subject.id) == (EventType.COURSE_COMPLETED, "7", "12")
    assert said.occurred_at == datetime.fromtimestamp(1_795_000_000, UTC)
    assert (said.attempt, said.score, said.passed, said.progress) == (None, None, None, None)


@pytest.mark.parametrize("nobody", [None, 0, "0", "", -1])
def test_who_acts_is_the_learner_where_nobody_else_is_named(moodle: Webhooks, nobody: object) -> None:
    """A learner who acts for themselves is named once."""
    assert read(moodle, event(relateduserid=nobody)).learner.lms_user_id == "3"


@pytest.mark.parametrize("name", [r"\mod_assign\event\submission_graded", r"\core\event\user_graded"])
def test_who_grades_is_never_the_learner(moodle: Webhooks, name: str) -> None:
    """Whose grade it is stays open where the event does not say, so that a person decides."""
    assert read(moodle, event(name)).learner.lms_user_id == "7"
    assert read(moodle, event(name, relateduserid=None)).learner.lms_user_id is None


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("user_enrolment_created", EventType.ENROLLMENT_CREATED),
        ("user_enrolment_updated", EventType.ENROLLMENT_CREATED),
        ("user_enrolment_deleted", EventType.ENROLLMENT_CANCELLED),
    ],
)
def test_enrolments(moodle: Webhooks, name: str, kind: EventType) -> None:
    """Each enrolment has its own number, so that two of them in one course are two."""
    said = read(moodle, event(rf"\core\event\{name}"))
    assert (said.type, said.subject.id, said.attempt) == (kind, "12", "90")


@pytest.mark.parametrize(
    "other",
    [
        {"userenrolment": {"id": "90", "lastenrol": False}, "enrol": "self"},
        'a:2:{s:13:"userenrolment";a:2:{s:2:"id";s:2:"90";s:9:"lastenrol";b:0;}s:5:"enrol";s:4:"self";}',
        '{"userenrolment": {"lastenrol": 0}}',
    ],
)
def test_whoever_is_enrolled_in_another_way_is_not_out(moodle: Webhooks, other: object) -> None:
    """One of two enrolments in a course ended: the completion of the course must not be taken back."""
    with pytest.raises(Ignored):
        read(moodle, event(r"\core\event\user_enrolment_deleted", other=other))


@pytest.mark.parametrize(
    ("state", "progress", "passed"), [(0, 0.0, None), (1, 100.0, None), ("2", 100.0, True), (3, 100.0, False)]
)
@pytest.mark.parametrize("form", ["json", "text", "php"])
def test_an_activity_s_state(
    moodle: Webhooks, form: str, state: int | str, progress: float, passed: bool | None
) -> None:
    """A module progressed, never the course; complete, passed and failed are three things."""
    forms: dict[str, object] = {
        "json": {"completionstate": state},
        "text": json.dumps({"completionstate": state}),
        "php": f'a:2:{{s:10:"overrideby";N;s:15:"completionstate";i:{state};}}',
    }
    name = r"\core\event\course_module_completion_updated"
    said = read(moodle, event(name, other=forms[form], contextlevel=70, contextinstanceid="44"))
    assert (said.type, said.subject.type, said.subject.id) == (EventType.COURSE_PROGRESSED, "module", "44")
    assert (said.course and said.course.id, said.progress, said.passed) == ("12", progress, passed)


@pytest.mark.parametrize(
    "other", [None, [], "", "a:1:{", "nonsense", 5, 'O:8:"stdClass":0:{}', "{", '"x"', "x" * 70_000]
)
def test_details_that_cannot_be_read_are_nobody_s_loss(moodle: Webhooks, other: object) -> None:
    """An event counts without its details, and nothing is made up in their place."""
    said = read(moodle, event(r"\core\event\course_module_completion_updated", other=other, contextinstanceid=44))
    assert (said.progress, said.passed) == (None, None)


def test_a_submitted_quiz_has_no_score(moodle: Webhooks) -> None:
    """Attempts are told apart; the grade is not in the event."""
    said = read(moodle, event(r"\mod_quiz\event\attempt_submitted", contextinstanceid="44", contextlevel="70"))
    assert (said.type, said.subject.type, said.subject.id) == (EventType.ASSESSMENT_GRADED, "assessment", "44")
    assert (said.attempt, said.score, said.passed) == ("90", None, None)


@pytest.mark.parametrize(("grade", "score"), [("85.50000", 85.5), (7, 7.0), (None, None), ("", None), ("NaN", None)])
def test_a_grade(moodle: Webhooks, grade: object, score: float | None) -> None:
    """The gradebook's own events hold the grade; the course's number in their context is not taken for an activity."""
    other = {"itemid": "31", "overridden": False, "finalgrade": grade}
    said = read(moodle, event(r"\core\event\user_graded", other=other, contextlevel=50, contextinstanceid=12))
    assert (said.subject.id, said.score, said.score_max, said.module) == ("grade-item-31", score, None, None)
    assert read(moodle, event(r"\core\event\user_graded")).subject.type == "course"


def test_certificates_of_a_site_and_of_an_activity(moodle: Webhooks) -> None:
    """One is told by its code or number, the other by its activity; a revocation is about the same one."""
    for other, number in (({"code": "4303209428AU"}, "4303209428AU"), (None, "90")):
        for word, kind in (("issued", EventType.CERTIFICATION_ISSUED), ("revoked", EventType.CERTIFICATION_REVOKED)):
            body = event(rf"\tool_certificate\event\certificate_{word}", courseid=0, other=other, contextinstanceid=1)
            said = read(moodle, body)
            assert (said.type, said.subject.type, said.subject.id) == (kind, "certification", number)
            assert (said.course, said.module) == (None, None)
    for word in ("issue_created", "issue_deleted", "certificate_issued", "certificate_deleted"):
        said = read(moodle, event(rf"\mod_customcert\event\{word}", contextinstanceid=44, contextlevel=70))
        assert (said.subject.id, said.course and said.course.id) == ("44", "12")


@pytest.mark.parametrize(
    "name", ["course_completion_updated", "course_viewed", "user_created", "badge_awarded", "x" * 500]
)
def test_everything_else_is_ignored_by_name(moodle: Webhooks, name: str) -> None:
    """An event that is not ours is ignored, and its name is what a reader needs to see."""
    with pytest.raises(Ignored) as raised:
        read(moodle, event(rf"\core\event\{name}", timecreated="nonsense"))
    assert raised.value.reason is Reason.UNKNOWN_TYPE
    assert raised.value.detail.startswith(rf"\core\event\{name[:50]}")
    assert len(raised.value.detail) <= 100


@pytest.mark.parametrize(
    ("fields", "reason", "named"),
    [
        ({"name": ""}, Reason.MISSING_FIELD, "eventname"),
        ({"timecreated": None}, Reason.MISSING_FIELD, "timecreated"),
        ({"timecreated": "yesterday"}, Reason.INVALID_EVENT, "timecreated"),
        ({"timecreated": 10**18}, Reason.INVALID_EVENT, "timecreated"),
        ({"courseid": 0}, Reason.MISSING_FIELD, "courseid"),
        ({"courseid": "algebra"}, Reason.INVALID_EVENT, "courseid"),
        ({"relateduserid": {"id": 7}}, Reason.INVALID_EVENT, "relateduserid"),
        ({"relateduserid": True}, Reason.INVALID_EVENT, "relateduserid"),
    ],
)
def test_what_is_missing_or_wrong_is_named(
    moodle: Webhooks, fields: dict[str, Any], reason: Reason, named: str
) -> None:
    """An event that cannot be used says which field is why."""
    with pytest.raises(Rejected) as raised:
        read(moodle, event(**fields))
    assert raised.value.reason is reason
    assert named in raised.value.detail


TEXT = st.text('aä09-:;"{}\\\0\u200b', max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
FIELDS = ["id", "userid", "relateduserid", "courseid", "objectid", "contextlevel", "contextinstanceid", "other", "host"]


@given(
    name=st.sampled_from([*EVENTS, "", None, 7]),
    fields=st.dictionaries(st.sampled_from([*FIELDS, "timecreated"]), JSON),
)
def test_any_body_ends_as_an_event_or_with_a_reason(name: object, fields: dict[str, Any]) -> None:
    """Whatever the fields hold, reading raises nothing but Ignored and Rejected, and splits the same twice."""
    moodle = Webhooks.__new__(Webhooks)
    body = json.dumps(event() | {"eventname": name} | fields).encode()
    try:
        first, again = moodle.split({}, body), moodle.split({}, body)
    except Refused:
        return
    assert first == again
    try:
        (said,) = moodle.translate(first[0].payload)
    except (Ignored, Rejected):
        return
    assert said.type in EventType


# --- PHP's serialized text


def php(value: Any) -> str:
    """Write a value as PHP's serialize does."""
    match value:
        case None:
            return "N;"
        case bool():
            return f"b:{int(value)};"
        case int():
            return f"i:{value};"
        case float():
            return f"d:{value!r};"
        case str():
            return f's:{len(value.encode())}:"{value}";'
        case _:
            return f"a:{len(value)}:{{" + "".join(php(key) + php(one) for key, one in value.items()) + "}"


SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False, allow_infinity=False) | TEXT
)
ARRAYS = st.recursive(
    SCALARS,
    lambda inner: st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=6,
)


@given(value=ARRAYS)
def test_serialized_values_are_read_back(value: Any) -> None:
    """Scalars and arrays come back as they were, texts by their length in bytes."""
    assert unserialize(php(value)) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "i:5",
        "i:x;",
        "b:2;",
        's:3:"ab";',
        's:2:"ä";x',
        's:1:"ä";',
        's:999999:"a";',
        "a:1:{i:0;}",
        "a:2:{i:0;i:1;}",
        "a:1:{N;i:1;}",
        "i:1;i:2;",
        'O:8:"stdClass":1:{s:1:"a";i:1;}',
        'C:1:"a":0:{}',
        "R:1;",
        "d:INF;",
        "a:1:{i:0;" * 20 + "N;" + "}" * 20,
        "x" * 70_000,
    ],
)
def test_broken_and_dangerous_text_is_refused(text: str) -> None:
    """Objects, references, false lengths and depth are no values of ours."""
    with pytest.raises(ValueError, match=r"."):
        unserialize(text)


# --- at the endpoint


def test_json_that_is_called_a_form_is_taken() -> None:
    """The plugin may call its JSON a form; nobody else may."""
    allowed = registry.SYSTEMS["moodle"].capabilities.media_types
    said = {"content-type": "application/x-www-form-urlencoded; charset=UTF-8"}
    check_media_type(said, allowed)
    with pytest.raises(Refused) as raised:
        check_media_type(said, registry.SYSTEMS["standard"].capabilities.media_types)
    assert raised.value.reason is Reason.UNSUPPORTED_MEDIA_TYPE
