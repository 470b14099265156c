import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from scripts.sandbox.faults import fault
from scripts.sandbox.hubspot import HubSpotSandbox

CONTRACTS = Path(__file__).resolve().parents[2] / ".." / "shared" / "contracts" / "hubspot"
CONTACTS = "/crm/objects/2026-09/contacts"
VERSIONS = ("/crm/v3/objects/contacts", "/crm/objects/2026-03/contacts", CONTACTS)
PROPERTIES = "/crm/properties/2026-09/contacts"
OFF: dict[str, Any] = {
    "rate": 100,
    "daily": 250_000,
    "retry_after": None,
    "latency_ms": 0,
    "token": "sandbox-token",
    "secondary_emails_resolve": False,
    "echo_trace_id": False,
    "partial_success_is_200": False,
    "merged_ids_in_batch_read": True,
    "email_upsert_needs_email": True,
    "merge_keeps_primary_id": False,
    "validation_rules": [],
    "missing_scopes": [],
    "custom_properties": 1000,
    "tells_limits": True,
}
Ask = Callable[..., requests.Response]


@pytest.fixture(scope="module")
def process() -> Iterator[HubSpotSandbox]:
    """One sandbox process for all tests of this file."""
    with HubSpotSandbox() as running:
        yield running


@pytest.fixture
def sandbox(process: HubSpotSandbox) -> HubSpotSandbox:
    """The sandbox, empty, healthy and with every switch at its default."""
    process.configure(**OFF)
    process.freeze(frozen=False)
    process.reset()
    return process


@pytest.fixture
def ask(sandbox: HubSpotSandbox) -> Iterator[Ask]:
    """A client with the right token: method, path, JSON body."""
    with requests.Session() as session:
        session.trust_env = False
        session.headers["Authorization"] = "Bearer sandbox-token"

        def call(method: str, path: str, body: object = None, **more: Any) -> requests.Response:
            more.setdefault("timeout", 10)
            return session.request(method, sandbox.url + path, json=body, **more)

        yield call


def upsert(*inputs: tuple[str, dict[str, str]], trace: bool = True, key: str = "email") -> dict[str, Any]:
    """Write a batch/upsert body by e-mail, with trace ids t0, t1, ... where asked."""
    written: list[dict[str, Any]] = []
    for n, (record_id, properties) in enumerate(inputs):
        one: dict[str, Any] = {"idProperty": key, "id": record_id, "properties": properties}
        if key == "email":
            one["properties"] = {"email": record_id, **properties}
        if trace:
            one["objectWriteTraceId"] = f"t{n}"
        written.append(one)
    return {"inputs": written}


def code(answer: requests.Response) -> str:
    """The code HubSpot gives for the first bad property value."""
    assert answer.status_code == 400, answer.text
    return str(answer.json()["errors"][0]["code"])


# -- authentication, limits, paths


def test_a_wrong_token_is_401(ask: Ask) -> None:
    """A call without the right bearer token is refused and spends no budget."""
    answer = ask("GET", CONTACTS, headers={"Authorization": "Bearer other"})
    assert answer.status_code == 401
    assert answer.json()["category"] == "INVALID_AUTHENTICATION"
    assert ask("GET", CONTACTS).headers["X-HubSpot-RateLimit-Remaining"] == "99"


def test_a_rotated_token_is_401(sandbox: HubSpotSandbox, ask: Ask) -> None:
    """Changing the token at run time turns the old one away."""
    sandbox.configure(token="another")
    assert ask("GET", CONTACTS).status_code == 401


@pytest.mark.parametrize("base", VERSIONS)
def test_every_version_speaks_the_same(base: str, sandbox: HubSpotSandbox, ask: Ask) -> None:
    """Legacy, 2026-03 and 2026-09 paths lead to the same portal."""
    [known] = sandbox.seed([{"email": "ada@example.com"}])
    assert ask("GET", f"{base}/{known}").json()["properties"]["email"] == "ada@example.com"
    assert ask("POST", f"{base}/batch/upsert", upsert(("ada@example.com", {}))).status_code == 200


def test_the_rolling_limit_answers_429(sandbox: HubSpotSandbox, ask: Ask) -> None:
    """The call beyond the rate gets the documented body and headers, and Retry-After only where configured."""
    sandbox.configure(rate=2)
    assert [ask("GET", CONTACTS).status_code for _ in range(2)] == [200, 200]
    refused = ask("GET", CONTACTS)
    assert refused.status_code == 429
    assert refused.json()["policyName"] == "TEN_SECONDLY_ROLLING"
    assert refused.headers["X-HubSpot-RateLimit-Remaining"] == "0"
    assert refused.headers["X-HubSpot-RateLimit-Interval-Milliseconds"] == "10000"
    assert "Retry-After" not in refused.headers
    sandbox.configure(retry_after=7)
    assert ask("GET", CONTACTS).headers["Retry-After"] == "7"
    assert sandbox.stats()["limited"] == 2
    assert sandbox.stats()["max_admitted_in_10s"] == 2


def test_the_daily_limit_answers_429(sandbox: HubSpotSandbox, ask: Ask) -> None:
    """The call beyond the daily cap is refused with policy DAILY."""
    sandbox.configure(daily=1)
    assert ask("GET", CONTACTS).headers["X-HubSpot-RateLimit-Daily-Remaining"] == "0"
    assert ask("GET", CONTACTS).json()["policyName"] == "DAILY"


def test_an_unknown_path_is_404_and_logged(sandbox: HubSpotSandbox, ask: Ask) -> None:
    """A path HubSpot does not have is visible in the statistics."""
    assert ask("GET", "/crm/objects/2027-01/contacts").status_code == 404
    assert sandbox.stats()["calls"] == {"unknown": {"404": 1}}


def test_a_body_that_is_not_json_is_refused(ask: Ask) -> None:
    """Another content type is 415, broken JSON is 400."""
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert ask("POST", f"{CONTACTS}/batch/read", data="a=b", headers=form).status_code == 415
    plain = {"Content-Type": "application/json"}
    assert ask("POST", f"{CONTACTS}/batch/read", data="{", headers=plain).status_code == 400


# -- batches: shape


