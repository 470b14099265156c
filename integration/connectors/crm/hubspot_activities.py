"""HubSpot's timeline: activities as custom events, which an Enterprise account takes once by UUID, or as notes.

A note is not known again when it is sent twice, so it carries a marker that is looked for among the contact's notes.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final
from zoneinfo import ZoneInfo

from integration.config import ConnectionConfig
from integration.connectors.client import Gate, OnCall, Reply
from integration.connectors.crm import hubspot_event_definitions, hubspot_texts
from integration.connectors.crm.hubspot import HubSpot, whole
from integration.connectors.crm.hubspot_errors import Problem, problems
from integration.connectors.crm.hubspot_event_definitions import Found
from integration.connectors.crm.hubspot_limits import EVENTS
from integration.errors import ConnectionBroken, Reason, UnknownOutcome
from integration.model.activities import Activity
from integration.model.contacts import Answer, Failed, Written
from integration.ports import ANY_CALL, ActivityStore, GrantStore

_NOTE_OF_CONTACT: Final = {"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 202}
_READ: Final = 100
_MOST_PAGES: Final = 50


def store(
    config: ConnectionConfig, on_call: OnCall = None, gate: Gate = None, grants: Callable[[], GrantStore] | None = None
) -> ActivityStore | None:
    """Return what writes this connection's activities, None where it shows none; keep it. Raises ConfigError."""
    kind = config.options.activity
    if kind == "none":
        return None
    crm = HubSpot(config, on_call, gate, grants)
    zone = ZoneInfo(config.options.timezone)
    return CustomEvents(crm, zone) if kind == "custom_event" else Notes(crm, zone)


class CustomEvents:
    """Activities as custom events: at most 500 a call, known again by their UUID (HubSpot docs, send-event-data)."""

    batch_size = 500
    endpoint = EVENTS
    takes_once = True

    def __init__(self, crm: HubSpot, zone: ZoneInfo) -> None:
        """`zone` is the account's, for dates."""
        self._crm, self._zone = crm, zone
        self._known = Found({}, {})

    def write(self, activities: Sequence[Activity]) -> dict[str, Answer]:
        """Send; raises ConnectionBroken(ACTIVITY_UNDEFINED) where an event is not defined.

        HubSpot answers 204 before it looks at the records, so that a contact which is gone is not heard of.
        """
        known = self._known if self._known.names else self._read()
        reply = self._send(activities, known)
        if reply.ok:
            return {one.trace: Written(str(one.uuid)) for one in activities}
        fresh = self._read()
        if fresh != known:
            reply = self._send(activities, fresh)
            if reply.ok:
                return {one.trace: Written(str(one.uuid)) for one in activities}
        return self._refused(activities, problems(reply.status, reply.body)[0])

    def find(self, activities: Sequence[Activity]) -> dict[str, str]:
        """Return nothing: nobody need look."""
        del activities
        return {}

    def _read(self) -> Found:
        self._known = hubspot_event_definitions.read(self._crm.call)
        return self._known

    def _send(self, activities: Sequence[Activity], known: Found) -> Reply:
        kinds = {one.kind for one in activities} - known.names.keys()
        if kinds:
            self._known = Found({}, {})  # to be read again with the next try
            names = sorted(hubspot_event_definitions.EVENTS[kind][0] for kind in kinds)
            raise ConnectionBroken(Reason.ACTIVITY_UNDEFINED, f"not defined: {', '.join(names)}")
        inputs = [
            {
                "eventName": known.names[one.kind],
                "objectId": one.contact,
                "occurredAt": hubspot_texts.moment(one.occurred_at),
                "uuid": str(one.uuid),
                "properties": {
                    name: value
                    for name, value in hubspot_texts.properties(one, self._zone).items()
                    if name not in known.lacking[one.kind]
                },
            }
            for one in activities
        ]
        return self._crm.call("custom_events.send_batch", {"inputs": inputs}, records=len(inputs), endpoint=EVENTS)

    def _refused(self, activities: Sequence[Activity], problem: Problem) -> dict[str, Answer]:
        """Return what a refusal means; a UUID that is taken is taken by this very activity."""
        if len(activities) > 1:
            raise whole(problem, writes=True)
        if problem.reason is Reason.CONFLICT:
            return {activities[0].trace: Written(str(activities[0].uuid))}
        return {activities[0].trace: _failed(problem)}


