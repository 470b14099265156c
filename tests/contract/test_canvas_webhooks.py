"""Canvas's live events: which are believed, what each of them says, and that a resend is known again."""

import asyncio
import base64
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import orjson
import pytest
import responses
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from integration.config import ConnectionConfig
from integration.connectors.lms import canvas_keys
from integration.connectors.lms.canvas import CAPABILITIES
from integration.connectors.lms.canvas_keys import FLOOR_SECONDS, KEPT_SECONDS, Keys, KeySet, rsa_keys
from integration.connectors.lms.canvas_values import home_of, local_id, moment_of
from integration.connectors.lms.canvas_webhooks import Webhooks, findings, inbound
from integration.errors import ConfigError, Ignored, Reason, Refused, Rejected, RetryLater
from integration.model.events import EventType, Kind, LearningEvent
from integration.security.seal import KeyRing, new_key
from integration.webhook.app import Endpoint
from integration.webhook.receive import Door

SAMPLES = Path(__file__).parents[3] / "shared/samples"
SHARD = 10**13
UUID = "VicYj3cu5BIFpoZhDVU4DZumnlBrWi1grgJEzADs"
JWKS = "https://keys.test/main/jwks"
EARLIEST, LATEST = datetime(1990, 1, 1), datetime(2100, 1, 1)  # noqa: DTZ001 - the zone is drawn
TOKEN = "a-token-of-thirty-two-characters"
URL = "https://sync.test/webhooks/canvas"
KINDS = {
    "enrollment": {EventType.ENROLLMENT_CREATED, EventType.ENROLLMENT_CANCELLED},
    "completion": {EventType.COURSE_COMPLETED},
    "progress": {EventType.COURSE_PROGRESSED},
    "assessment": {EventType.ASSESSMENT_GRADED},
}


@pytest.fixture(scope="module")
def private_key() -> rsa.RSAPrivateKey:
    """A key as Canvas would sign with."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(scope="module")
def stranger() -> rsa.RSAPrivateKey:
    """A key that nobody published."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture
def http() -> Iterator[responses.RequestsMock]:
    """Answers instead of a network."""
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        yield mock


def config(**said: Any) -> ConnectionConfig:
    """A Canvas connection."""
    return ConnectionConfig.model_validate({"name": "canvas", "system": "canvas", **said})


def signed_only(**options: Any) -> Webhooks:
    """A connection that takes signed events of one account."""
    return Webhooks(config(options={"jwks_url": JWKS, "root_account_uuid": UUID, **options}))


@pytest.fixture
def unsigned(monkeypatch: pytest.MonkeyPatch) -> Webhooks:
    """A connection that takes unsigned events with a token."""
    monkeypatch.setenv("TEST_CANVAS_TOKEN", TOKEN)
    secrets = [{"env": "TEST_CANVAS_TOKEN"}]
    return Webhooks(config(webhook={"secrets": secrets}, options={"unsigned_events": True}))


def public(key: rsa.RSAPrivateKey, kid: str, **more: Any) -> dict[str, Any]:
    """One key of a set."""
    made: dict[str, Any] = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key()))
    made.pop("key_ops", None)
    return made | {"kid": kid, "use": "sig", "alg": "RS256"} | more


def published(http: responses.RequestsMock, *keys: Mapping[str, Any]) -> None:
    """Let the key set hold these."""
    http.add("GET", JWKS, json={"keys": list(keys)})


def event(name: str = "course_completed", body: Any = None, **metadata: Any) -> dict[str, Any]:
    """A live event of our account, by default a completion."""
    known = {
        "event_name": name,
        "event_time": "2026-11-21T10:00:00.500Z",
        "request_id": "1dd9dc6f-2fb0-4c19-a6c5-7ee1bf3ed295",
        "root_account_id": str(2107 * SHARD + 1),
        "root_account_uuid": UUID,
        "user_id": str(2107 * SHARD + 987),
        "user_login": "admin@example.com",
        "client_ip": "192.0.2.7",
    }
    completion = {
        "course": {"id": "565", "name": "Demo"},
        "progress": {
            "completed_at": "2026-11-20T09:00:00Z",
            "requirement_count": 6,
            "requirement_completed_count": 6,
        },
        "user": {"id": "123", "email": "ada@example.com", "name": "Ada"},
    }
    return {"metadata": {**known, **metadata}, "body": completion if body is None else body}


def enrolment(**said: Any) -> dict[str, Any]:
    """The body of an enrolment event."""
    return {
        "course_id": str(2107 * SHARD + 565),
        "created_at": "2026-11-20T09:00:00Z",
        "updated_at": "2026-11-21T09:00:00Z",
        "enrollment_id": str(2107 * SHARD + 46825),
        "type": "StudentEnrollment",
        "user_id": str(2107 * SHARD + 123),
        "user_name": "Ada",
        "workflow_state": "active",
        **said,
    }


