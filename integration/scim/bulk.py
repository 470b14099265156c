"""A bulk request as a plan: which operation comes when, and what its references to others stand for.

Source: RFC 7644 section 3.7. A reference may point forward, backward or in a circle: each new user gets its id before
anything is done, and what is referred to is made first where there is a first.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from uuid import UUID

from integration.scim.refusal import Refusal, invalid

MOST_OPERATIONS: Final = 500
_MARK: Final = "bulkId:"
_METHODS = frozenset({"POST", "PUT", "PATCH", "DELETE"})


@dataclass(frozen=True, slots=True)
class Step:
    """One operation of a bulk, its place in the request first. A `refusal` is one that cannot even be tried.

    `id` is whose it is, the new one of a POST; `waits_for` are the places of those it refers to.
    """

    place: int
    method: str = ""
    bulk_id: str | None = None
    id: UUID | None = None
    data: Any = None
    version: str | None = None
    waits_for: frozenset[int] = frozenset()
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps in the order of their doing, and after how many errors to stop; None = never."""

    steps: Sequence[Step]
    most_errors: int | None = None


def plan(body: object, new_id: Callable[[], UUID]) -> Plan:
    """Return what a bulk request asks for. Raises Refusal (400, 413) where it is none, or too large."""
    given = body if isinstance(body, dict) else {}
    members = {name.lower(): value for name, value in given.items()}
    operations, most_errors = members.get("operations"), members.get("failonerrors")
    if not isinstance(operations, list):
        raise invalid("invalidSyntax", "the body must hold a list of Operations")
    if len(operations) > MOST_OPERATIONS:
        raise Refusal(413, f"a bulk may hold {MOST_OPERATIONS} operations", "tooMany")
    if most_errors is not None and (isinstance(most_errors, bool) or not isinstance(most_errors, int)):
        raise invalid("invalidSyntax", "failOnErrors must be a whole number")
    named: list[dict[str, Any]] = [
        {key.lower(): value for key, value in one.items()} if isinstance(one, dict) else {} for one in operations
    ]
    made = _new_users(named, new_id)
    steps = _each_after_its_like([_step(place, one, made) for place, one in enumerate(named)])
    return Plan(_in_order(steps), most_errors or None)


@dataclass(frozen=True, slots=True)
class _Made:
    ids: Mapping[int, UUID]
    """The id of the user that is made at a place."""
    places: Mapping[str, int]
    """Where the user of a bulkId is made; a bulkId that several have stands for none of them."""


def _new_users(operations: Sequence[Mapping[str, Any]], new_id: Callable[[], UUID]) -> _Made:
    posts = [place for place, one in enumerate(operations) if _method(one) == "POST"]
    names = {place: name for place in posts if isinstance(name := operations[place].get("bulkid"), str)}
    often = Counter(names.values())
    places = {name: place for place, name in names.items() if often[name] == 1}
    return _Made({place: new_id() for place in posts}, places)


def _method(operation: Mapping[str, Any]) -> str:
    method = operation.get("method")
    return method.upper() if isinstance(method, str) else ""


def _step(place: int, operation: Mapping[str, Any], made: _Made) -> Step:
    bulk_id = operation.get("bulkid")
    about: dict[str, Any] = {
        "place": place,
        "method": _method(operation),
        "bulk_id": bulk_id if isinstance(bulk_id, str) else None,
    }
    waits_for: set[int] = set()
    try:
        who = _whose(place, operation, made, waits_for)
        data = _resolved(operation.get("data"), made, waits_for)
    except Refusal as refusal:
        return Step(**about, refusal=refusal)
    version = operation.get("version")
    waits_for.discard(place)
    return Step(**about, id=who, data=data, version=str(version) if version else None, waits_for=frozenset(waits_for))


def _whose(place: int, operation: Mapping[str, Any], made: _Made, waits_for: set[int]) -> UUID:
    method, path = _method(operation), operation.get("path")
    if method not in _METHODS:
        raise invalid("invalidSyntax", "method must be POST, PUT, PATCH or DELETE")
    kind, _, rest = path.strip("/").partition("/") if isinstance(path, str) else ("", "", "")
    if kind.lower() != "users" or (method == "POST") == bool(rest):
        raise invalid("invalidValue", "path must be /Users for POST, and /Users/ with an id for all else")
    if method == "POST":
        return made.ids[place]
    return user_id(str(_resolved(rest, made, waits_for)))


def user_id(text: str) -> UUID:
    """Return the id of a user as a path has it. Raises Refusal (404): what is no id of ours is nobody's."""
    try:
        return UUID(text)
    except ValueError:
        raise Refusal(404, "there is no user of this id") from None


def _resolved(value: Any, made: _Made, waits_for: set[int]) -> Any:
    """Return data with its references replaced by ids; notes the places that they lead to."""
    if isinstance(value, dict):
        return {key: _resolved(one, made, waits_for) for key, one in value.items()}
    if isinstance(value, list):
        return [_resolved(one, made, waits_for) for one in value]
    if not isinstance(value, str) or not value.startswith(_MARK):
        return value
    place = made.places.get(value.removeprefix(_MARK))
    if place is None:
        raise invalid("invalidValue", "a bulkId is referred to that no POST of this request has, or several have")
    waits_for.add(place)
    return str(made.ids[place])


def _each_after_its_like(steps: Sequence[Step]) -> list[Step]:
    """Let what is done to one user be done in the order of the request, whatever else waits."""
    last: dict[UUID, int] = {}
    found = []
    for step in steps:
        if step.method == "POST" or step.id is None:
            found.append(step)  # whoever it makes is changed afterwards, wherever in the request
            continue
        earlier = {last[step.id]} if step.id in last else set()
        found.append(replace(step, waits_for=step.waits_for | earlier))
        last[step.id] = step.place
    return found


def _in_order(steps: Sequence[Step]) -> list[Step]:
    """Return the steps so that each comes after those it waits for; of a circle the first one in the request begins."""
    ordered: list[Step] = []
    done: set[int] = set()
    open_steps = list(steps)
    while open_steps:
        free = [one for one in open_steps if one.waits_for <= done] or open_steps[:1]
        ordered += free
        done |= {one.place for one in free}
        open_steps = [one for one in open_steps if one.place not in done]
    return ordered
