"""HubSpot's promises and whims, answer by answer: who was written, who failed and why, and what is only a pause."""

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
import responses
from hypothesis import given
from hypothesis import strategies as st

from integration.config import ConnectionConfig
from integration.connectors.client import CallRecord
from integration.connectors.crm import hubspot_event_definitions as event_definitions
from integration.connectors.crm.hubspot import HubSpot
from integration.connectors.crm.hubspot_batches import Batch
from integration.connectors.crm.hubspot_definitions import types
from integration.connectors.crm.hubspot_errors import problem, problems
from integration.connectors.crm.hubspot_paths import PATHS
from integration.errors import (
    BatchRejected,
    ConnectionBroken,
    CoursewireError,
    Reason,
    Rejected,
    RetryLater,
    UnknownOutcome,
)
from integration.model.contacts import ContactWrite, Failed, RemoteContact, Written
from integration.ports import Wanted
from mappings import store
from tasks.checks.wanted import wanted
from tests.defaults import DEFAULTS

SHARED = Path(__file__).parents[3] / "shared/contracts/hubspot"
HOST = "https://crm.test"
OBJECTS = f"{HOST}/crm/objects/2026-09/contacts"
UPDATE, UPSERT, READ = f"{OBJECTS}/batch/update", f"{OBJECTS}/batch/upsert", f"{OBJECTS}/batch/read"
PROPERTIES = f"{HOST}/crm/properties/2026-09/contacts"
EVENTS = f"{HOST}/events/custom/2026-09"
NOW = datetime(2026, 11, 21, 22, 30, tzinfo=UTC)
ADA, BOB = "ada@example.com", "bob@example.com"


@pytest.fixture
def http() -> Iterator[responses.RequestsMock]:
    """Answers instead of a network."""
    with responses.RequestsMock() as mock:
        yield mock


@pytest.fixture
def crm(monkeypatch: pytest.MonkeyPatch) -> HubSpot:
    """A HubSpot connection whose token is `first-token`."""
    monkeypatch.setenv("TEST_HUBSPOT_TOKEN", "first-token")
    return connector()


def connector(**options: str) -> HubSpot:
    """A HubSpot connection with the given options."""
    config = ConnectionConfig.model_validate(
        {
            "name": "crm",
            "system": "hubspot",
            "base_url": HOST,
            "credentials": {"token": {"env": "TEST_HUBSPOT_TOKEN"}},
            "options": options,
        }
    )
    return HubSpot(config, clock=lambda: NOW)


def write(trace: str, number: str | None = None, key: str | None = None, **fields: str) -> ContactWrite:
    """One write."""
    return ContactWrite(trace=trace, fields=fields or {"lms_source": "academy"}, id=number, key=key)


def result(number: str, trace: str | None = None, *, new: bool | None = None, **properties: Any) -> dict[str, Any]:
    """One record as HubSpot returns it."""
    made: dict[str, Any] = {"id": number, "properties": {"hs_object_id": number, **properties}, "archived": False}
    if trace is not None:
        made["objectWriteTraceId"] = trace
    if new is not None:
        made["new"] = new
    return made


def answer(*results: dict[str, Any], errors: list[Any] | None = None) -> dict[str, Any]:
    """The body of a batch answer."""
    body: dict[str, Any] = {"status": "COMPLETE", "results": list(results)}
    return body | ({"numErrors": len(errors), "errors": errors} if errors is not None else {})


def error(message: str, category: str | None = "VALIDATION_ERROR", **context: list[str]) -> dict[str, Any]:
    """One entry of `errors`, or a whole refusal."""
    made = {"status": "error", "category": category, "message": message, "context": context}
    return {name: value for name, value in made.items() if value}


def invalid(code: str, name: str, text: str = "no good") -> str:
    """The message HubSpot wraps bad values in."""
    return "Property values were not valid: " + json.dumps(
        [{"isValid": False, "message": text, "error": code, "name": name}]
    )


def sent(http: responses.RequestsMock, place: int = 0) -> dict[str, Any]:
    """The body of a request we made."""
    body: dict[str, Any] = orjson.loads(http.calls[place].request.body or b"{}")
    return body


# --- what we send


@pytest.mark.parametrize(
    ("version", "path"),
    [
        ("2026-09", "/crm/objects/2026-09/contacts/batch/update"),
        ("2026-03", "/crm/objects/2026-03/contacts/batch/update"),
        ("legacy", "/crm/v3/objects/contacts/batch/update"),
    ],
)
def test_paths_per_version(
    http: responses.RequestsMock, monkeypatch: pytest.MonkeyPatch, version: str, path: str
) -> None:
    """The option api_version chooses the path."""
    monkeypatch.setenv("TEST_HUBSPOT_TOKEN", "t")
    http.post(HOST + path, json=answer(result("501")))
    assert connector(api_version=version).update([write("t1", "501")])


def test_paths_are_the_published_ones() -> None:
    """Every path we call is in the shared table of HubSpot's operations."""
    if not (SHARED / "endpoints.json").exists():
        pytest.skip("the shared contracts are not here")
    known = {one["op"]: one["paths"] for one in json.loads((SHARED / "endpoints.json").read_text())["operations"]}
    for operation, paths in PATHS.items():
        if operation.startswith("compan"):
            # The table has no companies: their paths are those of contacts.
            of_contacts = PATHS[
                operation.replace("companies.", "contacts.").replace("company_properties.", "properties.")
            ]
            assert {v: one.replace("contacts", "companies") for v, one in of_contacts.items()} == paths
            continue
        place, end = DERIVED.get(operation, (operation, ""))
        ends = ("deals", "contacts") if operation == "contacts.of_deals" else ("contacts", "notes")
        assert {v: _filled(p, *ends) + end for v, p in known[place].items()} == paths