@pytest.mark.parametrize("operation", ["read", "update", "upsert", "create"])
def test_101_inputs_are_400(operation: str, ask: Ask) -> None:
    """A batch carries at most one hundred inputs."""
    one = {"idProperty": "email", "properties": {}}
    inputs = [{**one, "id": f"p{n}@example.com"} for n in range(101)]
    assert ask("POST", f"{CONTACTS}/batch/{operation}", {"inputs": inputs}).status_code == 400


@pytest.mark.parametrize("value", [3, True, None, ["a"]])
def test_values_must_be_strings(value: object, ask: Ask) -> None:
    """Any property value that is not a string rejects the whole call, trace ids or not."""
    body = upsert(("ada@example.com", {}), ("bob@example.com", {}))
    body["inputs"][0]["properties"]["company"] = value
    assert ask("POST", f"{CONTACTS}/batch/upsert", body).status_code == 400


def test_a_duplicate_id_rejects_the_whole_batch(sandbox: HubSpotSandbox, ask: Ask) -> None:
    """The same id twice is 400 in spite of trace ids, also when only case and blanks differ."""
    body = upsert(("ada@example.com", {}), ("bob@example.com", {}), (" ADA@example.com", {}))
    answer = ask("POST", f"{CONTACTS}/batch/upsert", body)
    assert answer.status_code == 400
    assert answer.json()["context"]["ids"] == ["ada@example.com"]
    assert sandbox.contacts() == []


def test_results_come_in_another_order(ask: Ask) -> None:
    """The results of a batch are never in the order of its inputs."""
    emails = [f"p{n}@example.com" for n in range(5)]
    answer = ask("POST", f"{CONTACTS}/batch/upsert", upsert(*((e, {}) for e in emails)))
    found = [one["properties"]["email"] for one in answer.json()["results"]]
    assert found != emails
    assert sorted(found) == emails


# -- batch/read


def test_batch_read_names_the_ids_it_did_not_find(sandbox: HubSpotSandbox, ask: Ask) -> None:
    """Unknown ids are a 207 with one error object, found ones come with nulls for what they lack."""
    sandbox.seed([{"email": "ada@example.com"}])
    inputs = [{"id": "Ada@Example.com"}, {"id": "x@example.com"}, {"id": "y@example.com"}]
    body = {"idProperty": "email", "properties": ["email", "lms_user_id"], "inputs": inputs}
    answer = ask("POST", f"{CONTACTS}/batch/read", body)
    assert answer.status_code == 207
    assert answer.json()["numErrors"] == 1
    assert answer.json()["errors"][0]["category"] == "OBJECT_NOT_FOUND"
    assert answer.json()["errors"][0]["context"] == {"ids": ["x@example.com", "y@example.com"]}
    [found] = answer.json()["results"]
    assert found["properties"]["lms_user_id"] is None
    assert found["properties"]["email"] == "ada@example.com"


def test_batch_read_ignores_id_property_on_an_input(sandbox: HubSpotSandbox, ask: Ask) -> None:
    """In batch/read idProperty belongs on top; on an input it means nothing and the id is a record id."""
    sandbox.seed([{"email": "ada@example.com"}])
    body = {"inputs": [{"idProperty": "email", "id": "ada@example.com"}]}
    assert ask("POST", f"{CONTACTS}/batch/read", body).json()["results"] == []


def test_batch_read_finds_by_unique_property_only(sandbox: HubSpotSandbox, ask: Ask) -> None:
    """A property with unique values is a key, any other is refused."""
    sandbox.seed([{"email": "ada@example.com", "lms_user_id": "academy:1"}])
    body = {"idProperty": "lms_user_id", "inputs": [{"id": "academy:1"}]}
    assert len(ask("POST", f"{CONTACTS}/batch/read", body).json()["results"]) == 1
    assert ask("POST", f"{CONTACTS}/batch/read", {**body, "idProperty": "company"}).status_code == 400


def test_history_is_read_on_request(sandbox: HubSpotSandbox, ask: Ask) -> None:
    """The parameter propertiesWithHistory shows every value a property had, newest first."""
    sandbox.seed([{"email": "ada@example.com", "company": "Old"}])
    ask("POST", f"{CONTACTS}/batch/upsert", upsert(("ada@example.com", {"company": "New"})))
    query = {"idProperty": "email", "propertiesWithHistory": "company"}
    document = ask("GET", f"{CONTACTS}/ada%40example.com", params=query).json()
    assert [one["value"] for one in document["propertiesWithHistory"]["company"]] == ["New", "Old"]


# -- batch/upsert


def test_upsert_says_what_is_new(sandbox: HubSpotSandbox, ask: Ask) -> None:
    """`new` tells a created contact from an updated one."""
    sandbox.seed([{"email": "ada@example.com"}])
    answer = ask("POST", f"{CONTACTS}/batch/upsert", upsert(("ada@example.com", {}), ("bob@example.com", {})))
    assert answer.status_code == 200
    assert {one["properties"]["email"]: one["new"] for one in answer.json()["results"]} == {
        "ada@example.com": False,
        "bob@example.com": True,
    }
    assert "errors" not in answer.json()


def test_emails_are_trimmed_and_lower_cased(sandbox: HubSpotSandbox, ask: Ask) -> None:
    """An e-mail comes back in the form HubSpot keeps it, and finds the contact whatever its case."""
    [known] = sandbox.seed([{"email": "ada@example.com"}])
    [one] = ask("POST", f"{CONTACTS}/batch/upsert", upsert((" Ada@Example.COM ", {}))).json()["results"]
    assert one["id"] == known
    assert one["properties"]["email"] == "ada@example.com"


def test_upsert_needs_id_property_on_every_input(ask: Ask) -> None:
    """An idProperty on top of an upsert is ignored, so the inputs lack it and the batch is refused."""
    body = {
        "idProperty": "email",
        "inputs": [{"id": "ada@example.com", "properties": {"email": "ada@example.com"}}],
    }
    assert ask("POST", f"{CONTACTS}/batch/upsert", body).status_code == 400


