"""One event of a HubSpot webhook: what is kept of it, what makes it the same one again, and which hint it gives.

Contacts come in two forms, the classic `contact.creation` and the generic `object.creation` with `objectTypeId: 0-1`.
"""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson

from integration.errors import Ignored, Reason, Rejected
from integration.model.hints import ContactHint, HintType

CONTACTS: Final = "0-1"
"""The type id of contacts in the generic form."""

_WORDS: Final = {
    "creation": HintType.CREATED,
    "propertyChange": HintType.CHANGED,
    "deletion": HintType.DELETED,
    "restore": HintType.RESTORED,
    "merge": HintType.MERGED,
    "privacyDeletion": HintType.ERASED,
}
_NUMBERS: Final = ("portalId", "objectId", "occurredAt", "primaryObjectId", "newObjectId")
_TEXTS: Final = ("objectTypeId", "propertyName")
_HIDDEN: Final = "REDACTED"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DIGITS: Final = re.compile("[0-9]{1,20}")
_LONGEST_NAME, _SHOWN = 255, 64


def kept(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `hint` needs of an event, the same for every delivery of it: numbers as text, no `attemptNumber`.

    A property's value stays only where a contact's property changed. What is nested where it must not be is emptied.
    """
    slim: dict[str, Any] = {"subscriptionType": flat(event.get("subscriptionType") or event.get("eventType"))}
    slim |= {name: number(event.get(name)) for name in _NUMBERS}
    slim |= {name: flat(event.get(name)) for name in _TEXTS}
    merged = event.get("mergedObjectIds")
    slim["mergedObjectIds"] = sorted(map(number, merged), key=str) if isinstance(merged, list) else number(merged)
    if changed_property(slim) is not None:
        slim["propertyValue"] = flat(event.get("propertyValue"))
    return {name: value for name, value in slim.items() if value is not None}


def identity(event: Mapping[str, Any], slim: Mapping[str, Any]) -> str:
    """Return what tells an event from every other one. Source: reference 7.3 (`eventId` alone is not unique)."""
    parts = ("subscriptionType", "objectTypeId", *_NUMBERS, "propertyName", "mergedObjectIds")
    return written([number(event.get("eventId")), *map(slim.get, parts)]).decode()


def written(value: object) -> bytes:
    """Return compact JSON; broken text and NaN as they came, so that who reads it gives the event its reason."""
    return json.dumps(value, separators=(",", ":")).encode()


def changed_property(event: Mapping[str, Any]) -> str | None:
    """Return the name of the contact property that changed, None where something else happened."""
    name = event.get("propertyName")
    return name if _happened(event) is HintType.CHANGED and isinstance(name, str) else None


def hint(event: Mapping[str, Any]) -> ContactHint:
    """Return what an event says of a contact.

    Raises Ignored (UNKNOWN_TYPE) or Rejected (MISSING_FIELD, INVALID_EVENT), nothing else. The text names the field,
    never its value. Source: HubSpot docs, webhooks; reference 2.5 and 7.2 for merges.
    """
    named = event.get("subscriptionType") or event.get("eventType")
    if named is None:
        raise Rejected(Reason.MISSING_FIELD, "subscriptionType is missing")
    if not isinstance(named, str):
        raise Rejected(Reason.INVALID_EVENT, "subscriptionType: must be text")
    type_id = event.get("objectTypeId")
    thing, _, word = named.partition(".")
    if thing == "object" and word in _WORDS and type_id is None:
        raise Rejected(Reason.MISSING_FIELD, "objectTypeId is missing")
    happened = _happened(event)
    if happened is None:
        of_what = f" of {type_id}" if thing == "object" and isinstance(type_id, str) else ""
        raise Ignored(Reason.UNKNOWN_TYPE, "".join(filter(str.isprintable, named + of_what))[:_SHOWN])
    contact_id, merged_ids = _merged(event) if happened is HintType.MERGED else (_id(event, "objectId"), ())
    if contact_id is None:
        raise Rejected(Reason.MISSING_FIELD, "objectId is missing")
    changed = happened is HintType.CHANGED
    return ContactHint(
        type=happened,
        contact_id=contact_id,
        occurred_at=moment(event),
        property=_property(event) if changed else None,
        value=_value(event.get("propertyValue")) if changed else None,
        merged_ids=merged_ids,
    )


def _happened(event: Mapping[str, Any]) -> HintType | None:
    """Return what happened to a contact; None for other types and for things that are no contacts."""
    named = event.get("subscriptionType") or event.get("eventType")
    thing, _, word = named.partition(".") if isinstance(named, str) else ("", "", "")
    is_contact = thing == "contact" or (thing == "object" and event.get("objectTypeId") == CONTACTS)
    return _WORDS.get(word) if is_contact else None


def _merged(event: Mapping[str, Any]) -> tuple[str | None, tuple[str, ...]]:
    """Return the contact that goes on after a merge, and the ones that lead to it.

    A merge makes a new record; where the event names none, the primary one has gone on as it used to.
    """
    primary, of_event = _id(event, "primaryObjectId"), _id(event, "objectId")
    contact_id = _id(event, "newObjectId") or primary or of_event
    given = event.get("mergedObjectIds", [])
    others = [record_id(one, "mergedObjectIds") for one in (given if isinstance(given, list) else [given])]
    ids = dict.fromkeys(one for one in (primary, *others, of_event) if one is not None and one != contact_id)
    return contact_id, tuple(ids)


def _id(event: Mapping[str, Any], name: str) -> str | None:
    given = number(event.get(name))
    return None if given in (None, "") else record_id(given, name)


def record_id(given: object, name: str) -> str:
    """Return the id of a record. Raises Rejected (INVALID_EVENT), naming the field."""
    found = number(given)
    if not isinstance(found, str) or not _DIGITS.fullmatch(found):
        raise Rejected(Reason.INVALID_EVENT, f"{name}: must be the number of a record")
    return found


def moment(event: Mapping[str, Any]) -> datetime:
    """Return when it happened, by HubSpot's clock. Raises Rejected (MISSING_FIELD, INVALID_EVENT)."""
    given = number(event.get("occurredAt"))
    if given in (None, ""):
        raise Rejected(Reason.MISSING_FIELD, "occurredAt is missing")
    if isinstance(given, str) and _DIGITS.fullmatch(given):
        try:
            return _EPOCH + timedelta(milliseconds=int(given))
        except OverflowError:
            pass
    raise Rejected(Reason.INVALID_EVENT, "occurredAt: must be milliseconds since 1970")


def _property(event: Mapping[str, Any]) -> str:
    name = event.get("propertyName")
    if name in (None, ""):
        raise Rejected(Reason.MISSING_FIELD, "propertyName is missing")
    if not isinstance(name, str) or not name.isprintable() or len(name) > _LONGEST_NAME:
        raise Rejected(Reason.INVALID_EVENT, "propertyName: must be the name of a property")
    return name


def _value(given: object) -> str | None:
    """Return a property's value as text; None where it is hidden, or nothing that a property can hold."""
    if isinstance(given, bool | int | float):
        return orjson.dumps(given).decode()
    return given if isinstance(given, str) and given != _HIDDEN and "\0" not in given else None


def number(given: object) -> object:
    """Return a whole number as text, whichever way it was written; what is none as `_flat` does."""
    if isinstance(given, float) and given.is_integer() and abs(given) < 2**53:
        given = int(given)
    if isinstance(given, int) and not isinstance(given, bool):
        return str(given)
    return given.strip() if isinstance(given, str) else flat(given)


def flat(given: object) -> object:
    """Return what is given, emptied where it is nested."""
    return {} if isinstance(given, dict | list) else given