DERIVED = {
    "properties.list": ("properties.create", ""),
    "custom_events.definition_list": ("custom_events.definition_create", ""),
    "notes.batch_create": ("notes.create", "/batch/create"),
    "notes.batch_read": ("notes.create", "/batch/read"),
    "notes.of_contacts": ("assoc.batch_read", ""),
    "contacts.of_deals": ("assoc.batch_read", ""),
}
"""Operations whose path is that of another one, with something behind it."""


def _filled(path: str, one: str, other: str) -> str:
    return path.replace("{objectType}", "contacts").replace("{from}", one).replace("{to}", other)


def test_update_request(http: responses.RequestsMock, crm: HubSpot) -> None:
    """An update carries id and trace on every input, no idProperty, and our token."""
    http.post(UPDATE, json=answer(result("501"), result("502")))
    crm.update([write("t1", "501", lms_source="a"), write("t2", "502", lms_source="")])
    assert sent(http)["inputs"] == [
        {"id": "501", "objectWriteTraceId": "t1", "properties": {"lms_source": "a"}},
        {"id": "502", "objectWriteTraceId": "t2", "properties": {"lms_source": ""}},
    ]
    assert http.calls[0].request.headers["Authorization"] == "Bearer first-token"


def test_upsert_request(http: responses.RequestsMock, crm: HubSpot) -> None:
    """An upsert names its key per input, normalised, and carries it among the properties."""
    http.post(UPSERT, json=answer(result("501", email=ADA)))
    crm.upsert("email", [write("t1", key=" Ada@Example.com ", email="Ada@Example.com", lms_source="a")])
    assert sent(http)["inputs"] == [
        {
            "id": ADA,
            "idProperty": "email",
            "objectWriteTraceId": "t1",
            "properties": {"email": ADA, "lms_source": "a"},
        }
    ]


@pytest.mark.parametrize(("by", "expected"), [(None, None), ("email", "email"), ("lms_user_id", "lms_user_id")])
def test_read_request(http: responses.RequestsMock, crm: HubSpot, by: str | None, expected: str | None) -> None:
    """A read names its key once, leaves it out for ids, asks each value once and always asks for identity."""
    http.post(READ, json=answer())
    crm.read(by, ["7", "8", "8", " "], ["job_role"])
    body = sent(http)
    assert body.get("idProperty") == expected
    assert body["inputs"] == [{"id": "7"}, {"id": "8"}]
    wanted = {"job_role", "email", "lms_user_id", "hs_additional_emails", "hs_merged_object_ids"}
    assert set(body["properties"]) == wanted


def test_nothing_to_do_is_no_call(crm: HubSpot) -> None:
    """An empty batch makes no request."""
    assert crm.update([]) == {}
    assert crm.upsert("email", []) == {}
    assert crm.read("email", ["", " "], []) == {}


def test_duplicates_are_a_mistake_of_the_caller(crm: HubSpot) -> None:
    """Two writes for one record are refused here, in words without the address, before HubSpot refuses all."""
    with pytest.raises(ValueError, match="t1 and t2") as raised:
        crm.upsert("email", [write("t1", key=ADA), write("t2", key=" ADA@example.com")])
    assert "ada" not in str(raised.value).lower()
    with pytest.raises(ValueError, match="merge them"):
        crm.update([write("t1", "501"), write("t1", "502")])
    with pytest.raises(ValueError, match="no id"):
        crm.update([write("t1", None)])
    with pytest.raises(ValueError, match="101 records"):
        crm.update([write(f"t{n}", str(n)) for n in range(1, 102)])


def test_text_that_cannot_be_sent_fails_alone(http: responses.RequestsMock, crm: HubSpot) -> None:
    """A value that is no valid text fails its own record and leaves the others their call."""
    http.post(UPDATE, json=answer(result("502")))
    answers = crm.update([write("t1", "501", lms_source="\ud83d"), write("t2", "502")])
    assert answers["t1"] == Failed(Reason.INVALID_VALUE, "a value is not valid text", ("lms_source",))
    assert isinstance(answers["t2"], Written)
    assert crm.update([write("t1", "501", lms_source="\ud83d")]).keys() == {"t1"}


# --- whose answer is whose


def test_results_in_any_order(http: responses.RequestsMock, crm: HubSpot) -> None:
    """Results belong to the record their id says, whatever their order; values come back as HubSpot has them."""
    http.post(UPDATE, json=answer(result("502", lms_source="b"), result("501", lms_source=None)))
    answers = crm.update([write("t1", "501"), write("t2", "502")])
    assert answers["t1"] == Written("501", {"hs_object_id": "501", "lms_source": ""})
    assert answers["t2"] == Written("502", {"hs_object_id": "502", "lms_source": "b"})


