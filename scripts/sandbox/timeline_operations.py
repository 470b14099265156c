"""What the operations about timelines answer: custom events, which need an Enterprise tier, and notes."""

from typing import Any

from scripts.sandbox.answers import Refusal, batch_answer, now_ms
from scripts.sandbox.inputs import batch_inputs, required_text
from scripts.sandbox.operations import Answer, Call, Handler
from scripts.sandbox.timeline import LONGEST_BATCH

__all__ = ["ASSOCIATION_OPERATIONS", "EVENT_OPERATIONS", "NOTE_OPERATIONS"]

LONGEST_ASSOCIATIONS = 1000


def _require_tier(call: Call) -> None:
    if not call.portal.options.enterprise:
        raise Refusal(403, "MISSING_SCOPES", "This account does not have access to custom events.")


def list_definitions(call: Call) -> Answer:
    """Answer a page of the definitions."""
    _require_tier(call)
    limit, after = int(call.query.get("limit", "100")), int(call.query.get("after", "0"))
    listed = list(call.portal.timeline.definitions.values())
    answer: dict[str, Any] = {"total": len(listed), "results": listed[after : after + limit]}
    if after + limit < len(listed):
        answer["paging"] = {"next": {"after": str(after + limit)}}
    return 200, answer


def get_definition(call: Call) -> Answer:
    """Answer one definition, by its name as the portal calls it."""
    _require_tier(call)
    found = call.portal.timeline.definitions.get(call.params["name"])
    if found is None:
        raise Refusal(404, "OBJECT_NOT_FOUND", f"No event definition is called {call.params['name']}.")
    return 200, found


def create_definition(call: Call) -> Answer:
    """Answer the creation of one definition."""
    _require_tier(call)
    return 201, call.portal.timeline.define(call.body)


def send_one(call: Call) -> Answer:
    """Answer one event: 204, before anybody has looked at the contact."""
    return _sent(call, [call.body])


def send_batch(call: Call) -> Answer:
    """Answer a batch of events, all or none."""
    inputs = call.body.get("inputs")
    if not isinstance(inputs, list) or not inputs or not all(isinstance(one, dict) for one in inputs):
        raise Refusal(400, "VALIDATION_ERROR", "Invalid input JSON: inputs must be a list of objects.")
    if len(inputs) > LONGEST_BATCH:
        raise Refusal(400, "VALIDATION_ERROR", f"Batch size {len(inputs)} exceeds the maximum of {LONGEST_BATCH}.")
    return _sent(call, inputs)


def _sent(call: Call, inputs: list[dict[str, Any]]) -> Answer:
    _require_tier(call)
    portal = call.portal
    refuse = portal.options.repeated_events_refused
    portal.timeline.send(inputs, portal.contacts, call.number, refuse_repeats=refuse)
    return 204, None


def create_note(call: Call) -> Answer:
    """Answer the creation of one note."""
    made = call.portal.timeline.note(call.body, call.portal.contacts, call.number)
    return 201, made.document(list(made.properties))


def create_notes(call: Call) -> Answer:
    """Answer notes batch/create: without a unique trace on every input, one bad input rejects them all."""
    started, inputs = now_ms(), batch_inputs(call.body)
    traces = {one.get("objectWriteTraceId") for one in inputs} - {None, ""}
    results, errors = [], []
    taken = len(call.portal.timeline.notes)
    for one in inputs:
        try:
            made = call.portal.timeline.note(one, call.portal.contacts, call.number)
            results.append(made.document(list(made.properties)))
        except Refusal as refusal:
            if len(traces) < len(inputs):
                for record_id in list(call.portal.timeline.notes)[taken:]:
                    del call.portal.timeline.notes[record_id]
                raise
            errors.append(refusal.batch_error(one["objectWriteTraceId"]))
    results.reverse()
    quiet = call.version == "2026-09" and call.portal.options.partial_success_is_200
    return (207 if errors and not quiet else 201), batch_answer(results, errors, started, now_ms())


def read_notes(call: Call) -> Answer:
    """Answer notes batch/read; what is not there is left out."""
    started, known = now_ms(), call.portal.timeline.notes
    asked = [required_text(one.get("id"), "id") for one in batch_inputs(call.body)]
    names = [str(one) for one in call.body.get("properties") or ()]
    return 200, batch_answer([known[one].document(names) for one in asked if one in known], [], started, now_ms())


def notes_of_contacts(call: Call) -> Answer:
    """Answer the notes of contacts, in pages where the portal says so; a contact without any is left out."""
    inputs = call.body.get("inputs")
    if not isinstance(inputs, list) or not 0 < len(inputs) <= LONGEST_ASSOCIATIONS:
        raise Refusal(400, "VALIDATION_ERROR", "Between 1 and 1000 inputs are expected.")
    portal, started, results = call.portal, now_ms(), []
    size = portal.options.association_page
    for one in inputs:
        ids = portal.timeline.notes_of(required_text(one.get("id"), "id"), portal.contacts)
        after = int(one.get("after") or 0)
        if not ids[after:]:
            continue
        types = [{"category": "HUBSPOT_DEFINED", "typeId": 201, "label": None}]
        page = [{"toObjectId": int(note), "associationTypes": types} for note in ids[after : after + size]]
        result: dict[str, Any] = {"from": {"id": one["id"]}, "to": page}
        if ids[after + size :]:
            result["paging"] = {"next": {"after": str(after + size)}}
        results.append(result)
    return 200, batch_answer(results, [], started, now_ms())


EVENT_OPERATIONS: tuple[tuple[str, str, str, Handler], ...] = (
    ("custom_events.definition_list", "GET", "/event-definitions", list_definitions),
    ("custom_events.definition_create", "POST", "/event-definitions", create_definition),
    ("custom_events.definition_get", "GET", "/event-definitions/{name}", get_definition),
    ("custom_events.send", "POST", "/send", send_one),
    ("custom_events.send_batch", "POST", "/send/batch", send_batch),
)
NOTE_OPERATIONS: tuple[tuple[str, str, str, Handler], ...] = (
    ("notes.batch_create", "POST", "/batch/create", create_notes),
    ("notes.batch_read", "POST", "/batch/read", read_notes),
    ("notes.create", "POST", "", create_note),
)
ASSOCIATION_OPERATIONS: tuple[tuple[str, str, str, Handler], ...] = (
    ("notes.of_contacts", "POST", "/contacts/notes/batch/read", notes_of_contacts),
)