def test_upsert_by_a_property_that_is_not_unique_is_refused(ask: Ask) -> None:
    """Only e-mail and unique properties can be the key of an upsert."""
    answer = ask("POST", f"{CONTACTS}/batch/upsert", upsert(("ACME", {}), key="company"))
    assert answer.status_code == 400
    assert "non-unique 0-1 property company" in answer.json()["message"]


def test_upsert_by_unique_property_creates_with_it(sandbox: HubSpotSandbox, ask: Ask) -> None:
    """A contact made by an upsert on a unique property carries that property."""
    ask("POST", f"{CONTACTS}/batch/upsert", upsert(("academy:1", {}), key="lms_user_id"))
    assert sandbox.contacts()[0]["properties"]["lms_user_id"] == "academy:1"


def test_upsert_by_email_must_repeat_the_email(sandbox: HubSpotSandbox, ask: Ask) -> None:
    """Without email among the properties an upsert by e-mail is refused, unless the portal is lenient."""
    body = upsert(("ada@example.com", {}))
    body["inputs"][0]["properties"] = {"company": "ACME"}
    assert ask("POST", f"{CONTACTS}/batch/upsert", body).status_code == 207
    sandbox.configure(email_upsert_needs_email=False)
    assert ask("POST", f"{CONTACTS}/batch/upsert", body).status_code == 200


def test_without_trace_ids_one_bad_input_rejects_all(sandbox: HubSpotSandbox, ask: Ask) -> None:
    """One invalid e-mail stops the other inputs where trace ids are missing."""
    body = upsert(("ada@example.com", {}), ("not-an-email", {}), trace=False)
    assert code(ask("POST", f"{CONTACTS}/batch/upsert", body)) == "INVALID_EMAIL"
    assert sandbox.contacts() == []


@pytest.mark.parametrize("last", [None, "t0"])
def test_one_trace_id_missing_or_doubled_rejects_all(last: str | None, sandbox: HubSpotSandbox, ask: Ask) -> None:
    """Partial success needs a trace id on every input, and all of them different."""
    body = upsert(("ada@example.com", {}), ("not-an-email", {}), ("bob@example.com", {}))
    body["inputs"][2]["objectWriteTraceId"] = last
    assert ask("POST", f"{CONTACTS}/batch/upsert", body).status_code == 400
    assert sandbox.contacts() == []


def test_with_trace_ids_the_good_ones_pass(sandbox: HubSpotSandbox, ask: Ask) -> None:
    """A 207 applies the good inputs and names the bad ones by trace id."""
    body = upsert(("ada@example.com", {}), ("not-an-email", {}), ("bob@example.com", {"nonsense": "1"}))
    answer = ask("POST", f"{CONTACTS}/batch/upsert", body)
    assert answer.status_code == 207
    assert answer.json()["numErrors"] == 2
    assert [e["context"]["objectWriteTraceId"] for e in answer.json()["errors"]] == [["t1"], ["t2"]]
    assert "INVALID_EMAIL" in answer.json()["errors"][0]["message"]
    assert [c["properties"]["email"] for c in sandbox.contacts()] == ["ada@example.com"]


def test_partial_success_can_be_a_200_in_2026_09(sandbox: HubSpotSandbox, ask: Ask) -> None:
    """Where switched on, 2026-09 answers 200 with errors inside; the older versions keep their 207."""
    sandbox.configure(partial_success_is_200=True)
    body = upsert(("not-an-email", {}))
    answers = {base: ask("POST", f"{base}/batch/upsert", body) for base in VERSIONS}
    assert [one.status_code for one in answers.values()] == [207, 207, 200]
    assert answers[CONTACTS].json()["numErrors"] == 1


def test_trace_ids_are_echoed_only_on_request(sandbox: HubSpotSandbox, ask: Ask) -> None:
    """Results carry objectWriteTraceId only where the portal is told so."""
    body = upsert(("ada@example.com", {}))
    assert "objectWriteTraceId" not in ask("POST", f"{CONTACTS}/batch/upsert", body).json()["results"][0]
    sandbox.configure(echo_trace_id=True)
    assert ask("POST", f"{CONTACTS}/batch/upsert", body).json()["results"][0]["objectWriteTraceId"] == "t0"


def test_two_inputs_of_one_batch_can_not_take_one_unique_value(ask: Ask) -> None:
    """The second input that wants a unique value another input just took is refused."""
    taken = {"lms_user_id": "academy:1"}
    body = upsert(("ada@example.com", taken), ("bob@example.com", taken))
    answer = ask("POST", f"{CONTACTS}/batch/upsert", body)
    assert answer.status_code == 207
    assert "CONFLICTING_UNIQUE_VALUE" in answer.json()["errors"][0]["message"]


# -- values


def test_an_unknown_property_is_named(ask: Ask) -> None:
    """Writing a property the portal does not have is PROPERTY_DOESNT_EXIST, with its name."""
    answer = ask("POST", CONTACTS, {"properties": {"email": "ada@example.com", "nonsense": "1"}})
    assert code(answer) == "PROPERTY_DOESNT_EXIST"
    assert answer.json()["errors"][0]["context"] == {"propertyName": ["nonsense"]}


@pytest.mark.parametrize("name", ["createdate", "lastmodifieddate", "hs_object_id", "hs_additional_emails"])
def test_read_only_properties_refuse_values(name: str, ask: Ask) -> None:
    """Nobody writes what HubSpot computes."""
    assert code(ask("POST", CONTACTS, {"properties": {name: "1"}})) == "READ_ONLY_VALUE"