def test_echoed_trace_wins(http: responses.RequestsMock, crm: HubSpot) -> None:
    """Where the trace comes back it decides, even for an id that is new to us."""
    http.post(UPDATE, json=answer(result("900", "t1"), result("502", ["t2"])))  # type: ignore[arg-type]
    answers = crm.update([write("t1", "501"), write("t2", "502")])
    assert {trace: one.id for trace, one in answers.items() if isinstance(one, Written)} == {"t1": "900", "t2": "502"}


def test_upsert_by_key(http: responses.RequestsMock, crm: HubSpot) -> None:
    """Without a trace an upsert's result is known by its key, in lower case, or by a secondary e-mail."""
    http.post(
        UPSERT,
        json=answer(
            result("502", new=False, email="primary@example.com", hs_additional_emails=f"x@example.com;{BOB}"),
            result("501", new=True, email=ADA),
        ),
    )
    answers = crm.upsert("email", [write("t1", key="ADA@example.com"), write("t2", key=BOB)])
    ada, bob = answers["t1"], answers["t2"]
    assert isinstance(ada, Written)
    assert isinstance(bob, Written)
    assert (ada.id, ada.created, bob.id, bob.created) == ("501", True, "502", False)


def test_merged_id_vanishes(http: responses.RequestsMock, crm: HubSpot) -> None:
    """An id that HubSpot drops without a word gets no answer, so that the caller reads it again."""
    http.post(UPDATE, json=answer(result("501")))
    assert crm.update([write("t1", "501"), write("t2", "777")]).keys() == {"t1"}


def test_strangers_are_nobodys(http: responses.RequestsMock, crm: HubSpot) -> None:
    """A result that matches no write is left out; it is never matched by position or by elimination."""
    odd: list[Any] = [result("999"), None, "x", {"properties": {}}, {"id": None}, {"id": 5, "properties": []}]
    http.post(UPDATE, json=answer(*odd))
    assert crm.update([write("t1", "501")]) == {}


def test_partial_success_by_trace(http: responses.RequestsMock, crm: HubSpot) -> None:
    """Errors that name a trace fail that record; the others are written. The status code decides nothing."""
    bad = error(invalid("INVALID_EMAIL", "email", f"Email address {ADA} is invalid"), objectWriteTraceId=["t1"])
    for status in (200, 207):
        http.post(UPSERT, json=answer(result("502", email=BOB), errors=[bad]), status=status)
        answers = crm.upsert("email", [write("t1", key=ADA), write("t2", key=BOB)])
        assert answers["t1"] == Failed(Reason.INVALID_VALUE, "VALIDATION_ERROR: INVALID_EMAIL on email", ("email",))
        assert isinstance(answers["t2"], Written)
        http.reset()


def test_partial_success_by_id(http: responses.RequestsMock, crm: HubSpot) -> None:
    """Errors that name ids, as text or number, fail those records: gone contacts are known as such."""
    gone = {"category": "OBJECT_NOT_FOUND", "message": "x", "context": {"ids": ["502", 503]}}
    http.post(UPDATE, json=answer(result("501"), errors=[gone]), status=207)
    answers = crm.update([write("t1", "501"), write("t2", "502"), write("t3", "503")])
    assert [one.reason for one in answers.values() if isinstance(one, Failed)] == [Reason.CONTACT_GONE] * 2
    assert answers.keys() == {"t1", "t2", "t3"}


def test_error_wins_over_result(http: responses.RequestsMock, crm: HubSpot) -> None:
    """A record with both a result and an error counts as failed: a doubt must be seen."""
    http.post(UPDATE, json=answer(result("501"), errors=[error("x", objectWriteTraceId=["t1"])]))
    assert isinstance(crm.update([write("t1", "501")])["t1"], Failed)


# --- errors that name no record


def test_nameless_error_halves_the_batch(http: responses.RequestsMock, crm: HubSpot) -> None:
    """A whole batch refused without naming a record is for the caller to halve; alone, the record has failed."""
    http.post(UPDATE, json=error(invalid("INVALID_DATE", "onboarding_due_date")), status=400)
    with pytest.raises(BatchRejected) as raised:
        crm.update([write("t1", "501"), write("t2", "502")])
    assert raised.value.detail == "VALIDATION_ERROR: INVALID_DATE on onboarding_due_date"
    failed = crm.update([ContactWrite("t1", {"onboarding_due_date": "soon"}, id="501")])["t1"]
    assert failed == Failed(Reason.INVALID_VALUE, raised.value.detail, ("onboarding_due_date",))


def test_nameless_error_beside_results(http: responses.RequestsMock, crm: HubSpot) -> None:
    """Beside results a nameless error leaves the rest unanswered; with one record left, it is that record's."""
    http.post(UPDATE, json=answer(result("501"), errors=[error("x")]))
    assert crm.update([write("t1", "501"), write("t2", "502"), write("t3", "503")]).keys() == {"t1"}
    answers = crm.update([write("t1", "501"), write("t2", "502")])
    assert isinstance(answers["t2"], Failed)


def test_unknown_property_is_not_halved(http: responses.RequestsMock, crm: HubSpot) -> None:
    """A property that does not exist fails every write that sets it, at once, and no other."""
    http.post(UPDATE, json=error(invalid("PROPERTY_DOESNT_EXIST", "gone_field")), status=400)
    answers = crm.update(
        [write("t1", "501", gone_field="1"), write("t2", "502", lms_source="x"), write("t3", "503", gone_field="")]
    )
    assert answers.keys() == {"t1", "t3"}
    assert answers["t1"] == Failed(
        Reason.UNKNOWN_PROPERTY, "VALIDATION_ERROR: PROPERTY_DOESNT_EXIST on gone_field", ("gone_field",)
    )


