"""How HubSpot should define a property that our rules write, and what a definition that is there does to its values.

Source: HubSpot docs, properties (types, field types, unique values); the pairs are validated when one is created.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from integration.model.accounts import ACCOUNT
from integration.model.contacts import CONTACT
from integration.ports import Finding, Wanted

GROUP: Final = "lms_sync"
GROUP_LABEL: Final = "LMS sync"
MOST_UNIQUE: Final = 10
"""How many properties of contacts may hold unique values. Source: HubSpot docs, properties."""


class Kind(NamedTuple):
    """A kind of record: what one and several are called, its type, its operations, a property every account has.

    Source: HubSpot docs, properties, default properties, and the list of object types.
    """

    one: str
    several: str
    type_id: str
    operations: str
    always: str


KINDS: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        CONTACT: Kind("contact", "contacts", "0-1", "properties", "email"),
        ACCOUNT: Kind("company", "companies", "0-2", "company_properties", "name"),
    }
)
"""What our contacts and accounts are in HubSpot."""

_FORMS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "string": ("string", "text"),
        "number": ("number", "number"),
        "date": ("date", "date"),
        "datetime": ("datetime", "date"),
        "bool": ("bool", "booleancheckbox"),
        "enumeration": ("enumeration", "select"),
    }
)
_TAKES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "string": ("text", "textarea", "html", "phonenumber"),
        "number": ("number",),
        "date": ("date",),
        "datetime": ("date",),
        "bool": ("booleancheckbox",),
        "enumeration": ("select", "radio", "booleancheckbox"),
    }
)
"""The field types that keep our values as they are; a checkbox holds lists, a file an address."""

_FEW_VALUES: Final = ("lms_source",)
"""Its values are few, so an admin may have made it a choice."""

_YES_NO: Final = (("Yes", "true"), ("No", "false"))
_TRUTHS: Final = frozenset(value for _, value in _YES_NO)


def types(wanted: Wanted) -> tuple[str, ...]:
    """Return the types that take its values, the one we would create first."""
    own, _ = _FORMS[wanted.kind]
    as_choice = wanted.kind == "bool" or wanted.name in _FEW_VALUES
    return (own, "enumeration") if as_choice else (own,)


def definition(wanted: Wanted) -> dict[str, Any]:
    """Return the body that creates a property."""
    kind, field_type = _FORMS[wanted.kind]
    body: dict[str, Any] = {
        "groupName": GROUP,
        "name": wanted.name,
        "label": label(wanted.name),
        "type": kind,
        "fieldType": field_type,
        "description": "Written by Coursewire from what the learning systems say.",
        "formField": False,
    }
    if wanted.unique:
        body["hasUniqueValue"] = True
    if wanted.kind == "bool":
        body["options"] = [
            {"label": text, "value": value, "displayOrder": place, "hidden": False}
            for place, (text, value) in enumerate(_YES_NO)
        ]
    return body


def label(name: str) -> str:
    """Return what people read in HubSpot instead of a property's name."""
    words = [{"lms": "LMS", "id": "ID"}.get(word, word) for word in name.split("_") if word]
    text = " ".join(words)
    return text[:1].upper() + text[1:]


def words(wanted: Wanted) -> str:
    """Return a property that is to be created as a person should see it: name, type, unique values."""
    whose = "" if wanted.of == CONTACT else f"{KINDS[wanted.of].one} property "
    return f"{whose}{wanted.name} ({_FORMS[wanted.kind][0]}{', unique values' if wanted.unique else ''})"


def all_there(count: int, of: str = CONTACT) -> Finding:
    """Return the finding that nothing is missing and nothing is wrong."""
    whose = "" if of == CONTACT else f" of {KINDS[of].several}"
    return Finding(True, f"all {count} properties{whose} that the rules write are there")


