"""What the operations about deals answer: batch/read with history, and the contacts that deals are associated with."""

from scripts.sandbox.answers import batch_answer, now_ms
from scripts.sandbox.operations import Answer, Call, Handler

__all__ = ["DEAL_OPERATIONS", "OF_DEALS"]


def read_deals(call: Call) -> Answer:
    """Answer deals batch/read; ids not found make it a partial success."""
    started = now_ms()
    results, errors = call.portal.deals.batch_read(call.body)
    quiet = call.version == "2026-09" and call.portal.options.partial_success_is_200
    return (207 if errors and not quiet else 200), batch_answer(results, errors, started, now_ms())


def contacts_of_deals(call: Call) -> Answer:
    """Answer the contacts of deals, in pages where the portal says so."""
    return 200, call.portal.deals.contacts_of(call.body, call.portal.options.association_page)


DEAL_OPERATIONS: tuple[tuple[str, str, str, Handler], ...] = (("deals.batch_read", "POST", "/batch/read", read_deals),)
OF_DEALS: tuple[tuple[str, str, str, Handler], ...] = (
    ("contacts.of_deals", "POST", "/deals/contacts/batch/read", contacts_of_deals),
)