def test_foreign_property_is_not_blamed(http: responses.RequestsMock, crm: HubSpot) -> None:
    """A field we never sent is not reported as missing, so that nothing is switched off because of it."""
    bad = error(invalid("PROPERTY_DOESNT_EXIST", "their_field"), objectWriteTraceId=["t1"])
    http.post(UPDATE, json=answer(errors=[bad]))
    failed = crm.update([write("t1", "501")])["t1"]
    assert isinstance(failed, Failed)
    assert (failed.reason, failed.properties) == (Reason.INVALID_VALUE, ())


def test_trouble_over_there_is_not_halved(http: responses.RequestsMock, crm: HubSpot) -> None:
    """Errors of HubSpot's own, or in no known shape, leave a batch's outcome unknown instead of halving it."""
    for bad in (error("x", "INTERNAL_ERROR"), {}, None, "odd"):
        http.post(UPDATE, json=answer(errors=[bad]))
        with pytest.raises(UnknownOutcome):
            crm.update([write("t1", "501"), write("t2", "502")])
        http.reset()


@pytest.mark.parametrize("body", [[], 7, None, {}, {"results": 7}, {"results": None, "errors": 5}])
def test_success_in_another_shape(http: responses.RequestsMock, crm: HubSpot, body: object) -> None:
    """A 2xx without results proves nothing: a write may have happened, a read found nobody and says so not."""
    http.post(UPDATE, json=body)
    http.post(READ, json=body)
    with pytest.raises(UnknownOutcome) as raised:
        crm.update([write("t1", "501")])
    assert raised.value.reason is Reason.MALFORMED_ANSWER
    with pytest.raises(RetryLater) as of_read:
        crm.read("email", [ADA], [])
    assert not isinstance(of_read.value, UnknownOutcome)


# --- what single errors mean

MEANINGS: list[tuple[dict[str, Any], Reason, tuple[str, ...], str | None]] = [
    (error(invalid("PROPERTY_DOESNT_EXIST", "a_b")), Reason.UNKNOWN_PROPERTY, ("a_b",), None),
    (error(invalid("READ_ONLY_VALUE", "a_b")), Reason.UNKNOWN_PROPERTY, ("a_b",), None),
    (error('Property "a_b" does not exist'), Reason.UNKNOWN_PROPERTY, ("a_b",), None),
    (error('"a_b" is a read only property; its value cannot be set.'), Reason.UNKNOWN_PROPERTY, ("a_b",), None),
    (error(invalid("INVALID_OPTION", "a_b")), Reason.INVALID_VALUE, ("a_b",), None),
    (error(invalid("A_NEW_CODE", "a_b")), Reason.INVALID_VALUE, ("a_b",), None),
    (error("Contact already exists. Existing ID: 501", "CONFLICT"), Reason.CONFLICT, (), "501"),
    (error("Contact already exists. Existing ID: 501", None), Reason.CONFLICT, (), "501"),
    (
        error(
            "Cannot set PropertyValueCoordinates{portalId=4242, propertyName=lms_user_id, value=Existing ID: 9} on 501."
            " 601 already has that value."
        ),
        Reason.CONFLICT,
        ("lms_user_id",),
        "601",
    ),
    (
        {
            **error("Property values were not valid"),
            "errors": [{"code": "CONFLICTING_UNIQUE_VALUE", "context": {"propertyName": "lms_user_id"}}],
        },
        Reason.CONFLICT,
        ("lms_user_id",),
        None,
    ),
    (error("whatever", "OBJECT_NOT_FOUND"), Reason.CONTACT_GONE, (), None),
    (error("whatever", "RATE_LIMITS"), Reason.RATE_LIMITED, (), None),
    (error("whatever"), Reason.INVALID_VALUE, (), None),
    (error("whatever", "A_NEW_CATEGORY"), Reason.SERVER_ERROR, (), None),
    (
        error(
            "Property values were not valid: "
            '[{"error":"INVALID_EMAIL","name":"email"},{"error":"PROPERTY_DOESNT_EXIST","name":"a_b"}]'
        ),
        Reason.UNKNOWN_PROPERTY,
        ("a_b",),
        None,
    ),
]


@pytest.mark.parametrize(("bad", "reason", "names", "existing"), MEANINGS)
def test_meaning(bad: dict[str, Any], reason: Reason, names: tuple[str, ...], existing: str | None) -> None:
    """Each known shape of error has its reason, properties and existing id."""
    found = problem(bad)
    assert (found.reason, found.properties, found.existing_id) == (reason, names, existing)


def test_quoted_text_decides_nothing() -> None:
    """What a person typed, quoted in a message, cannot pass for HubSpot's own words."""
    typed = 'Property "email" does not exist'
    assert problem(error(invalid("INVALID_OPTION", "a_b", f"{typed} was not one of"))).properties == ("a_b",)
    assert problem(error(f"Value {typed} is too long")).reason is Reason.INVALID_VALUE
    assert problem(error('x [{"error":"PROPERTY_DOESNT_EXIST","name":"email"}]')).properties == ()


