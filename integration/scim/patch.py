"""PATCH as a pure function: a user and operations make another user, or nothing of it happens.

Source: RFC 7644 section 3.5.2, and what Entra ID and Okta send: names and operations in any case, values without a path
whose keys are paths, and `emails[type eq "work"].value` where there is no such e-mail yet, which then comes to be.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, Final, Literal, NamedTuple

from integration.scim.attributes import ENTERPRISE, USER, Attribute
from integration.scim.paths import Path, chosen, path_of
from integration.scim.refusal import Refusal, invalid
from integration.scim.resource import MOST_VALUES, Resource, assign, checked, clean, place_of

Op = Literal["add", "replace", "remove"]

MOST_OPERATIONS: Final = 500
_OPS: Mapping[str, Op] = {"add": "add", "replace": "replace", "remove": "remove"}
_LABELS = frozenset({"type", "display", "primary"})
"""What says nothing by itself: a value of which only these are left is none."""


class Operation(NamedTuple):
    """One change; without a path `value` is an object whose keys are paths."""

    op: Op
    path: str | None = None
    value: Any = None


def operations_of(body: object) -> list[Operation]:
    """Return the operations of a PATCH body. Raises Refusal (400 invalidSyntax)."""
    given = _member(body, "operations")
    if not isinstance(given, list) or not given:
        raise invalid("invalidSyntax", "the body must hold a list of Operations")
    if len(given) > MOST_OPERATIONS:
        raise invalid("tooMany", f"a PATCH may hold {MOST_OPERATIONS} operations")
    return [_operation(number, one) for number, one in enumerate(given, 1)]


def patched(resource: Resource, operations: Sequence[Operation]) -> Resource:
    """Return the user after these operations, in their order; the one that is given stays as it is.

    Raises Refusal (400) that names the number of the operation which cannot be done.
    """
    changed = deepcopy(resource)
    for number, one in enumerate(operations, 1):
        try:
            _apply(changed, one)
        except Refusal as refusal:
            raise Refusal(refusal.status, f"operation {number}: {refusal.detail}", refusal.scim_type) from None
    return checked(changed)


def _operation(number: int, given: object) -> Operation:
    op, path = _member(given, "op"), _member(given, "path")
    known = _OPS.get(op.lower()) if isinstance(op, str) else None
    if known is None:
        raise invalid("invalidSyntax", f"operation {number}: op must be add, replace or remove")
    if path is not None and not isinstance(path, str):
        raise invalid("invalidPath", f"operation {number}: path must be text")
    return Operation(known, path or None, _member(given, "value"))


def _member(body: object, name: str) -> Any:
    if not isinstance(body, dict):
        raise invalid("invalidSyntax", "the body and its operations must be JSON objects")
    return next((value for key, value in body.items() if key.lower() == name), None)


def _apply(resource: Resource, one: Operation) -> None:
    if one.path is None:
        if one.op == "remove":
            raise invalid("noTarget", "a removal needs a path")
        if not isinstance(one.value, dict):
            raise invalid("invalidValue", "without a path the value must be an object")
        for key, value in one.value.items():
            _apply_member(resource, one.op, key, value)
        return
    path = path_of(one.path)
    if path.attribute is None:
        _apply_extension(resource, path.extension or "", one.op, one.value)
    elif not path.attribute.kept:
        return
    elif path.attribute.many:
        _put_values(resource, path, one.op, one.value)
    elif path.attribute.subs:
        _put_complex(resource, path, one.op, one.value)
    else:
        assign(resource, path.extension, path.attribute, None if one.op == "remove" else one.value)


def _apply_member(resource: Resource, op: Op, key: str, value: object) -> None:
    """Apply a member of a value without a path: its key is a path, or a schema with attributes."""
    lower = key.lower()
    is_foreign = lower.startswith("urn:") and not lower.startswith((USER.lower(), ENTERPRISE.lower()))
    if is_foreign and isinstance(value, dict):
        _apply_extension(resource, key, op, value)
    else:
        _apply(resource, Operation(op, key, value))


def _apply_extension(resource: Resource, extension: str, op: Op, value: object) -> None:
    if op == "remove" or value is None:
        resource.pop(place_of(resource, extension), None)
    elif not isinstance(value, dict):
        raise invalid("invalidValue", "an extension must be a JSON object")
    else:
        for name, one in value.items():
            _apply(resource, Operation(op, f"{extension}:{name}", one))


def _put_complex(resource: Resource, path: Path, op: Op, value: object) -> None:
    """Change a complex attribute that has one value: what is not said of it stays."""
    attribute = path.attribute
    assert attribute is not None  # noqa: S101 - the caller has looked
    held = resource if path.extension is None else resource.get(place_of(resource, path.extension), {})
    changed = dict(held.get(attribute.name, {}))
    if path.sub is not None:
        _put_sub(changed, path.sub, None if op == "remove" else value)
    elif op == "remove":
        changed = {}
    elif isinstance(value, dict):
        for name, one in value.items():
            if sub := attribute.by_name.get(name.lower()):
                _put_sub(changed, sub, one)
    else:
        changed = clean(attribute, value) or {}
    assign(resource, path.extension, attribute, changed)


def _put_sub(held: dict[str, Any], sub: Attribute, value: object) -> None:
    if not sub.kept:
        return
    cleaned = clean(sub, value)
    if cleaned is None:
        held.pop(sub.name, None)
    else:
        held[sub.name] = cleaned


def _put_values(resource: Resource, path: Path, op: Op, value: object) -> None:
    """Change a multi-valued attribute: all of it, or the values that its path chooses."""
    attribute = path.attribute
    assert attribute is not None  # noqa: S101 - the caller has looked
    held: list[dict[str, Any]] = resource.get(attribute.name, [])
    if path.where or path.sub:
        fresh = _change_chosen(held, path, op, value)
    elif op == "remove":
        fresh = _without(held, clean(attribute, value))
    elif op == "replace":
        fresh = clean(attribute, value) or []
    else:
        fresh = _with(held, clean(attribute, value) or [])
    fresh = [one for one in fresh if one.keys() - _LABELS]
    if len(fresh) > MOST_VALUES:
        raise invalid("tooMany", f"{attribute.name} may have {MOST_VALUES} values")
    resource.pop(attribute.name, None)
    if fresh:
        resource[attribute.name] = fresh


def _without(held: list[dict[str, Any]], named: list[dict[str, Any]] | None) -> list[dict[str, Any]]:
    """Return what is left when these are removed; all of it goes where none is named."""
    if named is None:
        return []
    plain = {one["value"] for one in named if "value" in one}
    return [one for one in held if one not in named and ("value" not in one or one["value"] not in plain)]


def _with(held: list[dict[str, Any]], more: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return all values; one that is there already, but for being primary, is not added again."""
    found = list(held)
    for one in more:
        same = [place for place, each in enumerate(found) if _bare(each) == _bare(one)]
        if same:
            found[same[0]] = {**found[same[0]], **one}
        else:
            found.append(one)
        if one.get("primary"):
            found = _only_primary(found, {same[0] if same else len(found) - 1})
    return found


