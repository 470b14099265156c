"""Every line of HubSpot's two tables, tried through the connector, against what we have written down apart from them.

A line that changes, comes or goes makes a test red here and the page docs/hubspot.md wrong, so nobody does it unawares.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import responses

from integration.config import ConnectionConfig
from integration.connectors.crm.hubspot import HubSpot
from integration.connectors.crm.hubspot_consequences import (
    ANSWERS,
    CODES,
    EVERY_STATUS,
    Answer,
    Asked,
    Body,
    Then,
    consequence,
)
from integration.errors import BatchRejected, ConnectionBroken, CoursewireError, Reason, RetryLater, UnknownOutcome
from integration.model.contacts import ContactWrite, Failed

PAGE = Path(__file__).parents[2] / "docs/hubspot.md"
HOST = "https://crm.test"
UPDATE = f"{HOST}/crm/objects/2026-09/contacts/batch/update"
READ = f"{HOST}/crm/objects/2026-09/contacts/batch/read"
HALF_PAST_TEN = datetime(2026, 11, 21, 22, 30, tzinfo=UTC)
REST, UNKNOWN, BROKEN = RetryLater, UnknownOutcome, ConnectionBroken


class Case(NamedTuple):
    """An answer, and what must follow: for a write, its reason, the pause without and with `Retry-After: 5`."""

    status: int
    body: Any
    error: type[CoursewireError]
    reason: Reason
    pause: float | None = None
    asked: float | None = 5.0


JSON_BODY = {"status": "error", "message": "whatever"}
DAILY = {"policyName": "DAILY"}
CASES = [
    Case(401, None, BROKEN, Reason.CREDENTIALS_REFUSED),
    Case(403, JSON_BODY, BROKEN, Reason.SCOPE_MISSING),
    Case(403, None, REST, Reason.SERVER_ERROR),
    Case(423, None, REST, Reason.RATE_LIMITED, 2.0),
    Case(429, DAILY, REST, Reason.DAILY_LIMIT, 5400.0, 5400.0),
    Case(429, {"message": "You have reached your daily limit."}, REST, Reason.DAILY_LIMIT, 5400.0, 5400.0),
    Case(429, {"policyName": "TEN_SECONDLY_ROLLING"}, REST, Reason.RATE_LIMITED, 10.0),
    Case(429, {"policyName": "SECONDLY"}, REST, Reason.RATE_LIMITED, 1.0),
    Case(429, {"policyName": "ANOTHER"}, REST, Reason.RATE_LIMITED, 10.0),
    Case(429, None, REST, Reason.RATE_LIMITED, 10.0),
    Case(477, None, REST, Reason.SERVER_ERROR, 60.0),
    *(Case(status, None, UNKNOWN, Reason.SERVER_ERROR) for status in (408, 500, 502, 503, 504, 521, 524, 599)),
    *(Case(status, None, REST, Reason.SERVER_ERROR) for status in (301, 400, 404, 405, 409, 418, 422)),
    Case(404, JSON_BODY, REST, Reason.SERVER_ERROR),
]
RECORDS = {
    (400, None): Reason.INVALID_VALUE,
    (404, None): Reason.CONTACT_GONE,
    (409, None): Reason.CONFLICT,
    (413, None): Reason.INVALID_VALUE,
    (414, None): Reason.INVALID_VALUE,
    (422, None): Reason.INVALID_VALUE,
    (400, "PROPERTY_DOESNT_EXIST"): Reason.UNKNOWN_PROPERTY,
    (400, "READ_ONLY_VALUE"): Reason.UNKNOWN_PROPERTY,
    (400, "CONFLICTING_UNIQUE_VALUE"): Reason.CONFLICT,
    (409, "CONFLICT"): Reason.CONFLICT,
    (409, "OBJECT_ALREADY_EXISTS"): Reason.CONFLICT,
    (409, "CONTACT_EXISTS"): Reason.CONFLICT,
    (404, "OBJECT_NOT_FOUND"): Reason.CONTACT_GONE,
    (400, "VALIDATION_ERROR"): Reason.INVALID_VALUE,
    (400, "RATE_LIMITS"): Reason.RATE_LIMITED,
    (400, "INTERNAL_ERROR"): Reason.SERVER_ERROR,
}
"""What a single record failed with, by status and by the code beside the property."""
OVER_THERE = ("RATE_LIMITS", "INTERNAL_ERROR")
"""Codes of which no half of a batch could be cured."""


@pytest.fixture
def http() -> Iterator[responses.RequestsMock]:
    """Answers instead of a network."""
    with responses.RequestsMock() as mock:
        yield mock


@pytest.fixture
def crm(monkeypatch: pytest.MonkeyPatch) -> HubSpot:
    """A HubSpot connection at half past ten in the evening of its own time zone."""
    monkeypatch.setenv("TEST_HUBSPOT_TOKEN", "a-token")
    settings = {"name": "crm", "system": "hubspot", "base_url": HOST, "options": {"timezone": "UTC"}}
    credentials = {"token": {"env": "TEST_HUBSPOT_TOKEN"}}
    config = ConnectionConfig.model_validate({**settings, "credentials": credentials})
    return HubSpot(config, clock=lambda: HALF_PAST_TEN)


def write(number: int, **fields: str) -> ContactWrite:
    """Return a write to the contact of this number."""
    return ContactWrite(trace=f"t{number}", fields=fields or {"a_b": "1"}, id=f"50{number}")


def body_of(status: int, code: str | None) -> dict[str, Any]:
    """Return an answer that says this code of a property, or none, and names no record."""
    body: dict[str, Any] = {"status": "error", "message": "whatever"}
    if status == 404:
        body["context"] = {"something": ["else"]}
    if code is not None:
        body["errors"] = [{"message": "whatever", "code": code, "context": {"propertyName": ["a_b"]}}]
    return body


def raised(call: Callable[[], object]) -> CoursewireError:
    """Return the error of a call."""
    with pytest.raises(CoursewireError) as caught:
        call()
    return caught.value


@pytest.mark.parametrize("asked", [False, True], ids=["", "retry-after"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.status}-{case.reason}")
def test_a_whole_answer_has_its_consequence(
    http: responses.RequestsMock, crm: HubSpot, case: Case, *, asked: bool
) -> None:
    """Kind of error, reason and pause of each refusal; of a read nothing can be in doubt."""
    headers = {"Retry-After": "5"} if asked else {}
    for url in (UPDATE, READ):
        http.post(url, json=case.body, status=case.status, headers=headers)
    of_write = raised(lambda: crm.update([write(1), write(2)]))
    of_read = raised(lambda: crm.read(None, ["501", "502"], []))
    assert (type(of_write), of_write.reason) == (case.error, case.reason)
    assert (type(of_read), of_read.reason) == (REST if case.error is UNKNOWN else case.error, case.reason)
    if case.error is not BROKEN:
        assert getattr(of_write, "after", None) == (case.asked if asked else case.pause)


@pytest.mark.parametrize(("status", "code"), RECORDS)
def test_a_record_has_its_consequence(
    http: responses.RequestsMock, crm: HubSpot, status: int, code: str | None
) -> None:
    """Alone, a record fails with the reason; where nobody is named the batch is halved, unless that cures nothing."""
    http.post(UPDATE, json=body_of(status, code), status=status)
    if code in OVER_THERE:
        assert type(raised(lambda: crm.update([write(1), write(2)]))) is UNKNOWN
        return
    failed = crm.update([write(1)])["t1"]
    assert isinstance(failed, Failed)
    assert failed.reason is RECORDS[status, code]
    if RECORDS[status, code] is Reason.UNKNOWN_PROPERTY:
        named = crm.update([write(1), write(2, c_d="1")])
        assert set(named) == {"t1"}  # who did not set it is not to blame
    else:
        assert type(raised(lambda: crm.update([write(1), write(2)]))) is BatchRejected


def test_no_line_is_untried() -> None:
    """Each line of both tables decides at least one of the cases above."""
    tried = {consequence(case.status, case.body) for case in CASES}
    tried |= {consequence(status, body_of(status, code)) for status, code in RECORDS}
    assert [line.words for line in ANSWERS if line not in tried] == []
    assert {line.code for line in CODES} == {code for _, code in RECORDS if code}
    assert {line.code for line in CODES if not line.halves} == set(OVER_THERE)


def test_every_answer_has_a_line() -> None:
    """Whatever status comes with whatever body, something follows."""
    bodies: list[Any] = [None, [], "text", {}, {"context": {}}, {"policyName": 7}]
    for status in EVERY_STATUS:
        for body in bodies:
            assert consequence(status, body).words


# --- the page


def statuses_of(line: Answer) -> str:
    """Write the statuses of a line as people do."""
    if line.statuses is EVERY_STATUS:
        return "any other"
    said = [str(status) for status in line.statuses if status < 500]
    return ", ".join([*said, "5xx"] if max(line.statuses) >= 500 else said)


def pause_of(line: Answer) -> str:
    """Write the pause of a line as people do."""
    if line.then in (Then.BROKEN, Then.RECORDS):
        return ""
    usual = "to our back-off" if line.pause is None else "to midnight there"
    usual = f"{line.pause:g} s" if isinstance(line.pause, float) else usual
    asked = {Asked.WINS: "", Asked.RAISES: ", at least", Asked.IS_IGNORED: ", whatever it asks for"}
    return usual + asked[line.asked]


def test_the_page_shows_both_tables() -> None:
    """docs/hubspot.md has a line for each line, in their order, with status, reason, consequence and pause."""
    fits = {Body.ANY: "", Body.JSON: "JSON", Body.CONTEXT: "JSON with a context"}
    answers = [
        f"| {statuses_of(line)} | {f'`{line.says}`' if line.says else fits[line.body]} | {line.words}"
        f" | {line.then} | `{line.reason}` | {pause_of(line)} |"
        for line in ANSWERS
    ]
    codes = [f"| `{line.code}` | `{line.reason}` | {'yes' if line.halves else 'no'} |" for line in CODES]
    text = PAGE.read_text("utf-8")
    for table in (answers, codes):
        assert "\n".join(table) in text, "\n".join(table)
