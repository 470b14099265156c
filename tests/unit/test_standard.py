"""The standard inbound format: what is accepted, what each field becomes, and that nothing makes it stumble."""

import base64
import json
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from integration.config import ConnectionConfig
from integration.connectors.lms.standard import Standard
from integration.errors import ConfigError, Ignored, Reason, Refused, Rejected
from integration.model.events import EventType, Kind, LearningEvent
from integration.security.signatures import sign

KEY = b"a key of at least sixteen bytes"
SECRET = "whsec_" + base64.b64encode(KEY).decode()
NOW = 1_795_255_200
CONFIG = ConnectionConfig.model_validate(
    {"name": "academy", "system": "standard", "webhook": {"secrets": [{"env": "TEST_STANDARD_SECRET"}]}}
)
ACADEMY = Standard(CONFIG, clock=lambda: NOW)


def body(**changed: Any) -> dict[str, Any]:
    """The example of the documentation; keyword arguments change `data`, None takes a field away."""
    data: dict[str, Any] = {
        "learner": {"lms_user_id": "u-1", "email": "ada@example.com", "full_name": "Ada Byron"},
        "course": {"id": "demo-101", "name": "Product demo", "version": "3"},
        "score": 92.5,
        "passed": True,
    }
    data = {name: value for name, value in (data | changed).items() if value is not None}
    return {"type": "course.completed", "timestamp": "2026-11-21T10:00:00Z", "data": data}


def translated(event: dict[str, Any], **outside: Any) -> LearningEvent:
    """The one event that comes of `event`."""
    (found,) = ACADEMY.translate(orjson.dumps(event | outside))
    return found


def rejection(event: dict[str, Any], **outside: Any) -> Rejected:
    """Why `event` is rejected."""
    with pytest.raises(Rejected) as raised:
        ACADEMY.translate(orjson.dumps(event | outside))
    return raised.value


# --- verify and split


def test_signed_request_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request signed with the connection's secret is genuine; the same one changed is not."""
    monkeypatch.setenv("TEST_STANDARD_SECRET", SECRET)
    academy = Standard(CONFIG, clock=lambda: NOW)
    raw = orjson.dumps(body())
    headers = {
        "webhook-id": "m1",
        "webhook-timestamp": str(NOW),
        "webhook-signature": sign(KEY, "m1", str(NOW), raw),
    }
    academy.verify("POST", "https://x/webhooks/academy", headers, raw)
    with pytest.raises(Refused) as raised:
        academy.verify("POST", "https://x/webhooks/academy", headers, raw + b" ")
    assert raised.value.reason is Reason.BAD_SIGNATURE
    assert academy.check()[0].ok


def test_unreadable_secret_is_our_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """While our own secret cannot be read, senders are told to come back, and translating goes on."""
    monkeypatch.delenv("TEST_STANDARD_SECRET", raising=False)
    academy = Standard(CONFIG)
    with pytest.raises(Refused) as raised:
        academy.verify("POST", "", {}, b"{}")
    assert (raised.value.status, raised.value.reason) == (503, Reason.SECRET_UNREADABLE)
    assert academy.translate(orjson.dumps(body()))
    (finding,) = academy.check()
    assert not finding.ok
    assert "TEST_STANDARD_SECRET" in finding.advice


def test_no_webhook_is_a_config_error() -> None:
    """A connection without secrets says what to write."""
    with pytest.raises(ConfigError, match="webhook"):
        Standard(ConnectionConfig(name="academy", system="standard"))


@pytest.mark.parametrize(
    ("named", "kind"),
    [
        ("enrollment.created", Kind.ENROLLMENT),
        ("enrollment.paused", Kind.ENROLLMENT),
        ("course.completed", Kind.COMPLETION),
        ("certification.issued", Kind.COMPLETION),
        ("badge.won", Kind.COMPLETION),
        (None, Kind.COMPLETION),
        (7, Kind.COMPLETION),
    ],
)
def test_split(named: object, kind: Kind) -> None:
    """Every object is one event under the sender's id, of the kind its type says, raw bytes untouched."""
    raw = orjson.dumps({"type": named} if named is not None else {})
    assert ACADEMY.split({"webhook-id": "m1"}, raw) == [("m1", kind, raw)]


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"hello", b"[]", b'"x"', b"null", b"7", b"[" * 3000, b"\xff\xfe", b'{"a":1}x']
)
def test_what_is_no_object_is_refused(raw: bytes) -> None:
    """What is no JSON, or no object, is refused before anything is stored."""
    with pytest.raises(Refused) as raised:
        ACADEMY.split({"webhook-id": "m1"}, raw)
    assert (raised.value.status, raised.value.reason) == (400, Reason.MALFORMED_BODY)


