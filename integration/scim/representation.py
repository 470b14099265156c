"""A user as clients read it: with schemas and meta, and no more of it than they ask for.

Source: RFC 7643 section 3.1, RFC 7644 section 3.9.
"""

from collections.abc import Sequence
from typing import Any, Final

from integration.scim.attributes import USER
from integration.scim.paths import Path, path_of
from integration.scim.refusal import Refusal
from integration.scim.resource import Resource, place_of
from integration.scim.users import User

LIST: Final = "urn:ietf:params:scim:api:messages:2.0:ListResponse"
_ALWAYS: Final = frozenset({"schemas", "id"})


def etag(version: int) -> str:
    """Return the entity tag of a version."""
    return f'W/"{version}"'


def shown(user: User, base: str, only: str | None = None, without: str | None = None) -> dict[str, Any]:
    """Return the JSON of a user; `base` is the address of the connection.

    `only` and `without` are lists of attributes as a query has them; what no schema knows is passed over.
    """
    extensions = [name for name in user.resource if name.startswith("urn:")]
    meta = {
        "resourceType": "User",
        "created": user.created_at.isoformat(),
        "lastModified": user.modified_at.isoformat(),
        "location": location(base, user),
        "version": etag(user.version),
    }
    whole = {"schemas": [USER, *extensions], "id": str(user.id), **user.resource, "meta": meta}
    if only:
        kept: dict[str, Any] = {}
        for path in _paths(only):
            _copy(whole, kept, path)
        return {name: kept.get(name, whole[name]) for name in whole if name in _ALWAYS or name in kept}
    for path in _paths(without or ""):
        _drop(whole, path)
    return whole


def location(base: str, user: User) -> str:
    """Return the address of a user."""
    return f"{base}/Users/{user.id}"


def listed(resources: Sequence[Any], total: int | None = None, start: int = 1) -> dict[str, Any]:
    """Return a list of resources, of `total` that there are, the first of them the `start`-th."""
    return {
        "schemas": [LIST],
        "totalResults": len(resources) if total is None else total,
        "startIndex": start,
        "itemsPerPage": len(resources),
        "Resources": list(resources),
    }


def _paths(names: str) -> list[Path]:
    found = []
    for name in filter(None, (one.strip() for one in names.split(","))):
        try:
            found.append(path_of(name))
        except Refusal:
            continue
    return found


def _name(whole: Resource, path: Path) -> tuple[str | None, str | None]:
    extension = place_of(whole, path.extension) if path.extension else None
    return extension, path.attribute.name if path.attribute else None


def _copy(whole: Resource, kept: Resource, path: Path) -> None:
    extension, name = _name(whole, path)
    source = whole.get(extension, {}) if extension else whole
    if name is None:
        if extension in whole:
            kept[extension] = whole[extension]
    elif name in source:
        target = kept.setdefault(extension, {}) if extension else kept
        target[name] = _part(source[name], target.get(name), path.sub.name) if path.sub else source[name]


def _part(value: Any, before: Any, sub: str) -> Any:
    """Return a value with only this sub-attribute, and those that were asked for before it."""
    if isinstance(value, list):
        earlier = before or [{}] * len(value)
        return [_part(one, had, sub) for one, had in zip(value, earlier, strict=True)]
    return {**(before or {}), **({sub: value[sub]} if sub in value else {})}


def _drop(whole: Resource, path: Path) -> None:
    extension, name = _name(whole, path)
    if name in _ALWAYS or (name is None and extension not in whole):
        return
    if name is None:
        whole.pop(extension or "", None)
        return
    held = dict(whole.get(extension, {})) if extension else whole
    if path.sub and name in held:
        values = held[name] if isinstance(held[name], list) else [held[name]]
        left = [{key: one for key, one in value.items() if key != path.sub.name} for value in values]
        held[name] = left if isinstance(held[name], list) else left[0]
    else:
        held.pop(name, None)
    if extension:
        whole[extension] = held
