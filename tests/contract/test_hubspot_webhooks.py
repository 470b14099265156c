"""Webhooks from HubSpot: whose are let in, what is kept of an event, and which hint each one gives."""

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
from integration.connectors.crm.hubspot_signature import sign
from integration.connectors.crm.hubspot_webhooks import Webhooks, findings
from integration.errors import Ignored, Reason, Refused, Rejected
from integration.model.deals import DealHint
from integration.model.events import Kind
from integration.model.hints import ContactHint, HintType
from integration.ports import Received

CONTRACTS = Path(__file__).resolve().parents[2] / ".." / "shared" / "contracts" / "hubspot"
VECTORS = CONTRACTS / "webhook_signature_vectors.json"
EXAMPLES = CONTRACTS / "examples.json"
SECRET, OLD_SECRET = "7d3f7f0a-4a53-4c4f-9d8a-0a6a4a0b1c2d", "the-client-secret-before"
URL = "https://sync.example.org/webhooks/crm"
NOW = 1_790_000_001.0
STAMP = "1790000001000"
AT = datetime(2026, 9, 21, 14, 13, 20, tzinfo=UTC)
BODY = b'[{"eventId": 1}]'


def config(**changed: Any) -> ConnectionConfig:
    """A HubSpot connection that takes webhooks; keyword arguments change `webhook`, `options` is one of them."""
    webhook = {"secrets": [{"env": "TEST_CLIENT_SECRET"}, {"env": "TEST_OLD_SECRET"}], "public_url": URL}
    options = changed.pop("options", {"role_property": "lms_role"})
    return ConnectionConfig.model_validate(
        {
            "name": "crm",
            "system": "hubspot",
            "credentials": {"token": {"env": "NOT_SET"}},
            "webhook": {name: value for name, value in (webhook | changed).items() if value is not None},
            "options": options,
        }
    )


def webhooks(now: float = NOW, **changed: Any) -> Webhooks:
    """The connector of such a connection; `now` is its clock."""
    made = config(**changed)
    assert made.webhook
    return Webhooks(made, made.webhook, clock=lambda: now)


CRM = webhooks()


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_CLIENT_SECRET", SECRET)
    monkeypatch.setenv("TEST_OLD_SECRET", OLD_SECRET)


def signed(raw: bytes = BODY, *, secret: str = SECRET, stamp: str = STAMP, url: str = URL) -> dict[str, str]:
    """The headers under which HubSpot sends `raw`."""
    signature = sign(secret.encode(), "POST", url, raw, stamp)
    return {"x-hubspot-signature-v3": signature, "x-hubspot-request-timestamp": stamp}


def refusal(headers: dict[str, str], raw: bytes = BODY, *, url: str = URL, now: float = NOW) -> Reason:
    """Why a request is refused; that it is, with 401."""
    with pytest.raises(Refused) as raised:
        webhooks(now).verify("POST", url, headers, raw)
    assert raised.value.status == 401
    return raised.value.reason


def event(kind: str = "contact.propertyChange", **changed: Any) -> dict[str, Any]:
    """One event as HubSpot sends it; None takes a field away."""
    made: dict[str, Any] = {
        "eventId": 100,
        "subscriptionId": 25,
        "portalId": 4242,
        "appId": 1160452,
        "occurredAt": 1790000000000,
        "subscriptionType": kind,
        "attemptNumber": 0,
        "objectId": 501,
        "changeSource": "CRM_UI",
        "sourceId": "userId:7001",
    }
    if kind.endswith("propertyChange"):
        made |= {"propertyName": "jobtitle", "propertyValue": "Engineer"}
    return {name: value for name, value in (made | changed).items() if value is not None}


def hints(*events: dict[str, Any], crm: Webhooks = CRM) -> list[ContactHint]:
    """What is understood of a request with these events."""
    found = [hint for one in crm.split({}, orjson.dumps(events)) for hint in crm.translate(one.payload)]
    assert all(isinstance(one, ContactHint) for one in found)
    return [one for one in found if isinstance(one, ContactHint)]