HOSTILE = [
    b'{"type": "enrollment.created", "a": NaN}',
    b'{"a": "\\ud800"}',
    b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    b'{"a": 1e999}',
    b'{"a": ' + b"9" * 5000 + b"}",
    b'\xef\xbb\xbf{"a": 1}',
]


@pytest.mark.parametrize("raw", HOSTILE)
def test_hostile_json_is_kept_and_rejected(raw: bytes) -> None:
    """JSON that only lenient readers take is accepted with its signature, and ends dead with a reason."""
    ((_, _, payload),) = ACADEMY.split({"webhook-id": "m1"}, raw)
    with pytest.raises(Rejected) as raised:
        ACADEMY.translate(payload)
    assert raised.value.reason is Reason.HOSTILE_JSON


# --- translate


def test_example_of_the_documentation() -> None:
    """The documented example becomes the event it describes."""
    event = translated(body())
    assert event.type is EventType.COURSE_COMPLETED
    assert event.occurred_at == datetime(2026, 11, 21, 10, tzinfo=UTC)
    assert event.learner.model_dump() == {
        "lms_user_id": "u-1",
        "email": "ada@example.com",
        "full_name": "Ada Byron",
        "employee_id": None,
    }
    assert (event.subject.type, event.subject.id, event.subject.name) == ("course", "demo-101", "Product demo")
    assert event.course == event.subject
    assert (event.course_version, event.score, event.score_max, event.passed) == ("3", 92.5, None, True)
    assert (event.progress, event.product, event.attempt, event.expires_at) == (None, None, None, None)


@pytest.mark.parametrize("kind", list(EventType))
def test_every_type(kind: EventType) -> None:
    """Each type of the format is understood with a learner and a course."""
    assert translated(body(), type=kind.value).type is kind


def test_lenient_forms() -> None:
    """Numbers as text, ids as numbers and truth as text mean what they say; blank means absent."""
    event = translated(
        body(
            learner={"lms_user_id": 17, "email": "  Ada@Example.com ", "full_name": "  ", "employee_id": 9007.0},
            course={"id": 101, "version": 3, "name": 7, "extra": {}},
            score=" 92.5 ",
            score_max="100",
            passed="false",
            progress="",
            enrollment_id=5,
            unknown=[1],
        )
    )
    assert (event.learner.lms_user_id, event.learner.email) == ("17", "Ada@Example.com")
    assert (event.learner.full_name, event.learner.employee_id) == (None, "9007")
    assert (event.subject.id, event.subject.name, event.course_version) == ("101", "7", "3")
    assert (event.score, event.score_max, event.passed, event.progress) == (92.5, 100.0, False, None)
    assert event.attempt == "5"


def test_module_and_assessment() -> None:
    """Progress is about the module, a grade about the assessment, else the module, else the course."""
    module, assessment = {"id": "m", "name": "M"}, {"id": "a"}
    progressed = translated(body(module=module, progress=40), type="course.progressed")
    assert (progressed.subject.type, progressed.subject.id) == ("module", "m")
    assert progressed.course is not None
    assert (progressed.course.id, progressed.progress) == ("demo-101", 40)
    assert progressed.module == progressed.subject
    graded = [
        translated(body(module=module, assessment=assessment), type="assessment.graded"),
        translated(body(module=module, assessment={}), type="assessment.graded"),
        translated(body(), type="assessment.graded"),
        translated(body(assessment=assessment, course=None), type="assessment.graded"),
    ]
    assert [event.subject.type for event in graded] == ["assessment", "module", "course", "assessment"]
    assert graded[3].course is None
    assert translated(body(module=module)).subject.type == "course"


def test_certification() -> None:
    """A certification names its product, or is it; its end may stand beside it; a course may certify by itself."""
    full = {"id": "c1", "name": "Gold", "product": "crm", "expires_at": "2027-11-21T00:00:00+01:00"}
    event = translated(body(certification=full, course=None), type="certification.issued")
    assert (event.subject.type, event.subject.id, event.product, event.course) == ("certification", "c1", "crm", None)
    assert event.expires_at == datetime(2027, 11, 20, 23, tzinfo=UTC)
    short = translated(body(certification={"id": "c1"}, expires_at="2027-01-01T00:00:00Z"), type="certification.issued")
    assert (short.product, short.expires_at) == (None, datetime(2027, 1, 1, tzinfo=UTC))
    bare = translated(body(), type="certification.expired")
    assert (bare.subject.type, bare.subject.id, bare.product) == ("certification", "demo-101", None)
    assert translated(body(certification=full, expires_at="2027-01-01T00:00:00Z")).expires_at is None