def test_detail_holds_no_values() -> None:
    """Nothing of a message but codes and property names reaches the detail."""
    bad = {
        **error(f"Email address {ADA} is invalid", ADA),
        "errors": [{"code": ADA, "message": ADA, "context": {"propertyName": [ADA, "email"]}, "in": ADA}],
    }
    assert problem(bad).detail == "no category: no code"
    assert "ada" not in repr(problem(error(invalid("INVALID_EMAIL", ADA, ADA))))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(0, 999) | st.text(max_size=9) | st.sampled_from(["t1", "501", "CONFLICT"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["id", "ids", "results", "errors", "context", "message", "category", "code", "name", "properties",
             "objectWriteTraceId", "propertyName", "email", "hs_additional_emails"]
        ),
        inner,
        max_size=5,
    ),
    max_leaves=15,
)  # fmt: skip


@given(JSON, st.sampled_from([200, 207, 400, 404, 409, 413]), st.sampled_from([None, "email"]))
def test_any_shape_has_a_safe_meaning(body: Any, status: int, by: str | None) -> None:
    """Whatever an answer looks like, reading it raises nothing, and only records we sent get answers."""
    batch = Batch(by, [write("t1", "501", ADA), write("t2", "502", BOB)])
    batch.enter_results([body, *(body if isinstance(body, list) else [])])
    batch.enter_problems(problems(status, body))
    assert batch.answers.keys() <= {"t1", "t2"}


# --- whole answers


@pytest.mark.parametrize(
    ("status", "body", "headers", "reason", "after"),
    [
        (423, None, {}, Reason.RATE_LIMITED, 2.0),
        (423, None, {"Retry-After": "5"}, Reason.RATE_LIMITED, 5.0),
        (429, {"policyName": "TEN_SECONDLY_ROLLING"}, {}, Reason.RATE_LIMITED, 10.0),
        (429, {"policyName": "TEN_SECONDLY_ROLLING"}, {"Retry-After": "3"}, Reason.RATE_LIMITED, 3.0),
        (429, {"policyName": "SECONDLY"}, {}, Reason.RATE_LIMITED, 1.0),
        (429, {"message": "You have reached your secondly limit."}, {}, Reason.RATE_LIMITED, 1.0),
        (429, None, {}, Reason.RATE_LIMITED, 10.0),
        (429, {"policyName": 5}, {}, Reason.RATE_LIMITED, 10.0),
        (429, {"policyName": "DAILY"}, {}, Reason.DAILY_LIMIT, 5400.0),
        (429, {"message": "You have reached your daily limit."}, {"Retry-After": "1"}, Reason.DAILY_LIMIT, 5400.0),
        (477, None, {"Retry-After": "3600"}, Reason.SERVER_ERROR, 3600.0),
        (477, None, {}, Reason.SERVER_ERROR, 60.0),
        (404, None, {}, Reason.SERVER_ERROR, None),
        (404, error("There is nothing here", "OBJECT_NOT_FOUND"), {}, Reason.SERVER_ERROR, None),
        (400, None, {}, Reason.SERVER_ERROR, None),
        (403, None, {}, Reason.SERVER_ERROR, None),
        (302, None, {}, Reason.SERVER_ERROR, None),
        (418, None, {}, Reason.SERVER_ERROR, None),
    ],
)
def test_pauses(
    http: responses.RequestsMock, crm: HubSpot, status: int, body: Any, headers: dict[str, str],
    reason: Reason, after: float | None,
) -> None:  # fmt: skip
    """Refusals that pass are retried when HubSpot says; nothing was written, so nothing is unknown."""
    for call in (UPDATE, READ):
        http.post(call, json=body, status=status, headers=headers)
    for attempt in (lambda: crm.update([write("t1", "501")]), lambda: crm.read("email", [ADA], [])):
        with pytest.raises(RetryLater) as raised:
            attempt()
        assert not isinstance(raised.value, UnknownOutcome)
        assert (raised.value.reason, raised.value.after) == (reason, after)


def test_daily_limit_ends_at_the_accounts_midnight(
    http: responses.RequestsMock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The day is the account's own: at 22:30 UTC half an hour is left of it in Berlin, six and a half in New York."""
    monkeypatch.setenv("TEST_HUBSPOT_TOKEN", "t")
    http.post(UPDATE, json={"policyName": "DAILY"}, status=429)
    for zone, seconds in (("UTC", 5400.0), ("Europe/Berlin", 1800.0), ("America/New_York", 23_400.0)):
        with pytest.raises(RetryLater) as raised:
            connector(timezone=zone).update([write("t1", "501")])
        assert raised.value.after == seconds


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504, 521, 522, 523, 524, 525, 526])
def test_server_trouble(http: responses.RequestsMock, crm: HubSpot, status: int) -> None:
    """After a 5xx a write may have been applied, a read is just repeated; Retry-After is honoured."""
    for call in (UPDATE, READ):
        http.post(call, body="<html>", status=status, headers={"Retry-After": "9"})
    with pytest.raises(UnknownOutcome) as raised:
        crm.update([write("t1", "501"), write("t2", "502")])
    assert (raised.value.reason, raised.value.after) == (Reason.SERVER_ERROR, 9.0)
    with pytest.raises(RetryLater) as of_read:
        crm.read(None, ["501"], [])
    assert not isinstance(of_read.value, UnknownOutcome)