def problem(one: dict[str, Any], crm: Webhooks = CRM) -> tuple[Reason, str]:
    """Why no hint comes of an event, and the sentence."""
    with pytest.raises((Ignored, Rejected)) as raised:
        hints(one, crm=crm)
    assert raised.value.__suppress_context__ or raised.value.__context__ is None
    return raised.value.reason, raised.value.detail


# --- signatures


def _vector(name: str) -> dict[str, Any]:
    if not VECTORS.exists():
        pytest.skip("the shared vectors are not here")
    document = json.loads(VECTORS.read_text("utf-8"))
    found: dict[str, Any] = next(one for one in [*document["positive"], *document["negative"]] if one["name"] == name)
    return found


def _try(vector: dict[str, Any], monkeypatch: pytest.MonkeyPatch, now_ms: int, **changed: Any) -> None:
    """Verify a vector, some of it changed, when our clock says `now_ms`."""
    monkeypatch.setenv("TEST_CLIENT_SECRET", vector["client_secret"])
    asked = vector | changed
    headers = {"x-hubspot-request-timestamp": asked["timestamp_header"]}
    if asked["expected_signature_v3"]:
        headers["x-hubspot-signature-v3"] = asked["expected_signature_v3"]
    body = asked["body"].encode()
    webhooks(now_ms / 1000).verify(asked["method"], asked["request_uri"], headers, body)


