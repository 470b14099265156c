"""HubSpot's companies, answer by answer: which is found by which id, which was written, and what is only a pause."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import orjson
import pytest
import responses
from hypothesis import given
from hypothesis import strategies as st

from integration.config import ConnectionConfig
from integration.connectors.crm.hubspot import HubSpot
from integration.connectors.crm.hubspot_companies import Companies, store
from integration.errors import BatchRejected, ConnectionBroken, CoursewireError, Reason, RetryLater, UnknownOutcome
from integration.model.contacts import ContactWrite, Failed, Written
from tests.db.memory_crm import MemoryCrm

HOST = "https://crm.test"
OBJECTS = f"{HOST}/crm/objects/2026-09/companies"
READ, UPDATE = f"{OBJECTS}/batch/read", f"{OBJECTS}/batch/update"
SHARE = "certified_partner_share"


@pytest.fixture
def http(monkeypatch: pytest.MonkeyPatch) -> Iterator[responses.RequestsMock]:
    """Answers instead of a network."""
    monkeypatch.setenv("TEST_HUBSPOT_TOKEN", "sandbox-token")
    with responses.RequestsMock() as mock:
        yield mock


@pytest.fixture
def companies() -> Companies:
    """What reads and writes the companies."""
    return connector()


def connector(**options: str) -> Companies:
    """The companies of an account with the given options."""
    config = ConnectionConfig.model_validate(
        {
            "name": "crm",
            "system": "hubspot",
            "base_url": HOST,
            "credentials": {"token": {"env": "TEST_HUBSPOT_TOKEN"}},
            "options": options,
        }
    )
    return Companies(HubSpot(config))


def write(trace: str, number: str, **fields: str) -> ContactWrite:
    """One write."""
    return ContactWrite(trace=trace, fields=fields or {SHARE: "50"}, id=number)


def record(number: str, **properties: str | None) -> dict[str, Any]:
    """A company as HubSpot answers it."""
    return {"id": number, "properties": {"hs_object_id": number, **properties}, "archived": False}


def gone(*ids: str) -> dict[str, Any]:
    """What a partial answer says of ids that are not there."""
    return {"status": "error", "category": "OBJECT_NOT_FOUND", "message": "no", "context": {"ids": list(ids)}}


def refused(name: str, code: str, *ids: str) -> dict[str, Any]:
    """What HubSpot says of a value that it does not take, and of whom."""
    details = [{"isValid": False, "message": "no good", "error": code, "name": name}]
    message = "Property values were not valid: " + orjson.dumps(details).decode()
    made: dict[str, Any] = {"category": "VALIDATION_ERROR", "message": message}
    return made | ({"context": {"ids": list(ids)}} if ids else {})


def sent(http: responses.RequestsMock, place: int = 0) -> dict[str, Any]:
    """The body of a request we made."""
    body: dict[str, Any] = orjson.loads(http.calls[place].request.body or b"{}")
    return body


# --- reads


def test_companies_are_read_by_id(http: responses.RequestsMock, companies: Companies) -> None:
    """One call for a batch: each id once, no key named, merges always asked for; an empty property is ''."""
    http.post(READ, json={"results": [record("902", **{SHARE: None}), record("901", **{SHARE: "50"})]})
    found = companies.read(None, ["901", " 902 ", "901", " "], [SHARE])
    assert {asked: (one.id, one.fields[SHARE]) for asked, one in found.items()} == {
        "901": ("901", "50"),
        " 902 ": ("902", ""),
    }
    assert sent(http) == {
        "properties": sorted([SHARE, "hs_merged_object_ids"]),
        "propertiesWithHistory": [],
        "inputs": [{"id": "901"}, {"id": "902"}],
    }


@pytest.mark.parametrize(
    ("version", "path"),
    [("2026-03", "/crm/objects/2026-03/companies"), ("legacy", "/crm/v3/objects/companies")],
)
def test_paths_per_version(http: responses.RequestsMock, version: str, path: str) -> None:
    """The option api_version chooses the path of all three calls."""
    http.post(f"{HOST}{path}/batch/read", json={"results": []})
    http.get(f"{HOST}{path}/901", json=record("901"))
    http.post(f"{HOST}{path}/batch/update", json={"results": [record("901")]})
    assert connector(api_version=version).read(None, ["901"], []).keys() == {"901"}
    assert connector(api_version=version).update([write("t1", "901")]).keys() == {"t1"}


def test_nothing_to_do_is_no_call(http: responses.RequestsMock, companies: Companies) -> None:
    """Nothing is sent of an empty batch, of bad text, nor of what is the caller's mistake: a key, or a twin."""
    assert companies.read(None, ["", " "], [SHARE]) == {}
    assert companies.update([]) == {}
    bad = companies.update([write("t1", "901", **{SHARE: "\ud83d"})])["t1"]
    assert bad == Failed(Reason.INVALID_VALUE, "a value is not valid text", (SHARE,))
    with pytest.raises(ValueError, match="id alone"):
        companies.read("domain", ["acme.test"], [SHARE])
    with pytest.raises(ValueError, match="t1 and t2"):
        companies.update([write("t1", "901"), write("t2", " 901")])
    assert not http.calls


