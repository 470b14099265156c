"""What samples of SCIM clients say of employees, and who may push users at all."""

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from integration.config import ConnectionConfig
from integration.connectors import registry, scim
from integration.errors import ConfigError
from integration.model.employees import Employment, EmploymentStatus
from integration.scim.attributes import ENTERPRISE
from integration.scim.employment import Inactive, employment, farewell
from integration.scim.refusal import Refusal
from integration.scim.resource import resource_of

NOW = datetime(2026, 11, 20, 10, tzinfo=UTC)
SAMPLES = Path(__file__).resolve().parents[3] / "shared" / "samples"
FILES = ("entra_csv_bulk.json", "rfc7643_enterprise_user.json", "rfc7644_bulk_enterprise_user.json")
CSV = "urn:ietf:params:scim:schemas:extension:csv:1.0:User"


def said(user: Mapping[str, Any], before: Mapping[str, Any] | None = None, inactive: Inactive = "left") -> Employment:
    """Return what a user says of an employee, given what it was before."""
    earlier = resource_of({"userName": "ada", **before}) if before is not None else None
    return employment(earlier, resource_of({"userName": "ada", **user}), NOW, inactive)


@pytest.mark.parametrize("name", FILES)
def test_samples_say_what_is_expected(name: str) -> None:
    """Who it is, the title, department and manager, whether they work there: as the samples' own list has it."""
    if not (SAMPLES / "scim" / name).exists():
        pytest.skip("the samples are not here")
    sample = json.loads((SAMPLES / "scim" / name).read_text("utf-8"))
    expected = json.loads((SAMPLES / "expected.json").read_text("utf-8"))[f"scim/{name}"]
    users = [one["data"] for one in sample["Operations"]] if "Operations" in sample else [sample]
    for user, wanted in zip(users, expected if isinstance(expected, list) else [expected], strict=True):
        found = employment(None, resource_of(user), NOW)
        shown = {
            "employee_id": found.learner.employee_id,
            "employee_number": found.learner.employee_id,
            "learner_email": found.learner.email,
            "employee_name": found.learner.full_name,
            "employee_username": resource_of(user)["userName"],
            "active": found.status is EmploymentStatus.ACTIVE,
            "job_title": found.job_title,
            "department": found.department,
            "manager_id": found.manager_id,
            "manager_ref": found.manager_id,
            "hire_date": found.hired_on.isoformat() if isinstance(found.hired_on, date) else None,
        }
        named = {key: value for key, value in wanted.items() if key in shown}
        assert {key: shown[key] for key in named} == named
        assert found.learner.employee_id in wanted.get("employee_id_any_of", [found.learner.employee_id])


def test_every_field_comes_from_where_the_schema_has_it() -> None:
    """Core and enterprise schema first, then whatever extension names the column."""
    found = said(
        {
            "userType": "Employee",
            "title": "Analyst",
            "addresses": [{"type": "home", "country": "FR"}, {"type": "work", "locality": "London", "country": "GB"}],
            ENTERPRISE: {"costCenter": "4130", "organization": "Acme", "division": "North", "department": "Engines"},
            CSV: {"Department": "Other", "JobCode": "J-1", "TerminationDate": "2026-12-31T00:00:00Z", "HireDate": ""},
        },
    )
    assert (found.job_title, found.job_code, found.worker_type) == ("Analyst", "J-1", "Employee")
    assert (found.department, found.division, found.cost_centre, found.company) == ("Engines", "North", "4130", "Acme")
    assert (found.location, found.country) == ("London", "GB")
    assert (found.hired_on, found.left_on) == (None, date(2026, 12, 31))


def test_what_is_gone_is_said_to_be_gone() -> None:
    """What was never there is not said at all: another source may know it."""
    found = said({ENTERPRISE: {"department": "Mills"}}, {"title": "Analyst", ENTERPRISE: {"department": "Engines"}})
    assert (found.job_title, found.department, found.division) == ("", "Mills", None)


@pytest.mark.parametrize(
    ("user", "status"),
    [
        ({}, "active"),
        ({"active": "False"}, "left"),
        ({"active": True, CSV: {"OnLeave": "True"}}, "leave"),
        ({"active": True, CSV: {"IsTerminated": "True", "OnLeave": "True"}}, "left"),
    ],
)
def test_who_is_not_active_has_left(user: dict[str, Any], status: str) -> None:
    """Unless the connection says that they are on leave; columns of an HR file speak where they are there."""
    assert said(user).status == status


def test_the_choice_of_a_connection() -> None:
    """Where accounts are closed during a leave, not active means leave, and a deletion still means that they left."""
    assert said({"active": False}, inactive="leave").status is EmploymentStatus.LEAVE
    assert farewell(resource_of({"userName": "ada@example.com"}), NOW).status is EmploymentStatus.LEFT


@pytest.mark.parametrize(
    ("emails", "chosen"),
    [
        ([{"value": "a@x.de"}, {"value": "b@x.de", "primary": True}], "b@x.de"),
        ([{"value": "a@x.de"}, {"value": "b@x.de", "type": "Work"}], "b@x.de"),
        ([{"value": "a@x.de"}, {"value": "b@x.de"}], "a@x.de"),
        ([{"value": "no address", "primary": True}, {"value": "b@x.de"}], "b@x.de"),
        (["a@x.de"], "a@x.de"),
        ([], None),
    ],
)
def test_the_primary_e_mail_counts(emails: list[Any], chosen: str | None) -> None:
    """Else the one for work, else the first that is an address."""
    assert said({"emails": emails}).learner.email == chosen


def test_a_user_name_that_is_an_address_is_one() -> None:
    """Where no e-mail is mapped; and who has neither is known by number alone, zeros included."""
    assert said({"userName": "ada@example.com"}).learner.email == "ada@example.com"
    assert said({"externalId": "x", ENTERPRISE: {"employeeNumber": "0042"}}).learner.employee_id == "0042"
    assert said({"externalId": "0007"}).learner.employee_id == "0007"
    assert said({}).learner.employee_id is None


def test_a_date_that_is_none_is_refused() -> None:
    """Which day 01/02 is, nobody here guesses."""
    with pytest.raises(Refusal, match="ISO 8601"):
        said({CSV: {"HireDate": "01/02/2026"}})


def connection(**webhook: Any) -> ConnectionConfig:
    """Return a connection of an identity provider."""
    return ConnectionConfig.model_validate({"name": "staff", "system": "scim", **webhook})


def test_a_connection_without_a_token_is_no_connection() -> None:
    """Nobody could ever push to it; the text says what to write."""
    with pytest.raises(ConfigError, match=r"connections.staff: scim needs webhook"):
        registry.tokens(connection())
    with pytest.raises(ConfigError, match="scim needs webhook"):
        registry.doctor(connection())


def test_check_says_whether_tokens_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is there, one that is missing, one that anybody could guess."""
    config = connection(webhook={"secrets": [{"env": "STAFF_TOKEN"}]})
    monkeypatch.delenv("STAFF_TOKEN", raising=False)
    assert [one.ok for one in scim.Check(config).check()] == [False]
    monkeypatch.setenv("STAFF_TOKEN", "short")
    assert "openssl rand" in scim.Check(config).check()[0].advice
    monkeypatch.setenv("STAFF_TOKEN", "0123456789abcdef")
    assert [one.ok for one in scim.Check(config).check()] == [True, True]