def test_missing_scope(http: responses.RequestsMock, crm: HubSpot) -> None:
    """A missing permission names the scope and does not claim that the token was revoked."""
    scopes = {"requiredGranularScopes": ["crm.objects.contacts.write", ADA]}
    http.post(UPDATE, json={"category": "MISSING_SCOPES", "errors": [{"context": scopes}]}, status=403)
    with pytest.raises(ConnectionBroken) as raised:
        crm.update([write("t1", "501")])
    assert raised.value.reason is Reason.SCOPE_MISSING
    assert "crm.objects.contacts.write" in raised.value.detail
    assert "ada" not in raised.value.detail


def test_conflict(http: responses.RequestsMock, crm: HubSpot) -> None:
    """A conflict hands over the existing id; in a larger batch nobody knows whose it is."""
    http.post(UPSERT, json=error("Contact already exists. Existing ID: 601", "CONFLICT"), status=409)
    failed = crm.upsert("email", [write("t1", key=ADA)])["t1"]
    assert isinstance(failed, Failed)
    assert (failed.reason, failed.existing_id) == (Reason.CONFLICT, "601")
    with pytest.raises(BatchRejected):
        crm.upsert("email", [write("t1", key=ADA), write("t2", key=BOB)])


@pytest.mark.parametrize("status", [413, 414])
def test_too_large(http: responses.RequestsMock, crm: HubSpot, status: int) -> None:
    """A batch that is too large for someone on the way is halved; a single record that is, has failed."""
    http.post(UPDATE, body="<html>", status=status)
    with pytest.raises(BatchRejected):
        crm.update([write("t1", "501"), write("t2", "502")])
    assert isinstance(crm.update([write("t1", "501")])["t1"], Failed)


def test_key_property_missing(http: responses.RequestsMock, crm: HubSpot) -> None:
    """Where the key property is missing or not unique, no record is to blame: the caller takes the next key."""
    text = "Unable to perform update/upsert by non-unique 0-1 property lms_user_id in portal ID 4242"
    for call in (UPSERT, READ):
        http.post(call, json=error(text), status=400)
    for attempt in (
        lambda: crm.upsert("lms_user_id", [write("t1", key="a:1")]),
        lambda: crm.read("lms_user_id", ["a:1"], []),
    ):
        with pytest.raises(Rejected) as raised:
            attempt()
        assert raised.value.reason is Reason.UNKNOWN_PROPERTY
        assert "lms_user_id" in raised.value.detail


# --- the token


def test_rotated_token(http: responses.RequestsMock, crm: HubSpot, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused token is read again once; the new one is used then and from now on."""
    bearer = responses.matchers.header_matcher
    http.post(UPDATE, status=401, match=[bearer({"Authorization": "Bearer first-token"})])
    http.post(UPDATE, json=answer(result("501")), match=[bearer({"Authorization": "Bearer second-token"})])
    http.post(READ, json=answer(), match=[bearer({"Authorization": "Bearer second-token"})])
    with pytest.raises(ConnectionBroken) as raised:
        crm.update([write("t1", "501")])
    assert raised.value.reason is Reason.CREDENTIALS_REFUSED
    assert len(http.calls) == 1
    monkeypatch.setenv("TEST_HUBSPOT_TOKEN", "second-token")
    assert crm.update([write("t1", "501")])
    crm.read("email", [ADA], [])
    assert len(http.calls) == 4


def test_second_refusal_is_final(http: responses.RequestsMock, crm: HubSpot, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the new token is refused too, the connection stops after two calls, not in a loop."""
    http.post(READ, json=answer())
    crm.read("email", [ADA], [])
    http.post(UPDATE, status=401)
    monkeypatch.setenv("TEST_HUBSPOT_TOKEN", "second-token")
    with pytest.raises(ConnectionBroken):
        crm.update([write("t1", "501")])
    assert len(http.calls) == 3


@pytest.mark.parametrize("token", ["", "abc def", "two\nlines", "ünicode"])
def test_unusable_token(monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    """A token that is absent or cannot be one stops the connection without showing it."""
    monkeypatch.setenv("TEST_HUBSPOT_TOKEN", token)
    with pytest.raises(ConnectionBroken) as raised:
        connector().read("email", [ADA], [])
    assert not token or token not in str(raised.value)


def test_token_is_never_shown(http: responses.RequestsMock, crm: HubSpot) -> None:
    """The token appears in no repr and no record."""
    records: list[CallRecord] = []
    crm._client._on_call = records.append
    http.post(READ, json=answer())
    crm.read("email", [ADA], [])
    shown = repr([crm, vars(crm), vars(crm._client), records])
    assert "first-token" not in shown
    assert ADA not in shown
    assert records[0].operation == "contacts.batch_read"


# --- reading


def test_read_by_email(http: responses.RequestsMock, crm: HubSpot) -> None:
    """Contacts are found by primary or secondary e-mail in any case, under the values asked for."""
    found = result("501", email=ADA, hs_additional_emails="old@example.com; Older@Example.com", job_role=None)
    gone = error("Could not get some CONTACT objects", "OBJECT_NOT_FOUND", ids=[BOB])
    http.post(READ, json=answer(found, errors=[gone]), status=207)
    answers = crm.read("email", ["Ada@Example.com", "older@example.com", BOB], ["job_role"])
    assert answers.keys() == {"Ada@Example.com", "older@example.com"}
    assert answers["Ada@Example.com"].id == "501"
    assert answers["Ada@Example.com"].fields["job_role"] == ""


def test_read_by_custom_key_is_exact(http: responses.RequestsMock, crm: HubSpot) -> None:
    """Ids of an LMS may differ in case alone, so a custom key must match exactly; a blank one matches nobody."""
    http.post(READ, json=answer(result("501", lms_user_id="academy:U-1"), result("502", lms_user_id=None)))
    assert crm.read("lms_user_id", ["academy:u-1", "academy:U-1", " "], []).keys() == {"academy:U-1"}


def test_read_of_merged_id(http: responses.RequestsMock, crm: HubSpot) -> None:
    """A merged-away id leads to the contact that lists it, under its new id."""
    http.post(READ, json=answer(result("503", hs_merged_object_ids="501;502"), result("504")))
    answers = crm.read(None, ["501", "504"], [])
    assert {asked: one.id for asked, one in answers.items()} == {"501": "503", "504": "504"}


def test_single_missing_id_is_asked_by_get(http: responses.RequestsMock, crm: HubSpot) -> None:
    """Where batch/read drops a single id, GET, which follows merges, has the last word."""
    http.post(READ, json=answer(errors=[error("x", "OBJECT_NOT_FOUND", ids=["501"])]), status=207)
    http.get(f"{OBJECTS}/501", json=result("503", email=ADA))
    assert crm.read(None, ["501"], [])["501"] == RemoteContact("503", {"hs_object_id": "503", "email": ADA})
    http.get(f"{OBJECTS}/502", json=error("x", "OBJECT_NOT_FOUND"), status=404)
    assert crm.read(None, ["502"], []) == {}
    http.get(f"{OBJECTS}/504", json=[])
    with pytest.raises(RetryLater):
        crm.read(None, ["504"], [])


@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        (error("x", "INTERNAL_ERROR", ids=[ADA]), RetryLater),
        (error("x", "INTERNAL_ERROR"), RetryLater),
        ({}, RetryLater),
        (error("x"), BatchRejected),
    ],
)
def test_unread_is_not_absent(
    http: responses.RequestsMock, crm: HubSpot, bad: dict[str, Any], expected: type[CoursewireError]
) -> None:
    """A contact that could not be read now must not be taken for one that does not exist: that makes doubles."""
    http.post(READ, json=answer(result("502", email=BOB), errors=[bad]), status=207)
    with pytest.raises(expected):
        crm.read("email", [ADA, BOB], [])


