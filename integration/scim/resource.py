"""A user as a SCIM client says it, made the same whatever the client's habits: names in any case, booleans as text.

A resource is a plain dict: attributes by their proper names, extensions by their URNs, nothing that is unassigned.
"""

from collections.abc import Mapping
from typing import Any

from integration.scim.attributes import ENTERPRISE, USER, Attribute, known
from integration.scim.refusal import invalid

Resource = dict[str, Any]

LONGEST, MOST_VALUES, MOST_ATTRIBUTES = 4_096, 100, 300
"""Most characters of a text, values of an attribute, attributes of an extension."""

_BOOLEANS = {"true": True, "false": False}


def resource_of(body: object) -> Resource:
    """Return the user that a whole body says. Raises Refusal (400) where it is none."""
    if not isinstance(body, dict):
        raise invalid("invalidSyntax", "the body must be one JSON object")
    found: Resource = {}
    seen: set[tuple[str | None, str]] = set()
    for name, value in body.items():
        if name.lower().startswith("urn:"):
            _extend(found, schema_of(name), value)
        elif place := known(None, name):
            extension, attribute = place
            if (extension, attribute.name) in seen:
                raise invalid("invalidSyntax", f"{attribute.name} is said twice, in different letters")
            seen.add((extension, attribute.name))
            assign(found, extension, attribute, value)
    return checked(found)


def checked(resource: Resource) -> Resource:
    """Return a resource that may be kept. Raises Refusal (400) where it has no userName."""
    if "userName" not in resource:
        raise invalid("invalidValue", "userName is needed")
    return resource


def schema_of(urn: str) -> str:
    """Return a schema by its proper name, where it is one that we know in other letters."""
    return next((one for one in (USER, ENTERPRISE) if one.lower() == urn.lower()), urn)


def place_of(resource: Resource, extension: str) -> str:
    """Return the name by which a resource holds an extension: URNs count in any case."""
    return next((one for one in resource if one.lower() == extension.lower()), extension)


def assign(resource: Resource, extension: str | None, attribute: Attribute, value: object) -> None:
    """Let an attribute have this value, or none. Raises Refusal (400) for a value that it cannot have."""
    if not attribute.kept:
        return
    cleaned = clean(attribute, value)
    if extension is None:
        _put(resource, attribute.name, cleaned)
        return
    place = place_of(resource, extension)
    held: dict[str, Any] = dict(resource.get(place, {}))
    _put(held, next((one for one in held if one.lower() == attribute.name.lower()), attribute.name), cleaned)
    if len(held) > MOST_ATTRIBUTES:
        raise invalid("tooMany", f"an extension may have {MOST_ATTRIBUTES} attributes")
    _put(resource, place, held or None)


def clean(attribute: Attribute, value: object) -> Any:
    """Return a value as it is kept, None for unassigned (null, empty text or list). Raises Refusal (400)."""
    if attribute.many:
        return _values(attribute, value)
    if isinstance(value, list) and len(value) <= 1:
        value = value[0] if value else None  # single values in a list, as older clients of Microsoft write them
    if value is None or value in ("", {}):
        return None
    if attribute.type == "complex":
        return _complex(attribute, value)
    if isinstance(value, dict) and attribute.type != "any":
        value = value.get("value")
    if attribute.type == "boolean":
        return _boolean(attribute.name, value)
    return _text(attribute, value)


def _extend(found: Resource, schema: str, value: object) -> None:
    if not isinstance(value, dict):
        raise invalid("invalidSyntax", "an extension must be a JSON object")
    for name, one in value.items():
        if place := known(schema, name):
            assign(found, place[0], place[1], one)


def _put(held: dict[str, Any], name: str, value: object) -> None:
    if value is None:
        held.pop(name, None)
    else:
        held[name] = value


def _values(attribute: Attribute, value: object) -> list[dict[str, Any]] | None:
    given = value if isinstance(value, list) else [value]
    if len(given) > MOST_VALUES:
        raise invalid("tooMany", f"{attribute.name} may have {MOST_VALUES} values")
    found: list[dict[str, Any]] = []
    for one in (_complex(attribute, each) for each in given if each not in (None, "", {})):
        if one is None or one in found:
            continue
        is_second = bool(one.get("primary")) and any(each.get("primary") for each in found)
        found.append({**one, "primary": False} if is_second else one)  # one at most (RFC 7643 section 2.4)
    return found or None


def _complex(attribute: Attribute, value: object) -> dict[str, Any] | None:
    if isinstance(value, str | int) and "value" in attribute.by_name:
        value = {"value": value}  # a manager or a role as plain text, as Entra ID writes it
    if not isinstance(value, Mapping):
        raise invalid("invalidValue", f"{attribute.name} must be an object")
    found = {}
    for name, one in value.items():
        sub = attribute.by_name.get(name.lower())
        if sub is not None and sub.kept and (cleaned := clean(sub, one)) is not None:
            found[sub.name] = cleaned
    return found or None


def _boolean(name: str, value: object) -> bool:
    if isinstance(value, str):
        value = _BOOLEANS.get(value.strip().lower())
    if not isinstance(value, bool):
        raise invalid("invalidValue", f"{name} must be true or false")
    return value


def _text(attribute: Attribute, value: object) -> Any:
    if attribute.type == "any" and isinstance(value, bool | float):
        return value
    if attribute.type == "any" and isinstance(value, dict | list):
        return None  # an extension that we do not know: single values are kept, what is nested is nothing to us
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise invalid("invalidValue", f"{attribute.name} must be text")
    text = str(value)  # a number was an id with digits; what zeros led it, its sender lost
    if len(text) > LONGEST or "\0" in text:
        raise invalid("invalidValue", f"{attribute.name} must be text of at most {LONGEST} characters, without NUL")
    return text if text.strip() else None
