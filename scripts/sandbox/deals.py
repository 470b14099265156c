"""The deals of the portal: their stages with all history, and the contacts that each is associated with."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from scripts.sandbox.answers import Refusal, batch_answer, iso_time, not_found, now_ms
from scripts.sandbox.happenings import Announcer, Happening
from scripts.sandbox.inputs import batch_inputs, required_text

__all__ = ["LONGEST_WITH_HISTORY", "Deal", "Deals"]

FIRST_ID = 9001
LONGEST_WITH_HISTORY = 50
LONGEST_ASSOCIATIONS = 1000
DEAL_TO_CONTACT = {"category": "HUBSPOT_DEFINED", "typeId": 3, "label": None}
Document = dict[str, Any]


@dataclass(slots=True)
class Deal:
    """One deal; `history` is every value of its stage and pipeline, in order."""

    id: str
    created_ms: int
    history: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    contacts: list[str] = field(default_factory=list)
    archived: bool = False

    def document(self, names: Iterable[str], history: Iterable[str]) -> Document:
        """The deal as the API shows it, its history the newest first."""
        values = {name: entries[-1][1] for name, entries in self.history.items()}
        answer: Document = {
            "id": self.id,
            "properties": {name: values.get(name) for name in (*names, "hs_object_id", "createdate")},
            "createdAt": iso_time(self.created_ms),
            "archived": self.archived,
        }
        asked = {name: self.history[name] for name in history if name in self.history}
        if asked:
            answer["propertiesWithHistory"] = {
                name: [
                    {"value": value, "timestamp": iso_time(at), "sourceType": "CRM_UI"}
                    for at, value in reversed(entries)
                ]
                for name, entries in asked.items()
            }
        return answer


class Deals:
    """All deals of a portal; what happens to them is told to whoever listens."""

    def __init__(self, tell: Announcer) -> None:
        self._tell = tell
        self._by_id: dict[str, Deal] = {}
        self._next = FIRST_ID

    def add(self, stage: str, pipeline: str, contacts: Iterable[str], at_ms: int | None = None) -> Deal:
        """Make a deal of these contacts."""
        at = at_ms or now_ms()
        deal = Deal(str(self._next), at)
        self._next += 1
        self._by_id[deal.id] = deal
        self._say("creation", deal, at)
        self._set(deal, {"pipeline": pipeline, "dealstage": stage}, at)
        for contact in contacts:
            self.associate(deal.id, contact)
        return deal

    def move(self, deal_id: str, stage: str, pipeline: str | None = None, at_ms: int | None = None) -> Deal:
        """Put a deal into another stage, as a person in the CRM does."""
        deal = self.get(deal_id)
        self._set(deal, {"pipeline": pipeline, "dealstage": stage} if pipeline else {"dealstage": stage}, at_ms)
        return deal

    def associate(self, deal_id: str, contact_id: str, *, removed: bool = False) -> None:
        """Put a contact on a deal, or take it off."""
        deal = self.get(deal_id)
        if (contact_id in deal.contacts) is not removed:
            return
        (deal.contacts.remove if removed else deal.contacts.append)(contact_id)
        happened = Happening("associationChange", deal.id, now_ms(), "CRM_UI", thing="deal")
        self._tell(happened._replace(other_id=contact_id, is_removed=removed))

    def archive(self, deal_id: str) -> None:
        """Put a deal in the bin."""
        deal = self.get(deal_id)
        deal.archived = True
        self._say("deletion", deal, now_ms())

    def get(self, deal_id: str) -> Deal:
        """The live deal of this id; refused with 404 when there is none."""
        deal = self._by_id.get(deal_id)
        if deal is None or deal.archived:
            raise not_found([deal_id])
        return deal

    def batch_read(self, body: Document) -> tuple[list[Document], list[Document]]:
        """Answer batch/read: the deals found, and one error naming all ids that were not."""
        inputs = batch_inputs(body)
        names, history = body.get("properties") or (), body.get("propertiesWithHistory") or ()
        if history and len(inputs) > LONGEST_WITH_HISTORY:
            text = f"Batch size {len(inputs)} exceeds the maximum of {LONGEST_WITH_HISTORY} with history."
            raise Refusal(400, "VALIDATION_ERROR", text)
        asked = [required_text(one.get("id"), "id") for one in inputs]
        there = [deal for one in asked if (deal := self._by_id.get(one)) is not None and not deal.archived]
        missing = [one for one in asked if one not in {deal.id for deal in there}]
        results = [deal.document(names, history) for deal in reversed(there)]
        if not missing:
            return results, []
        lost = not_found(missing).body()
        del lost["correlationId"]
        return results, [lost]

    def contacts_of(self, body: Document, size: int) -> Document:
        """Answer the contacts of deals in pages of `size`; a deal without any is left out."""
        inputs, started, results = body.get("inputs"), now_ms(), []
        if not isinstance(inputs, list) or not 0 < len(inputs) <= LONGEST_ASSOCIATIONS:
            raise Refusal(400, "VALIDATION_ERROR", "Between 1 and 1000 inputs are expected.")
        for one in inputs:
            deal, after = self._by_id.get(required_text(one.get("id"), "id")), int(one.get("after") or 0)
            ids = deal.contacts if deal and not deal.archived else []
            if not ids[after:]:
                continue
            page = [
                {"toObjectId": int(contact), "associationTypes": [DEAL_TO_CONTACT]}
                for contact in ids[after : after + size]
            ]
            result: Document = {"from": {"id": one["id"]}, "to": page}
            if ids[after + size :]:
                result["paging"] = {"next": {"after": str(after + size)}}
            results.append(result)
        return batch_answer(results, [], started, now_ms())

    def _set(self, deal: Deal, values: dict[str, str], at_ms: int | None) -> None:
        at = at_ms or now_ms()
        for name, value in values.items():
            deal.history.setdefault(name, []).append((at, value))
            told = Happening("propertyChange", deal.id, at, "CRM_UI", thing="deal", property=name, value=value)
            self._tell(told)

    def _say(self, happened: Any, deal: Deal, at_ms: int) -> None:
        self._tell(Happening(happened, deal.id, at_ms, "CRM_UI", thing="deal"))