@pytest.mark.parametrize(
    ("name", "value", "refused"),
    [
        ("email", "ada@example", "INVALID_EMAIL"),
        ("email", "a b@example.com", "INVALID_EMAIL"),
        ("recent_course_completion_date", "2026-02-30", "INVALID_DATE"),
        ("recent_course_completion_date", "20.11.2026", "INVALID_DATE"),
        ("recent_course_completion_date", "1496643178000", "INVALID_DATE"),
        ("recent_course_completion_date", "2026-11-20T00:00:00Z", "INVALID_DATE"),
        ("lms_last_synced_at", "2026-11-20", "INVALID_LONG"),
        ("lms_last_synced_at", "2026-11-20T10:00:00", "INVALID_LONG"),
        ("courses_completed_count", "1,000", "INVALID_INTEGER"),
        ("courses_completed_count", "1e3", "INVALID_INTEGER"),
        ("courses_completed_count", "three", "INVALID_INTEGER"),
        ("certified_atlas", "True", "INVALID_OPTION"),
        ("certified_atlas", "yes", "INVALID_OPTION"),
        ("lifecyclestage", "Customer", "INVALID_OPTION"),
    ],
)
def test_values_of_the_wrong_form_are_refused(name: str, value: str, refused: str, ask: Ask) -> None:
    """Each type takes its own form and says by a code what is wrong."""
    assert code(ask("POST", CONTACTS, {"properties": {name: value}})) == refused


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("recent_course_completion_date", "2026-11-20", "2026-11-20"),
        ("recent_course_completion_date", "1795132800000", "2026-11-20"),
        ("lms_last_synced_at", "2026-11-20T10:00:00Z", "2026-11-20T10:00:00.000Z"),
        ("lms_last_synced_at", "2026-11-20T10:00:00.5+02:00", "2026-11-20T08:00:00.500Z"),
        ("lms_last_synced_at", "1795168800000", "2026-11-20T10:00:00.000Z"),
        ("courses_completed_count", "-2.50", "-2.50"),
        ("certified_atlas", "false", "false"),
        ("last_course_completed", "Negotiation, “the hard part”", "Negotiation, “the hard part”"),
    ],
)
def test_values_are_kept_as_hubspot_keeps_them(name: str, value: str, kept: str, ask: Ask) -> None:
    """Dates become days and moments become UTC; the rest stays as written."""
    assert ask("POST", CONTACTS, {"properties": {name: value}}).json()["properties"][name] == kept


def test_an_empty_string_clears(sandbox: HubSpotSandbox, ask: Ask) -> None:
    """An empty value removes the old one whatever the type."""
    [known] = sandbox.seed([{"email": "ada@example.com", "courses_completed_count": "3"}])
    ask("PATCH", f"{CONTACTS}/{known}", {"properties": {"courses_completed_count": ""}})
    assert "courses_completed_count" not in sandbox.contacts()[0]["properties"]


def test_a_unique_value_belongs_to_one_contact(sandbox: HubSpotSandbox, ask: Ask) -> None:
    """A second contact cannot take a unique value; once cleared, it is free."""
    first, second = sandbox.seed(
        [{"email": "ada@example.com", "lms_user_id": "academy:1"}, {"email": "bob@example.com"}]
    )
    wanted = {"properties": {"lms_user_id": "academy:1"}}
    assert code(ask("PATCH", f"{CONTACTS}/{second}", wanted)) == "CONFLICTING_UNIQUE_VALUE"
    ask("PATCH", f"{CONTACTS}/{first}", {"properties": {"lms_user_id": ""}})
    assert ask("PATCH", f"{CONTACTS}/{second}", wanted).status_code == 200


def test_lifecycle_stages_only_go_forward(sandbox: HubSpotSandbox, ask: Ask) -> None:
    """A step back is silently not taken, unless the stage was cleared first."""
    [known] = sandbox.seed([{"email": "ada@example.com", "lifecyclestage": "customer"}])
    for value in ("lead", "", "lead"):
        ask("PATCH", f"{CONTACTS}/{known}", {"properties": {"lifecyclestage": value}})
    history = [one["value"] for one in sandbox.contacts()[0]["history"]["lifecyclestage"]]
    assert history == ["customer", "", "lead"]


def test_2026_09_enforces_the_customers_rules(sandbox: HubSpotSandbox, ask: Ask) -> None:
    """A conditionally required property is a permanent 400 in 2026-09 and nothing in the older versions."""
    sandbox.configure(validation_rules=[{"when": {"lifecyclestage": "customer"}, "requires": "company"}])
    [known] = sandbox.seed([{"email": "ada@example.com", "lifecyclestage": "customer"}])
    body = {"properties": {"jobtitle": "AE"}}
    assert [ask("PATCH", f"{base}/{known}", body).status_code for base in VERSIONS] == [200, 200, 400]


# -- batch/update


def test_update_with_id_property_is_refused(sandbox: HubSpotSandbox, ask: Ask) -> None:
    """batch/update takes record ids and nothing else."""
    [known] = sandbox.seed([{"email": "ada@example.com"}])
    one = {"id": known, "idProperty": "hs_object_id", "properties": {"company": "ACME"}}
    assert ask("POST", f"{CONTACTS}/batch/update", {"inputs": [one]}).status_code == 400


def test_update_by_email_changes_nothing_in_silence(sandbox: HubSpotSandbox, ask: Ask) -> None:
    """An e-mail as the id of an update is success on paper and no change at all."""
    sandbox.seed([{"email": "ada@example.com"}])
    one = {"id": "ada@example.com", "properties": {"company": "ACME"}}
    answer = ask("POST", f"{CONTACTS}/batch/update", {"inputs": [one]})
    assert (answer.status_code, answer.json()["results"]) == (200, [])
    assert "company" not in sandbox.contacts()[0]["properties"]


def test_update_of_an_unknown_id_is_an_error_of_that_input(sandbox: HubSpotSandbox, ask: Ask) -> None:
    """An id that never was is OBJECT_NOT_FOUND by trace id, and rejects the batch without trace ids."""
    [known] = sandbox.seed([{"email": "ada@example.com"}])
    inputs = [{"id": i, "properties": {"company": "ACME"}, "objectWriteTraceId": i} for i in (known, "999")]
    answer = ask("POST", f"{CONTACTS}/batch/update", {"inputs": inputs})
    assert answer.status_code == 207
    assert answer.json()["errors"][0]["context"] == {"ids": ["999"], "objectWriteTraceId": ["999"]}
    del inputs[0]["objectWriteTraceId"]
    assert ask("POST", f"{CONTACTS}/batch/update", {"inputs": inputs}).status_code == 404


# -- create, identity, merge, archive, list