def test_a_batch_that_lists_merged_ids_is_believed(http: responses.RequestsMock, companies: Companies) -> None:
    """Whoever lists an id that was asked for is that company; nothing more is asked."""
    http.post(READ, json={"results": [record("903", hs_merged_object_ids="901;902")]})
    found = companies.read(None, ["901", "902"], [SHARE])
    assert {asked: one.id for asked, one in found.items()} == {"901": "903", "902": "903"}
    assert len(http.calls) == 1


@pytest.mark.parametrize("asked", ["901", " 901 "])
def test_a_single_id_is_followed_through_a_merge(
    http: responses.RequestsMock, companies: Companies, asked: str
) -> None:
    """What a batch drops without a word is asked for by itself, with the same properties, under the id asked for."""
    http.post(READ, json={"results": []})
    http.get(f"{OBJECTS}/901", json=record("903", **{SHARE: "7"}))
    (found,) = companies.read(None, [asked], [SHARE]).items()
    assert (found[0], found[1].id, found[1].fields[SHARE]) == (asked, "903", "7")
    assert http.calls[1].request.params == {  # type: ignore[attr-defined]
        "properties": f"{SHARE},hs_merged_object_ids"
    }


def test_several_that_are_not_found_are_not_asked_for_singly(
    http: responses.RequestsMock, companies: Companies
) -> None:
    """A batch costs one call, whatever it finds; who asks again does so by one id."""
    http.post(READ, status=207, json={"results": [], "errors": [gone("901", "902")]})
    assert companies.read(None, ["901", "902"], [SHARE]) == {}
    assert len(http.calls) == 1


def test_a_partial_read_finds_the_others(http: responses.RequestsMock, companies: Companies) -> None:
    """Of two one is gone: the other is there, and the one that is gone has no entry."""
    http.post(READ, status=207, json={"results": [record("902")], "errors": [gone("901")], "numErrors": 1})
    assert companies.read(None, ["901", "902"], [SHARE]).keys() == {"902"}


@pytest.mark.parametrize("body", [{"category": "OBJECT_NOT_FOUND", "context": {"id": ["901"]}}, {}, None])
def test_a_single_one_that_is_nowhere_is_not_found(
    http: responses.RequestsMock, companies: Companies, body: Any
) -> None:
    """A 404 is an answer, whatever its body says."""
    http.post(READ, status=207, json={"results": [], "errors": [gone("901")]})
    http.get(f"{OBJECTS}/901", status=404, json=body)
    assert companies.read(None, ["901"], [SHARE]) == {}


@pytest.mark.parametrize("results", [[], [record("902")]])
def test_trouble_inside_a_read_is_not_taken_for_gone(
    http: responses.RequestsMock, companies: Companies, results: list[Any]
) -> None:
    """A company that could not be read now is not one that does not exist: nothing of the answer is believed."""
    http.post(READ, status=207, json={"results": results, "errors": [{"category": "INTERNAL_ERROR", "message": "x"}]})
    with pytest.raises(RetryLater) as caught:
        companies.read(None, ["901", "902"], [SHARE])
    assert caught.value.reason is Reason.SERVER_ERROR