class Notes:
    """Activities as notes: at most 100 a call, each with a marker (HubSpot docs, activities, notes)."""

    batch_size = 100
    endpoint = ANY_CALL
    takes_once = False

    def __init__(self, crm: HubSpot, zone: ZoneInfo) -> None:
        """`zone` is the account's, for dates."""
        self._crm, self._zone = crm, zone

    def write(self, activities: Sequence[Activity]) -> dict[str, Answer]:
        """Create a note for each; an answer belongs to the note whose marker or trace it holds, never to a place."""
        inputs = [
            {
                "objectWriteTraceId": one.trace,
                "properties": {
                    "hs_timestamp": hubspot_texts.moment(one.occurred_at),
                    "hs_note_body": hubspot_texts.note(one, self._zone),
                },
                "associations": [{"to": {"id": one.contact}, "types": [_NOTE_OF_CONTACT]}],
            }
            for one in activities
        ]
        reply = self._crm.call("notes.batch_create", {"inputs": inputs}, records=len(inputs))
        found = problems(reply.status, reply.body)
        made = _results(reply) if reply.ok else []
        if reply.ok and not found and len(made) == len(activities) == 1:
            return {activities[0].trace: Written(str(made[0].get("id")))}
        answers: dict[str, Answer] = dict(_marked(activities, made))
        nameless = [problem for problem in found if not self._name(problem, activities, answers)]
        if nameless and not answers:
            if len(activities) == 1 and not reply.ok:
                return {activities[0].trace: _failed(nameless[0])}
            raise whole(nameless[0], writes=True)
        return answers

    def find(self, activities: Sequence[Activity]) -> dict[str, str]:
        """Look for the markers in all notes of the contacts, the newest first; several reads of at most 100 notes."""
        notes = sorted(self._of_contacts({one.contact for one in activities}), key=_as_number, reverse=True)
        answers: dict[str, str] = {}
        for start in range(0, len(notes), _READ):
            if len(answers) == len(activities):
                break
            inputs = [{"id": one} for one in notes[start : start + _READ]]
            body = {"properties": ["hs_note_body"], "inputs": inputs}
            reply = self._crm.call("notes.batch_read", body, records=len(inputs))
            if not reply.ok:
                raise whole(problems(reply.status, reply.body)[0], writes=False)
            answers |= {trace: one.id for trace, one in _marked(activities, _results(reply))}
        return answers

    def _of_contacts(self, contacts: set[str]) -> set[str]:
        """Return the ids of their notes; a contact that the answer does not name, or only as an error, has none."""
        notes: set[str] = set()
        inputs = [{"id": one} for one in sorted(contacts)]
        for _ in range(_MOST_PAGES):
            reply = self._crm.call("notes.of_contacts", {"inputs": inputs}, records=len(inputs))
            if not reply.ok:
                raise whole(problems(reply.status, reply.body)[0], writes=False)
            inputs = []
            for result in _results(reply):
                notes |= {str(one["toObjectId"]) for one in _dicts(result.get("to")) if "toObjectId" in one}
                after = _get(_get(result.get("paging"), "next"), "after")
                if after:
                    inputs.append({"id": str(_get(result.get("from"), "id")), "after": str(after)})
            if not inputs:
                break
        return notes

    @staticmethod
    def _name(problem: Problem, activities: Sequence[Activity], answers: dict[str, Answer]) -> bool:
        """Enter a refusal under whom it names; say whether it names anybody."""
        traces = {one.trace for one in activities if one.trace in problem.traces}
        traces |= {one.trace for one in activities if one.contact in problem.ids}
        answers |= dict.fromkeys(traces - answers.keys(), _failed(problem))
        return bool(traces)


def _failed(problem: Problem) -> Failed:
    """Return a refusal of one activity; trouble of HubSpot's own says nothing about it, and is raised."""
    error = whole(problem, writes=True)
    if isinstance(error, UnknownOutcome):
        raise error
    return Failed(problem.reason, problem.detail, problem.properties)


def _marked(activities: Sequence[Activity], notes: Sequence[dict[str, Any]]) -> Iterator[tuple[str, Written]]:
    """Yield whose marker stands in which note."""
    markers = {one.marker: one.trace for one in activities}
    for note in notes:
        body = str(_get(note.get("properties"), "hs_note_body") or "")
        for marker in hubspot_texts.MARKER.findall(body):
            if marker in markers and note.get("id"):
                yield markers[marker], Written(str(note["id"]))


def _results(reply: Reply) -> list[dict[str, Any]]:
    """Return the records of a 2xx; raises where there is no list of them, nor of errors."""
    results = _get(reply.body, "results")
    if not isinstance(results, list) and not isinstance(_get(reply.body, "errors"), list):
        raise UnknownOutcome(Reason.MALFORMED_ANSWER, f"HubSpot answered {reply.status} without results")
    return _dicts(results)


def _dicts(thing: Any) -> list[dict[str, Any]]:
    return [one for one in thing if isinstance(one, dict)] if isinstance(thing, list) else []


def _get(thing: Any, key: str) -> Any:
    return thing.get(key) if isinstance(thing, dict) else None


def _as_number(record_id: str) -> int:
    return int(record_id) if record_id.isascii() and record_id.isdigit() else 0
