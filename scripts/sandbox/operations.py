"""What each HubSpot operation answers: one function each, from a parsed call to a status and a body."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from scripts.sandbox.answers import Refusal, batch_answer, now_ms
from scripts.sandbox.inputs import batch_inputs, required_text
from scripts.sandbox.portal import Portal
from scripts.sandbox.properties import Property

__all__ = [
    "LIMIT_OPERATIONS",
    "OBJECT_OPERATIONS",
    "PROPERTY_OPERATIONS",
    "Answer",
    "Call",
    "Handler",
    "unknown_path",
]

Answer = tuple[int, Any]


@dataclass(frozen=True, slots=True)
class Call:
    """One authenticated, admitted and parsed call."""

    portal: Portal
    version: str
    number: int
    params: Mapping[str, str]
    query: Mapping[str, str]
    body: dict[str, Any]

    def names(self, field: str) -> list[str]:
        """A comma-separated list of the query."""
        return [one for one in self.query.get(field, "").split(",") if one]


Handler = Callable[[Call], Answer]


def unknown_path(_call: Call) -> Answer:
    """Answer a path or method HubSpot does not have."""
    raise Refusal(404, "OBJECT_NOT_FOUND", "There is nothing at this path.")


def read_batch(call: Call) -> Answer:
    """Answer contacts batch/read; ids not found make it a partial success."""
    started = now_ms()
    return _partial(call, *call.portal.batch_read(call.body), started)


def create_batch(call: Call) -> Answer:
    """Answer contacts batch/create."""
    started = now_ms()
    return _partial(call, *call.portal.batch_create(call.body, call.version, call.number), started, 201)


def update_batch(call: Call) -> Answer:
    """Answer contacts batch/update."""
    started = now_ms()
    return _partial(call, *call.portal.batch_update(call.body, call.version, call.number), started)


def upsert_batch(call: Call) -> Answer:
    """Answer contacts batch/upsert, the only one whose results say `new`."""
    started = now_ms()
    results, errors = call.portal.batch_upsert(call.body, call.version, call.number)
    return _partial(call, results, errors, started)


def archive_batch(call: Call) -> Answer:
    """Answer contacts batch/archive; ids that are gone already are fine."""
    for one in batch_inputs(call.body):
        contact = call.portal.contacts.by_id(required_text(one.get("id"), "id"))
        if contact is not None:
            call.portal.contacts.archive(contact, now_ms())
    return 204, None


def list_contacts(call: Call) -> Answer:
    """Answer the paged list of all contacts."""
    limit, after = call.query.get("limit", "10"), call.query.get("after", "0")
    if not (limit.isdigit() and after.isdigit() and 1 <= int(limit) <= 100):
        raise Refusal(400, "VALIDATION_ERROR", "limit must be between 1 and 100, after a cursor of ours.")
    found, following = call.portal.contacts.page(int(after), int(limit))
    names, history = call.names("properties"), call.names("propertiesWithHistory")
    answer: dict[str, Any] = {"results": [one.document(names, history) for one in found]}
    if following is not None:
        answer["paging"] = {"next": {"after": str(following), "link": f"?after={following}"}}
    return 200, answer


def get_contact(call: Call) -> Answer:
    """Answer one contact; the id of a merged record leads to the survivor."""
    contact = call.portal.get(call.query.get("idProperty"), call.params["id"])
    return 200, contact.document(call.names("properties"), call.names("propertiesWithHistory"))


def create_contact(call: Call) -> Answer:
    """Answer the creation of one contact."""
    return 201, call.portal.create(call.body, call.version, call.number)


def update_contact(call: Call) -> Answer:
    """Answer the update of one contact; the id of a merged record leads to the survivor."""
    contact = call.portal.get(call.query.get("idProperty"), call.params["id"])
    return 200, call.portal.update(contact, call.body, call.version, call.number)


def archive_contact(call: Call) -> Answer:
    """Answer the archiving of one contact."""
    contact = call.portal.contacts.by_id(call.params["id"])
    if contact is not None:
        call.portal.contacts.archive(contact, now_ms())
    return 204, None


def merge_contacts(call: Call) -> Answer:
    """Answer a merge: a new record with a new id."""
    primary = required_text(call.body.get("primaryObjectId"), "primaryObjectId")
    other = required_text(call.body.get("objectIdToMerge"), "objectIdToMerge")
    return 200, call.portal.merge(primary, other).document()


def list_properties(call: Call) -> Answer:
    """Answer all property definitions; with `archived=true` those in the bin instead."""
    listed = call.portal.schema.bin if _archived(call) else call.portal.schema.properties
    return 200, {"results": [_definition(call, one) for one in listed.values()]}


def get_property(call: Call) -> Answer:
    """Answer one property definition."""
    listed = call.portal.schema.bin if _archived(call) else call.portal.schema.properties
    found = listed.get(call.params["name"])
    if found is None:
        raise Refusal(404, "OBJECT_NOT_FOUND", f'Property "{call.params["name"]}" does not exist')
    return 200, _definition(call, found)


def _archived(call: Call) -> bool:
    return call.query.get("archived") == "true"


def _definition(call: Call, one: Property) -> dict[str, Any]:
    return {**one.document(), "archived": _archived(call)}


def create_property(call: Call) -> Answer:
    """Answer the creation of one property."""
    return 201, call.portal.add_property(call.body).document()


def create_properties(call: Call) -> Answer:
    """Answer the creation of several properties; those that fail are named one by one."""
    started = now_ms()
    results: list[dict[str, Any]] = []
    errors: list[dict[str, Any]] = []
    for one in batch_inputs(call.body):
        try:
            results.append(call.portal.add_property(one).document())
        except Refusal as refusal:
            errors.append({**refusal.body(), "context": {"name": [str(one.get("name"))]}})
    return _partial(call, results, errors, started, 201)


def list_groups(call: Call) -> Answer:
    """Answer all property groups."""
    return 200, {"results": list(call.portal.schema.groups.values())}


def get_group(call: Call) -> Answer:
    """Answer one property group."""
    found = call.portal.schema.groups.get(call.params["name"])
    if found is None:
        raise Refusal(404, "OBJECT_NOT_FOUND", f"Property group {call.params['name']} does not exist")
    return 200, found


def create_group(call: Call) -> Answer:
    """Answer the creation of a property group."""
    return 201, call.portal.schema.add_group(call.body)


def custom_property_limits(call: Call) -> Answer:
    """Answer how many custom properties each kind of record may have and has; not every portal says it."""
    if not call.portal.options.tells_limits:
        return unknown_path(call)
    limit, usage = call.portal.options.custom_properties, call.portal.schema.custom
    contacts = {"objectTypeId": "0-1", "limit": limit, "usage": usage, "percentage": 100 * usage / max(limit, 1)}
    deals = {"objectTypeId": "0-3", "limit": limit, "usage": 0, "percentage": 0}
    return 200, {"byObjectType": [deals, contacts]}


def _partial(
    call: Call, results: list[dict[str, Any]], errors: list[dict[str, Any]], started: int, whole: int = 200
) -> Answer:
    status = whole
    if errors:
        quiet = call.version == "2026-09" and call.portal.options.partial_success_is_200
        status = 200 if quiet else 207
    return status, batch_answer(results, errors, started, now_ms())


OBJECT_OPERATIONS: tuple[tuple[str, str, str, Handler], ...] = (
    ("contacts.batch_upsert", "POST", "/batch/upsert", upsert_batch),
    ("contacts.batch_update", "POST", "/batch/update", update_batch),
    ("contacts.batch_read", "POST", "/batch/read", read_batch),
    ("contacts.batch_create", "POST", "/batch/create", create_batch),
    ("contacts.batch_archive", "POST", "/batch/archive", archive_batch),
    ("contacts.merge", "POST", "/merge", merge_contacts),
    ("contacts.list", "GET", "", list_contacts),
    ("contacts.create", "POST", "", create_contact),
    ("contacts.get", "GET", "/{id}", get_contact),
    ("contacts.update", "PATCH", "/{id}", update_contact),
    ("contacts.archive", "DELETE", "/{id}", archive_contact),
)
PROPERTY_OPERATIONS: tuple[tuple[str, str, str, Handler], ...] = (
    ("properties.list", "GET", "", list_properties),
    ("properties.create", "POST", "", create_property),
    ("properties.batch_create", "POST", "/batch/create", create_properties),
    ("properties.group_list", "GET", "/groups", list_groups),
    ("properties.group_create", "POST", "/groups", create_group),
    ("properties.group_get", "GET", "/groups/{name}", get_group),
    ("properties.get", "GET", "/{name}", get_property),
)
LIMIT_OPERATIONS: tuple[tuple[str, str, str, Handler], ...] = (
    ("limits.custom_properties", "GET", "/custom-properties", custom_property_limits),
)
