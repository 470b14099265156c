"""One SCIM request as a function: method, place and body in, status and JSON out.

It asks the database, so it runs in a thread. Source: RFC 7644 section 3.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from integration.scim import bulk, discovery
from integration.scim.bulk import Step, user_id
from integration.scim.patch import operations_of
from integration.scim.paths import filter_of
from integration.scim.refusal import Refusal, invalid
from integration.scim.representation import etag, listed, location, shown
from integration.scim.resource import resource_of
from integration.scim.users import User, Users, is_version

ERROR: Final = "urn:ietf:params:scim:api:messages:2.0:Error"
_BULK: Final = "urn:ietf:params:scim:api:messages:2.0:BulkResponse"
_PAGE: Final = 100
_NO_GROUPS: Final = "groups are not taken here; leave them out of provisioning"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request whose sender is known. `place` are the parts of its path behind the connection."""

    method: str
    place: tuple[str, ...]
    query: Mapping[str, str]
    body: Any
    request_id: str
    base: str
    most_bytes: int
    if_match: str | None = None
    if_none_match: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What it is told; None = no body."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


Work = Callable[[Users, Asked], Answer]


def answer(users: Users, asked: Asked) -> Answer:
    """Do what is asked. Raises Refusal."""
    what, *rest = asked.place or ("",)
    kind = what.lower()
    if kind == "users" and not rest:
        return _for(asked, GET=_list, POST=_create)(users, asked)
    if kind == "users" and len(rest) == 1 and not rest[0].startswith("."):
        return _for(asked, GET=_read, PUT=_replace, PATCH=_patch, DELETE=_delete)(users, asked)
    if kind == "bulk" and not rest:
        return _for(asked, POST=_bulk)(users, asked)
    if kind == "groups" and not rest and asked.method == "GET":
        return Answer(200, listed([]))  # so asks whoever tests a connection
    if kind in ("groups", "me") or rest[:1] == [".search"]:
        raise Refusal(501, _NO_GROUPS if kind == "groups" else "this is not served here")
    return _for(asked, GET=_discover)(users, asked)


def error_body(status: int, detail: str, scim_type: str | None = None) -> dict[str, Any]:
    """Return an error as RFC 7644 section 3.12 has it: the status as text."""
    named = {"scimType": scim_type} if scim_type else {}
    return {"schemas": [ERROR], "status": str(status), **named, "detail": detail}


def _for(asked: Asked, **methods: Work) -> Work:
    """Return what does this method here, or says which there are."""
    there_are = ", ".join(methods)
    no = Answer(405, error_body(405, f"this takes {there_are}"), {"allow": there_are})
    return methods.get(asked.method, lambda *_: no)


def _list(users: Users, asked: Asked) -> Answer:
    start = max(1, _number(asked, "startindex", 1))
    limit = min(max(0, _number(asked, "count", _PAGE)), discovery.MOST_RESULTS)
    if text := asked.query.get("filter", "").strip():
        found = users.find(filter_of(text))
        total, page = len(found), found[start - 1 :][:limit]
    else:
        total, page = users.page(start, limit)
    return Answer(200, listed([_shown(one, asked) for one in page], total, start))


def _number(asked: Asked, name: str, default: int) -> int:
    text = asked.query.get(name, "").strip()
    if not text:
        return default
    if not text.lstrip("-").isascii() or not text.lstrip("-").isdigit() or len(text) > 9:  # noqa: PLR2004 - a bigint holds it
        raise invalid("invalidValue", "startIndex and count must be whole numbers")
    return int(text)


def _create(users: Users, asked: Asked) -> Answer:
    return _told(201, users.create(resource_of(asked.body), asked.request_id), asked)


def _read(users: Users, asked: Asked) -> Answer:
    found = users.read(user_id(asked.place[1]))
    if asked.if_none_match is not None and is_version(asked.if_none_match, found.version):
        return Answer(304, headers={"etag": etag(found.version)})
    return _told(200, found, asked)