def test_creating_a_known_email_is_409(sandbox: HubSpotSandbox, ask: Ask) -> None:
    """The conflict names the existing id in its text, single and in a batch."""
    [known] = sandbox.seed([{"email": "ada@example.com"}])
    body = {"properties": {"email": "ADA@example.com"}}
    single = ask("POST", CONTACTS, body)
    assert single.status_code == 409
    assert single.json()["message"] == f"Contact already exists. Existing ID: {known}"
    batch = ask("POST", f"{CONTACTS}/batch/create", {"inputs": [body]})
    assert (batch.status_code, batch.json()["category"]) == (409, "CONFLICT")


def test_batch_create_creates(sandbox: HubSpotSandbox, ask: Ask) -> None:
    """batch/create answers 201, and 207 when some inputs with trace ids fail."""
    inputs = [{"properties": {"email": f"p{n}@example.com"}, "objectWriteTraceId": f"t{n}"} for n in range(2)]
    assert ask("POST", f"{CONTACTS}/batch/create", {"inputs": inputs}).status_code == 201
    inputs.append({"properties": {"email": "new@example.com"}, "objectWriteTraceId": "t9"})
    answer = ask("POST", f"{CONTACTS}/batch/create", {"inputs": inputs})
    assert (answer.status_code, answer.json()["numErrors"]) == (207, 2)
    assert len(sandbox.contacts()) == 3


def test_secondary_emails_are_taken_but_need_not_resolve(sandbox: HubSpotSandbox, ask: Ask) -> None:
    """By default a secondary e-mail finds nobody and yet conflicts; where switched on, it finds its owner."""
    [known] = sandbox.seed([{"email": "ada@example.com", "hs_additional_emails": "ada@old.example"}])
    read = {"idProperty": "email", "inputs": [{"id": "ada@old.example"}]}
    write = upsert(("ada@old.example", {"company": "ACME"}))
    assert ask("POST", f"{CONTACTS}/batch/read", read).status_code == 207
    refused = ask("POST", f"{CONTACTS}/batch/upsert", write)
    assert refused.json()["errors"][0]["category"] == "CONFLICT"
    sandbox.configure(secondary_emails_resolve=True)
    assert ask("POST", f"{CONTACTS}/batch/read", read).json()["results"][0]["id"] == known
    [one] = ask("POST", f"{CONTACTS}/batch/upsert", write).json()["results"]
    assert (one["id"], one["properties"]["email"]) == (known, "ada@example.com")


def test_a_merge_makes_a_new_record(sandbox: HubSpotSandbox, ask: Ask) -> None:
    """Both old ids lead to a record with a new id, the primary's values and the other's e-mail as secondary."""
    primary, other = sandbox.seed(
        [
            {"email": "ada@example.com", "lms_user_id": "academy:1"},
            {"email": "ada@old.example", "lms_user_id": "academy:2", "company": "ACME"},
        ]
    )
    made = ask("POST", f"{CONTACTS}/merge", {"primaryObjectId": primary, "objectIdToMerge": other}).json()["id"]
    assert made not in (primary, other)
    names = "email,lms_user_id,company,hs_additional_emails,hs_merged_object_ids"
    for old in (primary, other):
        document = ask("GET", f"{CONTACTS}/{old}", params={"properties": names}).json()
        assert document["id"] == made
        assert document["properties"]["lms_user_id"] == "academy:1"
        assert document["properties"]["company"] == "ACME"
        assert document["properties"]["hs_additional_emails"] == "ada@old.example"
        assert document["properties"]["hs_merged_object_ids"] == f"{primary};{other}"


def test_a_merged_id_vanishes_from_batch_update(sandbox: HubSpotSandbox, ask: Ask) -> None:
    """batch/update answers 200 without a word about the merged id; a single PATCH follows it."""
    first, second, third = sandbox.seed([{"email": f"{n}@example.com"} for n in "abc"])
    made = sandbox.merge(first, second)
    inputs = [{"id": i, "properties": {"company": "ACME"}, "objectWriteTraceId": i} for i in (first, third)]
    answer = ask("POST", f"{CONTACTS}/batch/update", {"inputs": inputs})
    assert answer.status_code == 200
    assert [one["id"] for one in answer.json()["results"]] == [third]
    assert "errors" not in answer.json()
    patched = ask("PATCH", f"{CONTACTS}/{first}", {"properties": {"company": "ACME"}})
    assert (patched.status_code, patched.json()["id"]) == (200, made)


def test_merged_ids_in_batch_read_are_a_switch(sandbox: HubSpotSandbox, ask: Ask) -> None:
    """batch/read follows a merged id, or where switched off does not find it."""
    first, second = sandbox.seed([{"email": "a@example.com"}, {"email": "b@example.com"}])
    made = sandbox.merge(first, second)
    body = {"inputs": [{"id": first}]}
    assert ask("POST", f"{CONTACTS}/batch/read", body).json()["results"][0]["id"] == made
    sandbox.configure(merged_ids_in_batch_read=False)
    assert ask("POST", f"{CONTACTS}/batch/read", body).status_code == 207


def test_an_archived_contact_is_gone_and_its_email_free(sandbox: HubSpotSandbox, ask: Ask) -> None:
    """After archiving, reads are 404 and the same e-mail makes a new contact."""
    known, other = sandbox.seed([{"email": "ada@example.com"}, {"email": "bob@example.com"}])
    assert ask("DELETE", f"{CONTACTS}/{known}").status_code == 204
    assert ask("GET", f"{CONTACTS}/{known}").json()["category"] == "OBJECT_NOT_FOUND"
    [made] = ask("POST", f"{CONTACTS}/batch/upsert", upsert(("ada@example.com", {}))).json()["results"]
    assert (made["new"], made["id"] != known) == (True, True)
    assert ask("POST", f"{CONTACTS}/batch/archive", {"inputs": [{"id": other}]}).status_code == 204
    assert ask("GET", f"{CONTACTS}/{other}").status_code == 404


def test_the_list_is_paged_to_the_end(sandbox: HubSpotSandbox, ask: Ask) -> None:
    """Following `paging.next.after` shows every live contact once; more than 100 a page is refused."""
    ids = sandbox.seed([{"email": f"p{n}@example.com"} for n in range(25)])
    sandbox.archive(ids[4])
    seen: list[str] = []
    after: str | None = "0"
    while after is not None:
        page = ask("GET", CONTACTS, params={"limit": 10, "after": after, "properties": "email"}).json()
        seen += [one["id"] for one in page["results"]]
        after = page.get("paging", {}).get("next", {}).get("after")
    assert seen == [i for i in ids if i != ids[4]]
    assert ask("GET", CONTACTS, params={"limit": 101}).status_code == 400