@pytest.mark.parametrize(
    ("event", "outside", "sentence"),
    [
        (body(course=None), {}, "data.course.id is missing"),
        (body(course={"name": "Demo"}), {}, "data.course.id is missing"),
        (body(course={"id": "  "}), {}, "data.course.id is missing"),
        (body(course=None, module={"id": "m"}), {"type": "course.progressed"}, "data.course.id is missing"),
        (body(course=None), {"type": "enrollment.created"}, "data.course.id is missing"),
        (body(course=None), {"type": "assessment.graded"}, "data.assessment.id is missing"),
        (body(assessment={"name": "Quiz"}), {"type": "assessment.graded"}, "data.assessment.id is missing"),
        (body(course=None), {"type": "certification.issued"}, "data.certification.id is missing"),
        (body(learner=None), {}, "data.learner needs lms_user_id or email"),
        (body(learner={"full_name": "Ada", "email": " "}), {}, "data.learner needs lms_user_id or email"),
        (body(), {"timestamp": None}, "timestamp is missing"),
        (body(), {"data": None}, "data.course.id is missing"),
        (body(), {"type": None}, "type is missing"),
    ],
)
def test_missing_field(event: dict[str, Any], outside: dict[str, Any], sentence: str) -> None:
    """A required field that is absent, null or blank is named."""
    error = rejection(event, **outside)
    assert (error.reason, error.detail) == (Reason.MISSING_FIELD, sentence)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"score": "sekret"}, "data.score: must be a number"),
    ({"score": "NaN"}, "data.score: must be a number"),
    ({"score": "1e999"}, "data.score: must be a number"),
    ({"score": "1_0"}, "data.score: must be a number"),
    ({"score": "٣"}, "data.score: must be a number"),
    ({"score": "92,5"}, "data.score: must be a number"),
    ({"score": True}, "data.score: must be a number"),
    ({"score": [1]}, "data.score: must be a number"),
    ({"passed": 1}, "data.passed: must be true or false"),
    ({"passed": "sekret"}, "data.passed: must be true or false"),
    ({"progress": 101}, "data.progress: must be between 0 and 100"),
    ({"progress": "-1"}, "data.progress: must be between 0 and 100"),
    ({"course": "sekret"}, "data.course: must be an object"),
    ({"course": ["sekret"]}, "data.course: must be an object"),
    ({"course": {"id": ["sekret"]}}, "data.course.id: must be text"),
    ({"course": {"id": True}}, "data.course.id: must be text"),
    ({"course": {"id": 1.5}}, "data.course.id: must be text"),
    ({"course": {"id": 1e30}}, "data.course.id: must be text"),
    ({"course": {"id": "x" * 256}}, "data.course.id: is longer than 255 characters"),
    ({"course": {"id": "c", "name": "sek\0ret"}}, "data.course.name: holds a character that text cannot have"),
    ({"learner": {"email": "sek\0ret@example.com"}}, "data.learner.email: holds a character that text cannot have"),
    ({"learner": {"email": 7}}, "data.learner.email: must be text"),
    ({"learner": "sekret"}, "data.learner: must be an object"),
    (
        {"certification": {"expires_at": "sekret"}},
        "data.certification.expires_at: must be a time such as 2026-11-21T10:00:00Z",
    ),
]


@pytest.mark.parametrize(("changed", "sentence"), WRONG, ids=[json.dumps(w[0])[:30] for w in WRONG])
def test_wrong_value(changed: dict[str, Any], sentence: str) -> None:
    """A wrong value is named by its place and never echoed."""
    error = rejection(body(**changed))
    assert (error.reason, error.detail) == (Reason.INVALID_EVENT, sentence)
    assert error.__suppress_context__


@pytest.mark.parametrize("data", ["sekret", [], 7])
def test_data_that_is_no_object(data: object) -> None:
    """`data` must be an object."""
    assert rejection(body(), data=data).detail == "data: must be an object"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2026-11-21T10:00:00Z", datetime(2026, 11, 21, 10, tzinfo=UTC)),
        ("2026-11-21t10:00:00.1234567z", datetime(2026, 11, 21, 10, 0, 0, 123456, tzinfo=UTC)),
        ("2026-11-21 12:30:00.5+02:30", datetime(2026, 11, 21, 10, 0, 0, 500_000, tzinfo=UTC)),
        (" 2026-11-20T23:00:00-11:00 ", datetime(2026, 11, 21, 10, tzinfo=UTC)),
    ],
)
def test_times(written: str, meant: datetime) -> None:
    """Any RFC 3339 time with a zone is understood, and kept in UTC."""
    found = translated(body(), timestamp=written).occurred_at
    assert (found, found.tzinfo) == (meant, UTC)