def _change_chosen(held: list[dict[str, Any]], path: Path, op: Op, value: object) -> list[dict[str, Any]]:
    attribute = path.attribute
    assert attribute is not None  # noqa: S101 - the caller has looked
    places = set(chosen(held, path.where))
    if op == "remove":
        if path.sub is None:
            return [one for place, one in enumerate(held) if place not in places]
        name = path.sub.name
        return [
            {key: each for key, each in one.items() if place not in places or key != name}
            for place, one in enumerate(held)
        ]
    found = [dict(one) for one in held]
    made = {term.path.sub.name: term.value for term in path.where if term.path.sub and term.value is not None}
    if not places:
        if len(made) < len(path.where):
            raise invalid("noTarget", f"no value of {attribute.name} is chosen by the path")
        found.append(_as_values_are(attribute, made))
        places = {len(found) - 1}
    for place in places:
        if path.sub is not None:
            _put_sub(found[place], path.sub, value)
        else:
            said = clean(attribute, value) or [{}]
            found[place] = {**(found[place] if op == "add" else _as_values_are(attribute, made)), **said[0]}
    is_primary = any(found[place].get("primary") for place in places)
    return _only_primary(found, places) if is_primary else found


def _as_values_are(attribute: Attribute, made: Mapping[str, Any]) -> dict[str, Any]:
    cleaned: list[dict[str, Any]] = clean(attribute, dict(made)) or [{}]
    return cleaned[0]


def _only_primary(found: list[dict[str, Any]], places: set[int]) -> list[dict[str, Any]]:
    """Let none but these be primary, and of these one (RFC 7644 section 3.5.2)."""
    first = min(places, key=lambda place: (not found[place].get("primary"), place))
    return [
        {**one, "primary": False} if one.get("primary") and place != first else one for place, one in enumerate(found)
    ]


def _bare(value: Mapping[str, Any]) -> dict[str, Any]:
    return {key: one for key, one in value.items() if key != "primary"}
