"""HubSpot's companies, as far as rules fill them: read and updated by id, at most 100 in a request, never created.

Which company a contact is under its property `associatedcompanyid` says (`Capabilities.account_property`): the primary
one of those it is linked with. Source: HubSpot docs, contacts (default properties) and associations.
"""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

from integration.connectors.crm.hubspot import HubSpot, raise_read_problems, results, whole
from integration.connectors.crm.hubspot_batches import Batch, contacts, found
from integration.connectors.crm.hubspot_errors import problems
from integration.errors import Reason, RetryLater
from integration.model.contacts import Answer, ContactWrite, RemoteContact
from integration.ports import ContactStore, RecordStore

_ALWAYS_ASKED: Final = ("hs_merged_object_ids",)


class Companies:
    """The companies of one account. Raises what `HubSpot` does."""

    def __init__(self, crm: HubSpot) -> None:
        """Make its calls as `crm`, by the same token and limits."""
        self._crm, self.capabilities = crm, crm.capabilities

    def read(self, by: str | None, values: Sequence[str], fields: Sequence[str]) -> dict[str, RemoteContact]:
        """Return the companies found, by the id asked for; `by` is None. A single id is followed through merges.

        Source: HubSpot docs, companies (batch read, merge) and error-handling ("multi-status errors").
        """
        if by is not None:
            raise ValueError("companies are looked up by HubSpot's id alone")
        ids = list(dict.fromkeys(filter(None, map(str.strip, values))))
        if not ids:
            return {}
        names = sorted({*fields, *_ALWAYS_ASKED})
        body = {"properties": names, "propertiesWithHistory": [], "inputs": [{"id": one} for one in ids]}
        reply = self._crm.call("companies.batch_read", body, records=len(ids))
        raise_read_problems(None, reply)
        answer = found(None, values, results(reply, writes=False))
        if answer or len(ids) > 1:
            return answer
        company = self._read_one(ids[0], names)
        return {value: company for value in values if value.strip()} if company else {}

    def update(self, writes: Sequence[ContactWrite]) -> dict[str, Answer]:
        """Write to known ids; keyed by trace. A write without an answer was merged away, or we cannot tell.

        Source: HubSpot docs, companies (batch update).
        """
        batch = Batch(None, writes)
        if not (inputs := batch.inputs()):
            return batch.answers
        reply = self._crm.call("companies.batch_update", {"inputs": inputs}, records=len(inputs))
        if reply.ok:
            batch.enter_results(results(reply, writes=True))
        nameless = batch.enter_problems(problems(reply.status, reply.body))
        if nameless and len(batch.unanswered()) == len(inputs):
            raise whole(nameless[0], writes=True)
        return batch.answers

    def _read_one(self, company_id: str, names: Sequence[str]) -> RemoteContact | None:
        reply = self._crm.ask("companies.get", params={"properties": ",".join(names)}, id=company_id)
        if reply.status == HTTPStatus.NOT_FOUND:
            return None
        company = next(contacts([reply.body]), None)
        if company is None:
            raise RetryLater(Reason.MALFORMED_ANSWER, "HubSpot answered a read without a company")
        return company


def store(contacts_of: ContactStore) -> RecordStore | None:
    """Return the companies of the account whose contacts these are; None where it is no HubSpot."""
    return Companies(contacts_of) if isinstance(contacts_of, HubSpot) else None
