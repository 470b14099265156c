"""Batches to and from HubSpot: what goes in, and whose answer is whose. Pure; never by position.

HubSpot answers in any order, lower-cases e-mails, drops ids of merged records without a word, and may or may
not return our trace. So an answer belongs to the record that its trace, id or key says, and to no one else.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import orjson

from integration.connectors.crm.hubspot_errors import Problem
from integration.errors import Reason
from integration.model.contacts import Answer, ContactWrite, Failed, RemoteContact, Written

ALWAYS_ASKED = ("email", "lms_user_id", "hs_additional_emails", "hs_merged_object_ids")


def normal(by: str | None, value: str) -> str:
    """Return a key as HubSpot compares it: e-mails in lower case, everything without blanks around it.

    Source: HubSpot docs, contacts ("email" is not case sensitive); answers of public test accounts.
    """
    return value.strip().lower() if by == "email" else value.strip()


def found(by: str | None, values: Iterable[str], results: Iterable[Any]) -> dict[str, RemoteContact]:
    """Return the contacts of a batch/read by the values asked for; several values may lead to one contact.

    An id that was merged away leads to the contact that lists it. Source: HubSpot docs, using-object-apis.
    """
    asked: dict[str, list[str]] = defaultdict(list)
    for value in filter(str.strip, values):
        asked[normal(by, value)].append(value)
    answer: dict[str, RemoteContact] = {}
    for contact in contacts(results):
        for key in _keys(by, contact):
            answer |= dict.fromkeys(asked.get(key, ()), contact)
    return answer


def contacts(results: Iterable[Any]) -> Iterator[RemoteContact]:
    """Yield the contacts in `results`, skipping whatever is none; an empty property is ''."""
    for result in results:
        if isinstance(result, dict) and isinstance(result.get("id"), str | int):
            properties = result.get("properties")
            fields = properties if isinstance(properties, dict) else {}
            yield RemoteContact(str(result["id"]), {name: "" if v is None else str(v) for name, v in fields.items()})


class Batch:
    """The writes of one call, and the book in which their answers are entered."""

    def __init__(self, by: str | None, writes: Sequence[ContactWrite]) -> None:
        """`by` is the unique property of an upsert, None for an update by id.

        Raises ValueError where a write lacks its id or key, or two writes share one: HubSpot refuses the
        whole batch for that, so the caller merges them first.
        """
        self._by = by
        self.writes: dict[str, ContactWrite] = {}
        self._refs: dict[str, str] = {}
        self.answers: dict[str, Answer] = {}
        for write in writes:
            ref = normal(by, (write.id if by is None else write.key) or "")
            if not ref:
                raise ValueError(f"the write {write.trace} has no {'id' if by is None else 'key'}")
            if write.trace in self.writes or ref in self._refs:
                twin = self._refs.get(ref, write.trace)
                raise ValueError(f"the writes {twin} and {write.trace} are for one record; merge them")
            self._refs[ref] = write.trace
            if _can_be_sent(write):
                self.writes[write.trace] = write
            else:
                bad = tuple(name for name, value in write.fields.items() if not _is_text(value))
                self.answers[write.trace] = Failed(Reason.INVALID_VALUE, "a value is not valid text", bad)

    def inputs(self) -> list[dict[str, Any]]:
        """Return the inputs of the call; a trace on each of them is what makes HubSpot take part of a batch.

        Source: HubSpot docs, error-handling ("multi-status errors") and contacts (upsert).
        """
        return [self._input(write) for write in self.writes.values()]

    def enter_results(self, results: Iterable[Any]) -> None:
        """Enter the records HubSpot says it wrote; one that is nobody's is left out, never guessed."""
        for result in results:
            for contact in contacts([result]):
                trace = self._trace_of(result.get("objectWriteTraceId"), contact)
                if trace is not None:
                    created = result.get("new") is True
                    self.answers[trace] = Written(contact.id, contact.fields, created)

    def enter_problems(self, problems: Iterable[Problem]) -> list[Problem]:
        """Enter each problem for the records it names, and return those that no record answers for.

        One that names none still finds its record where only one has no answer yet; a property that does not
        exist is the problem of every write that sets it.
        """
        nameless = [problem for problem in problems if not self._enter(problem, self._named(problem))]
        left: list[Problem] = []
        for problem in nameless:
            waiting = self.unanswered()
            if problem.reason is Reason.UNKNOWN_PROPERTY:
                names = set(problem.properties)
                waiting = [t for t in waiting if names & self._input(self.writes[t])["properties"].keys()]
            elif len(waiting) > 1:
                waiting = []
            if not self._enter(problem, waiting):
                left.append(problem)
        return left

    def unanswered(self) -> list[str]:
        """Return the traces nothing is known about yet."""
        return [trace for trace in self.writes if trace not in self.answers]

    def _input(self, write: ContactWrite) -> dict[str, Any]:
        one: dict[str, Any] = {"objectWriteTraceId": write.trace, "properties": dict(write.fields)}
        if self._by is None:
            return one | {"id": (write.id or "").strip()}
        key = normal(self._by, write.key or "")
        # An upsert by e-mail must carry the e-mail, and without it a new contact would not have its key.
        one["properties"][self._by] = key
        return one | {"idProperty": self._by, "id": key}

    def _trace_of(self, echoed: Any, contact: RemoteContact) -> str | None:
        for one in echoed if isinstance(echoed, list) else [echoed]:
            if isinstance(one, str) and one in self.writes:
                return one
        keys = _keys(self._by, contact)
        return next((trace for key in keys if (trace := self._refs.get(key)) in self.writes), None)

    def _named(self, problem: Problem) -> list[str]:
        named = [trace for trace in self.writes if trace in problem.traces]
        refs = (self._refs.get(normal(self._by, one)) for one in problem.ids)
        return named or [trace for trace in refs if trace in self.writes]

    def _enter(self, problem: Problem, traces: Iterable[str]) -> bool:
        entered = False
        for trace in traces:
            self.answers[trace] = self._failed(problem, self.writes[trace])
            entered = True
        return entered

    def _failed(self, problem: Problem, write: ContactWrite) -> Failed:
        reason, properties = problem.reason, problem.properties
        sent = self._input(write)["properties"].keys()
        if reason is Reason.UNKNOWN_PROPERTY:
            properties = tuple(name for name in properties if name in sent)
            # A field we never sent cannot be what is missing, and must not be switched off for everyone.
            reason = reason if properties else Reason.INVALID_VALUE
        if (
            reason is Reason.INVALID_VALUE
            and properties
            and self._input(write)["properties"].keys().isdisjoint(properties)
        ):
            # What we did not send cannot have a wrong value: the portal has a rule about its records.
            return Failed(Reason.VALIDATION_RULE, ": ".join(filter(None, (problem.detail, problem.said))))
        return Failed(reason, problem.detail, properties, problem.existing_id)


def _keys(by: str | None, contact: RemoteContact) -> Iterator[str]:
    """Yield what the contact may have been asked by, the surest first."""
    fields = contact.fields
    if by is None:
        yield contact.id
        yield from _listed(fields.get("hs_merged_object_ids"))
        return
    yield normal(by, fields.get(by, ""))
    if by == "email":
        yield from (normal(by, one) for one in _listed(fields.get("hs_additional_emails")))


def _listed(value: str | None) -> list[str]:
    return [one.strip() for one in (value or "").split(";") if one.strip()]


def _can_be_sent(write: ContactWrite) -> bool:
    return all(map(_is_text, (write.trace, write.id or "", write.key or "", *write.fields.values())))


def _is_text(value: object) -> bool:
    try:
        return isinstance(value, str) and bool(orjson.dumps(value))
    except orjson.JSONEncodeError:
        return False