def _replace(users: Users, asked: Asked) -> Answer:
    resource = resource_of(asked.body)
    return _told(200, users.replace(user_id(asked.place[1]), resource, asked.request_id, asked.if_match), asked)


def _patch(users: Users, asked: Asked) -> Answer:
    operations = operations_of(asked.body)
    return _told(200, users.patch(user_id(asked.place[1]), operations, asked.request_id, asked.if_match), asked)


def _delete(users: Users, asked: Asked) -> Answer:
    users.delete(user_id(asked.place[1]), asked.request_id, asked.if_match)
    return Answer(204)


def _told(status: int, user: User, asked: Asked) -> Answer:
    headers = {"etag": etag(user.version), "location": location(asked.base, user)}
    return Answer(status, _shown(user, asked), headers)


def _shown(user: User, asked: Asked) -> dict[str, Any]:
    return shown(user, asked.base, asked.query.get("attributes"), asked.query.get("excludedattributes"))


def _discover(_: Users, asked: Asked) -> Answer:
    kind, *rest = asked.place or ("",)
    if kind.lower() == "serviceproviderconfig" and not rest:
        return Answer(200, discovery.service_provider(asked.base, asked.most_bytes))
    tables = {"resourcetypes": discovery.resource_types, "schemas": discovery.schemas}
    table = tables.get(kind.lower())
    if table is None or len(rest) > 1:
        raise Refusal(404, "there are Users, Bulk, ServiceProviderConfig, ResourceTypes and Schemas")
    found = table(asked.base)
    if not rest:
        return Answer(200, listed(list(found.values())))
    one = next((value for name, value in found.items() if name.lower() == rest[0].lower()), None)
    if one is None:
        raise Refusal(404, f"/{kind} lists those that there are")
    return Answer(200, one)


def _bulk(users: Users, asked: Asked) -> Answer:
    """Do the operations one by one, each a transaction of its own, and say of each that was tried how it ended."""
    plan = bulk.plan(asked.body, users.new_id)
    results: dict[int, dict[str, Any]] = {}
    failed: set[int] = set()
    is_away = False
    for step in plan.steps:
        if plan.most_errors is not None and len(failed) >= plan.most_errors:
            break
        try:
            results[step.place] = _done(users, step, asked, failed, is_away=is_away)
        except Refusal as refusal:
            is_away |= refusal.status == HTTPStatus.SERVICE_UNAVAILABLE
            failed.add(step.place)
            results[step.place] = _about(step, refusal.status) | {
                "response": error_body(refusal.status, refusal.detail, refusal.scim_type)
            }
    return Answer(200, {"schemas": [_BULK], "Operations": [results[place] for place in sorted(results)]})


def _done(users: Users, step: Step, asked: Asked, failed: set[int], *, is_away: bool) -> dict[str, Any]:
    if is_away:
        raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "the database went away before this; send it again")
    if step.refusal is not None:
        raise step.refusal
    if step.waits_for & failed:
        raise Refusal(409, "an operation that this one waits for failed")
    who, request_id = step.id, asked.request_id
    assert who is not None  # noqa: S101 - a step without one is refused
    if step.method == "DELETE":
        users.delete(who, request_id, step.version)
        return _about(step, 204) | {"location": f"{asked.base}/Users/{who}"}
    if step.method == "POST":
        user, status = users.create(resource_of(step.data), request_id, who), 201
    elif step.method == "PUT":
        user, status = users.replace(who, resource_of(step.data), request_id, step.version), 200
    else:
        user, status = users.patch(who, operations_of(step.data), request_id, step.version), 200
    return _about(step, status) | {"location": location(asked.base, user), "version": etag(user.version)}


def _about(step: Step, status: int) -> dict[str, Any]:
    named = {"bulkId": step.bulk_id} if step.bulk_id is not None else {}
    return {"method": step.method, **named, "status": str(int(status))}