@pytest.mark.parametrize(
    ("written", "part"),
    [
        ("2026-11-21T10:00:00", "has no time zone"),
        ("2026-11-21", "must be a time"),
        ("2026-11-21T10:00:00+0100", "must end with Z"),
        ("2026-11-21T10:00:00Z\nx", "must end with Z"),
        ("2026-02-30T10:00:00Z", "is not a time"),
        ("2026-11-21T10:00:00+24:00", "is not a time"),
        ("0001-01-01T00:00:00+10:00", "is not a time"),
        ("٢٠٢٦-11-21T10:00:00Z", "must be a time"),
        (1_795_255_200, "must be a time"),
        (1_795_255_200_000.0, "must be a time"),
        (True, "must be a time"),
        (["2026-11-21T10:00:00Z"], "must be text"),
    ],
)
def test_bad_times(written: object, part: str) -> None:
    """A time without a zone, as a number, or that does not exist rejects the event and names the field."""
    error = rejection(body(), timestamp=written)
    assert error.reason is Reason.INVALID_EVENT
    assert error.detail.startswith(f"timestamp: {part}")


def test_long_name_is_cut() -> None:
    """Names are cut at 500 characters; they are for people."""
    assert translated(body(course={"id": "c", "name": "x" * 900})).subject.name == "x" * 500


@pytest.mark.parametrize(
    ("named", "shown"), [("badge.won", "badge.won"), ("x" * 99, "x" * 64), ("a\0\n\u202eb", "ab"), ("", "")]
)
def test_unknown_type_is_ignored(named: str, shown: str) -> None:
    """A type we do not know is ignored with its name, made harmless."""
    with pytest.raises(Ignored) as raised:
        ACADEMY.translate(orjson.dumps(body() | {"type": named}))
    assert (raised.value.reason, raised.value.detail) == (Reason.UNKNOWN_TYPE, shown)


def test_same_fact_same_content() -> None:
    """The same moment written in another zone is the same content, so that a repeat is no new revision."""
    first = translated(body())
    second = translated(body(score="92.50"), timestamp="2026-11-21T11:00:00+01:00")
    assert first.content_hash() == second.content_hash()


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.sampled_from(["2026-11-21T10:00:00Z", "u-1", "92.5", "true", "a\0b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NAMES = {
    "learner": ["lms_user_id", "email", "full_name", "employee_id"],
    "course": ["id", "name", "version"],
    "module": ["id", "name"],
    "assessment": ["id", "name"],
    "certification": ["id", "name", "product", "expires_at"],
}
FIGURES = ["score", "score_max", "passed", "progress", "attempt", "enrollment_id", "expires_at"]
DATA = st.fixed_dictionaries(
    {},
    optional={
        **{
            thing: JSON | st.fixed_dictionaries({}, optional=dict.fromkeys(names, JSON))
            for thing, names in NAMES.items()
        },
        **dict.fromkeys(FIGURES, JSON),
    },
)
EVENTS = st.fixed_dictionaries(
    {"type": st.sampled_from([*EventType]) | JSON},
    optional={"timestamp": st.just("2026-11-21T10:00:00Z") | JSON, "data": DATA | JSON},
)


def outcome(payload: bytes) -> str:
    """What becomes of a payload: "refused", or the detail of its rejection, or its event as JSON."""
    try:
        ACADEMY.split({"webhook-id": "m1"}, payload)
        (found,) = ACADEMY.translate(payload)
    except Refused as error:
        return f"refused {error.status}"
    except (Ignored, Rejected) as error:
        return error.detail
    return found.model_dump_json()


@given(EVENTS | JSON)
def test_any_json_is_an_event_or_a_reason(event: Any) -> None:
    """Whatever JSON comes, there is an event or a short reason, and no NUL in either."""
    payload = orjson.dumps(event)
    found = outcome(payload)
    assert found.startswith(("refused 400", "{")) or len(found) < 200
    assert "\0" not in found
    assert "\\u0000" not in found


@given(st.binary() | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_a_reason(payload: bytes) -> None:
    """Whatever bytes come, translate raises Ignored or Rejected and split Refused, nothing else."""
    with pytest.raises((Ignored, Rejected)):
        ACADEMY.translate(payload)
    assert outcome(payload)
