"""What `coursewire check` says about a HubSpot account: reached, let in, may read, properties in place."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Final

from integration.connectors.crm import hubspot_event_definitions, hubspot_scopes
from integration.connectors.crm.hubspot_definitions import KINDS, all_there, judged
from integration.errors import ConnectionBroken, CoursewireError, Reason
from integration.model.accounts import ACCOUNT
from integration.model.contacts import CONTACT
from integration.ports import Finding, Wanted, WhatIsWanted, of_accounts

_UNREACHABLE: Final = (Reason.NETWORK_ERROR, Reason.UNKNOWN_OUTCOME)


def findings(
    where: str,
    *,
    properties: Callable[[str], Any],
    contacts: Callable[[], object],
    scopes: Callable[[], Iterable[Finding]] = tuple,
    role_property: str | None = None,
    events: Callable[[], hubspot_event_definitions.Found] | None = None,
    wanted: WhatIsWanted | None = None,
) -> list[Finding]:
    """Return one finding per question, the later ones only where the earlier allow them to be asked.

    `properties` (given CONTACT or ACCOUNT) and `contacts` make one read each and raise as connectors do; `scopes` says
    which further permissions are missing, `events` reads the definitions of custom events where those are written. Of
    companies nothing is asked where no rule fills any. This function raises nothing.
    Source: our own; property types as in HubSpot docs, properties.
    """
    listed, error = _tried(partial(properties, CONTACT))
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
        *(_properties(definitions(listed), role_property, wanted) if error is None else [unlisted(error)]),
        *_company_properties(properties, of_accounts(wanted)),
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


def unlisted(error: CoursewireError, of: str = CONTACT) -> Finding:
    """Return the finding that HubSpot did not say which properties there are, and which permission that needs."""
    lacking = [*hubspot_scopes.missing(hubspot_scopes.LISTS[of], error)]
    if lacking:
        return lacking[0]
    return Finding(False, f"the list of {KINDS[of].one} properties cannot be read", _advice(error))


def unexpected(known: Mapping[str, Any], of: str = CONTACT) -> Iterator[Finding]:
    """Yield that a list of properties is none: without those that every account has it says nothing of the others."""
    if KINDS[of].always not in known:
        what = f"the list of {KINDS[of].one} properties is not as expected"
        yield Finding(False, what, f"{KINDS[of].always} is missing from it; see that base_url is right, and try again")


def definitions(body: Any) -> dict[str, Mapping[str, Any]]:
    """Return the properties in HubSpot's list of them, by name."""
    results = body.get("results") if isinstance(body, dict) else None
    return {
        str(one.get("name")): one for one in (results if isinstance(results, list) else []) if isinstance(one, dict)
    }


def _properties(
    known: Mapping[str, Mapping[str, Any]], role_property: str | None, wanted: WhatIsWanted | None
) -> Iterator[Finding]:
    if strange := [*unexpected(known)]:
        yield from strange
        return
    yield from _compared([one for one in (wanted(known) if wanted else ()) if one.of == CONTACT], known)
    if role_property and role_property not in known:
        yield Finding(
            False,
            f"the role property {role_property} does not exist, so no role change will be seen",
            "create it, or name the right one in options: {role_property: ...}",
        )


def _company_properties(properties: Callable[[str], Any], wanted: list[Wanted]) -> Iterator[Finding]:
    if not wanted:
        return
    listed, error = _tried(partial(properties, ACCOUNT))
    if error is not None:
        yield unlisted(error, ACCOUNT)
        return
    known = definitions(listed)
    yield from [*unexpected(known, ACCOUNT)] or _compared(wanted, known)


def _compared(wanted: list[Wanted], known: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    """Yield what is wrong with properties of one kind of record, or that nothing is."""
    found = [one for each in wanted for one in judged(each, known.get(each.name))]
    yield from found
    if wanted and all(one.ok for one in found):
        yield all_there(len(wanted), wanted[0].of)