def judged(wanted: Wanted, found: Mapping[str, Any] | None) -> Iterator[Finding]:
    """Yield what is wrong with a property, given its definition; None = there is none."""
    if found is not None:
        yield from differences(wanted, found)
        return
    if wanted.kind == "enumeration":  # whose options are the customer's
        options = f" with the options {_listed(wanted.values)}" if wanted.values else ""
        advice = f"create it in HubSpot as a dropdown{options}, or leave it out of your field rules"
    else:
        how = " with unique values" if wanted.unique else ""
        advice = (
            f"`coursewire check --apply` creates it as {types(wanted)[0]}{how}; or leave it out of your field rules"
        )
    what = f"the {KINDS[wanted.of].one} property {wanted.name} does not exist and will not be written"
    yield Finding(False, what, advice, wanted.name, wanted.of)


def differences(wanted: Wanted, found: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield what is wrong with the definition of a property that is there; what HubSpot did not say is not judged.

    A finding that is ok names a difference that harms no value.
    """
    for one in _differences(wanted, found):
        yield replace(one, about=wanted.name, of=wanted.of)


def _differences(wanted: Wanted, found: Mapping[str, Any]) -> Iterator[Finding]:
    whose = KINDS[wanted.of].one
    property_ = f"the {whose} property {wanted.name}"
    kind, form = found.get("type"), found.get("fieldType")
    fitting = types(wanted)
    anew = f"create another one as {fitting[0]} and map that in your field rules, or delete this one and run it again"
    if found.get("archived"):
        yield Finding(False, f"{property_} is archived and will not be written", "restore it in HubSpot")
        return
    takes = (*_TAKES.get(str(kind), ()), *(("checkbox",) if wanted.is_list else ()))
    if kind not in fitting:
        yield Finding(False, f"{property_} is {kind}, not {fitting[0]}: its values may be refused", anew)
    elif form is not None and form not in takes:
        what = f"{property_} is a {form} field, not {_FORMS[wanted.kind][1]}: its values may be refused or changed"
        yield Finding(False, what, anew)
    elif kind in ("bool", "enumeration") and wanted.kind == "bool" and _lacking(_TRUTHS, found):
        advice = "add the options true and false to it in HubSpot"
        yield Finding(False, f"{property_} has not the options true and false: its values will be refused", advice)
    elif kind == "enumeration" and wanted.values and (lacking := _lacking(wanted.values, found)):
        what = f"{property_} has not the option {_listed(lacking)}: a {whose} that gets it will be refused"
        yield Finding(False, what, "add it in HubSpot, to the letter, or change the transform in your field rules")
    elif form is not None and kind == _FORMS[wanted.kind][0] and form != _FORMS[wanted.kind][1]:
        yield Finding(True, f"{property_} is a {form} field, not {_FORMS[wanted.kind][1]}; its values fit all the same")
    yield from _uniqueness(wanted, found)
    limits = found.get("modificationMetadata")
    if found.get("calculated") or (isinstance(limits, dict) and limits.get("readOnlyValue")):
        advice = "map another property in your field rules"
        yield Finding(False, f"{property_} is read-only and will not be written", advice)


def _uniqueness(wanted: Wanted, found: Mapping[str, Any]) -> Iterator[Finding]:
    if wanted.unique and not found.get("hasUniqueValue"):
        yield Finding(
            False,
            f"{wanted.name} does not hold unique values, so contacts cannot be looked up by it",
            "HubSpot fixes this when a property is made: delete it and create it with unique values",
        )
    elif not wanted.unique and found.get("hasUniqueValue") and not found.get("hubspotDefined"):
        yield Finding(
            False,
            f"{wanted.name} holds unique values, so a value that two {KINDS[wanted.of].several} share is refused",
            "HubSpot fixes this when a property is made: map another one, or delete it and create it without",
        )


def _lacking(values: frozenset[str], found: Mapping[str, Any]) -> frozenset[str]:
    """Return the values that are no options; none where HubSpot did not say which there are."""
    options = found.get("options")
    if not isinstance(options, list) or not options:
        return frozenset()
    return values - {one.get("value") for one in options if isinstance(one, dict)}


def _listed(values: frozenset[str]) -> str:
    return ", ".join(sorted(values))