def grade(**said: Any) -> dict[str, Any]:
    """The body of a grade event."""
    return {
        "assignment_id": str(2107 * SHARD + 355),
        "grade": "5",
        "grading_complete": True,
        "muted": False,
        "points_possible": 1,
        "score": 5,
        "student_id": str(2107 * SHARD + 48),
        "user_id": str(2107 * SHARD + 48),
        **said,
    }


def signed(key: Any, claims: Mapping[str, Any], kid: str | None = "now", algorithm: str = "RS256") -> bytes:
    """A body as Canvas signs it."""
    return jwt.encode(dict(claims), key, algorithm, headers={"kid": kid} if kid else {}).encode()


def translated(said: Any, webhooks: Webhooks | None = None) -> LearningEvent:
    """What one event means."""
    (found,) = (webhooks or signed_only()).translate(orjson.dumps(said))
    return found


def refused(webhooks: Webhooks, raw: bytes, url: str = URL, **headers: str) -> tuple[int, Reason]:
    """Status and reason of a refusal."""
    with pytest.raises(Refused) as raised:
        webhooks.verify("POST", url, {name.replace("_", "-"): value for name, value in headers.items()}, raw)
    return raised.value.status, raised.value.reason


def ignored(said: Any) -> Reason:
    """Why an event is ignored."""
    with pytest.raises(Ignored) as raised:
        translated(said)
    return raised.value.reason


# --- who is believed


def test_a_signed_event_is_believed(http: responses.RequestsMock, private_key: rsa.RSAPrivateKey) -> None:
    """The claims of a JWT that a published key signed are the event; the keys are fetched once."""
    published(http, public(private_key, "before"), public(private_key, "now"))
    canvas = signed_only()
    raw = signed(private_key, event())
    for _ in range(3):
        canvas.verify("POST", URL, {}, raw)
    canvas.verify("POST", URL, {}, b' "' + raw + b'"\n')
    assert len(http.calls) == 1
    (received,) = canvas.split({}, raw)
    assert received.kind is Kind.COMPLETION
    assert canvas.translate(received.payload) == [translated(event())]


def test_forgeries_are_refused(
    http: responses.RequestsMock, private_key: rsa.RSAPrivateKey, stranger: rsa.RSAPrivateKey
) -> None:
    """Neither another key, nor no algorithm, nor the public key as a secret, nor a changed claim is believed."""
    published(http, public(private_key, "now"))
    canvas = signed_only()
    genuine = signed(private_key, event())
    head, claims, signature = genuine.split(b".")
    other = base64.urlsafe_b64encode(orjson.dumps(event(event_time="2020-01-01T00:00:00Z"))).rstrip(b"=")
    none = base64.urlsafe_b64encode(b'{"alg":"none","kid":"now"}').rstrip(b"=")
    forged = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"now"}').rstrip(b"=")
    pem = private_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    mac = base64.urlsafe_b64encode(hmac.digest(pem, forged + b"." + claims, "sha256")).rstrip(b"=")
    for raw in (
        signed(stranger, event()),
        signed(private_key, event(), kid=None),
        signed(private_key, event(), algorithm="RS512"),
        b".".join([head, other, signature]),
        b".".join([none, claims, b""]),
        b".".join([none, claims, signature]),
        b".".join([forged, claims, signature]),
        b".".join([forged, claims, mac]),
        b"a.b.c",
        b"..",
        b"eyJhbGciOiJSUzI1NiJ9.\xff\xfe.x",
        head + b".." + signature,
    ):
        assert refused(canvas, raw) == (401, Reason.BAD_SIGNATURE)
    canvas.verify("POST", URL, {}, genuine)
    assert refused(canvas, orjson.dumps(event())) == (401, Reason.MISSING_SIGNATURE)
    assert refused(canvas, orjson.dumps(event()), f"{URL}?token={TOKEN}") == (401, Reason.MISSING_SIGNATURE)


def test_a_signature_out_of_date_is_refused(http: responses.RequestsMock, private_key: rsa.RSAPrivateKey) -> None:
    """Where Canvas says how long a signature is good for, that counts, with five minutes for clocks that differ."""
    published(http, public(private_key, "now"))
    canvas, now = signed_only(), int(time.time())
    for claims in ({"exp": now - 250}, {"nbf": now + 250}, {"iat": now + 250}):
        canvas.verify("POST", URL, {}, signed(private_key, event() | claims))
    for claims in ({"exp": now - 400}, {"nbf": now + 400}):
        assert refused(canvas, signed(private_key, event() | claims)) == (401, Reason.STALE_TIMESTAMP)
    canvas.verify("POST", URL, {}, signed(private_key, event() | {"aud": "x", "sub": 7, "iss": "y", "jti": 1}))


