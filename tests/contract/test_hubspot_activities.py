"""HubSpot's timeline, answer by answer: what is sent, cut to its limits, and what each answer means for an activity."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import responses
from hypothesis import given
from hypothesis import strategies as st

from integration.config import ConnectionConfig
from integration.connectors.crm import hubspot_activities, hubspot_event_definitions, hubspot_texts
from integration.connectors.crm.hubspot import HubSpot
from integration.connectors.crm.hubspot_limits import EVENTS as EVENTS_CLASS
from integration.connectors.crm.hubspot_setup import Setup
from integration.errors import BatchRejected, ConnectionBroken, Reason, UnknownOutcome
from integration.model.activities import Activity
from integration.model.contacts import Failed, Written
from integration.ports import ActivityStore
from scripts.sandbox.faults import fault
from scripts.sandbox.hubspot import HubSpotSandbox

HOST = "https://crm.test"
EVENTS = f"{HOST}/events/custom/2026-09"
NOTES = f"{HOST}/crm/objects/2026-09/notes/batch"
OF_CONTACTS = f"{HOST}/crm/associations/2026-09/contacts/notes/batch/read"
BERLIN = ZoneInfo("Europe/Berlin")
ONE = Activity(
    key=bytes(range(16)),
    contact="501",
    kind="course_completed",
    occurred_at=datetime(2026, 11, 20, 23, 30, 1, 5000, UTC),
    source="academy",
    course_id="sec-201",
    course_name="Security 201",
    score=92.0,
    score_max=100.0,
)
TWO = replace(ONE, key=bytes(16), contact="502")


@pytest.fixture
def http(monkeypatch: pytest.MonkeyPatch) -> Iterator[responses.RequestsMock]:
    """Answers instead of a network."""
    monkeypatch.setenv("TEST_HUBSPOT_TOKEN", "sandbox-token")
    with responses.RequestsMock() as mock:
        yield mock


def config(kind: str, url: str = HOST, **options: str) -> ConnectionConfig:
    """A HubSpot connection that shows activities."""
    return ConnectionConfig.model_validate(
        {
            "name": "crm",
            "system": "hubspot",
            "base_url": url,
            "credentials": {"token": {"env": "TEST_HUBSPOT_TOKEN"}},
            "options": {"activity": kind, "timezone": "Europe/Berlin", **options},
        }
    )


def store(kind: str) -> ActivityStore:
    """The timelines of such a connection."""
    made = hubspot_activities.store(config(kind))
    assert made
    return made


def defined(number: int = 4242) -> dict[str, Any]:
    """Every custom event as a portal of this number lists it."""
    names = [name for name, _ in hubspot_event_definitions.EVENTS.values()]
    return {"results": [{"name": name, "fullyQualifiedName": f"pe{number}_{name}"} for name in names]}


def refusal(category: str = "VALIDATION_ERROR", **context: Any) -> dict[str, Any]:
    """A refusal, naming what `context` names."""
    return {"status": "error", "category": category, "message": "no", "context": context}


def sent(http: responses.RequestsMock, place: int = -1) -> dict[str, Any]:
    """The body of a call."""
    found: dict[str, Any] = json.loads(http.calls[place].request.body or b"{}")
    return found


def test_a_custom_event_as_it_is_sent(http: responses.RequestsMock) -> None:
    """The portal's own name, the contact's id, our UUID, the time to the millisecond, and only what is known."""
    http.get(f"{EVENTS}/event-definitions", json=defined())
    http.post(f"{EVENTS}/send/batch", status=204)
    made = store("custom_event")
    assert made.write([ONE]) == {ONE.trace: Written(str(ONE.uuid))}
    assert sent(http)["inputs"] == [
        {
            "eventName": "pe4242_lms_course_completed",
            "objectId": "501",
            "occurredAt": "2026-11-20T23:30:01.005Z",
            "uuid": str(ONE.uuid),
            "properties": {
                "course_id": "sec-201",
                "course_name": "Security 201",
                "score": "92",
                "score_max": "100",
                "completion_date": "2026-11-21",
                "lms_source": "academy",
            },
        }
    ]
    made.write([TWO])
    assert len(http.calls) == 3  # the names are kept
    assert (made.batch_size, made.endpoint, made.takes_once) == (500, EVENTS_CLASS, True)


def test_names_that_changed_are_read_anew(http: responses.RequestsMock) -> None:
    """A portal that was moved, or an event that was deleted, is noticed by the refusal."""
    http.get(f"{EVENTS}/event-definitions", json=defined())
    http.get(f"{EVENTS}/event-definitions", json=defined(77))
    http.post(f"{EVENTS}/send/batch", json=refusal(), status=400)
    http.post(f"{EVENTS}/send/batch", status=204)
    made = store("custom_event")
    assert made.write([ONE, TWO]).keys() == {ONE.trace, TWO.trace}
    assert sent(http)["inputs"][0]["eventName"] == "pe77_lms_course_completed"
    http.post(f"{EVENTS}/send/batch", json=refusal(), status=400)
    http.get(f"{EVENTS}/event-definitions", json={"results": []})
    with pytest.raises(ConnectionBroken) as caught:
        made.write([ONE])
    assert caught.value.reason is Reason.ACTIVITY_UNDEFINED
    assert "lms_course_completed" in caught.value.detail


def test_what_a_definition_lacks_is_left_out(http: responses.RequestsMock) -> None:
    """An admin has made the event without some of our properties: the others are sent, and check names them."""
    shown = defined()
    shown["results"][0]["properties"] = [{"name": "course_id"}, {"name": "score"}]
    http.get(f"{EVENTS}/event-definitions", json=shown)
    http.post(f"{EVENTS}/send/batch", status=204)
    store("custom_event").write([ONE])
    assert sent(http)["inputs"][0]["properties"] == {"course_id": "sec-201", "score": "92"}
    found = hubspot_event_definitions.Found({"course_completed": "pe1_x"}, {"course_completed": ("product",)})
    assert any("lacks product" in one.what for one in hubspot_event_definitions.findings(found))


def test_definitions_come_in_pages(http: responses.RequestsMock) -> None:
    """Ours may stand behind a hundred others."""
    others = {"results": [{"fullyQualifiedName": "pe4242_other"}], "paging": {"next": {"after": "100"}}}
    http.get(f"{EVENTS}/event-definitions", json=others, match=[responses.matchers.query_param_matcher({"limit": 100})])
    page = responses.matchers.query_param_matcher({"limit": 100, "after": "100"})
    http.get(f"{EVENTS}/event-definitions", json=defined(), match=[page])
    http.post(f"{EVENTS}/send/batch", status=204)
    assert store("custom_event").write([ONE])


@pytest.mark.parametrize("kind", ["custom_event", "note"])
@pytest.mark.parametrize(
    ("status", "body", "kind_of_error"),
    [
        (400, refusal(), BatchRejected),
        (503, None, UnknownOutcome),
        (403, {"category": "MISSING_SCOPES"}, ConnectionBroken),
        (400, refusal("INTERNAL_ERROR"), UnknownOutcome),
    ],
)
def test_a_whole_refusal(
    http: responses.RequestsMock, kind: str, status: int, body: Any, kind_of_error: type[Exception]
) -> None:
    """A batch that is refused without a name is halved; a 5xx may have been applied; a 403 breaks."""
    if kind == "custom_event":
        http.get(f"{EVENTS}/event-definitions", json=defined())
    http.post(f"{EVENTS}/send/batch" if kind == "custom_event" else f"{NOTES}/create", json=body, status=status)
    with pytest.raises(kind_of_error):
        store(kind).write([ONE, TWO])


@pytest.mark.parametrize(
    ("kind", "status", "body", "expected"),
    [
        ("custom_event", 409, refusal("CONFLICT"), Written(str(ONE.uuid))),
        ("custom_event", 400, refusal(), Failed(Reason.INVALID_VALUE, "VALIDATION_ERROR: no code")),
        ("note", 400, refusal(), Failed(Reason.INVALID_VALUE, "VALIDATION_ERROR: no code")),
        (
            "note",
            404,
            refusal("OBJECT_NOT_FOUND", ids=["501"]),
            Failed(Reason.CONTACT_GONE, "OBJECT_NOT_FOUND: no code"),
        ),
    ],
)
def test_a_refusal_of_one(
    http: responses.RequestsMock, kind: str, status: int, body: Any, expected: Written | Failed
) -> None:
    """Alone it is answered for itself; a UUID that is taken was taken by this very activity."""
    if kind == "custom_event":
        http.get(f"{EVENTS}/event-definitions", json=defined())
    http.post(f"{EVENTS}/send/batch" if kind == "custom_event" else f"{NOTES}/create", json=body, status=status)
    assert store(kind).write([ONE]) == {ONE.trace: expected}


def note(record_id: str, one: Activity) -> dict[str, Any]:
    """A note as HubSpot shows it."""
    return {"id": record_id, "properties": {"hs_note_body": f"<div>{hubspot_texts.note(one, BERLIN)}</div>"}}


def test_notes_are_known_by_their_markers(http: responses.RequestsMock) -> None:
    """Whatever the order of the answers; who is named in an error failed, and who is in neither may be there."""
    third = replace(ONE, key=b"x" * 16, contact="503")
    problem = refusal("OBJECT_NOT_FOUND", ids=["503"], objectWriteTraceId=[third.trace])
    http.post(f"{NOTES}/create", json={"results": [note("91", TWO)], "errors": [problem]}, status=207)
    answers = store("note").write([ONE, TWO, third])
    assert answers == {TWO.trace: Written("91"), third.trace: Failed(Reason.CONTACT_GONE, "OBJECT_NOT_FOUND: no code")}
    (first, *_) = sent(http)["inputs"]
    assert first["associations"] == [
        {
            "to": {"id": "501"},
            "types": [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 202}],
        }
    ]
    assert first["objectWriteTraceId"] == ONE.trace


def test_markers_are_looked_for_in_all_notes(http: responses.RequestsMock) -> None:
    """Page after page of associations, ids as numbers or texts; a contact with an error has none."""
    http.post(
        OF_CONTACTS,
        json={
            "results": [
                {"from": {"id": "501"}, "to": [{"toObjectId": 91}], "paging": {"next": {"after": "7"}}},
            ],
            "errors": [refusal("OBJECT_NOT_FOUND", id=["502"])],
        },
        status=207,
    )
    http.post(OF_CONTACTS, json={"results": [{"from": {"id": "501"}, "to": [{"toObjectId": "92"}]}]})
    http.post(f"{NOTES}/read", json={"results": [note("92", ONE), {"id": "91", "properties": {}}]})
    assert store("note").find([ONE, TWO]) == {ONE.trace: "92"}
    assert sent(http, 1) == {"inputs": [{"id": "501", "after": "7"}]}
    assert {one["id"] for one in sent(http, 2)["inputs"]} == {"91", "92"}


def test_none_is_none(http: responses.RequestsMock) -> None:
    """A connection that shows no activities has nothing to write them with."""
    del http
    assert hubspot_activities.store(config("none")) is None


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=600))
def test_texts_are_cut_to_what_hubspot_takes(text: str) -> None:
    """Never above the limit by any way of counting, never in the middle of a character; short ones stay as they are."""
    cut = hubspot_texts.fitted(text, 256)
    assert len(cut.encode("utf-16-le")) // 2 <= 256
    assert cut == text or (cut.endswith("…") and text.startswith(cut[:-1]))
    assert len(text) > 128 or cut == text


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=50))
def test_no_name_becomes_markup(name: str) -> None:
    """A note holds our own tags and one marker, whatever a course is called."""
    said = hubspot_texts.note(replace(ONE, course_name=name, item_name=name, product=name), BERLIN)
    assert said.count("<p>") == 3
    assert said.count("<strong>") == 1
    assert said.count("<script") == 0
    assert hubspot_texts.MARKER.findall(said) == [ONE.marker]


@pytest.fixture
def portal(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubSpotSandbox]:
    """An Enterprise portal in which no custom event is defined."""
    monkeypatch.setenv("TEST_HUBSPOT_TOKEN", "sandbox-token")
    with HubSpotSandbox(rate=1000) as sandbox:
        yield sandbox


def apply(url: str, version: str = "2026-09") -> list[bool]:
    """Run the set-up; return what was created."""
    one = Setup(config("custom_event", url, api_version=version))
    return [taken.created for taken in one.install(one.plan(()).steps)]


@pytest.mark.parametrize("version", ["2026-09", "2026-03", "legacy"])
def test_set_up_defines_the_events_once(portal: HubSpotSandbox, version: str) -> None:
    """Three events, in each version; a second run finds them and does nothing."""
    assert apply(portal.url, version) == [True] * 3
    assert portal.set_events() == [f"pe4242_{name}" for name, _ in hubspot_event_definitions.EVENTS.values()]
    assert apply(portal.url, version) == []


def test_set_up_killed_half_way_or_unheard_is_made_good(portal: HubSpotSandbox) -> None:
    """An answer that was lost is looked up; a name that is taken is compared."""
    portal.set_faults(fault("processed_then_drop", times=1, operations=["custom_events.definition_create"]))
    assert apply(portal.url) == [False, True, True]
    portal.set_events(remove=["lms_course_completed"])
    one = Setup(config("custom_event", portal.url))
    (taken,) = one.install(one.plan(()).steps)
    assert not taken.finding.ok
    assert "never free again" in taken.finding.advice


def test_without_the_tier_set_up_says_so_and_creates_nothing(portal: HubSpotSandbox) -> None:
    """What is missing is named by check: permission or tier, and each definition."""
    portal.configure(enterprise=False)
    assert apply(portal.url) == []
    bad = [one for one in HubSpot(config("custom_event", portal.url)).check() if not one.ok]
    assert any("event_definitions" in one.what for one in bad)
    portal.configure(enterprise=True)
    bad = [one for one in HubSpot(config("custom_event", portal.url)).check() if not one.ok]
    assert sum("is not defined" in one.what for one in bad) == 3
    apply(portal.url)
    assert all(one.ok for one in HubSpot(config("custom_event", portal.url)).check())