# --- writes


def test_answers_are_by_id_in_any_order(http: responses.RequestsMock, companies: Companies) -> None:
    """Each write carries its trace; a result is of the record that its id says, and of a stranger nobody's."""
    http.post(UPDATE, json={"results": [record("999"), record("902", **{SHARE: "2"}), record("901", **{SHARE: "1"})]})
    answers = companies.update([write("t1", "901", **{SHARE: "1"}), write("t2", "902", **{SHARE: "2"})])
    assert answers == {
        "t1": Written("901", {"hs_object_id": "901", SHARE: "1"}),
        "t2": Written("902", {"hs_object_id": "902", SHARE: "2"}),
    }
    assert sent(http) == {
        "inputs": [
            {"objectWriteTraceId": "t1", "properties": {SHARE: "1"}, "id": "901"},
            {"objectWriteTraceId": "t2", "properties": {SHARE: "2"}, "id": "902"},
        ]
    }


def test_an_id_that_was_merged_away_has_no_answer(http: responses.RequestsMock, companies: Companies) -> None:
    """HubSpot drops it without a word, so that the caller reads it again."""
    http.post(UPDATE, json={"results": [record("901")]})
    assert companies.update([write("t1", "901"), write("t2", "777")]).keys() == {"t1"}


def test_a_partial_failure_names_its_record(http: responses.RequestsMock, companies: Companies) -> None:
    """One is written, one is gone, one has a value that is refused: each has its own answer."""
    errors = [gone("902"), refused("partner_status", "INVALID_OPTION", "903")]
    http.post(UPDATE, status=207, json={"results": [record("901")], "errors": errors})
    answers = companies.update([write("t1", "901"), write("t2", "902"), write("t3", "903", partner_status="Gold")])
    assert isinstance(answers["t1"], Written)
    assert answers["t2"] == Failed(Reason.CONTACT_GONE, "OBJECT_NOT_FOUND: no code")
    assert answers["t3"] == Failed(
        Reason.INVALID_VALUE, "VALIDATION_ERROR: INVALID_OPTION on partner_status", ("partner_status",)
    )


def test_a_refusal_that_names_nobody_is_halved(http: responses.RequestsMock, companies: Companies) -> None:
    """Of two the caller halves; a single one has failed itself."""
    http.post(UPDATE, status=400, json=refused("partner_status", "INVALID_OPTION"))
    wrong = {"partner_status": "Gold"}
    with pytest.raises(BatchRejected):
        companies.update([write("t1", "901", **wrong), write("t2", "902", **wrong)])
    alone = companies.update([write("t1", "901", **wrong)])["t1"]
    assert isinstance(alone, Failed)
    assert (alone.reason, alone.properties) == (Reason.INVALID_VALUE, ("partner_status",))


def test_a_property_that_is_not_there_fails_those_who_set_it(
    http: responses.RequestsMock, companies: Companies
) -> None:
    """Nothing is halved for it; who does not set it has no answer, and is tried again."""
    http.post(UPDATE, status=400, json=refused("partner_status", "PROPERTY_DOESNT_EXIST"))
    answers = companies.update([write("t1", "901", partner_status="Certified"), write("t2", "902")])
    assert answers.keys() == {"t1"}
    failed = answers["t1"]
    assert isinstance(failed, Failed)
    assert (failed.reason, failed.properties) == (Reason.UNKNOWN_PROPERTY, ("partner_status",))


# --- answers that are about all