# -- properties


def test_properties_are_listed_and_created(ask: Ask) -> None:
    """A group and its properties come into being once; the second time is a conflict."""
    assert ask("GET", f"{PROPERTIES}/lms_user_id").json()["hasUniqueValue"] is True
    assert ask("GET", f"{PROPERTIES}/made_here").status_code == 404
    group = {"name": "made_group", "label": "Made"}
    assert [ask("POST", f"{PROPERTIES}/groups", group).status_code for _ in range(2)] == [201, 409]
    wanted = {
        "groupName": "made_group",
        "name": "made_here",
        "label": "Made",
        "type": "string",
        "fieldType": "text",
    }
    assert [ask("POST", PROPERTIES, wanted).status_code for _ in range(2)] == [201, 409]
    assert "made_here" in {one["name"] for one in ask("GET", PROPERTIES).json()["results"]}
    assert ask("POST", CONTACTS, {"properties": {"made_here": "x"}}).status_code == 201


@pytest.mark.parametrize(
    "change",
    [{"groupName": "nowhere"}, {"fieldType": "number"}, {"name": "Bad Name"}, {"label": ""}, {"type": "bool"}],
)
def test_a_malformed_property_is_refused(change: dict[str, str], ask: Ask) -> None:
    """A new property needs a known group, a fitting field type, a plain name, a label, and options if bool."""
    wanted = {"groupName": "lms_sync", "name": "odd_one", "label": "Odd", "type": "string", "fieldType": "text"}
    assert ask("POST", PROPERTIES, {**wanted, **change}).status_code == 400


def test_several_properties_are_created_at_once(ask: Ask) -> None:
    """Batch creation makes the good ones and names the bad ones in a 207."""
    base = {"groupName": "lms_sync", "label": "One", "type": "string", "fieldType": "text"}
    inputs = [{**base, "name": "batch_one"}, {**base, "name": "lms_source"}]
    answer = ask("POST", f"{PROPERTIES}/batch/create", {"inputs": inputs})
    assert (answer.status_code, answer.json()["numErrors"]) == (207, 1)
    assert [one["name"] for one in answer.json()["results"]] == ["batch_one"]


def test_an_admin_can_remove_a_property(sandbox: HubSpotSandbox, ask: Ask) -> None:
    """A property deleted behind our back refuses values from then on."""
    group = {"groupName": "lms_sync", "label": "Short", "type": "string", "fieldType": "text"}
    sandbox.set_properties(add=[{**group, "name": "short_lived"}])
    assert ask("POST", CONTACTS, {"properties": {"short_lived": "x"}}).status_code == 201
    sandbox.set_properties(remove=["short_lived"])
    assert code(ask("POST", CONTACTS, {"properties": {"short_lived": "x"}})) == "PROPERTY_DOESNT_EXIST"


def test_an_archived_property_keeps_its_name(sandbox: HubSpotSandbox, ask: Ask) -> None:
    """In the bin a property takes no values, is listed only on demand, and its name cannot be used again."""
    body = {"groupName": "lms_sync", "label": "Old", "type": "string", "fieldType": "text", "name": "old_one"}
    sandbox.set_properties(add=[body])
    sandbox.set_properties(archive=["old_one"])
    assert ask("GET", f"{PROPERTIES}/old_one").status_code == 404
    assert ask("GET", f"{PROPERTIES}/old_one", params={"archived": "true"}).json()["archived"] is True
    assert "old_one" not in {one["name"] for one in ask("GET", PROPERTIES).json()["results"]}
    assert ask("POST", PROPERTIES, body).status_code == 409
    sandbox.set_properties(remove=["old_one"])
    assert ask("POST", PROPERTIES, body).status_code == 201
    sandbox.set_properties(remove=["old_one"])


def test_at_most_ten_properties_hold_unique_values(sandbox: HubSpotSandbox, ask: Ask) -> None:
    """The eleventh is refused."""
    body = {"groupName": "lms_sync", "label": "U", "type": "string", "fieldType": "text", "hasUniqueValue": True}
    names = [f"unique_{place}" for place in range(10)]
    assert [ask("POST", PROPERTIES, {**body, "name": name}).status_code for name in names] == [201] * 9 + [400]
    sandbox.set_properties(remove=names)


@pytest.mark.parametrize("base", ["/crm/v3/limits", "/crm/limits/2026-03", "/crm/limits/2026-09"])
def test_the_limit_of_custom_properties(base: str, sandbox: HubSpotSandbox, ask: Ask) -> None:
    """The portal says how many it allows and has, where it says so at all, and refuses one more."""
    path = f"{base}/custom-properties"
    (contacts,) = [one for one in ask("GET", path).json()["byObjectType"] if one["objectTypeId"] == "0-1"]
    sandbox.configure(custom_properties=contacts["usage"])
    body = {"groupName": "lms_sync", "label": "More", "type": "string", "fieldType": "text", "name": "one_more"}
    assert ask("POST", PROPERTIES, body).status_code == 400
    sandbox.configure(tells_limits=False)
    assert ask("GET", path).status_code == 404


@pytest.mark.parametrize(
    ("scope", "method", "path"),
    [
        ("crm.objects.contacts.read", "POST", f"{CONTACTS}/batch/read"),
        ("crm.objects.contacts.write", "POST", f"{CONTACTS}/batch/upsert"),
        ("crm.schemas.contacts.write", "POST", PROPERTIES),
        ("crm.schemas.contacts.write", "POST", f"{PROPERTIES}/batch/create"),
        ("crm.schemas.contacts.write", "POST", f"{PROPERTIES}/groups"),
    ],
)
def test_a_missing_scope_is_403(scope: str, method: str, path: str, sandbox: HubSpotSandbox, ask: Ask) -> None:
    """Without its scope an operation is refused before anyone looks at the body, with the keys of the example."""
    assert ask(method, path, {}).status_code == 400
    sandbox.configure(missing_scopes=[scope])
    refused = ask(method, path, {})
    assert (refused.status_code, refused.json()["category"]) == (403, "MISSING_SCOPES")
    assert refused.json()["errors"][0]["context"]["requiredGranularScopes"] == [scope]
    assert (
        refused.json().keys() == contract("examples.json")["examples"]["errors.missing_scopes"]["response_403"].keys()
    )