@pytest.mark.parametrize("name", ["official-python-sdk-test", "two-events", "utf8-body", "percent-encoded-query"])
def test_known_signatures(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What HubSpot's own helper signs is let in, and one changed byte of the body is not."""
    vector = _vector(name)
    now_ms = int(vector["timestamp_header"])
    _try(vector, monkeypatch, now_ms)
    with pytest.raises(Refused, match="bad_signature"):
        _try(vector, monkeypatch, now_ms, body=vector["body"] + " ")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("stale", Reason.STALE_TIMESTAMP),
        ("exactly-5-min", None),
        ("future-10-min", Reason.STALE_TIMESTAMP),
        ("non-numeric-timestamp", Reason.BAD_TIMESTAMP),
        ("http-instead-of-https", Reason.BAD_SIGNATURE),
        ("trailing-slash", Reason.BAD_SIGNATURE),
        ("body-reserialised-with-spaces", Reason.BAD_SIGNATURE),
        ("missing-v3-header", Reason.MISSING_SIGNATURE),
    ],
)
def test_known_forgeries(name: str, reason: Reason | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each shared vector of what must not be let in is refused for its own reason."""
    case = _vector(name)
    base = _vector(case["base"])
    changed: dict[str, Any] = {key: case[key] for key in ("timestamp_header", "request_uri") if key in case}
    if name == "body-reserialised-with-spaces":
        changed["body"] = json.dumps(json.loads(base["body"]))
    if name == "missing-v3-header":
        changed["expected_signature_v3"] = ""
    now_ms = case.get("now_ms", int(base["timestamp_header"]))
    if reason is None:
        _try(base, monkeypatch, now_ms, **changed)
        return
    with pytest.raises(Refused) as raised:
        _try(base, monkeypatch, now_ms, **changed)
    assert (raised.value.status, raised.value.reason) == (401, reason)


def test_own_vector() -> None:
    """A signature that was computed by openssl: POST, address, body, stamp, nothing between them."""
    assert sign(b"lms-sync-test-client-secret-0001", "POST", "https://a.example/w", b"[]", "1790000001000") == (
        "//J/6AuiaOnT2xd+GppvH9gQ/fb9Q9FL/JDfc976KVs="
    )


def test_rotation() -> None:
    """While the client secret is rotated, both are good; any other is not."""
    CRM.verify("POST", URL, signed(), BODY)
    CRM.verify("POST", URL, signed(secret=OLD_SECRET), BODY)
    assert refusal(signed(secret="another-client-secret")) is Reason.BAD_SIGNATURE


@pytest.mark.parametrize("seconds", [-300, 0, 300])
def test_clock_within_five_minutes(seconds: int) -> None:
    """Five minutes off either way are accepted."""
    webhooks(NOW + seconds).verify("POST", URL, signed(), BODY)


@pytest.mark.parametrize("seconds", [-300.001, 300.001, 86_400])
def test_clock_beyond_five_minutes(seconds: float) -> None:
    """A request of a millisecond too long ago, or too far ahead, is stale, however well it is signed."""
    assert refusal(signed(), now=NOW + seconds) is Reason.STALE_TIMESTAMP


@pytest.mark.parametrize("stamp", ["soon", "1790000001000.0", "-1790000001000", "1e12", "٣" * 13, "9" * 5000, "0x1"])
def test_bad_timestamp(stamp: str) -> None:
    """A timestamp that is not plain digits of a sensible length is refused as such."""
    assert refusal(signed(stamp=stamp)) is Reason.BAD_TIMESTAMP


def test_older_signatures_are_no_proof() -> None:
    """The signatures of versions 1 and 2 can be replayed for ever, so alone they count for nothing."""
    older = {"x-hubspot-signature": "a" * 64, "x-hubspot-signature-version": "v2"}
    stamp = {"x-hubspot-request-timestamp": STAMP}
    assert refusal(older) is Reason.MISSING_SIGNATURE
    assert refusal(older | stamp) is Reason.MISSING_SIGNATURE
    assert refusal({"x-hubspot-signature-v3": "x"}) is Reason.MISSING_SIGNATURE
    CRM.verify("POST", URL, signed() | older, BODY)


def test_only_the_listed_escapes_are_decoded() -> None:
    """The signed address has :/?@!$'()*,; decoded, in either case, once, and nothing else."""
    plain = "https://a.example/w?q=:/?@!$'()*,;&x=%20%26%25%7E%C3%A9&twice=%253A"
    coded = plain.replace("q=:/?@!$'()*,;", "q=%3A%2F%3F%40%21%24%27%28%29%2A%2C%3B")
    lower = coded.replace("%3A%2F", "%3a%2f")
    assert sign(b"k", "POST", coded, b"", "1") == sign(b"k", "POST", plain, b"", "1")
    assert sign(b"k", "POST", lower, b"", "1") == sign(b"k", "POST", plain, b"", "1")
    for literal in ("%20", "%26", "%25", "%7E", "%C3%A9"):
        assert sign(b"k", "POST", plain.replace(literal, "-"), b"", "1") != sign(b"k", "POST", plain, b"", "1")
    assert sign(b"k", "POST", "/%253A", b"", "1") != sign(b"k", "POST", "/%3A", b"", "1")


@given(st.sampled_from(["url", "signature", "stamp", "body"]), st.integers(min_value=0), st.integers(0, 7))
def test_any_flipped_bit(place: str, index: int, bit: int) -> None:
    """Any one bit flipped anywhere, in address, headers or body, is refused."""
    headers = signed()
    whole = {"url": URL, "signature": headers["x-hubspot-signature-v3"], "stamp": STAMP, "body": BODY.decode()}
    changed = bytearray(whole[place].encode())
    changed[index % len(changed)] ^= 1 << bit
    whole[place] = changed.decode("latin-1")
    headers = {"x-hubspot-signature-v3": whole["signature"], "x-hubspot-request-timestamp": whole["stamp"]}
    with pytest.raises(Refused) as raised:
        _clear(headers, whole["body"].encode("latin-1"), whole["url"])
    assert raised.value.status == 401


def _clear(headers: dict[str, str], raw: bytes, url: str) -> None:
    with pytest.MonkeyPatch.context() as patch:  # hypothesis runs a function's fixtures only once
        patch.setenv("TEST_CLIENT_SECRET", SECRET)
        patch.setenv("TEST_OLD_SECRET", OLD_SECRET)
        webhooks().verify("POST", url, headers, raw)


@given(st.text(st.characters(exclude_categories=[])), st.text(st.characters(exclude_categories=[])), st.binary())
def test_odd_input_is_refused(signature: str, url: str, raw: bytes) -> None:
    """Headers and addresses of any text, even what none can hold, are refused and raise nothing else."""
    headers = {"x-hubspot-signature-v3": "=" + signature, "x-hubspot-request-timestamp": STAMP}
    with pytest.raises(Refused) as raised:
        _clear(headers, raw, url)
    assert raised.value.reason is Reason.BAD_SIGNATURE


def test_unreadable_secret_is_our_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """While our own secret cannot be read HubSpot is told to come back, and translating goes on."""
    monkeypatch.delenv("TEST_CLIENT_SECRET")
    with pytest.raises(Refused) as raised:
        webhooks().verify("POST", URL, signed(), BODY)
    assert (raised.value.status, raised.value.reason) == (503, Reason.SECRET_UNREADABLE)
    assert hints(event(), crm=webhooks())


# --- where it is wired in


def test_a_connection_without_webhook_sends_none() -> None:
    """HubSpot may be written to without being listened to."""
    silent = ConnectionConfig.model_validate(
        {"name": "crm", "system": "hubspot", "credentials": {"token": {"env": "NOT_SET"}}}
    )
    assert registry.inbound(silent) is None
    assert isinstance(registry.inbound(config()), Webhooks)
    assert findings(silent) == []


@pytest.mark.parametrize(
    ("address", "word"),
    [
        (None, "public_url is missing"),
        ("http://sync.example.org/webhooks/crm", "must begin with https"),
        ("sync.example.org/webhooks/crm", "must begin with https"),
        ("https:///webhooks/crm", "must begin with https"),
        ("https://[sync/webhooks/crm", "must begin with https"),
        ("https://sync.example.org/webhooks/crm?x=1", "no query"),
    ],
)
def test_check_advises_on_the_address(address: str | None, word: str) -> None:
    """`coursewire check` says what to write where HubSpot's address is missing, or none that it would call."""
    secrets, about = findings(config(public_url=address))
    assert secrets.ok
    assert not about.ok
    assert word in about.what
    assert "https://sync.example.org/webhooks/crm" in about.advice


@pytest.mark.parametrize("address", [URL, "http://127.0.0.1:8000/webhooks/crm"])
def test_check_of_a_good_address(address: str) -> None:
    """An https address is fine, and a stand-in for HubSpot on this machine needs no TLS."""
    assert all(one.ok for one in findings(config(public_url=address)))


@pytest.mark.parametrize("secret", [None, "short"])
def test_check_says_that_a_secret_cannot_be_read(secret: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret that is absent, or too short to be one, is said and not shown."""
    monkeypatch.delenv("TEST_OLD_SECRET") if secret is None else monkeypatch.setenv("TEST_OLD_SECRET", secret)
    about, _ = findings(config())
    assert not about.ok
    assert "short" not in about.advice.replace("too short", "")


# --- split


@pytest.mark.parametrize(
    "raw",
    [b"", b"[", b"hello", b"{}", b'"x"', b"null", b"7", b"[1]", b"[{}, null]", b"[[]]", b"\xff\xfe", b"[{}]x"],
)
def test_what_is_no_list_of_objects_is_refused(raw: bytes) -> None:
    """What is no JSON, or no list of objects, is refused before anything is stored."""
    with pytest.raises(Refused) as raised:
        CRM.split({}, raw)
    assert (raised.value.status, raised.value.reason) == (400, Reason.MALFORMED_BODY)


def test_each_event_stands_alone() -> None:
    """Hundreds of events in one request are so many rows, in their order; none is no mistake."""
    events = [event(objectId=number) for number in range(250)]
    found = CRM.split({}, orjson.dumps(events))
    assert [orjson.loads(one.payload)["objectId"] for one in found] == [str(number) for number in range(250)]
    assert len({one.external_id for one in found}) == 250
    assert CRM.split({}, b"[]") == []


@pytest.mark.parametrize(
    ("one", "kind"),
    [
        (event(propertyName="lms_role"), Kind.ROLE_CHANGE),
        (event("object.propertyChange", objectTypeId="0-1", propertyName="lms_role"), Kind.ROLE_CHANGE),
        (event("object.propertyChange", objectTypeId="0-3", propertyName="lms_role"), Kind.CONTACT),
        (event("deal.propertyChange", propertyName="lms_role"), Kind.CONTACT),
        (event("contact.creation", propertyName="lms_role"), Kind.CONTACT),
        (event(propertyName="jobtitle"), Kind.CONTACT),
        (event(propertyName=None), Kind.CONTACT),
        (event("contact.deletion"), Kind.CONTACT),
        ({}, Kind.CONTACT),
    ],
)
def test_kinds(one: dict[str, Any], kind: Kind) -> None:
    """A change of the role property of a contact is a change of role, everything else is about the contact."""
    (found,) = CRM.split({}, orjson.dumps([one]))
    assert found.kind is kind


def test_without_a_role_property_no_role_changes() -> None:
    """Where no property says the role, an event that names none is no change of role either."""
    crm = webhooks(options={})
    assert {one.kind for one in crm.split({}, orjson.dumps([event(), event(propertyName=None), {}]))} == {Kind.CONTACT}


def test_little_is_kept() -> None:
    """Of an event only what the hint needs is stored, and a value only where a contact's property changed."""
    (changed, created, deal) = CRM.split(
        {},
        orjson.dumps(
            [
                event(extra={"email": "ada@example.com"}),
                event("contact.creation", propertyName="email", propertyValue="ada@example.com"),
                event("deal.propertyChange", propertyValue="sekret"),
            ]
        ),
    )
    assert orjson.loads(changed.payload) == {
        "objectId": "501",
        "occurredAt": "1790000000000",
        "portalId": "4242",
        "propertyName": "jobtitle",
        "propertyValue": "Engineer",
        "subscriptionType": "contact.propertyChange",
    }
    assert b"ada" not in created.payload
    assert b"sekret" not in deal.payload


@pytest.mark.parametrize(
    "changed",
    [
        {"portalId": 4243},
        {"subscriptionType": "contact.creation"},
        {"objectId": 502},
        {"propertyName": "email"},
        {"eventId": 101},
        {"occurredAt": 1790000000001},
        {"objectTypeId": "0-3"},
    ],
)
def test_other_events_are_others(changed: dict[str, Any]) -> None:
    """Two events that differ in anything that names them are two events, whatever their eventId is."""
    first, second = CRM.split({}, orjson.dumps([event(), event(**changed)]))
    assert first.external_id != second.external_id


def test_other_merges_are_others() -> None:
    """Two merges into one contact at one time are told apart by who was merged."""
    merges = [event("contact.merge", newObjectId=9, primaryObjectId=1, mergedObjectIds=[n]) for n in (2, 3)]
    assert len({one.external_id for one in CRM.split({}, orjson.dumps(merges))}) == 2


HOSTILE = [
    b'[{"subscriptionType": "contact.propertyChange", "propertyName": "a", "propertyValue": "\\ud800"}]',
    b'[{"subscriptionType": "contact.deletion", "objectId": NaN, "occurredAt": 1}]',
    b'[{"subscriptionType": "contact.deletion", "objectId": ' + b"9" * 5000 + b', "occurredAt": NaN}]',
    b"[" + b'{"a":[' * 100_000,
    b'[{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}]",
]


@pytest.mark.parametrize("raw", HOSTILE)
def test_hostile_json_is_kept_and_rejected(raw: bytes) -> None:
    """JSON that only lenient readers take is accepted with its signature, and ends dead with a reason."""
    (one,) = CRM.split({}, raw)
    with pytest.raises(Rejected) as raised:
        CRM.translate(one.payload)
    assert raised.value.reason is Reason.HOSTILE_JSON


def test_a_hostile_event_harms_no_other() -> None:
    """Of a request with one event that cannot be read, all others are understood."""
    good = orjson.dumps(event(sourceId="x"))
    raw = b"[" + good + b"," + HOSTILE[0][1:-1] + b"," + good.replace(b'"x"', b'"\\ud800"') + b"]"
    first, second, third = CRM.split({}, raw)
    assert CRM.translate(first.payload) == CRM.translate(third.payload)
    with pytest.raises(Rejected):
        CRM.translate(second.payload)


# --- translate


@pytest.mark.parametrize(
    ("word", "type_"),
    [
        ("creation", HintType.CREATED),
        ("propertyChange", HintType.CHANGED),
        ("deletion", HintType.DELETED),
        ("restore", HintType.RESTORED),
        ("merge", HintType.MERGED),
        ("privacyDeletion", HintType.ERASED),
    ],
)
def test_both_forms(word: str, type_: HintType) -> None:
    """The classic form and the generic one of a contact say the same."""
    classic, generic = hints(event(f"contact.{word}"), event(f"object.{word}", objectTypeId="0-1"))
    assert classic == generic
    assert (classic.type, classic.contact_id, classic.occurred_at, classic.merged_ids) == (type_, "501", AT, ())
    said = ("jobtitle", "Engineer") if type_ is HintType.CHANGED else (None, None)
    assert (classic.property, classic.value) == said


def test_either_name_of_the_type() -> None:
    """The documentation's tables call it `eventType`; that counts where `subscriptionType` is not there."""
    assert hints(event(subscriptionType=None, eventType="contact.deletion")) == hints(event("contact.deletion"))
    assert hints(event("contact.creation", eventType="contact.deletion")) == hints(event("contact.creation"))


@pytest.mark.parametrize(
    ("value", "meant"),
    [("Engineer", "Engineer"), ("", ""), ("REDACTED", None), (None, None), (7, "7"), (1.5, "1.5"), (True, "true")],
)
def test_values(value: object, meant: str | None) -> None:
    """A value is text as HubSpot would return it; one that is hidden, or absent, is not known."""
    (found,) = hints(event(propertyValue=value))
    assert found.value == meant


def test_a_value_that_no_property_holds() -> None:
    """What is no value, or cannot be stored, is not known; the contact is read anyway."""
    assert [one.value for one in hints(event(propertyValue=["x"]), event(propertyValue="a\0b"))] == [None, None]


@pytest.mark.parametrize(
    ("said", "contact_id", "merged_ids"),
    [
        (
            {"objectId": 503, "primaryObjectId": 501, "mergedObjectIds": [502], "newObjectId": 503},
            "503",
            {"501", "502"},
        ),
        (
            {"objectId": 501, "primaryObjectId": 501, "mergedObjectIds": [502], "newObjectId": 503},
            "503",
            {"501", "502"},
        ),
        ({"objectId": 502, "primaryObjectId": "501", "mergedObjectIds": ["502"]}, "501", {"502"}),
        ({"objectId": 501, "primaryObjectId": 501, "mergedObjectIds": [502, 504]}, "501", {"502", "504"}),
        ({"objectId": None, "primaryObjectId": 501, "mergedObjectIds": [502]}, "501", {"502"}),
        ({"objectId": 501, "mergedObjectIds": []}, "501", set()),
        ({"objectId": 501, "mergedObjectIds": 502}, "501", {"502"}),
        ({"objectId": 501, "mergedObjectIds": None}, "501", set()),
    ],
)
def test_merges(said: dict[str, Any], contact_id: str, merged_ids: set[str]) -> None:
    """The new record goes on where there is one, else the primary one; all others lead to it, each once."""
    (found,) = hints(event("contact.merge", **said))
    assert found.contact_id == contact_id
    assert len(found.merged_ids) == len(merged_ids)
    assert set(found.merged_ids) == merged_ids


def test_ids_have_64_bits() -> None:
    """Large ids stay what they are, as numbers or as text."""
    large = 2**63 - 1
    assert [one.contact_id for one in hints(event(objectId=large), event(objectId=str(large)))] == [str(large)] * 2
    assert hints(event(objectId=501.0, occurredAt=1.79e12)) == hints(event())


@pytest.mark.parametrize(
    ("one", "shown"),
    [
        (event("deal.conversation"), "deal.conversation"),
        (event("company.creation"), "company.creation"),
        (event("contact.associationChange"), "contact.associationChange"),
        (event("object.associationChange"), "object.associationChange"),
        (event("object.propertyChange", objectTypeId="0-5"), "object.propertyChange of 0-5"),
        (event("contact"), "contact"),
        (event("x\0\n" + "y" * 99), "x" + "y" * 63),
    ],
)
def test_what_is_about_no_contact_is_ignored(one: dict[str, Any], shown: str) -> None:
    """Other types and other objects are ignored by name."""
    assert problem(one) == (Reason.UNKNOWN_TYPE, shown)


@pytest.mark.parametrize(
    ("one", "sentence"),
    [
        (event(subscriptionType=None), "subscriptionType is missing"),
        (event(objectId=None), "objectId is missing"),
        (event(occurredAt=None), "occurredAt is missing"),
        (event(occurredAt=" "), "occurredAt is missing"),
        (event(propertyName=None), "propertyName is missing"),
        (event("contact.merge", objectId=None), "objectId is missing"),
        (event("object.deletion"), "objectTypeId is missing"),
    ],
)
def test_missing_fields(one: dict[str, Any], sentence: str) -> None:
    """A field that is absent or blank is named."""
    assert problem(one) == (Reason.MISSING_FIELD, sentence)


@pytest.mark.parametrize(
    ("one", "sentence"),
    [
        (event(subscriptionType=7), "subscriptionType: must be text"),
        (event(objectId="sekret"), "objectId: must be the number of a record"),
        (event(objectId=-1), "objectId: must be the number of a record"),
        (event(objectId=1.5), "objectId: must be the number of a record"),
        (event(objectId=True), "objectId: must be the number of a record"),
        (event(objectId=["sekret"]), "objectId: must be the number of a record"),
        (event(objectId="٣"), "objectId: must be the number of a record"),
        (event(objectId="9" * 21), "objectId: must be the number of a record"),
        (event("contact.merge", mergedObjectIds=["sekret"]), "mergedObjectIds: must be the number of a record"),
        (event("contact.merge", mergedObjectIds={"a": 1}), "mergedObjectIds: must be the number of a record"),
        (event("contact.merge", newObjectId="sekret"), "newObjectId: must be the number of a record"),
        (event(occurredAt="sekret"), "occurredAt: must be milliseconds since 1970"),
        (event(occurredAt=-1), "occurredAt: must be milliseconds since 1970"),
        (event(occurredAt=True), "occurredAt: must be milliseconds since 1970"),
        (event(occurredAt=10**18), "occurredAt: must be milliseconds since 1970"),
        (event(propertyName=7), "propertyName: must be the name of a property"),
        (event(propertyName="a\0b"), "propertyName: must be the name of a property"),
        (event(propertyName="x" * 256), "propertyName: must be the name of a property"),
    ],
)
def test_wrong_fields(one: dict[str, Any], sentence: str) -> None:
    """A field with a value that it cannot have is named, and the value never said."""
    assert problem(one) == (Reason.INVALID_EVENT, sentence)


def test_other_accounts() -> None:
    """Where one app is installed in several accounts, only the events of ours count; else those of any."""
    ours = webhooks(options={"portal_id": 4242})
    assert hints(event(), event(portalId="4242"), crm=ours)
    assert problem(event(portalId=4243), crm=ours)[0] is Reason.OTHER_ACCOUNT
    assert problem(event(portalId=None), crm=ours)[0] is Reason.OTHER_ACCOUNT
    assert problem(event("company.deletion", portalId=4243), crm=ours)[0] is Reason.UNKNOWN_TYPE
    assert problem(event("deal.deletion", portalId=4243), crm=ours)[0] is Reason.OTHER_ACCOUNT
    assert hints(event(portalId=4243))


@pytest.mark.parametrize("payload", [b"", b"[]", b"7", b"null", b'"x"', b"{"])
def test_a_payload_that_is_no_object(payload: bytes) -> None:
    """What an administrator makes of a stored event must still be one."""
    with pytest.raises(Rejected):
        CRM.translate(payload)


def test_shared_examples() -> None:
    """The shared example of a delivery is understood."""
    if not EXAMPLES.exists():
        pytest.skip("the shared examples are not here")
    body = json.loads(EXAMPLES.read_text("utf-8"))["examples"]["webhook.delivery"]["body"]
    *ours, deal = CRM.split({}, orjson.dumps(body))
    found = [hint for one in ours for hint in CRM.translate(one.payload) if isinstance(hint, ContactHint)]
    assert [(one.type, one.contact_id) for one in found] == [
        (HintType.CHANGED, "501"),
        (HintType.CHANGED, "501"),
        (HintType.MERGED, "503"),
        (HintType.ERASED, "504"),
        (HintType.DELETED, "504"),
    ]
    assert found[2].merged_ids == ("501", "502")
    assert [one.kind for one in ours[:3]] == [Kind.ROLE_CHANGE, Kind.ROLE_CHANGE, Kind.CONTACT]
    (about_deal,) = CRM.translate(deal.payload)
    assert isinstance(about_deal, DealHint)
    assert about_deal.deal_id == "9001"


# --- any input

LEAVES = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text()
JSON = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3))
TYPES = [f"{thing}.{word}" for thing in ("contact", "object", "deal") for word in ("creation", "merge", "deletion")]
TYPES += ["contact.propertyChange", "object.propertyChange", "contact.privacyDeletion", "contact.restore"]
IDS = st.integers(0, 2**63 - 1) | st.integers(0, 999).map(str) | JSON
EVENTS = st.fixed_dictionaries(
    {},
    optional={
        "subscriptionType": st.sampled_from(TYPES) | JSON,
        "eventType": st.sampled_from(TYPES) | JSON,
        "objectTypeId": st.sampled_from(["0-1", "0-3"]) | JSON,
        "objectId": IDS,
        "occurredAt": st.integers(0, 2 * 10**12) | JSON,
        "portalId": IDS,
        "eventId": IDS,
        "primaryObjectId": IDS,
        "newObjectId": IDS,
        "mergedObjectIds": st.lists(IDS, max_size=3) | JSON,
        "propertyName": st.sampled_from(["lms_role", "jobtitle"]) | JSON,
        "propertyValue": st.text() | JSON,
        "attemptNumber": st.integers(0, 10),
        "unknown": JSON,
    },
)