@pytest.mark.parametrize(
    ("status", "body", "of_read", "of_write", "reason"),
    [
        (401, {}, ConnectionBroken, ConnectionBroken, Reason.CREDENTIALS_REFUSED),
        (403, {"category": "MISSING_SCOPES"}, ConnectionBroken, ConnectionBroken, Reason.SCOPE_MISSING),
        (429, {}, RetryLater, RetryLater, Reason.RATE_LIMITED),
        (503, {}, RetryLater, UnknownOutcome, Reason.SERVER_ERROR),
        (404, {}, RetryLater, RetryLater, Reason.SERVER_ERROR),
        (200, {}, RetryLater, UnknownOutcome, Reason.MALFORMED_ANSWER),
        (200, {"results": 7}, RetryLater, UnknownOutcome, Reason.MALFORMED_ANSWER),
        (200, [], RetryLater, UnknownOutcome, Reason.MALFORMED_ANSWER),
    ],
)
def test_what_a_whole_answer_means(
    http: responses.RequestsMock,
    companies: Companies,
    status: int,
    body: Any,
    of_read: type[CoursewireError],
    of_write: type[CoursewireError],
    reason: Reason,
) -> None:
    """A read is merely repeated; a write that may have been applied is in doubt."""
    http.post(READ, status=status, json=body)
    http.post(UPDATE, status=status, json=body)
    for act, kind in (
        (lambda: companies.read(None, ["901", "902"], [SHARE]), of_read),
        (lambda: companies.update([write("t1", "901"), write("t2", "902")]), of_write),
    ):
        with pytest.raises(kind) as caught:
            act()
        assert type(caught.value) is kind
        assert caught.value.reason is reason


def test_a_missing_permission_is_named(http: responses.RequestsMock, companies: Companies) -> None:
    """Who reads of it knows what to grant."""
    context = {"requiredGranularScopes": ["crm.objects.companies.write"]}
    http.post(UPDATE, status=403, json={"category": "MISSING_SCOPES", "errors": [{"context": context}]})
    with pytest.raises(ConnectionBroken, match=r"crm\.objects\.companies\.write"):
        companies.update([write("t1", "901")])


@pytest.mark.parametrize(
    ("status", "body", "kind", "reason"),
    [
        (200, {}, RetryLater, Reason.MALFORMED_ANSWER),
        (200, [record("903")], RetryLater, Reason.MALFORMED_ANSWER),
        (200, {"id": None}, RetryLater, Reason.MALFORMED_ANSWER),
        (409, {"category": "CONFLICT"}, RetryLater, Reason.MALFORMED_ANSWER),
        (400, {"category": "VALIDATION_ERROR"}, RetryLater, Reason.MALFORMED_ANSWER),
        (403, {"category": "MISSING_SCOPES"}, ConnectionBroken, Reason.SCOPE_MISSING),
        (500, {}, RetryLater, Reason.SERVER_ERROR),
    ],
)
def test_a_single_read_that_tells_nothing_is_repeated(
    http: responses.RequestsMock,
    companies: Companies,
    status: int,
    body: Any,
    kind: type[CoursewireError],
    reason: Reason,
) -> None:
    """Only a 404 says that a company is not there."""
    http.post(READ, json={"results": []})
    http.get(f"{OBJECTS}/901", status=status, json=body)
    with pytest.raises(kind) as caught:
        companies.read(None, ["901"], [SHARE])
    assert caught.value.reason is reason


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.sampled_from(["901", "902", "t1"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "properties", "context", "ids", "category", "message"]), inner)
    ),
    max_leaves=8,
)


@given(
    status=st.sampled_from([200, 207, 400, 404]),
    body=st.fixed_dictionaries({}, optional={"results": JSON, "errors": JSON, "context": JSON}) | JSON,
)
def test_any_answer_is_read(status: int, body: Any) -> None:
    """Whatever HubSpot answers: companies that were asked for, answers to what was sent, or an error of ours."""
    with pytest.MonkeyPatch.context() as patch, responses.RequestsMock(assert_all_requests_are_fired=False) as http:
        patch.setenv("TEST_HUBSPOT_TOKEN", "sandbox-token")
        for method, url in (("POST", READ), ("POST", UPDATE), ("GET", f"{OBJECTS}/901")):
            http.add(method, url, status=status, json=body)
        for asked in (["901"], ["901", "902"]):
            with suppress(CoursewireError):
                assert connector().read(None, asked, [SHARE]).keys() <= set(asked)
            with suppress(CoursewireError):
                answers = connector().update([write(f"t{one}", one) for one in asked])
                assert answers.keys() <= {f"t{one}" for one in asked}


def test_only_hubspot_has_companies() -> None:
    """Another CRM's contacts have none that we could fill."""
    assert isinstance(store(connector()._crm), Companies)
    assert store(MemoryCrm(lambda: None)) is None  # type: ignore[arg-type, return-value]