def test_definitions_are_read_with_either_scope(sandbox: HubSpotSandbox, ask: Ask) -> None:
    """The scope of schemas or that of contacts is enough to list properties."""
    sandbox.configure(missing_scopes=["crm.schemas.contacts.read"])
    assert ask("GET", PROPERTIES).status_code == 200
    sandbox.configure(missing_scopes=["crm.schemas.contacts.read", "crm.objects.contacts.read"])
    assert ask("GET", PROPERTIES).status_code == 403


# -- faults and the control API


def test_scripted_faults_hit_in_order(sandbox: HubSpotSandbox, ask: Ask) -> None:
    """A script decides call by call; null lets a call pass, and afterwards everything is healthy."""
    script = [
        fault("rate_limited", retry_after=3),
        None,
        fault("error", status=502),
        fault("token_expired"),
    ]
    sandbox.set_faults(script=script)
    answers = [ask("GET", CONTACTS) for _ in range(5)]
    assert [one.status_code for one in answers] == [429, 200, 502, 401, 200]
    assert answers[0].headers["Retry-After"] == "3"
    assert answers[3].json()["category"] == "EXPIRED_AUTHENTICATION"
    assert sandbox.stats()["injected"] == {"rate_limited": 1, "error": 1, "token_expired": 1}


def test_a_drop_leaves_no_trace(sandbox: HubSpotSandbox, ask: Ask) -> None:
    """A connection cut before processing changes nothing in the portal."""
    sandbox.set_faults(script=[fault("drop")])
    with pytest.raises(requests.ConnectionError):
        ask("POST", f"{CONTACTS}/batch/upsert", upsert(("ada@example.com", {})))
    assert sandbox.contacts() == []
    assert sandbox.calls()[0]["status"] == 0


def test_processed_then_dropped_is_an_unknown_outcome(sandbox: HubSpotSandbox, ask: Ask) -> None:
    """The work is done, the answer never comes."""
    sandbox.set_faults(script=[fault("processed_then_drop")])
    with pytest.raises(requests.ConnectionError):
        ask("POST", f"{CONTACTS}/batch/upsert", upsert(("ada@example.com", {})))
    assert len(sandbox.contacts()) == 1
    assert sandbox.calls()[0]["processed"] is True


def test_a_hang_outlasts_the_caller(sandbox: HubSpotSandbox, ask: Ask) -> None:
    """The caller gives up first; the work is not done by then."""
    sandbox.set_faults(script=[fault("hang", seconds=30)])
    with pytest.raises(requests.ReadTimeout):
        ask("POST", f"{CONTACTS}/batch/upsert", upsert(("ada@example.com", {})), timeout=0.3)
    assert sandbox.contacts() == []


def test_a_drip_takes_its_time(sandbox: HubSpotSandbox, ask: Ask) -> None:
    """The body trickles in and is whole at the end."""
    sandbox.seed([{"email": "ada@example.com"}])
    sandbox.set_faults(script=[fault("drip", seconds=0.4)])
    started = time.monotonic()
    assert len(ask("GET", CONTACTS).json()["results"]) == 1
    assert time.monotonic() - started >= 0.3


def test_malformed_json_follows_processed_work(sandbox: HubSpotSandbox, ask: Ask) -> None:
    """The status says success, the body cannot be read, the work is done."""
    sandbox.set_faults(script=[fault("malformed")])
    answer = ask("POST", f"{CONTACTS}/batch/upsert", upsert(("ada@example.com", {})))
    assert answer.status_code == 200
    with pytest.raises(requests.JSONDecodeError):
        answer.json()
    assert len(sandbox.contacts()) == 1


def test_chances_are_seeded_limited_and_aimed(sandbox: HubSpotSandbox, ask: Ask) -> None:
    """The same seed strikes the same calls; `times` and `operations` bound what is hit."""
    patterns = []
    for _ in range(2):
        sandbox.set_faults(fault("error", probability=0.5, operations=("contacts.list",)), seed=3)
        patterns.append([ask("GET", CONTACTS).status_code for _ in range(12)])
        assert ask("GET", PROPERTIES).status_code == 200
    assert patterns[0] == patterns[1]
    assert set(patterns[0]) == {200, 503}
    sandbox.set_faults(fault("error", times=1))
    assert [ask("GET", CONTACTS).status_code for _ in range(3)] == [503, 200, 200]


def test_a_fault_with_a_typing_error_is_refused(sandbox: HubSpotSandbox) -> None:
    """An unknown kind or field of a fault fails at once, in the test and at the server."""
    with pytest.raises(ValueError, match="unknown kind"):
        fault("explode")
    with pytest.raises(ValueError, match="refused"):
        sandbox.set_faults({"kind": "error", "statuss": 500})


def test_a_frozen_portal_answers_when_thawed(sandbox: HubSpotSandbox, ask: Ask) -> None:
    """While frozen every call waits; the control API does not."""
    sandbox.freeze()
    with pytest.raises(requests.ReadTimeout):
        ask("GET", CONTACTS, timeout=0.2)
    assert sandbox.stats()["total"] == 1
    sandbox.freeze(frozen=False)
    assert ask("GET", CONTACTS).status_code == 200


