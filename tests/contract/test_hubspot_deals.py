"""HubSpot's deals, answer by answer: where each was by its history, whose it is, and which webhooks are about one."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import orjson
import pytest
import responses
from hypothesis import given
from hypothesis import strategies as st

from integration.config import ConnectionConfig
from integration.connectors.crm.hubspot_deals import Deals, stays, store
from integration.connectors.crm.hubspot_webhooks import Webhooks, inbound
from integration.errors import BatchRejected, ConnectionBroken, Ignored, Reason, Rejected, RetryLater
from integration.model.deals import DealHint, Stay

HOST = "https://crm.test"
READ = f"{HOST}/crm/objects/2026-09/deals/batch/read"
OF_DEALS = f"{HOST}/crm/associations/2026-09/deals/contacts/batch/read"
T0 = datetime(2026, 11, 20, 12, tzinfo=UTC)


def config(**options: Any) -> ConnectionConfig:
    """A HubSpot connection that sends webhooks."""
    return ConnectionConfig.model_validate(
        {
            "name": "crm",
            "system": "hubspot",
            "base_url": HOST,
            "credentials": {"token": {"env": "TEST_HUBSPOT_TOKEN"}},
            "webhook": {"secrets": [{"env": "TEST_SECRET"}], "public_url": "https://sync.test/webhooks/crm"},
            "options": {"role_property": "lms_role", **options},
        }
    )


@pytest.fixture
def http(monkeypatch: pytest.MonkeyPatch) -> Iterator[responses.RequestsMock]:
    """Answers instead of a network."""
    monkeypatch.setenv("TEST_HUBSPOT_TOKEN", "sandbox-token")
    with responses.RequestsMock() as mock:
        yield mock


@pytest.fixture
def deals() -> Deals:
    """What reads the deals."""
    return store(config())


def at(minutes: float) -> str:
    """A moment as HubSpot writes it."""
    return (T0 + timedelta(minutes=minutes)).isoformat().replace("+00:00", "Z")


def was(*values: tuple[float, str]) -> list[dict[str, str]]:
    """A history as HubSpot tells it: the newest first."""
    return [{"value": value, "timestamp": at(minutes)} for minutes, value in reversed(values)]


def record(number: str = "9001", **history: list[dict[str, str]]) -> dict[str, Any]:
    """A deal as HubSpot answers it."""
    told = {"dealstage": was((0, "qualified")), "pipeline": was((0, "default")), **history}
    now = {name: entries[0]["value"] for name, entries in told.items() if entries}
    return {"id": number, "properties": now, "propertiesWithHistory": told, "createdAt": at(0)}


def test_where_a_deal_was_and_whose_it_is(http: responses.RequestsMock, deals: Deals) -> None:
    """Two calls for a batch; ids of contacts come as numbers or as text, and the history with the newest first."""
    moved = record(dealstage=was((0, "qualified"), (5, "closedwon"), (9, "done")))
    http.post(READ, json={"results": [moved, record("9002")]})
    of_one = {"from": {"id": "9001"}, "to": [{"toObjectId": 501}, {"toObjectId": "502"}]}
    http.post(OF_DEALS, json={"results": [of_one]})
    found = deals.read(["9001", "9002"])
    assert found["9001"].stays == (
        Stay("9001", "default", "qualified", T0, T0 + timedelta(minutes=5)),
        Stay("9001", "default", "closedwon", T0 + timedelta(minutes=5), T0 + timedelta(minutes=9)),
        Stay("9001", "default", "done", T0 + timedelta(minutes=9), None),
    )
    assert found["9001"].contacts == {"501", "502"}
    assert found["9002"].contacts == frozenset()
    asked = json.loads(http.calls[0].request.body or b"")
    assert asked["propertiesWithHistory"] == ["dealstage", "pipeline"]
    assert asked["inputs"] == [{"id": "9001"}, {"id": "9002"}]


def test_all_pages_of_contacts(http: responses.RequestsMock, deals: Deals) -> None:
    """A deal of many contacts is asked for on, from where its page ended."""
    http.post(READ, json={"results": [record()]})
    page = {"from": {"id": "9001"}, "to": [{"toObjectId": 501}], "paging": {"next": {"after": "1"}}}
    http.post(OF_DEALS, json={"results": [page]})
    http.post(OF_DEALS, json={"results": [{"from": {"id": "9001"}, "to": [{"toObjectId": 502}]}]})
    assert deals.read(["9001"])["9001"].contacts == {"501", "502"}
    assert json.loads(http.calls[2].request.body or b"")["inputs"] == [{"id": "9001", "after": "1"}]


def gone(*ids: str) -> dict[str, Any]:
    """A partial answer that says which ids are not there."""
    error = {
        "status": "error",
        "category": "OBJECT_NOT_FOUND",
        "message": "Could not get some",
        "context": {"ids": ids},
    }
    return {"results": [], "errors": [error], "numErrors": 1}


def test_a_deal_that_is_gone_is_not_found(http: responses.RequestsMock, deals: Deals) -> None:
    """What HubSpot does not find is no trouble, and of nobody anything else is asked."""
    http.post(READ, status=207, json=gone("9001"))
    assert deals.read(["9001"]) == {}


def test_no_contacts_may_be_told_as_an_error(http: responses.RequestsMock, deals: Deals) -> None:
    """An association error that says there is none means none; trouble over there does not."""
    http.post(READ, json={"results": [record()]})
    http.post(OF_DEALS, status=207, json=gone("9001"))
    assert deals.read(["9001"])["9001"].contacts == frozenset()
    http.replace(responses.POST, OF_DEALS, status=207, json={"results": [], "errors": [{"category": "INTERNAL_ERROR"}]})
    with pytest.raises(RetryLater):
        deals.read(["9001"])


@pytest.mark.parametrize(
    ("status", "body", "kind", "reason"),
    [
        (403, {"category": "MISSING_SCOPES"}, RetryLater, Reason.SCOPE_MISSING),
        (401, {"category": "INVALID_AUTHENTICATION"}, ConnectionBroken, Reason.CREDENTIALS_REFUSED),
        (400, {"category": "VALIDATION_ERROR"}, BatchRejected, Reason.BATCH_REJECTED),
        (503, {}, RetryLater, Reason.SERVER_ERROR),
        (200, {}, RetryLater, Reason.MALFORMED_ANSWER),
    ],
)
def test_what_a_refusal_means(
    http: responses.RequestsMock, deals: Deals, status: int, body: Any, kind: type[Exception], reason: Reason
) -> None:
    """A missing permission lets deals rest, and nothing else of the account."""
    http.post(READ, status=status, json=body)
    with pytest.raises(kind) as caught:
        deals.read(["9001"])
    assert getattr(caught.value, "reason", None) is reason


def test_check_names_scope_and_subscriptions(http: responses.RequestsMock, deals: Deals) -> None:
    """Who reads it knows which permission to grant, and what to subscribe to."""
    http.post(READ, status=403, json={"category": "MISSING_SCOPES"})
    (lacking,) = deals.check()
    assert not lacking.ok
    assert "crm.objects.deals.read" in lacking.what
    http.replace(responses.POST, READ, status=207, json=gone("1"))
    (there,) = deals.check()
    assert there.ok
    assert "deal.propertyChange" in there.advice


def places(*, stage: list[dict[str, str]], pipeline: list[dict[str, str]]) -> list[tuple[str, str]]:
    """Where a deal with these histories was."""
    return [(one.pipeline, one.stage) for one in stays("1", record(dealstage=stage, pipeline=pipeline))]


def test_a_stage_is_of_the_pipeline_it_was_in() -> None:
    """Both change at once when a deal moves to another pipeline, or one is dated a moment later than the other."""
    stage = was((0, "new"), (10, "registered"))
    for minute in (9.99, 10, 10.01):
        pipeline = was((0, "default"), (minute, "partners"))
        assert places(stage=stage, pipeline=pipeline) == [("default", "new"), ("partners", "registered")]


def test_what_is_written_again_goes_on() -> None:
    """The same stage once more is the same stay, and an empty one is no stay."""
    again = was((0, "new"), (3, "new"), (5, ""), (7, "won"))
    assert places(stage=again, pipeline=was((0, "default"))) == [("default", "new"), ("default", "won")]
    assert stays("1", record(dealstage=again))[0].until == T0 + timedelta(minutes=5)


def test_without_a_history_a_deal_is_where_it_is() -> None:
    """A portal that tells none, or times that are none, do not hide the stage of now."""
    plain = {"id": "1", "properties": {"dealstage": "won", "pipeline": "default"}, "createdAt": at(0)}
    assert stays("1", plain) == (Stay("1", "default", "won", T0, None),)
    odd = {**plain, "propertiesWithHistory": {"dealstage": [{"value": "won", "timestamp": "soon"}], "pipeline": 7}}
    assert stays("1", odd) == (Stay("1", "default", "won", T0, None),)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=6,
)
ENTRY = st.fixed_dictionaries({}, optional={"value": JSON, "timestamp": st.just(at(0)) | st.integers(0, 2**60) | JSON})
HISTORY = st.lists(ENTRY | JSON, max_size=4) | JSON


@given(stage=HISTORY, pipeline=HISTORY, properties=JSON)
def test_any_answer_is_read(stage: Any, pipeline: Any, properties: Any) -> None:
    """Whatever HubSpot answers, stays follow one another and only the last one is open."""
    told = {"dealstage": stage, "pipeline": pipeline}
    found = stays("1", {"id": "1", "properties": properties, "propertiesWithHistory": told})
    assert all(one.until is not None and one.since <= one.until for one in found[:-1])
    assert all(one.until <= other.since for one, other in pairwise(found) if one.until)


# --- webhooks


WEBHOOK = config().webhook
assert WEBHOOK
CRM = Webhooks(config(), WEBHOOK)


def event(kind: str, **more: Any) -> dict[str, Any]:
    """One event of a webhook."""
    made = {"eventId": 1, "portalId": 4242, "occurredAt": 1790000000000, "subscriptionType": kind, "objectId": 9001}
    return {name: value for name, value in (made | more).items() if value is not None}


def hint(one: dict[str, Any], crm: Webhooks = CRM) -> DealHint:
    """What is understood of it."""
    (received,) = crm.split({}, orjson.dumps([one]))
    (found,) = crm.translate(received.payload)
    assert isinstance(found, DealHint)
    return found


BETWEEN = {"objectId": None, "fromObjectId": 9001, "toObjectId": 501}


@pytest.mark.parametrize(
    "one",
    [
        event("deal.creation"),
        event("deal.deletion", changeFlag="DELETED"),
        event("deal.restore"),
        event("deal.propertyChange", propertyName="dealstage", propertyValue="closedwon"),
        event("deal.propertyChange", propertyName="pipeline", propertyValue="partners"),
        event("object.propertyChange", objectTypeId="0-3", propertyName="dealstage"),
        event("object.creation", objectTypeId="0-3"),
        event("deal.merge", objectId=8000, primaryObjectId=8000, newObjectId=9001, mergedObjectIds=[8000, 8001]),
        event("deal.associationChange", associationType="DEAL_TO_CONTACT", associationRemoved=False, **BETWEEN),
        event("object.associationChange", objectTypeId="0-3", associationType="DEAL_TO_CONTACT_UNLABELED", **BETWEEN),
        event(
            "contact.associationChange",
            associationType="CONTACT_TO_DEAL",
            **{**BETWEEN, "fromObjectId": 501, "toObjectId": 9001},
        ),
        event("deal.creation", objectId="9001", occurredAt="1790000000000"),
    ],
)
def test_events_of_a_deal(one: dict[str, Any]) -> None:
    """Classic or generic, from either side of an association: it is about this deal."""
    found = hint(one)
    assert found.deal_id == "9001"
    assert found.occurred_at == datetime.fromtimestamp(1790000000, UTC)


@pytest.mark.parametrize(
    ("one", "kind", "reason"),
    [
        (event("deal.propertyChange", propertyName="amount", propertyValue="7"), Ignored, Reason.NOT_MAPPED),
        (event("deal.associationChange", associationType="DEAL_TO_COMPANY", **BETWEEN), Ignored, Reason.UNKNOWN_TYPE),
        (event("contact.associationChange", associationType="CONTACT_TO_COMPANY"), Ignored, Reason.UNKNOWN_TYPE),
        (event("object.creation", objectTypeId="0-2"), Ignored, Reason.UNKNOWN_TYPE),
        (event("deal.creation", objectId=None), Rejected, Reason.MISSING_FIELD),
        (event("deal.creation", occurredAt=None), Rejected, Reason.MISSING_FIELD),
        (event("deal.creation", objectId={"id": 1}), Rejected, Reason.INVALID_EVENT),
    ],
)
def test_events_that_tell_nothing_of_a_deal(one: dict[str, Any], kind: type[Exception], reason: Reason) -> None:
    """They end with a reason, and the text names no value."""
    with pytest.raises(kind) as caught:
        hint(one)
    assert getattr(caught.value, "reason", None) is reason


def test_a_redelivery_is_the_same_event() -> None:
    """The number of the attempt does not count, each change of an association does; no value is kept."""
    moved = event("deal.propertyChange", propertyName="dealstage", propertyValue="sekret")
    first, again = CRM.split({}, orjson.dumps([{**moved, "attemptNumber": 0}, {**moved, "attemptNumber": 3}]))
    assert first == again
    assert b"sekret" not in first.payload
    put = event("deal.associationChange", associationType="DEAL_TO_CONTACT", associationRemoved=False, **BETWEEN)
    taken = {**put, "associationRemoved": True}
    other = {**put, "toObjectId": 502}
    assert len({one.external_id for one in CRM.split({}, orjson.dumps([put, taken, other]))}) == 3


def test_other_accounts() -> None:
    """A deal of another account is none of ours."""
    ours = inbound(config(portal_id=4243))
    assert ours
    with pytest.raises(Ignored) as caught:
        hint(event("deal.creation"), ours)
    assert caught.value.reason is Reason.OTHER_ACCOUNT