def test_a_signed_event_of_another_account_counts_for_nothing() -> None:
    """Instructure signs the events of all its customers with the same keys: only one account's are taken."""
    assert ignored(event(root_account_uuid="somebody-else")) is Reason.OTHER_ACCOUNT
    assert ignored(event(root_account_uuid=None)) is Reason.OTHER_ACCOUNT


def test_an_unsigned_event_needs_the_token(unsigned: Webhooks) -> None:
    """Plain JSON is believed where our token came with it, in the address or a header, and not otherwise."""
    raw = orjson.dumps(event())
    basic = base64.b64encode(f"canvas:{TOKEN}".encode()).decode()
    for url, headers in (
        (f"{URL}?a=b&token={TOKEN}", {}),
        (URL, {"authorization": f"Bearer {TOKEN}"}),
        (URL, {"authorization": f"basic {basic}"}),
        (URL, {"x-coursewire-token": TOKEN}),
    ):
        unsigned.verify("POST", url, headers, raw)
    assert refused(unsigned, raw) == (401, Reason.MISSING_SIGNATURE)
    assert refused(unsigned, raw, "http://[") == (401, Reason.MISSING_SIGNATURE)
    assert refused(unsigned, raw, f"{URL}?token=") == (401, Reason.MISSING_SIGNATURE)
    assert refused(unsigned, raw, f"{URL}?token={TOKEN}x") == (401, Reason.BAD_SIGNATURE)
    assert refused(unsigned, raw, authorization=f"Bearer {TOKEN[:-1]}") == (401, Reason.BAD_SIGNATURE)
    assert refused(unsigned, raw, authorization="Basic ???") == (401, Reason.MISSING_SIGNATURE)
    assert refused(unsigned, raw, x_coursewire_token="ü" * 32) == (401, Reason.BAD_SIGNATURE)
    assert refused(unsigned, b"a.b.c", f"{URL}?token={TOKEN}") == (401, Reason.BAD_SIGNATURE)


def test_a_token_that_cannot_be_read_is_no_refusal_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Canvas is told to try again where our own secret is missing or too short to protect anything."""
    secrets = [{"env": "TEST_CANVAS_TOKEN"}]
    for value in ("", "short"):
        monkeypatch.setenv("TEST_CANVAS_TOKEN", value)
        canvas = Webhooks(config(webhook={"secrets": secrets}, options={"unsigned_events": True}))
        assert refused(canvas, b"{}", f"{URL}?token=short") == (503, Reason.SECRET_UNREADABLE)


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"options": {"jwks_url": JWKS}}, "root_account_uuid"),
        ({"webhook": {"secrets": [{"env": "X"}]}}, "unsigned_events: true"),
        ({"options": {"unsigned_events": True}}, "webhook"),
        (
            {"webhook": {"secrets": [{"env": "X"}], "public_url": URL}, "options": {"unsigned_events": True}},
            "remove webhook.public_url",
        ),
    ],
)
def test_settings_that_prove_nothing_are_refused(said: dict[str, Any], sentence: str) -> None:
    """A connection that would believe anybody, or nobody, says what to write instead; so does `check`."""
    with pytest.raises(ConfigError, match=sentence):
        inbound(config(**said))
    (found,) = findings(config(**said))
    assert not found.ok
    assert sentence in found.advice


def test_a_connection_may_send_nothing() -> None:
    """Without keys or tokens there is nobody to believe, and `check` has nothing to say about it."""
    assert inbound(config()) is None
    assert findings(config()) == []


@pytest.mark.parametrize(
    "address", ["http://keys.test/jwks", "keys.test/jwks", "https://user:pw@keys.test/jwks", "ftp://x"]
)
def test_keys_are_fetched_over_tls_only(address: str) -> None:
    """Who could change the keys on their way could sign; only this machine is trusted without TLS."""
    with pytest.raises(ValueError, match="https://"):
        config(options={"jwks_url": address, "root_account_uuid": UUID})
    config(options={"jwks_url": "http://127.0.0.1:8080/jwks", "root_account_uuid": UUID})


def test_check_says_whether_events_could_be_proven(
    http: responses.RequestsMock, private_key: rsa.RSAPrivateKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys are counted, an address without any is named, and an unread token is said."""
    known = config(options={"jwks_url": JWKS, "root_account_uuid": UUID})
    published(http, public(private_key, "now"), public(private_key, "next"))
    assert [one.ok for one in findings(known)] == [True]
    http.replace("GET", JWKS, json={"keys": []})
    assert [one.ok for one in findings(known)] == [False]
    monkeypatch.delenv("TEST_CANVAS_TOKEN", raising=False)
    secrets = [{"env": "TEST_CANVAS_TOKEN"}]
    assert [one.ok for one in findings(config(webhook={"secrets": secrets}, options={"unsigned_events": True}))] == [
        False
    ]