def outcome(payload: bytes) -> str:
    """What becomes of one stored event: its hint as JSON, or the reason with its sentence."""
    try:
        (found,) = CRM.translate(payload)
    except (Ignored, Rejected) as error:
        return f"{error.reason}: {error.detail}"
    return found.model_dump_json()


def taken(raw: bytes) -> list[Received] | tuple[int, Reason]:
    """The events of a request, or the status and reason of its refusal."""
    try:
        return CRM.split({}, raw)
    except Refused as error:
        return error.status, error.reason


@given(st.lists(EVENTS | JSON, max_size=4) | JSON)
def test_any_json_is_a_hint_or_a_reason(body: Any) -> None:
    """Whatever JSON comes, each event of it is a hint or has a reason, and there is no NUL in either."""
    found = taken(orjson.dumps(body))
    if isinstance(found, tuple):
        assert found == (400, Reason.MALFORMED_BODY)
        return
    assert len(found) == len(body)
    for one in found:
        became = outcome(one.payload)
        assert became.startswith("{") or len(became) < 150
        assert "\\u0000" not in became
        assert "\0" not in became


@given(st.binary() | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")) | st.binary().map(b"[".__add__))
def test_any_bytes_are_a_reason(raw: bytes) -> None:
    """Whatever bytes come, translate raises Ignored or Rejected and split Refused, nothing else."""
    with pytest.raises((Ignored, Rejected)):
        CRM.translate(raw)
    found = taken(raw)
    if isinstance(found, tuple):
        assert found == (400, Reason.MALFORMED_BODY)
    else:
        assert all(outcome(one.payload) for one in found)


@given(st.lists(EVENTS, min_size=1, max_size=4), st.randoms(use_true_random=False), st.integers(1, 10))
def test_a_retry_is_the_same_event(events: list[dict[str, Any]], dice: Any, attempt: int) -> None:
    """Sent again, later, in other company and with its keys in another order, an event has the same id and bytes."""
    again = []
    for one in events:
        items = [*(one | {"attemptNumber": attempt, "subscriptionId": attempt}).items()]
        dice.shuffle(items)
        again.append(dict(items))
    first, second = CRM.split({}, orjson.dumps(events)), CRM.split({}, orjson.dumps(again))
    assert first == second
    for received, alone in zip(first, again, strict=True):
        assert CRM.split({}, orjson.dumps([alone])) == [received]
