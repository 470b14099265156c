"""Paths of PATCH and filters of queries: the part of the grammar that clients use, and a clear no to the rest.

Source: RFC 7644 sections 3.4.2.2 and 3.5.2. Entra ID uses `eq` and `and` only (its SCIM guide); Okta `eq`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import orjson

from integration.scim.attributes import ENTERPRISE, USER, Attribute, known
from integration.scim.refusal import invalid
from integration.scim.resource import Resource, place_of, schema_of

LONGEST: Final = 2_000
"""Most characters of a path or filter."""

_STRING = r'"(?:[^"\\]|\\.)*"'
_BRACKETS = rf'\[(?P<where>(?:{_STRING}|[^\]"])*)\]'
_SUB = r"(?:\.(?P<sub>[A-Za-z$][\w$-]*))?"
_PATH = re.compile(rf"(?P<name>[A-Za-z$][\w$-]*)(?:{_BRACKETS})?{_SUB}", re.ASCII)
_URN = re.compile(r"(?P<schema>urn:[^\[]*):(?P<rest>[^:\[]+(?:\[.*)?)", re.ASCII | re.IGNORECASE | re.DOTALL)
_TERM = re.compile(
    rf"\s*(?P<path>[A-Za-z$][\w$.:-]*(?:{_BRACKETS}{_SUB})?)"
    rf'(?:\s+(?P<op>(?!and\b)[A-Za-z]{{2,}})(?:\s+(?P<value>{_STRING}|(?!and\b)[^\s"()\[\]]+))?)?\s*',
    re.ASCII | re.IGNORECASE,
)
_AND = re.compile(r"and\s", re.IGNORECASE)
_SUPPORTED = "filters may hold comparisons with eq and pr, joined by and, and a condition in brackets"


class Path(NamedTuple):
    """Where something is in a user. Without an attribute it is the whole extension."""

    extension: str | None
    attribute: Attribute | None
    where: tuple["Term", ...] = ()
    sub: Attribute | None = None


class Term(NamedTuple):
    """One condition: what is at `path` equals `value`; None = it is there at all."""

    path: Path
    value: str | bool | None


def path_of(text: str) -> Path:
    """Read a path. Raises Refusal (400 invalidPath, or invalidFilter for what is in its brackets)."""
    text = text.strip()
    if len(text) > LONGEST:
        raise invalid("invalidPath", f"a path may have {LONGEST} characters")
    extension, rest = _split(text)
    if extension and not rest:
        return Path(extension, None)
    found = _PATH.fullmatch(rest)
    if found is None:
        raise invalid("invalidPath", 'a path is written attribute, attribute.sub or attribute[type eq "x"].sub')
    place = known(extension, found["name"])
    if place is None:
        raise invalid("invalidPath", "the User schema has no attribute of this name; /Schemas lists them")
    extension, attribute = place
    sub = attribute.by_name.get(found["sub"].lower()) if found["sub"] else None
    if found["sub"] and sub is None and attribute.kept:
        raise invalid("invalidPath", f"{attribute.name} has no sub-attribute of this name; /Schemas lists them")
    where: tuple[Term, ...] = ()
    if found["where"] is not None and attribute.kept:
        if not attribute.many:
            raise invalid("invalidPath", f"{attribute.name} has one value only, so nothing can be chosen of it")
        where = tuple(_terms(found["where"], attribute))
    return Path(extension, attribute, where, sub)


def filter_of(text: str) -> tuple[Term, ...]:
    """Read the filter of a query. Raises Refusal (400 invalidFilter)."""
    return tuple(_terms(text, None))


def matches(resource: Resource, terms: Sequence[Term]) -> bool:
    """Say whether all of these hold for a user, its id among its attributes."""
    return all(_holds(term, values(resource, term.path)) for term in terms)


def chosen(values_of: Sequence[Mapping[str, Any]], terms: Sequence[Term]) -> list[int]:
    """Return the places of those values of an attribute for which all terms hold."""
    return [place for place, one in enumerate(values_of) if all(_holds(t, _inner(one, t.path)) for t in terms)]


def values(resource: Resource, path: Path) -> list[Any]:
    """Return what is at a path: the plain values, none where nothing is there."""
    if path.attribute is None:
        return []
    held = resource if path.extension is None else resource.get(place_of(resource, path.extension), {})
    name = next((one for one in held if one.lower() == path.attribute.name.lower()), None)
    if name is None:
        return []
    found = held[name]
    if not path.attribute.many:
        return _inner(found, path) if path.attribute.subs else [found]
    return [value for place in chosen(found, path.where) for value in _inner(found[place], path)]


def _inner(value: Mapping[str, Any], path: Path) -> list[Any]:
    """Return the plain value of a complex one: of the sub-attribute that is named, else `value`."""
    sub = path.sub.name if path.sub else "value"
    return [value[sub]] if sub in value else [True] if path.sub is None and value else []


def _split(text: str) -> tuple[str | None, str]:
    """Take the schema off a path; Entra ID once wrote a dot behind it instead of a colon."""
    lower = text.lower()
    if not lower.startswith("urn:"):
        return None, text
    for schema in (USER, ENTERPRISE):
        if lower == schema.lower():
            return schema, ""
        if lower.startswith((f"{schema.lower()}:", f"{schema.lower()}.")):
            return schema, text[len(schema) + 1 :]
    found = _URN.fullmatch(text)
    if found is None:
        raise invalid("invalidPath", "a path that begins with a schema ends with a colon and an attribute")
    return (text, "") if found["rest"].lower() == "user" else (schema_of(found["schema"]), found["rest"])


def _terms(text: str, of: Attribute | None) -> Iterator[Term]:
    """Read conditions about a user, or about one value of an attribute."""
    if len(text) > LONGEST:
        raise invalid("invalidFilter", f"a filter may have {LONGEST} characters")
    at = 0
    while True:
        found = _TERM.match(text, at)
        if found is None:
            raise invalid("invalidFilter", _SUPPORTED)
        yield _term(found, of)
        at = found.end()
        if at == len(text):
            return
        joined = _AND.match(text, at)
        if joined is None:
            raise invalid("invalidFilter", _SUPPORTED)
        at = joined.end()


def _term(found: re.Match[str], of: Attribute | None) -> Term:
    op, raw = (found["op"] or "").lower(), found["value"]
    if of is None:
        path = path_of(found["path"])
    else:
        sub = of.by_name.get(found["path"].lower())
        if sub is None:
            raise invalid("invalidFilter", f"{of.name} has no sub-attribute of this name; /Schemas lists them")
        path = Path(None, of, sub=sub)
    is_choice = not op and bool(path.where)
    if not is_choice and not (op == "pr" and raw is None) and not (op == "eq" and raw is not None):
        raise invalid("invalidFilter", _SUPPORTED)
    return Term(path, _literal(raw) if op == "eq" else None)


def _literal(raw: str) -> str | bool:
    """Return what a filter compares with; without quotes, as some clients write ids, it is text as well."""
    if not raw.startswith('"'):
        return {"true": True, "false": False}.get(raw.lower(), raw)
    try:
        return str(orjson.loads(raw))
    except orjson.JSONDecodeError:
        raise invalid("invalidFilter", "text in a filter must be quoted as JSON is") from None


def _holds(term: Term, found: Sequence[object]) -> bool:
    if term.value is None:
        return bool(found)
    attribute = term.path.sub or term.path.attribute
    is_exact = attribute is not None and attribute.exact
    return any(_plain(one, is_exact=is_exact) == _plain(term.value, is_exact=is_exact) for one in found)


def _plain(value: object, *, is_exact: bool) -> str:
    text = str(value)
    return text if is_exact and not isinstance(value, bool) else text.casefold()