# --- at the endpoint


def answered(canvas: Webhooks, raw: bytes, query: bytes = b"", media_type: str | None = "application/json") -> int:
    """The status that the endpoint gives a delivery; what it stores goes nowhere."""
    stored: list[Any] = []

    class Shelf:
        async def store(self, rows: Sequence[Any]) -> tuple[int, int]:
            stored.extend(rows)
            return len(rows), 0

    nothing: Any = None
    shelf: Any = Shelf()
    door = Door("canvas", canvas, media_types=CAPABILITIES.media_types)
    endpoint = Endpoint({"canvas": door}, KeyRing({"k1": new_key()}), shelf, nothing, nothing)
    headers = [(b"host", b"sync.test")] + ([(b"content-type", media_type.encode())] if media_type else [])
    scope = {"type": "http", "method": "POST", "scheme": "https", "path": "/webhooks/canvas", "query_string": query}
    messages: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": raw, "more_body": False}

    async def send(message: Any) -> None:
        messages.append(message)

    asyncio.run(endpoint.webhook({**scope, "headers": headers}, receive, send))
    status: int = messages[0]["status"]
    assert bool(stored) == (status == 202)
    return status


def test_the_endpoint_takes_a_jwt_and_a_token_in_the_address(
    http: responses.RequestsMock, private_key: rsa.RSAPrivateKey, unsigned: Webhooks
) -> None:
    """However Canvas names the media type of a JWT, and with the query that a token stands in."""
    published(http, public(private_key, "now"))
    raw = signed(private_key, event())
    types = ["application/json", "application/jwt", "text/plain; charset=utf-8", None]
    assert [answered(signed_only(), raw, media_type=one) for one in types] == [202] * 4
    assert answered(unsigned, orjson.dumps(event()), f"token={TOKEN}".encode()) == 202
    assert answered(unsigned, orjson.dumps(event())) == 401
    assert answered(unsigned, orjson.dumps(event()), f"token={TOKEN}".encode(), "text/xml") == 415


# --- the key set


class Fetches:
    """A key set that is fetched without a network; `answer` None fails, `hold` hangs until it is set."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.answer: Keys | None = {}
        self.count = 0
        self.hold = threading.Event()
        self.hold.set()
        self.ended = threading.Event()

    def fetch(self) -> Keys:
        """Answer as told."""
        self.count += 1
        try:
            self.hold.wait(20)
            if self.answer is None:
                raise RetryLater(Reason.NETWORK_ERROR, "away")
            return self.answer
        finally:
            self.ended.set()

    def keys(self) -> KeySet:
        """A set over it."""
        return KeySet(self.fetch, lambda: self.now)


def status_of(find: Callable[[], object]) -> int:
    """Status of a refusal."""
    with pytest.raises(Refused) as raised:
        find()
    return raised.value.status


def test_a_rotation_is_found_and_strangers_do_not_have_us_ask_all_the_time(private_key: rsa.RSAPrivateKey) -> None:
    """An unknown key id is asked for once, then not again for a while; after that a new key is found."""
    fetches = Fetches()
    fetches.answer = rsa_keys({"keys": [public(private_key, "one")]})
    keys = fetches.keys()
    assert keys.find("one").key_id == "one"
    for _ in range(5):
        assert status_of(lambda: keys.find("invented")) == 401
    assert fetches.count == 1
    fetches.answer = rsa_keys({"keys": [public(private_key, "one"), public(private_key, "two")]})
    fetches.now += FLOOR_SECONDS
    assert keys.find("two").key_id == "two"
    assert status_of(lambda: keys.find("invented")) == 401
    assert fetches.count == 2


def test_keys_that_cannot_be_fetched_are_no_forgery(private_key: rsa.RSAPrivateKey) -> None:
    """While the set is away an unknown key is 503, so that Canvas tries again; a known one stays in use."""
    fetches = Fetches()
    fetches.answer = None
    keys = fetches.keys()
    assert status_of(lambda: keys.find("one")) == 503
    assert status_of(lambda: keys.find("one")) == 503
    assert fetches.count == 1
    fetches.answer = rsa_keys({"keys": [public(private_key, "one")]})
    fetches.now += FLOOR_SECONDS
    assert keys.find("one").key_id == "one"
    fetches.answer = None
    fetches.now += FLOOR_SECONDS
    assert status_of(lambda: keys.find("rotated")) == 503
    fetches.ended.clear()
    fetches.now += KEPT_SECONDS + 1
    assert keys.find("one").key_id == "one"
    assert fetches.ended.wait(20)
    assert keys.find("one").key_id == "one"


def test_a_hanging_key_server_holds_up_one_request_only(
    private_key: rsa.RSAPrivateKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests are verified on the event loop: one waits for the fetch, and not longer than it may."""
    monkeypatch.setattr(canvas_keys, "WAIT_SECONDS", 0.05)
    fetches = Fetches()
    fetches.hold.clear()
    fetches.answer = rsa_keys({"keys": [public(private_key, "one")]})
    keys = fetches.keys()
    assert [status_of(lambda: keys.find("one")) for _ in range(20)] == [503] * 20
    assert fetches.count == 1
    fetches.hold.set()
    assert fetches.ended.wait(20)


