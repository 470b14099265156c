"""The companies of the account: records with the same rules as contacts, in a portal of their own.

Contacts say by `associatedcompanyid` which one they are under; a merge of companies moves them.
"""

from typing import TYPE_CHECKING, Any

from scripts.sandbox.answers import now_ms
from scripts.sandbox.operations import (
    PROPERTY_OPERATIONS,
    Handler,
    archive_contact,
    create_contact,
    get_contact,
    merge_contacts,
    read_batch,
    update_batch,
    update_contact,
)
from scripts.sandbox.options import PortalOptions
from scripts.sandbox.portal import Portal
from scripts.sandbox.properties import COMPANY_OF_CONTACT, Property

if TYPE_CHECKING:
    from scripts.sandbox.api import Account

__all__ = ["COMPANY_OPERATIONS", "COMPANY_PROPERTY_OPERATIONS", "company_portal"]

FIRST_ID = 90_001


def company_portal() -> Portal:
    """Return the companies of a new account; batches follow no merges, a single read does."""
    named = [Property("name", "Company name"), Property("domain", "Company domain name")]
    standing = [Property("hs_merged_object_ids", "Merged IDs", read_only=True)]
    standing += [
        Property(name, name.capitalize(), "datetime", "date", read_only=True)
        for name in ("createdate", "lastmodifieddate")
    ]
    return Portal([*named, *standing], PortalOptions(merged_ids_in_batch_read=False), first_id=FIRST_ID)


COMPANY_OPERATIONS: tuple[tuple[str, str, str, Handler], ...] = (
    ("companies.batch_update", "POST", "/batch/update", update_batch),
    ("companies.batch_read", "POST", "/batch/read", read_batch),
    ("companies.merge", "POST", "/merge", merge_contacts),
    ("companies.create", "POST", "", create_contact),
    ("companies.get", "GET", "/{id}", get_contact),
    ("companies.update", "PATCH", "/{id}", update_contact),
    ("companies.archive", "DELETE", "/{id}", archive_contact),
)
COMPANY_PROPERTY_OPERATIONS: tuple[tuple[str, str, str, Handler], ...] = tuple(
    (f"company_{name}", method, path, handler) for name, method, path, handler in PROPERTY_OPERATIONS
)


def show_companies(account: "Account", _asked: dict[str, Any]) -> Any:
    """Every live company with all properties, the history of writes and the number of writes."""
    return {"companies": [one.full() for one in account.companies.contacts if not one.archived]}


def change_companies(account: "Account", asked: dict[str, Any]) -> Any:
    """Add companies (`add`), define properties (`properties`), `edit` one, `merge` two, `archive` one; as people do."""
    portal = account.companies
    for group in asked.get("groups", ()):
        portal.schema.add_group(group)
    for definition in asked.get("properties", ()):
        portal.add_property(definition)
    for name in asked.get("remove", ()):
        portal.remove_property(name)
    ids = portal.seed(asked.get("add", ()))
    for company_id, values in asked.get("edit", {}).items():
        portal.edit(portal.get(None, company_id), values)
    if "merge" in asked:
        ids.append(_merge(account, *asked["merge"]))
    for company_id in asked.get("archive", ()):
        portal.contacts.archive(portal.get(None, company_id), now_ms())
    return {"ids": ids}


def show_company_properties(account: "Account", _asked: dict[str, Any]) -> Any:
    """The definitions of all properties of companies."""
    return {"properties": [one.document() for one in account.companies.schema.properties.values()]}


def _merge(account: "Account", primary: str, other: str) -> str:
    """Merge two companies, and put the contacts of both under the new one."""
    made = account.companies.merge(primary, other)
    for contact in list(account.portal.contacts):
        if not contact.archived and contact.properties.get(COMPANY_OF_CONTACT) in (primary, other):
            account.portal.edit(contact, {COMPANY_OF_CONTACT: made.id})
    return made.id
