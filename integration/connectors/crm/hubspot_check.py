"""What `coursewire check` says about a HubSpot account: reached, let in, may read, properties in place."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from integration.connectors.crm import hubspot_event_definitions, hubspot_scopes
from integration.connectors.crm.hubspot_definitions import DEFAULTS, differences, types
from integration.errors import ConnectionBroken, CoursewireError, Reason
from integration.ports import Finding, Wanted

DEFAULT_PROPERTIES: Final[Mapping[str, tuple[str, ...]]] = {one.name: types(one) for one in DEFAULTS}
"""The properties written by default and the types their values fit; rules may leave any of them out."""

_UNREACHABLE: Final = (Reason.NETWORK_ERROR, Reason.UNKNOWN_OUTCOME)


def findings(
    where: str,
    *,
    properties: Callable[[], Any],
    contacts: Callable[[], object],
    scopes: Callable[[], Iterable[Finding]] = tuple,
    role_property: str | None = None,
    events: Callable[[], hubspot_event_definitions.Found] | None = None,
) -> list[Finding]:
    """Return one finding per question, the later ones only where the earlier allow them to be asked.

    `properties` and `contacts` make one read each and raise as connectors do; `scopes` says which further permissions
    are missing, `events` reads the definitions of custom events where those are written. This function raises nothing.
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
        *scopes(),
        *(_events(events) if events else ()),
        *(_properties(definitions(listed), role_property) if error is None else [_unlisted(error)]),
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
    lacking = [*hubspot_scopes.missing(hubspot_scopes.READ, error)]
    return lacking or [Finding(False, "contacts cannot be read", _advice(error))]


def _events(events: Callable[[], hubspot_event_definitions.Found]) -> list[Finding]:
    found, error = _tried(events)
    if error is None:
        return [*hubspot_event_definitions.findings(found)]
    lacking = [*hubspot_scopes.missing(hubspot_scopes.DEFINE, error)]
    return lacking or [Finding(False, "the definitions of custom events cannot be read", _advice(error))]


def _unlisted(error: CoursewireError) -> Finding:
    lacking = [*hubspot_scopes.missing(hubspot_scopes.LIST, error)]
    return lacking[0] if lacking else unlisted(error)


def unlisted(error: CoursewireError) -> Finding:
    """Return the finding that HubSpot did not say which properties there are."""
    return Finding(False, "the list of contact properties cannot be read", _advice(error))


def definitions(body: Any) -> dict[str, Mapping[str, Any]]:
    """Return the properties in HubSpot's list of them, by name; those in its bin are left out."""
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
    found = [one for wanted in DEFAULTS for one in _judged(wanted, known.get(wanted.name))]
    yield from found
    if all(one.ok for one in found):
        yield Finding(True, f"all {len(DEFAULTS)} default properties are there")
    if role_property and role_property not in known:
        yield Finding(
            False,
            f"the role property {role_property} does not exist, so no role change will be seen",
            "create it, or name the right one in options: {role_property: ...}",
        )
    yield from _certificates(known)


def _judged(wanted: Wanted, found: Mapping[str, Any] | None) -> Iterator[Finding]:
    if found is not None:
        yield from differences(wanted, found)
        return
    how = " with unique values" if wanted.unique else ""
    yield Finding(
        False,
        f"the contact property {wanted.name} does not exist and will not be written",
        f"`coursewire check --apply` creates it as {types(wanted)[0]}{how}; or leave it out of your field rules",
    )


def _certificates(known: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    names = sorted(name for name in known if name.startswith("certified_"))
    if not names:
        yield Finding(
            True,
            "there is no certified_<product> property: certifications will not be written",
            "`coursewire check --apply` creates certified_<product> and its _until once a product is known",
        )
    for name in names:
        yield from differences(Wanted(name, "date" if name.endswith("_until") else "bool"), known[name])