def test_a_withdrawn_key_is_not_believed_for_ever(private_key: rsa.RSAPrivateKey) -> None:
    """After some hours the set is fetched anew, behind the request that noticed it."""
    fetches = Fetches()
    fetches.answer = rsa_keys({"keys": [public(private_key, "one"), public(private_key, "two")]})
    keys = fetches.keys()
    keys.find("one")
    fetches.answer = rsa_keys({"keys": [public(private_key, "two")]})
    fetches.now += KEPT_SECONDS + 1
    fetches.ended.clear()
    assert keys.find("two").key_id == "two"
    assert fetches.ended.wait(20)
    for thread in threading.enumerate():
        if thread.name == "canvas-keys":
            thread.join(20)
    assert status_of(lambda: keys.find("one")) == 401


def test_only_keys_that_may_sign_with_rs256_are_kept(private_key: rsa.RSAPrivateKey) -> None:
    """Secrets, keys for encryption or other algorithms, short and broken ones are left out."""
    good = public(private_key, "good")
    short = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - to be refused
    others: list[Any] = [
        {"kty": "oct", "k": "c2VjcmV0", "kid": "secret"},
        public(private_key, "enc", use="enc"),
        public(private_key, "ps", alg="PS256"),
        public(short, "short"),
        {"kty": "RSA", "kid": "broken"},
        {"kty": "RSA", "kid": "broken", "n": 7, "e": []},
        {**good, "kid": None},
        7,
    ]
    bare = {name: value for name, value in public(private_key, "bare").items() if name not in ("use", "alg")}
    assert set(rsa_keys({"keys": [*others, good, bare]})) == {"good", "bare"}
    nothing: list[Any] = [None, [], {"keys": 7}, {"keys": [None]}]
    assert [rsa_keys(one) for one in nothing] == [{}] * 4


# --- what a request holds


def test_a_resend_has_the_same_id(private_key: rsa.RSAPrivateKey) -> None:
    """Canvas gives no id: what makes an event one does, whoever acted from where, signed anew or in another order."""
    canvas = signed_only()
    (first,) = canvas.split({}, signed(private_key, event() | {"iat": 1}))
    (again,) = canvas.split({}, signed(private_key, event(client_ip="192.0.2.9", session_id="x") | {"iat": 2}))
    (plain,) = canvas.split(
        {}, json.dumps({"body": event()["body"], "metadata": event()["metadata"]}, indent=1).encode()
    )
    assert first == again == plain
    others = [
        event(request_id="another"),
        event("course_progress"),
        event(event_time="2026-11-21T10:00:01Z"),
        event("enrollment_updated", enrolment()),
        event("enrollment_updated", enrolment(workflow_state="deleted")),
        event("enrollment_updated", enrolment(user_id="9")),
    ]
    ids = {canvas.split({}, orjson.dumps(one))[0].external_id for one in others}
    assert len(ids | {first.external_id}) == len(others) + 1


def test_a_request_holds_what_is_needed_and_its_kind() -> None:
    """Who acted from which address with which browser is not kept; enrolments have a task of their own."""
    canvas = signed_only()
    (received,) = canvas.split({}, orjson.dumps(event("enrollment_created", enrolment())))
    assert received.kind is Kind.ENROLLMENT
    assert b"192.0.2.7" not in received.payload
    assert b"admin@example.com" not in received.payload
    assert canvas.translate(received.payload)


@pytest.mark.parametrize("raw", [b"", b"7", b"[]", b"{", b'"x"', b"\xff", b"a.!.c"])
def test_what_is_no_event_at_all_is_refused(raw: bytes) -> None:
    """A body that is no JSON object cannot become one by being kept."""
    with pytest.raises(Refused) as raised:
        signed_only().split({}, raw)
    assert (raised.value.status, raised.value.reason) == (400, Reason.MALFORMED_BODY)


@pytest.mark.parametrize("raw", [b'{"a": NaN}', b'{"a":' * 3000 + b"1" + b"}" * 3000, b'{"a": "\\ud800"}'])
def test_hostile_json_ends_in_a_visible_state(raw: bytes) -> None:
    """What only a lenient parser takes is kept once, and rejected with its reason."""
    canvas = signed_only()
    (received,) = canvas.split({}, raw)
    with pytest.raises(Rejected) as raised:
        canvas.translate(received.payload)
    assert raised.value.reason is Reason.HOSTILE_JSON


# --- what events mean


