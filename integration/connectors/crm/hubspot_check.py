"""What `coursewire check` says about a HubSpot account: reached, let in, may read, properties in place."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from integration.connectors.crm import hubspot_event_definitions, hubspot_scopes
from integration.connectors.crm.hubspot_definitions import all_there, judged
from integration.errors import ConnectionBroken, CoursewireError, Reason
from integration.ports import Finding, WhatIsWanted

_UNREACHABLE: Final = (Reason.NETWORK_ERROR, Reason.UNKNOWN_OUTCOME)


def findings(
    where: str,
    *,
    properties: Callable[[], Any],
    contacts: Callable[[], object],
    scopes: Callable[[], Iterable[Finding]] = tuple,
    role_property: str | None = None,
    events: Callable[[], hubspot_event_definitions.Found] | None = None,
    wanted: WhatIsWanted | None = None,
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
        *(_properties(definitions(listed), role_property, wanted) if error is None else [_unlisted(error)]),
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
    """Return the properties in HubSpot's list of them, by name."""
    results = body.get("results") if isinstance(body, dict) else None
    return {
        str(one.get("name")): one for one in (results if isinstance(results, list) else []) if isinstance(one, dict)
    }


def _properties(
    known: Mapping[str, Mapping[str, Any]], role_property: str | None, wanted: WhatIsWanted | None
) -> Iterator[Finding]:
    if "email" not in known:
        yield Finding(False, "the list of contact properties is not as expected", "email is missing from it")
        return
    named = wanted(known) if wanted else ()
    found = [one for each in named for one in judged(each, known.get(each.name))]
    yield from found
    if named and all(one.ok for one in found):
        yield all_there(len(named))
    if role_property and role_property not in known:
        yield Finding(
            False,
            f"the role property {role_property} does not exist, so no role change will be seen",
            "create it, or name the right one in options: {role_property: ...}",
        )
