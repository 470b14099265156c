"""Contact properties: their definitions, and which values HubSpot takes for each type."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from scripts.sandbox.answers import InvalidValue, iso_time
from scripts.sandbox.catalogue import PRODUCTS

__all__ = ["COMPANY_OF_CONTACT", "YES_NO", "Property", "default_properties", "lms_properties"]

EMAIL = re.compile(r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[a-z0-9!#$%&'*+/=?^_`{|}~-]+)*@([a-z0-9-]+\.)+[a-z]{2,}")
NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")
MILLISECONDS = re.compile(r"-?[0-9]{1,15}")
DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
INSTANT = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?(Z|[+-]\d{2}:?\d{2})", re.ASCII)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MAX_TEXT = 65_536
COMPANY_OF_CONTACT = "associatedcompanyid"
YES_NO = ("true", "false")
STAGES = (
    "subscriber",
    "lead",
    "marketingqualifiedlead",
    "salesqualifiedlead",
    "opportunity",
    "customer",
    "evangelist",
)


@dataclass(frozen=True, slots=True)
class Property:
    """One contact property: what it is called, what it holds and who may write it."""

    name: str
    label: str
    type: str = "string"
    field_type: str = "text"
    group: str = "contactinformation"
    unique: bool = False
    read_only: bool = False
    options: tuple[str, ...] = ()
    forward_only: bool = False
    description: str = ""

    def accept(self, value: str) -> str | InvalidValue:
        """Normalise a value that is not empty as HubSpot stores it, or say why it is refused."""
        if self.name == "email":
            return _email(self, value)
        rule = RULES.get(self.type)
        return rule(self, value) if rule else _text(self, value)

    def document(self) -> dict[str, Any]:
        """The definition as the properties API shows it."""
        return {
            "name": self.name,
            "label": self.label,
            "type": self.type,
            "fieldType": self.field_type,
            "groupName": self.group,
            "description": self.description,
            "options": [
                {"label": o.capitalize(), "value": o, "displayOrder": n, "hidden": False}
                for n, o in enumerate(self.options)
            ],
            "hasUniqueValue": self.unique,
            "calculated": False,
            "archived": False,
            "hubspotDefined": self.group == "contactinformation",
            "modificationMetadata": {
                "archivable": True,
                "readOnlyDefinition": False,
                "readOnlyValue": self.read_only,
            },
        }


def _bad(definition: Property, code: str, message: str) -> InvalidValue:
    return InvalidValue(definition.name, code, message)


def _email(definition: Property, value: str) -> str | InvalidValue:
    address = value.strip().lower()
    if len(address) <= 254 and EMAIL.fullmatch(address):
        return address
    return _bad(definition, "INVALID_EMAIL", f"Email address {value} is invalid")


def _text(definition: Property, value: str) -> str | InvalidValue:
    if len(value) <= MAX_TEXT:
        return value
    return _bad(definition, "INVALID_STRING_LENGTH", f"{definition.name} is longer than {MAX_TEXT} characters.")


def _number(definition: Property, value: str) -> str | InvalidValue:
    if NUMBER.fullmatch(value):
        return value
    return _bad(definition, "INVALID_INTEGER", f"{value} was not a valid number.")


def _date(definition: Property, value: str) -> str | InvalidValue:
    if DAY.fullmatch(value):
        try:
            return date.fromisoformat(value).isoformat()
        except ValueError:
            return _bad(definition, "INVALID_DATE", f"{value} is not a day of the calendar")
    if not MILLISECONDS.fullmatch(value):
        return _bad(definition, "INVALID_DATE", f"{value} was not a valid date.")
    try:
        moment = EPOCH + timedelta(milliseconds=int(value))
    except OverflowError:
        return _bad(definition, "INVALID_DATE", f"{value} was not a valid date.")
    if int(value) % 86_400_000:
        clock = f"{moment.hour}:{moment.minute}:{moment.second}.{moment.microsecond // 1000}"
        return _bad(definition, "INVALID_DATE", f"{value} is at {clock} UTC, not midnight!")
    return moment.date().isoformat()


def _datetime(definition: Property, value: str) -> str | InvalidValue:
    try:
        if MILLISECONDS.fullmatch(value):
            moment = EPOCH + timedelta(milliseconds=int(value))
        elif INSTANT.fullmatch(value):
            moment = datetime.fromisoformat(value)
        else:
            return _bad(definition, "INVALID_LONG", f"{value} was not a valid long.")
        return iso_time((moment - EPOCH) // timedelta(milliseconds=1))
    except (ValueError, OverflowError):
        return _bad(definition, "INVALID_LONG", f"{value} was not a valid long.")


def _option(definition: Property, value: str) -> str | InvalidValue:
    allowed = definition.options or YES_NO
    chosen = value.lstrip(";").split(";") if definition.field_type == "checkbox" else [value]
    for one in chosen:
        if one not in allowed:
            return _bad(
                definition,
                "INVALID_OPTION",
                f"{one} was not one of the allowed options: [{', '.join(allowed)}]",
            )
    return value


RULES: dict[str, Callable[[Property, str], str | InvalidValue]] = {
    "number": _number,
    "date": _date,
    "datetime": _datetime,
    "bool": _option,
    "enumeration": _option,
}


def default_properties() -> list[Property]:
    """The properties any portal has, as far as a contact sync meets them."""
    return [
        Property("email", "Email"),
        Property("firstname", "First name"),
        Property("lastname", "Last name"),
        Property("phone", "Phone number", field_type="phonenumber"),
        Property("company", "Company name"),
        Property("jobtitle", "Job title"),
        Property(COMPANY_OF_CONTACT, "Primary Associated Company ID", "number", "number"),
        Property("lifecyclestage", "Lifecycle stage", "enumeration", "radio", options=STAGES, forward_only=True),
        Property("createdate", "Create date", "datetime", "date", read_only=True),
        Property("lastmodifieddate", "Last modified date", "datetime", "date", read_only=True),
        Property("hs_object_id", "Record ID", "number", "number", read_only=True),
        Property("hs_additional_emails", "Additional email addresses", read_only=True),
        Property("hs_merged_object_ids", "Merged record IDs", read_only=True),
    ]


BUCKETS = ("prospecting", "discovery", "demo", "closing")
"""The competencies of a sales organisation, as pathways may call them."""


def lms_properties(products: Iterable[str] = PRODUCTS) -> list[Property]:
    """The `lms_sync` group as the set-up of Coursewire leaves it in a portal."""
    group = "lms_sync"

    def text(name: str, *, unique: bool = False) -> Property:
        return Property(name, name.replace("_", " ").capitalize(), group=group, unique=unique)

    def typed(name: str, kind: str) -> Property:
        form = {"bool": "booleancheckbox", "number": "number"}.get(kind, "date")
        return Property(
            name,
            name.replace("_", " ").capitalize(),
            kind,
            form,
            group,
            options=YES_NO if kind == "bool" else (),
        )

    return [
        text("lms_source"),
        text("lms_user_id", unique=True),
        text("last_course_completed"),
        typed("courses_completed_count", "number"),
        typed("recent_course_completion_date", "date"),
        *(
            p
            for slug in products
            for p in (typed(f"certified_{slug}", "bool"), typed(f"certified_{slug}_until", "date"))
        ),
        text("onboarding_pathway"),
        typed("onboarding_due_date", "date"),
        text("onboarding_status"),
        typed("readiness", "number"),
        *(typed(f"competency_{bucket}", "number") for bucket in BUCKETS),
        text("lms_sync_status"),
        typed("lms_last_synced_at", "datetime"),
    ]