@pytest.mark.skipif(not (SAMPLES / "expected.json").exists(), reason="the shared samples are not here")
def test_the_shared_samples_mean_what_is_expected() -> None:
    """Every sample of Canvas translates to its expectation; ids are compared without their shard."""
    expected = {
        name: said
        for name, said in json.loads((SAMPLES / "expected.json").read_text("utf-8")).items()
        if name.startswith("canvas/")
    }
    assert set(expected) == {f"canvas/{path.name}" for path in (SAMPLES / "canvas").iterdir()}
    for name, said in expected.items():
        kinds = said.get("kind_any_of", [said["kind"]])
        canvas = signed_only(root_account_uuid=UUID)
        raw = (SAMPLES / name).read_bytes()
        (received,) = canvas.split({}, raw)
        found: LearningEvent | None = None
        try:
            (found,) = canvas.translate(received.payload)
            assert canvas.translate(raw) == [found], name
        except Ignored:
            assert "unsupported" in kinds, name
            continue
        assert any(found.type in KINDS[kind] for kind in kinds if kind in KINDS), name
        actual = {
            "learner_external_id": found.learner.lms_user_id,
            "learner_email": found.learner.email,
            "learner_name": found.learner.full_name,
            "learner_sis_id": found.learner.employee_id,
            "course_id": found.course.id if found.course else None,
            "course_name": found.course.name if found.course else None,
            "assessment_id": found.subject.id if found.subject.type == "assessment" else None,
            "enrollment_id": found.attempt,
            "progress_percent": found.progress,
            "score": found.score,
            "score_max": found.score_max,
        }
        for field, value in actual.items():
            if field in said:
                assert value == (without_shard(said[field]) if field.endswith("_id") else said[field]), (name, field)
            assert value is None or value != said.get("must_not", {}).get(field), (name, field)
            assert value is None or field not in said.get("absent", []), (name, field)
        if "occurred_at" in said:
            assert found.occurred_at == datetime.fromisoformat(said["occurred_at"]), name


def without_shard(text: str) -> str:
    """An id as local ones are written."""
    return str(int(text) % SHARD) if text.isdigit() else text


def test_a_completion() -> None:
    """The learner, the course and the time of a completion are the body's, never who acted and when it was sent."""
    found = translated(event())
    assert found.type is EventType.COURSE_COMPLETED
    assert (found.learner.lms_user_id, found.learner.email, found.learner.full_name) == (
        "123",
        "ada@example.com",
        "Ada",
    )
    assert found.subject == found.course
    assert (found.subject.type, found.subject.id, found.subject.name) == ("course", "565", "Demo")
    assert (found.progress, found.passed, found.score) == (100.0, None, None)
    assert found.occurred_at == datetime(2026, 11, 20, 9, tzinfo=UTC)


def test_progress_is_a_percentage() -> None:
    """Requirements done of all; without requirements it is not known, and never above 100."""
    body = event()["body"]

    def percent(**progress: Any) -> float | None:
        return translated(event("course_progress", body | {"progress": progress})).progress

    assert percent(completed_at=None, requirement_count=123, requirement_completed_count=101) == 82.11
    assert percent(requirement_count="6", requirement_completed_count="3") == 50.0
    assert percent(requirement_count=2, requirement_completed_count=3) == 100.0
    assert [percent(), percent(requirement_count=0, requirement_completed_count=0)] == [None, None]
    assert [percent(requirement_count=2), percent(requirement_count=2, requirement_completed_count=-1)] == [None, None]
    found = translated(event("course_progress", body | {"progress": {"completed_at": None}}))
    assert found.type is EventType.COURSE_PROGRESSED
    assert found.occurred_at == datetime(2026, 11, 21, 10, 0, 0, 500_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("state", "type_"),
    [
        ("active", EventType.ENROLLMENT_CREATED),
        ("invited", EventType.ENROLLMENT_CREATED),
        ("creation_pending", EventType.ENROLLMENT_CREATED),
        ("deleted", EventType.ENROLLMENT_CANCELLED),
        ("rejected", EventType.ENROLLMENT_CANCELLED),
    ],
)
def test_an_enrolment(state: str, type_: EventType) -> None:
    """There, or lost; it was created and changed at different times, and whoever did it is not the learner."""
    found = translated(event("enrollment_updated", enrolment(workflow_state=state)))
    assert found.type is type_
    assert (found.learner.lms_user_id, found.learner.full_name, found.learner.email) == ("123", "Ada", None)
    assert (found.subject.id, found.course, found.attempt) == ("565", found.subject, "46825")
    assert found.occurred_at == datetime(2026, 11, 21, 9, tzinfo=UTC)
    created = translated(event("enrollment_created", enrolment(workflow_state=state)))
    assert created.occurred_at == datetime(2026, 11, 20, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "body", "metadata", "reason"),
    [
        ("enrollment_updated", enrolment(workflow_state="completed"), {}, Reason.NOTHING_LEARNED),
        ("enrollment_updated", enrolment(workflow_state="inactive"), {}, Reason.NOTHING_LEARNED),
        ("enrollment_created", enrolment(type="TeacherEnrollment"), {}, Reason.NOTHING_LEARNED),
        ("enrollment_created", enrolment(type="ObserverEnrollment"), {}, Reason.NOTHING_LEARNED),
        ("enrollment_created", enrolment(type="StudentViewEnrollment"), {}, Reason.NOTHING_LEARNED),
        ("grade_change", grade(muted=True), {}, Reason.NOTHING_LEARNED),
        ("grade_change", grade(grading_complete=False), {}, Reason.NOTHING_LEARNED),
        ("quiz_submitted", {"quiz_id": "7"}, {}, Reason.NOTHING_LEARNED),
        ("quiz_submitted", {"quiz_id": "7"}, {"context_role": "TeacherEnrollment"}, Reason.NOTHING_LEARNED),
        (
            "quiz_submitted",
            {"quiz_id": "7"},
            {"context_role": "StudentEnrollment", "user_id": None},
            Reason.NOTHING_LEARNED,
        ),
        ("enrollment_state_updated", {"enrollment_id": "1", "state": "active"}, {}, Reason.UNKNOWN_TYPE),
        ("course_grade_change", {"user_id": "1", "course_id": "2"}, {}, Reason.UNKNOWN_TYPE),
        ("never_heard_of", {}, {}, Reason.UNKNOWN_TYPE),
    ],
)
def test_what_says_nothing_of_a_learner(name: str, body: Any, metadata: dict[str, Any], reason: Reason) -> None:
    """Teachers, ended enrolments that are kept, grades nobody may see, quizzes of nobody, unknown types: ignored."""
    assert ignored(event(name, body, **metadata)) is reason