def test_impossible_value_is_absent(http: responses.RequestsMock, crm: HubSpot) -> None:
    """A value HubSpot names as impossible belongs to nobody, and keeps nobody else from being read."""
    bad = error(invalid("INVALID_EMAIL", "email"), ids=["no-email"])
    http.post(READ, json=answer(result("502", email=BOB), errors=[bad]), status=207)
    assert crm.read("email", ["no-email", BOB], []).keys() == {BOB}


# --- shared examples


def test_shared_examples(http: responses.RequestsMock, crm: HubSpot) -> None:
    """The shared examples of answers mean what these tests say of the same shapes."""
    if not (SHARED / "examples.json").exists():
        pytest.skip("the shared contracts are not here")
    known = json.loads((SHARED / "examples.json").read_text())["examples"]
    upsert = known["contacts.batch_upsert"]
    http.post(UPSERT, json=upsert["response_207_partial"], status=207)
    answers = crm.upsert("email", [write("evt-0001", key=ADA), write("evt-0002", key="not-an-email")])
    assert isinstance(answers["evt-0001"], Written)
    assert answers["evt-0002"] == Failed(Reason.INVALID_VALUE, "VALIDATION_ERROR: INVALID_EMAIL on email", ("email",))
    update = known["contacts.batch_update"]
    writes = [write("job-1", "501"), write("job-2", "777")]
    http.post(UPDATE, json=update["response_200_silent_omission"])
    assert crm.update(writes).keys() == {"job-1"}
    http.post(UPDATE, json=update["response_207_missing"], status=207)
    http.remove(responses.POST, UPDATE)
    http.post(UPDATE, json=update["response_207_missing"], status=207)
    gone = crm.update(writes)["job-2"]
    assert isinstance(gone, Failed)
    assert gone.reason is Reason.CONTACT_GONE
    http.post(READ, json=known["contacts.batch_read"]["response_207"], status=207)
    assert crm.read("email", [ADA, "nobody@example.com"], []).keys() == {ADA}
    unknown = problem(known["errors.unknown_property"]["response_400"])
    assert (unknown.reason, unknown.properties) == (Reason.UNKNOWN_PROPERTY, ("testproperty",))
    dated = problem(known["errors.date_not_midnight"]["response_400"])
    assert (dated.reason, dated.properties) == (Reason.INVALID_VALUE, ("recent_course_completion_date",))


# --- check

RULES = store.defaults().field_rules("crm", "hubspot", "contact")


def ours(known: Iterable[str]) -> Sequence[Wanted]:
    """Return what the rules of the first start write, in an account that has these properties."""
    return wanted(RULES, known).wanted