def test_every_call_is_logged(sandbox: HubSpotSandbox, ask: Ask) -> None:
    """The log knows arrival, operation, version, inputs and status; the statistics add them up."""
    before = time.time()
    ask("POST", f"{CONTACTS}/batch/upsert", upsert(("ada@example.com", {}), ("bob@example.com", {})))
    ask("POST", f"{CONTACTS}/batch/upsert", upsert(("ada@example.com", {"company": "ACME"})))
    first, second = sandbox.calls()
    assert before <= first["at"] <= second["at"] <= time.time()
    assert (first["operation"], first["version"], first["inputs"]) == ("contacts.batch_upsert", "2026-09", 2)
    stats = sandbox.stats()
    assert stats["calls"] == {"contacts.batch_upsert": {"200": 2}}
    assert stats["inputs"] == {"contacts.batch_upsert": 3}
    assert stats["writes"]["total"] == 3
    assert stats["writes"]["max"] == 2
    assert stats["max_calls_in_10s"] == 2
    ada = sandbox.contact("ada@example.com")
    assert ada is not None
    assert [(h["value"], h["call"]) for h in ada["history"]["company"]] == [("ACME", 2)]


def test_people_edit_contacts_without_spending_calls(sandbox: HubSpotSandbox) -> None:
    """A human change moves the contact, but is neither a call nor a write of ours."""
    sandbox.seed([{"email": "ada@example.com", "company": "ACME"}])
    sandbox.edit("ada@example.com", {"company": "Other"})
    [contact] = sandbox.contacts()
    assert (contact["properties"]["company"], contact["writes"]) == ("Other", 0)
    assert sandbox.stats()["total"] == 0


def test_latency_is_the_least_time_to_an_answer(sandbox: HubSpotSandbox, ask: Ask) -> None:
    """Calls side by side each take the configured latency, not its sum."""
    sandbox.configure(latency_ms=150)
    started = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ask("GET", CONTACTS), range(8)))
    assert time.monotonic() - started >= 0.15
    assert all(one.status_code == 200 for one in answers)
    assert all(one["seconds"] >= 0.15 for one in sandbox.calls())


def test_the_process_ends_with_its_context() -> None:
    """Leaving the context ends the server and frees its port."""
    with HubSpotSandbox(lms_properties=False, products=["x"]) as own:
        url = own.url
        assert own.pid > 0
        with requests.Session() as session:
            session.trust_env = False
            assert session.get(f"{url}{PROPERTIES}/lms_user_id", timeout=5).status_code == 401
    with requests.Session() as session:
        session.trust_env = False
        with pytest.raises(requests.ConnectionError):
            session.get(f"{url}{CONTACTS}", timeout=5)


def test_the_process_does_not_outlive_whoever_started_it() -> None:
    """When the starter dies without a word, the sandbox ends by itself."""
    starter = (
        "import os; from scripts.sandbox.hubspot import HubSpotSandbox; "
        "print(HubSpotSandbox().start().pid, flush=True); os._exit(1)"
    )
    root = Path(__file__).resolve().parents[2]
    died = subprocess.run([sys.executable, "-c", starter], cwd=root, stdout=subprocess.PIPE, check=False)
    try:
        psutil.Process(int(died.stdout)).wait(timeout=10)
    except psutil.NoSuchProcess:
        return


# -- the contract files, where they are at hand


def contract(name: str) -> Any:
    """Read a contract file, or skip where it is not at hand."""
    path = CONTRACTS / name
    if not path.is_file():
        pytest.skip("the contract files are not on this machine")
    return json.loads(path.read_text(encoding="utf-8"))


def test_every_contact_and_property_path_of_the_contract_exists(sandbox: HubSpotSandbox, ask: Ask) -> None:
    """The operations the sandbox stands for answer under each path the contract lists."""
    left_out = {"contacts.search", "contacts.gdpr_delete"}
    for one in contract("endpoints.json")["operations"]:
        if not one["op"].startswith(("contacts.", "properties.", "limits.")) or one["op"] in left_out:
            continue
        for path in one["paths"].values():
            concrete = path.replace("{objectType}", "contacts").replace("{id}", "1").replace("{name}", "email")
            ask(one["method"], concrete, {} if one["method"] in ("POST", "PATCH") else None)
            assert sandbox.calls()[-1]["operation"] == one["op"], path


def test_the_refusals_look_like_the_examples(sandbox: HubSpotSandbox, ask: Ask) -> None:
    """Conflict, unknown property, odd date, duplicate ids and partial success have the keys of the examples."""
    examples = contract("examples.json")["examples"]
    [known] = sandbox.seed([{"email": "ada@example.com"}])
    conflict = ask("POST", CONTACTS, {"properties": {"email": "ada@example.com"}}).json()
    assert conflict.keys() == examples["contacts.create_conflict"]["response_409"].keys()
    unknown = ask("PATCH", f"{CONTACTS}/{known}", {"properties": {"testproperty": "x"}}).json()
    example = examples["errors.unknown_property"]["response_400"]
    assert unknown.keys() == example.keys()
    assert (unknown["message"], unknown["errors"]) == (example["message"], example["errors"])
    odd = ask("POST", CONTACTS, {"properties": {"recent_course_completion_date": "1496643178000"}}).json()
    assert odd["message"] == examples["errors.date_not_midnight"]["response_400"]["message"]
    twice = upsert(("ada@example.com", {}), ("ada@example.com", {}))
    doubled = ask("POST", f"{CONTACTS}/batch/upsert", twice).json()
    example = examples["contacts.batch_upsert"]["response_400_duplicate_ids"]
    assert (doubled.keys(), doubled["message"]) == (example.keys(), example["message"])
    partial = ask("POST", f"{CONTACTS}/batch/upsert", upsert(("a@example.com", {}), ("not-an-email", {}))).json()
    example = examples["contacts.batch_upsert"]["response_207_partial"]
    assert partial.keys() == example.keys()
    assert partial["results"][0].keys() == example["results"][0].keys()
    assert partial["errors"][0]["message"] == example["errors"][0]["message"]


def test_the_429_looks_like_the_example(sandbox: HubSpotSandbox, ask: Ask) -> None:
    """The bodies of both limits have the keys and policy names of the examples."""
    examples = contract("examples.json")["examples"]["errors.rate_limit"]
    for setting, name in (({"daily": 0}, "response_429_daily"), ({"daily": 9, "rate": 0}, "response_429_burst")):
        sandbox.configure(**setting)
        answer = ask("GET", CONTACTS)
        assert answer.json().keys() == examples[name].keys()
        assert answer.json()["policyName"] == examples[name]["policyName"]
        assert all(name in answer.headers for name in examples["headers"])