def test_caliper_is_ignored_with_its_reason() -> None:
    """The other format of the subscription is named, not guessed at."""
    caliper = {
        "sensor": "x",
        "sendTime": "2026-11-21T10:00:00Z",
        "dataVersion": "http://purl.imsglobal.org/ctx/caliper/v1p1",
        "data": [{}],
    }
    canvas = signed_only()
    (received,) = canvas.split({}, orjson.dumps(caliper))
    with pytest.raises(Ignored, match="choose the format Canvas"):
        canvas.translate(received.payload)


def test_a_grade() -> None:
    """More points than there are is legal, the course is the one it happened in, and the grader is nobody here."""
    where = {"context_type": "Course", "context_id": str(2107 * SHARD + 565)}
    found = translated(event("grade_change", grade(student_sis_id="ABC.123"), **where))
    assert found.type is EventType.ASSESSMENT_GRADED
    assert (found.score, found.score_max, found.passed) == (5.0, 1.0, None)
    assert (found.subject.type, found.subject.id) == ("assessment", "355")
    assert found.course
    assert found.course.id == "565"
    assert (found.learner.lms_user_id, found.learner.employee_id, found.learner.email) == ("48", "ABC.123", None)
    assert translated(event("grade_change", grade(user_id=None))).learner.lms_user_id == "48"
    assert translated(event("grade_change", grade(), context_type="Account", context_id="1")).course is None
    assert translated(event("grade_change", grade(score=None, points_possible=None))).score is None
    graded = [
        translated(event("grade_change", grade(grade=one))).passed for one in ("complete", "incomplete", "A-", None)
    ]
    assert graded == [True, False, None, None]


