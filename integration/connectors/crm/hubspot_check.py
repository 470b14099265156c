"""What `coursewire check` says about a HubSpot account: reached, let in, may read, properties in place."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from integration.errors import ConnectionBroken, CoursewireError, Reason
from integration.ports import Finding

DEFAULT_PROPERTIES: Final[Mapping[str, tuple[str, ...]]] = {
    "lms_source": ("string", "enumeration"),
    "lms_user_id": ("string",),
    "last_course_completed": ("string",),
    "courses_completed_count": ("number",),
    "recent_course_completion_date": ("date",),
    "lms_sync_status": ("string", "enumeration"),
    "lms_last_synced_at": ("datetime",),
}
"""The properties written by default and the types their values fit; rules may leave any of them out."""

_UNREACHABLE: Final = (Reason.NETWORK_ERROR, Reason.UNKNOWN_OUTCOME)


def findings(
    where: str,
    *,
    properties: Callable[[], Any],
    contacts: Callable[[], object],
    role_property: str | None = None,
) -> list[Finding]:
    """Return one finding per question, the later ones only where the earlier allow them to be asked.

    `properties` and `contacts` make one read each and raise as connectors do; this function raises nothing.
    Source: our own; property types as in HubSpot docs, properties.
    """
    listed, error = _tried(properties)
    if error and error.reason in _UNREACHABLE:
        advice = "see that base_url is right and that this machine may call it. " + _advice(error)
        return [Finding(False, f"HubSpot cannot be reached at {where}", advice)]
    reached = Finding(True, f"HubSpot answers at {where}")
    if error and error.reason is Reason.CREDENTIALS_REFUSED:
        return [reached, Finding(False, "HubSpot refuses the token", error.detail)]
    return [
        reached,
        *_token(error),
        *_contacts(contacts),
        *(_properties(_definitions(listed), role_property) if error is None else [_unlisted(error)]),
    ]


def _tried(question: Callable[[], Any]) -> tuple[Any, CoursewireError | None]:
    try:
        return question(), None
    except CoursewireError as error:
        return None, error


def _advice(error: CoursewireError) -> str:
    return f"{error.detail} ({error.reason})"


def _token(error: CoursewireError | None) -> list[Finding]:
    if error is None or isinstance(error, ConnectionBroken):
        return [Finding(True, "the token is accepted")]
    return []


def _contacts(contacts: Callable[[], object]) -> list[Finding]:
    _, error = _tried(contacts)
    if error is None:
        return [Finding(True, "contacts can be read")]
    advice = "grant crm.objects.contacts.read and crm.objects.contacts.write. " + _advice(error)
    return [Finding(False, "contacts cannot be read", advice)]


def _unlisted(error: CoursewireError) -> Finding:
    advice = "grant crm.schemas.contacts.read, so that missing properties are found. " + _advice(error)
    return Finding(False, "the list of contact properties cannot be read", advice)


def _definitions(body: Any) -> dict[str, Mapping[str, Any]]:
    results = body.get("results") if isinstance(body, dict) else None
    return {
        str(one.get("name")): one
        for one in (results if isinstance(results, list) else [])
        if isinstance(one, dict) and not one.get("archived")
    }


def _properties(known: Mapping[str, Mapping[str, Any]], role_property: str | None) -> Iterator[Finding]:
    if "email" not in known:
        yield Finding(False, "the list of contact properties is not as expected", "email is missing from it")
        return
    faults = [fault for name, types in DEFAULT_PROPERTIES.items() for fault in _fault(name, types, known.get(name))]
    yield from faults
    if not faults:
        yield Finding(True, f"all {len(DEFAULT_PROPERTIES)} default properties are there")
    if "lms_user_id" in known and not known["lms_user_id"].get("hasUniqueValue"):
        yield Finding(
            False,
            "lms_user_id does not hold unique values, so contacts cannot be looked up by it",
            "HubSpot fixes this when a property is made: delete it and create it with unique values",
        )
    if role_property and role_property not in known:
        yield Finding(
            False,
            f"the role property {role_property} does not exist, so no role change will be seen",
            "create it, or name the right one in options: {role_property: ...}",
        )
    yield from _certificates(known)


def _fault(name: str, types: tuple[str, ...], found: Mapping[str, Any] | None) -> Iterator[Finding]:
    if found is None:
        how = " with unique values" if name == "lms_user_id" else ""
        yield Finding(
            False,
            f"the contact property {name} does not exist and will not be written",
            f"create it as {types[0]}{how}, or leave it out of your field rules",
        )
        return
    if found.get("type") not in types:
        yield Finding(
            False,
            f"the contact property {name} is {found.get('type')}, not {types[0]}: its values may be refused",
            f"create it anew as {types[0]}, or map another property in your field rules",
        )
    limits = found.get("modificationMetadata")
    if found.get("calculated") or (isinstance(limits, dict) and limits.get("readOnlyValue")):
        yield Finding(
            False,
            f"the contact property {name} is read-only and will not be written",
            "map another property in your field rules",
        )


def _certificates(known: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    names = sorted(name for name in known if name.startswith("certified_"))
    if not names:
        yield Finding(
            True,
            "there is no certified_<product> property: certifications will not be written",
            "create certified_<product> (bool) and certified_<product>_until (date) for each product",
        )
    for name in names:
        types = ("date",) if name.endswith("_until") else ("bool", "enumeration")
        yield from _fault(name, types, known[name])
