"""One event of a HubSpot webhook that is about a deal: what is kept of it, and the hint that it gives.

Classic (`deal.propertyChange`) and generic (`object.propertyChange` with `objectTypeId: 0-3`). An association is told
of from either side, `associationType` saying which: DEAL_TO_CONTACT or CONTACT_TO_DEAL. Source: reference 7.1 and 7.2.
"""

from collections.abc import Mapping
from typing import Any, Final

from integration.connectors.crm.hubspot_events import flat, moment, number, record_id
from integration.errors import Ignored, Reason, Rejected
from integration.model.deals import DealHint

DEALS: Final = "0-3"
"""The type id of deals in the generic form."""

STAGE: Final = "dealstage"
PIPELINE: Final = "pipeline"
"""The properties that say where a deal is."""

_ASSOCIATED: Final = "associationChange"
_WORDS: Final = ("creation", "propertyChange", "deletion", "restore", "merge", _ASSOCIATED)
_NUMBERS: Final = ("portalId", "objectId", "occurredAt", "primaryObjectId", "newObjectId", "fromObjectId", "toObjectId")
_TEXTS: Final = ("objectTypeId", "propertyName", "associationType", "associationRemoved")


def is_about_deal(event: Mapping[str, Any]) -> bool:
    """Return whether an event is one that may tell of a deal's stages or contacts."""
    thing, word = _named(event)
    if word == _ASSOCIATED and thing in ("deal", "contact", "object"):
        return _side(event) is not None
    return word in _WORDS and (thing == "deal" or (thing == "object" and event.get("objectTypeId") == DEALS))


def kept(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `hint` needs of an event, the same for every delivery of it; no value of any property."""
    slim: dict[str, Any] = {"subscriptionType": flat(event.get("subscriptionType") or event.get("eventType"))}
    slim |= {name: number(event.get(name)) for name in _NUMBERS}
    slim |= {name: flat(event.get(name)) for name in _TEXTS}
    return {name: value for name, value in slim.items() if value is not None}


def hint(event: Mapping[str, Any]) -> DealHint:
    """Return which deal an event is about.

    Raises Ignored (NOT_MAPPED) for a property that says nothing of stages, Rejected (MISSING_FIELD, INVALID_EVENT) for
    what is no event, nothing else.
    """
    _, word = _named(event)
    if word == "propertyChange" and event.get("propertyName") not in (STAGE, PIPELINE):
        raise Ignored(Reason.NOT_MAPPED, "no rule asks for anything of deals but their stages")
    names: tuple[str, ...] = ("objectId",)
    if word == "merge":
        names = ("newObjectId", "primaryObjectId", "objectId")
    elif word == _ASSOCIATED:
        names = ("fromObjectId", "objectId") if _side(event) == "from" else ("toObjectId",)
    given = next(((name, one) for name in names if (one := number(event.get(name))) not in (None, "")), None)
    if given is None:
        raise Rejected(Reason.MISSING_FIELD, f"{names[0]} is missing")
    return DealHint(deal_id=record_id(given[1], given[0]), occurred_at=moment(event))


def _named(event: Mapping[str, Any]) -> tuple[str, str]:
    named = event.get("subscriptionType") or event.get("eventType")
    thing, _, word = named.partition(".") if isinstance(named, str) else ("", "", "")
    return thing, word


def _side(event: Mapping[str, Any]) -> str | None:
    """Return on which side of an association with a contact the deal is; None where there is none."""
    between = event.get("associationType")
    between = between.upper() if isinstance(between, str) else ""
    if between.startswith("DEAL_TO_CONTACT"):
        return "from"
    return "to" if between.startswith("CONTACT_TO_DEAL") else None