def test_a_quiz_that_a_student_sent_in() -> None:
    """The only event whose learner is who acted: its body names nobody, and only where a student did."""
    body = {"quiz_id": str(2107 * SHARD + 22), "submission_id": str(2107 * SHARD + 13)}
    where = {"context_role": "StudentEnrollment", "context_type": "Course", "context_id": str(2107 * SHARD + 565)}
    found = translated(event("quiz_submitted", body, **where))
    assert (found.learner.lms_user_id, found.learner.email) == ("987", None)
    assert (found.subject.id, found.attempt, found.score) == ("22", "13", None)
    assert found.course
    assert found.course.id == "565"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"metadata": {}, "body": {}}, Reason.MISSING_FIELD),
        ({"body": {}}, Reason.MISSING_FIELD),
        (event(event_name=7), Reason.INVALID_EVENT),
        ({"metadata": 7}, Reason.INVALID_EVENT),
        (event() | {"body": []}, Reason.INVALID_EVENT),
        (event("course_completed", {}), Reason.MISSING_FIELD),
        (event("course_completed", {"course": {"id": "1"}, "user": {}}), Reason.MISSING_FIELD),
        (
            event("course_completed", {"course": {"id": "1"}, "user": {"id": "1"}}, event_time=None),
            Reason.MISSING_FIELD,
        ),
        (
            event("course_completed", {"course": {"id": "1"}, "user": {"id": "1"}}, event_time="soon"),
            Reason.INVALID_EVENT,
        ),
        (event("course_completed", {"course": {"id": "1"}, "user": {"id": "1\0"}}), Reason.INVALID_EVENT),
        (event("course_completed", {"course": {"id": "1"}, "user": {"id": "1" * 300}}), Reason.INVALID_EVENT),
        (event("course_completed", {"course": {"id": ["1"]}, "user": {"id": "1"}}), Reason.INVALID_EVENT),
        (event("enrollment_created", {}), Reason.MISSING_FIELD),
        (event("enrollment_created", enrolment(user_id=None)), Reason.MISSING_FIELD),
        (event("enrollment_created", enrolment(created_at="2026-13-01T00:00:00Z")), Reason.INVALID_EVENT),
        (event("grade_change", grade(score="good")), Reason.INVALID_EVENT),
        (event("grade_change", grade(score=True)), Reason.INVALID_EVENT),
    ],
)
def test_what_cannot_be_an_event_is_rejected_with_its_field(said: Any, reason: Reason) -> None:
    """A person reads which field it is about; the value is not shown."""
    with pytest.raises(Rejected) as raised:
        translated(said)
    assert raised.value.reason is reason
    assert "good" not in raised.value.detail


# --- ids and times


@given(st.integers(1, 9999), st.integers(1, SHARD - 1))
def test_local_and_global_ids_are_one(shard: int, number: int) -> None:
    """However Canvas writes the id of a thing of ours, it is one thing; one of another shard is another."""
    home = home_of(str(shard * SHARD + 1))
    forms: list[object] = [
        str(number),
        number,
        str(shard * SHARD + number),
        shard * SHARD + number,
        f"{shard}~{number}",
    ]
    assert {local_id(one, home, "id") for one in forms} == {str(number)}
    foreign = str((shard + 1) * SHARD + number)
    assert local_id(foreign, home, "id") == local_id(f"{shard + 1}~{number}", home, "id") == foreign
    assert local_id(foreign, home_of(None), "id") == str(number)


@pytest.mark.parametrize(
    ("given_id", "found"), [("01314161-1afc", "01314161-1afc"), (" ", None), (None, None), ("x~1", "x~1")]
)
def test_other_ids_stay_as_they_are(given_id: object, found: str | None) -> None:
    """What is no number is nobody's shard."""
    assert local_id(given_id, 2107, "id") == found


@pytest.mark.parametrize(
    "text",
    [
        "2018-11-05T13:38:00Z",
        "2018-11-05T13:38:00.000Z",
        "2018-11-05 05:38:00 -0800",
        "2018-11-05 05:38:00 -08:00",
        "2018-11-05T05:38:00-08:00",
        "2018-11-05 13:38:00 UTC",
        "2018-11-05 13:38:00",
        "2018-11-05t13:38:00.000000000z",
    ],
)
def test_every_way_canvas_writes_a_time(text: str) -> None:
    """One moment, in UTC."""
    assert moment_of(text, "time") == datetime(2018, 11, 5, 13, 38, tzinfo=UTC)


@given(st.datetimes(EARLIEST, LATEST), st.integers(-14 * 60, 14 * 60))
def test_a_time_survives_its_zone(moment: datetime, minutes: int) -> None:
    """Any offset gives the same moment back."""
    offset = timedelta(minutes=minutes)
    local = (moment + offset).isoformat(sep=" ")
    sign = "-" if minutes < 0 else "+"
    hours, rest = divmod(abs(minutes), 60)
    assert moment_of(f"{local} {sign}{hours:02}{rest:02}", "time") == moment.replace(tzinfo=UTC)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FIELDS = [
    "user",
    "course",
    "progress",
    "id",
    "user_id",
    "course_id",
    "type",
    "workflow_state",
    "score",
    "muted",
    "quiz_id",
]
NAMES = [
    "enrollment_created",
    "enrollment_updated",
    "course_completed",
    "course_progress",
    "grade_change",
    "quiz_submitted",
]


@given(
    st.sampled_from(NAMES), st.dictionaries(st.sampled_from(FIELDS), JSON), st.dictionaries(st.text(), JSON, max_size=2)
)
def test_whatever_comes_is_an_event_or_says_why_not(name: str, body: dict[str, Any], more: dict[str, Any]) -> None:
    """The worker never meets another error than its own."""
    said = event(name, {**grade(), **enrolment(), **event()["body"], **body}, **more)
    canvas = signed_only()
    try:
        (received,) = canvas.split({}, orjson.dumps(said))
    except TypeError:
        return  # numbers that no JSON of Canvas can hold
    with suppress(Ignored, Rejected):
        assert len(canvas.translate(received.payload)) == 1