def definitions(**changed: dict[str, Any]) -> dict[str, Any]:
    """The property list of an account in which all is well but for `changed`."""
    listed: dict[str, dict[str, Any]] = {one.name: {"name": one.name, "type": types(one)[0]} for one in DEFAULTS}
    listed["lms_user_id"]["hasUniqueValue"] = True
    listed["email"] = {"name": "email", "type": "string"}
    listed["certified_crm"] = {"name": "certified_crm", "type": "bool"}
    for name, values in changed.items():
        listed[name] = listed.get(name, {"name": name}) | values
    return {"results": [one for one in listed.values() if one.get("type")]}


def test_check_of_a_good_account(http: responses.RequestsMock, crm: HubSpot) -> None:
    """An account in order has only good findings, and nothing is changed to find out."""
    http.get(PROPERTIES, json=definitions())
    http.post(READ, json=answer(errors=[error("x", "OBJECT_NOT_FOUND", ids=["1", "2"])]), status=207)
    http.post(UPDATE, json=error("inputs must not be empty"), status=400)
    findings = crm.check(ours)
    assert [one for one in findings if not one.ok] == []
    assert {call.request.url for call in http.calls} == {PROPERTIES, READ, UPDATE}
    assert [call.request.body for call in http.calls if call.request.url == UPDATE] == [b'{"inputs":[]}']


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"lms_source": {"type": None}}, "lms_source does not exist and will not be written"),
        ({"lms_source": {"archived": True}}, "lms_source is archived and will not be written"),
        ({"courses_completed_count": {"type": "string"}}, "courses_completed_count is string, not number"),
        ({"lms_source": {"modificationMetadata": {"readOnlyValue": True}}}, "lms_source is read-only"),
        ({"lms_source": {"calculated": True}}, "lms_source is read-only"),
        ({"lms_user_id": {"hasUniqueValue": False}}, "lms_user_id does not hold unique values"),
        ({"certified_crm_until": {"type": "string"}}, "certified_crm_until is string, not date"),
        ({"email": {"type": None}}, "not as expected"),
    ],
)
def test_check_names_what_will_not_be_written(
    http: responses.RequestsMock, crm: HubSpot, changed: dict[str, Any], words: str
) -> None:
    """A missing, mistyped or read-only property is named, with what to do about it."""
    http.get(PROPERTIES, json=definitions(**changed))
    http.post(READ, json=answer())
    (bad,) = [one for one in crm.check(ours) if not one.ok]
    assert words in bad.what
    assert bad.advice


def defined() -> list[dict[str, Any]]:
    """The custom events as the portal lists them."""
    return [{"name": name, "fullyQualifiedName": f"pe4242_{name}"} for name, _ in event_definitions.EVENTS.values()]


def lacks(scope: str) -> dict[str, Any]:
    """HubSpot's refusal of a token without this permission."""
    return error("This app ...", "MISSING_SCOPES") | {"errors": [{"context": {"requiredGranularScopes": [scope]}}]}


@pytest.mark.parametrize(
    ("scope", "where", "without"),
    [
        ("crm.objects.contacts.read", READ, "nobody is found"),
        ("crm.objects.contacts.write", UPDATE, "nothing is written"),
        ("crm.schemas.contacts.read", PROPERTIES, "are not found before"),
        ("behavioral_events.event_definitions.read_write", f"{EVENTS}/event-definitions", "cannot be defined"),
        ("analytics.behavioral_events.send", f"{EVENTS}/send/batch", "no activity is sent"),
    ],
)
def test_check_names_a_missing_permission(
    http: responses.RequestsMock, monkeypatch: pytest.MonkeyPatch, scope: str, where: str, without: str
) -> None:
    """Each permission is named when it is missing, with what stops without it; the others are not."""
    monkeypatch.setenv("TEST_HUBSPOT_TOKEN", "t")
    for url, method in ((PROPERTIES, "GET"), (READ, "POST"), (UPDATE, "POST"), (f"{EVENTS}/send/batch", "POST")):
        if url != where:
            http.add(method, url, json=definitions() if url == PROPERTIES else answer())
    if "event-definitions" not in where:
        http.get(f"{EVENTS}/event-definitions", json={"results": defined()})
    http.add("GET" if where == PROPERTIES or "definitions" in where else "POST", where, json=lacks(scope), status=403)
    (bad,) = [one for one in connector(activity="custom_event").check(ours) if not one.ok]
    assert f"the token lacks {scope}: " in bad.what
    assert without in bad.what
    assert scope in bad.advice


def test_check_of_the_role_property(http: responses.RequestsMock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A role property that does not exist is found before a role change is missed."""
    monkeypatch.setenv("TEST_HUBSPOT_TOKEN", "t")
    http.get(PROPERTIES, json=definitions())
    http.post(READ, json=answer())
    (bad,) = [one for one in connector(role_property="job_rol").check(ours) if not one.ok]
    assert "job_rol" in bad.what


def test_check_never_raises(http: responses.RequestsMock, crm: HubSpot) -> None:
    """Refusals, silence and nonsense are findings, each with advice."""
    assert "cannot be reached" in crm.check(ours)[0].what
    for status, body in ((401, None), (403, {"category": "MISSING_SCOPES"}), (500, None), (200, []), (200, {})):
        http.get(PROPERTIES, json=body, status=status)
        http.post(READ, json=body, status=status)
        findings = crm.check(ours)
        assert findings[0].ok
        assert any(not one.ok and one.advice for one in findings)
        http.reset()
