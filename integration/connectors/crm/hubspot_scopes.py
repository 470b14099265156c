"""The permissions of a HubSpot token: what stops working without each, and how to ask for one without changing a thing.

Source: HubSpot docs, scopes and error-handling (403 with category MISSING_SCOPES, which a missing tier answers too).
"""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from integration.errors import CoursewireError, Reason
from integration.model.accounts import ACCOUNT
from integration.model.contacts import CONTACT
from integration.ports import Finding


class Scope(NamedTuple):
    """A permission, and what stops without it."""

    name: str
    without: str


READ: Final = Scope("crm.objects.contacts.read", "nobody is found in HubSpot, so nothing is written")
WRITE: Final = Scope("crm.objects.contacts.write", "nothing is written to HubSpot")
LIST: Final = Scope("crm.schemas.contacts.read", "missing and wrong properties are not found before a write is refused")
CREATE: Final = Scope("crm.schemas.contacts.write", "set-up cannot create groups and properties")
DEFINE: Final = Scope(
    "behavioral_events.event_definitions.read_write",
    "custom events cannot be defined, nor their names read, so no activity is sent",
)
READ_COMPANIES: Final = Scope("crm.objects.companies.read", "no company is compared, so none is written")
WRITE_COMPANIES: Final = Scope("crm.objects.companies.write", "no company is written")
LISTS: Final[Mapping[str, Scope]] = MappingProxyType(
    {
        CONTACT: LIST,
        ACCOUNT: Scope("crm.schemas.companies.read", "missing and wrong properties of companies are not found early"),
    }
)
"""What the definitions are read by, of contacts and of accounts."""
CREATES: Final[Mapping[str, Scope]] = MappingProxyType(
    {
        CONTACT: CREATE,
        ACCOUNT: Scope("crm.schemas.companies.write", "set-up cannot create groups and properties of companies"),
    }
)
"""What they are created by."""
SEND: Final = Scope("analytics.behavioral_events.send", "no activity is sent")
DEALS: Final = Scope("crm.objects.deals.read", "no deal reaches a stage, so rules that ask for deals mean nobody")


class Probe(NamedTuple):
    """A call that needs a permission and can change nothing: a read, or a write of no records at all."""

    scope: Scope
    operation: str
    method: str
    body: object = None
    place: Mapping[str, str] = MappingProxyType({})


WRITING: Final = (Probe(WRITE, "contacts.batch_update", "POST", {"inputs": []}),)
EVENTS: Final = (Probe(SEND, "custom_events.send_batch", "POST", {"inputs": []}),)
"""Only where activities are custom events, which need an Enterprise tier as well."""

COMPANIES: Final = (
    Probe(READ_COMPANIES, "companies.batch_read", "POST", {"properties": [], "inputs": [{"id": "1"}]}),
    Probe(WRITE_COMPANIES, "companies.batch_update", "POST", {"inputs": []}),
)
"""Only where rules fill companies."""


def missing(scope: Scope, error: CoursewireError | None) -> Iterator[Finding]:
    """Yield the finding that `error` says the token lacks `scope`; nothing where it says anything else."""
    if error is not None and error.reason is Reason.SCOPE_MISSING:
        advice = f"grant {scope.name} to the app of the token; where it has it, see the account's tier. {error.detail}"
        yield Finding(False, f"the token lacks {scope.name}: {scope.without}", advice)


def probe(call: Callable[[Probe], Any], *probes: Probe) -> Iterator[Finding]:
    """Make each call and yield which permission is missing; any other answer says that it is there, or nothing."""
    for one in probes:
        try:
            call(one)
        except CoursewireError as error:
            yield from missing(one.scope, error)
