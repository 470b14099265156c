"""What a user says of an employee. Pure: what was known before, what is known now, and when that was said.

What is gone since is said to be gone; what never was there is not said. Where core and enterprise schema are silent, an
extension of any name is asked for the columns that HR files have (Microsoft's CSV sample does so).
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any, Final, Literal

from integration.model.employees import Employment, EmploymentStatus
from integration.model.events import Learner
from integration.model.people import normalise_email, normalise_employee_id
from integration.scim.attributes import ENTERPRISE
from integration.scim.refusal import invalid
from integration.scim.resource import Resource

Inactive = Literal["left", "leave"]
"""What `active: false` says."""

_EXTRA: Final[Mapping[str, tuple[str, ...]]] = {
    "job_title": ("jobtitle",),
    "job_code": ("jobcode",),
    "department": ("department",),
    "division": ("division",),
    "cost_centre": ("costcenter", "costcentre"),
    "company": ("company",),
    "location": ("location",),
    "country": ("twolettercountrycode", "countrycode", "country"),
    "worker_type": ("workertype",),
    "manager_id": ("managerid",),
    "hired_on": ("hiredate", "employeehiredate"),
    "left_on": ("terminationdate", "lastdayofwork", "employeeleavedatetime"),
}
"""Names, in lower case, by which an extension of any schema may hold a field; the first that is there counts."""
_DATES = ("hired_on", "left_on")
_EMAIL, _NUMBER = ("email", "mail"), ("employeenumber", "employeeid")
_TERMINATED, _ON_LEAVE = "isterminated", "onleave"


def employment(before: Resource | None, after: Resource, at: datetime, inactive: Inactive = "left") -> Employment:
    """Return what is said by a user that was `before` and is `after`. Raises Refusal (400) for a date that is none."""
    said, once = fields(after), fields(before) if before else {}
    gone: dict[str, Any] = dict.fromkeys(once.keys() - said.keys(), "")
    learner = Learner(email=email_of(after), full_name=name_of(after), employee_id=employee_id_of(after))
    return Employment(occurred_at=at, learner=learner, status=status_of(after, inactive), **said, **gone)


def farewell(last: Resource, at: datetime) -> Employment:
    """Return that the employee whom this user was has left: the user was deleted."""
    learner = Learner(email=email_of(last), full_name=name_of(last), employee_id=employee_id_of(last))
    return Employment(occurred_at=at, learner=learner, status=EmploymentStatus.LEFT)


def fields(user: Resource) -> dict[str, Any]:
    """Return the fields of an Employment that a user says, but for who it is and the status. Raises Refusal (400)."""
    work, extra = user.get(ENTERPRISE, {}), _extra(user)
    home = _preferred(user.get("addresses", ()))
    found: dict[str, Any] = {
        "job_title": user.get("title"),
        "department": work.get("department"),
        "division": work.get("division"),
        "cost_centre": work.get("costCenter"),
        "company": work.get("organization"),
        "location": home.get("locality") or home.get("formatted"),
        "country": home.get("country"),
        "worker_type": user.get("userType"),
        "manager_id": work.get("manager", {}).get("value"),
    }
    for name, names in _EXTRA.items():
        found[name] = found.get(name) or _first(extra, names)
    for name in _DATES:
        found[name] = _day(found[name])
    return {name: value for name, value in found.items() if value is not None}


def status_of(user: Resource, inactive: Inactive) -> EmploymentStatus:
    """Return whether the employee works there; a user of which nothing is said does."""
    extra = _extra(user)
    if extra.get(_TERMINATED, "").lower() == "true":
        return EmploymentStatus.LEFT
    if not user.get("active", True):
        return EmploymentStatus(inactive)
    return EmploymentStatus.LEAVE if extra.get(_ON_LEAVE, "").lower() == "true" else EmploymentStatus.ACTIVE


def employee_id_of(user: Resource) -> str | None:
    """Return the employee id: employeeNumber, else externalId; text, so that leading zeros stay."""
    number = user.get(ENTERPRISE, {}).get("employeeNumber") or _first(_extra(user), _NUMBER)
    chosen = number or user.get("externalId")
    return chosen if normalise_employee_id(chosen) else None


def email_of(user: Resource) -> str | None:
    """Return the address: the primary one, else that for work, else the first; else what userName is."""
    given = _preferred([one for one in user.get("emails", ()) if normalise_email(one.get("value"))]).get("value")
    extra = _first(_extra(user), _EMAIL)
    return next((one for one in (given, extra, user.get("userName")) if normalise_email(one)), None)


def name_of(user: Resource) -> str | None:
    """Return the full name: given and family name, else as it is written out or shown."""
    name = user.get("name", {})
    parts = " ".join(one for one in (name.get("givenName"), name.get("familyName")) if one)
    return parts or name.get("formatted") or user.get("displayName")


def emails_of(user: Resource) -> set[str]:
    """Return every address of a user, as addresses are compared."""
    given = [one.get("value") for one in user.get("emails", ())]
    return {found for one in (*given, email_of(user), user.get("userName")) if (found := normalise_email(one))}


def _preferred(values: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the primary value, else that for work, else the first; {} where there is none."""
    return min(
        values,
        key=lambda one: (not one.get("primary"), one.get("type", "").lower() != "work"),
        default={},
    )


def _extra(user: Resource) -> dict[str, str]:
    """Return what extensions of other schemas say, by names in lower case."""
    extensions = [user[name] for name in sorted(user) if name.startswith("urn:") and name != ENTERPRISE]
    return {key.lower(): str(one) for held in extensions for key, one in held.items()}


def _first(extra: Mapping[str, str], names: Sequence[str]) -> str | None:
    return next((extra[name] for name in names if extra.get(name)), None)


def _day(value: str | None) -> date | None:
    if not value:
        return None
    try:
        return datetime.fromisoformat(value.strip()).date()
    except ValueError:
        raise invalid("invalidValue", "dates are written as ISO 8601 has it, such as 2026-01-31") from None
