"""The scopes of the token: which operation needs which, and the 403 where the portal's admin has not granted it."""

from collections.abc import Collection

from scripts.sandbox.answers import Refusal

__all__ = ["require"]

READ = ("crm.objects.contacts.read",)
WRITE = ("crm.objects.contacts.write",)
DEFINITIONS = ("crm.schemas.contacts.read", *READ)
NEW_DEFINITIONS = ("crm.schemas.contacts.write",)
DEFINE_EVENTS = ("behavioral_events.event_definitions.read_write",)
SEND_EVENTS = ("analytics.behavioral_events.send",)
READ_DEALS = ("crm.objects.deals.read",)
COMPANIES = ("crm.objects.companies.read", "crm.objects.companies.write")
OF_COMPANIES = ("crm.schemas.companies.read", *COMPANIES[:1])
READING_COMPANIES = frozenset({"companies.batch_read", "companies.get"})
NOTES = frozenset({"notes.batch_read", "notes.of_contacts"})
READING = NOTES | frozenset({"contacts.batch_read", "contacts.get", "contacts.list", "limits.custom_properties"})


def needed(operation: str) -> tuple[str, ...]:
    """The scopes of which an operation needs any one; empty where it needs none."""
    if operation in ("deals.batch_read", "contacts.of_deals"):
        return READ_DEALS
    if operation.startswith("compan"):
        return _of_companies(operation)
    if operation.startswith(("contacts.", "notes.")) or operation in READING:
        return READ if operation in READING else WRITE
    if operation.startswith("custom_events."):
        return SEND_EVENTS if operation.startswith("custom_events.send") else DEFINE_EVENTS
    if operation.startswith("properties."):
        return NEW_DEFINITIONS if operation.endswith("create") else DEFINITIONS
    return ()


def _of_companies(operation: str) -> tuple[str, ...]:
    if operation.startswith("companies."):
        return COMPANIES[:1] if operation in READING_COMPANIES else COMPANIES[1:]
    return ("crm.schemas.companies.write",) if operation.endswith("create") else OF_COMPANIES


def require(operation: str, missing: Collection[str]) -> None:
    """Refuse an operation whose scopes are all among those the token lacks."""
    scopes = needed(operation)
    if scopes and all(one in missing for one in scopes):
        raise Refusal(
            403,
            "MISSING_SCOPES",
            "This app hasn't been granted all required scopes to make this call.",
            errors=[
                {
                    "message": "One or more of the following scopes are required.",
                    "context": {"requiredGranularScopes": list(scopes)},
                }
            ],
            links={"scopes": "https://developers.hubspot.com/scopes"},
        )
