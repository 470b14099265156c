"""Where HubSpot's operations are, per API version: the paths do not translate mechanically, so it is a table.

Source: HubSpot's API descriptions of August 2026 (v3 and v4 become unsupported in 2027).
"""

from collections.abc import Mapping
from typing import Final, Literal

Version = Literal["2026-09", "2026-03", "legacy"]

PATHS: Final[Mapping[str, Mapping[Version, str]]] = {
    "contacts.batch_read": {
        "2026-09": "/crm/objects/2026-09/contacts/batch/read",
        "2026-03": "/crm/objects/2026-03/contacts/batch/read",
        "legacy": "/crm/v3/objects/contacts/batch/read",
    },
    "contacts.batch_update": {
        "2026-09": "/crm/objects/2026-09/contacts/batch/update",
        "2026-03": "/crm/objects/2026-03/contacts/batch/update",
        "legacy": "/crm/v3/objects/contacts/batch/update",
    },
    "contacts.batch_upsert": {
        "2026-09": "/crm/objects/2026-09/contacts/batch/upsert",
        "2026-03": "/crm/objects/2026-03/contacts/batch/upsert",
        "legacy": "/crm/v3/objects/contacts/batch/upsert",
    },
    "contacts.list": {
        "2026-09": "/crm/objects/2026-09/contacts",
        "2026-03": "/crm/objects/2026-03/contacts",
        "legacy": "/crm/v3/objects/contacts",
    },
    "contacts.get": {
        "2026-09": "/crm/objects/2026-09/contacts/{id}",
        "2026-03": "/crm/objects/2026-03/contacts/{id}",
        "legacy": "/crm/v3/objects/contacts/{id}",
    },
    "companies.batch_read": {
        "2026-09": "/crm/objects/2026-09/companies/batch/read",
        "2026-03": "/crm/objects/2026-03/companies/batch/read",
        "legacy": "/crm/v3/objects/companies/batch/read",
    },
    "companies.batch_update": {
        "2026-09": "/crm/objects/2026-09/companies/batch/update",
        "2026-03": "/crm/objects/2026-03/companies/batch/update",
        "legacy": "/crm/v3/objects/companies/batch/update",
    },
    "companies.get": {
        "2026-09": "/crm/objects/2026-09/companies/{id}",
        "2026-03": "/crm/objects/2026-03/companies/{id}",
        "legacy": "/crm/v3/objects/companies/{id}",
    },
    "company_properties.list": {
        "2026-09": "/crm/properties/2026-09/companies",
        "2026-03": "/crm/properties/2026-03/companies",
        "legacy": "/crm/v3/properties/companies",
    },
    "company_properties.get": {
        "2026-09": "/crm/properties/2026-09/companies/{name}",
        "2026-03": "/crm/properties/2026-03/companies/{name}",
        "legacy": "/crm/v3/properties/companies/{name}",
    },
    "company_properties.create": {
        "2026-09": "/crm/properties/2026-09/companies",
        "2026-03": "/crm/properties/2026-03/companies",
        "legacy": "/crm/v3/properties/companies",
    },
    "company_properties.group_create": {
        "2026-09": "/crm/properties/2026-09/companies/groups",
        "2026-03": "/crm/properties/2026-03/companies/groups",
        "legacy": "/crm/v3/properties/companies/groups",
    },
    "properties.list": {
        "2026-09": "/crm/properties/2026-09/contacts",
        "2026-03": "/crm/properties/2026-03/contacts",
        "legacy": "/crm/v3/properties/contacts",
    },
    "properties.get": {
        "2026-09": "/crm/properties/2026-09/contacts/{name}",
        "2026-03": "/crm/properties/2026-03/contacts/{name}",
        "legacy": "/crm/v3/properties/contacts/{name}",
    },
    "properties.create": {
        "2026-09": "/crm/properties/2026-09/contacts",
        "2026-03": "/crm/properties/2026-03/contacts",
        "legacy": "/crm/v3/properties/contacts",
    },
    "properties.group_create": {
        "2026-09": "/crm/properties/2026-09/contacts/groups",
        "2026-03": "/crm/properties/2026-03/contacts/groups",
        "legacy": "/crm/v3/properties/contacts/groups",
    },
    "limits.custom_properties": {
        "2026-09": "/crm/limits/2026-09/custom-properties",
        "2026-03": "/crm/limits/2026-03/custom-properties",
        "legacy": "/crm/v3/limits/custom-properties",
    },
    "oauth.token": {
        "2026-09": "/oauth/2026-09/token",
        "2026-03": "/oauth/2026-03/token",
        "legacy": "/oauth/v3/token",
    },
    "custom_events.definition_list": {
        "2026-09": "/events/custom/2026-09/event-definitions",
        "2026-03": "/events/2026-03/event-definitions",
        "legacy": "/events/v3/event-definitions",
    },
    "custom_events.definition_create": {
        "2026-09": "/events/custom/2026-09/event-definitions",
        "2026-03": "/events/2026-03/event-definitions",
        "legacy": "/events/v3/event-definitions",
    },
    "custom_events.send_batch": {
        "2026-09": "/events/custom/2026-09/send/batch",
        "2026-03": "/events/2026-03/send/batch",
        "legacy": "/events/v3/send/batch",
    },
    "notes.batch_create": {
        "2026-09": "/crm/objects/2026-09/notes/batch/create",
        "2026-03": "/crm/objects/2026-03/notes/batch/create",
        "legacy": "/crm/v3/objects/notes/batch/create",
    },
    "notes.batch_read": {
        "2026-09": "/crm/objects/2026-09/notes/batch/read",
        "2026-03": "/crm/objects/2026-03/notes/batch/read",
        "legacy": "/crm/v3/objects/notes/batch/read",
    },
    "notes.of_contacts": {
        "2026-09": "/crm/associations/2026-09/contacts/notes/batch/read",
        "2026-03": "/crm/associations/2026-03/contacts/notes/batch/read",
        "legacy": "/crm/v4/associations/contacts/notes/batch/read",
    },
    "deals.batch_read": {
        "2026-09": "/crm/objects/2026-09/deals/batch/read",
        "2026-03": "/crm/objects/2026-03/deals/batch/read",
        "legacy": "/crm/v3/objects/deals/batch/read",
    },
    "contacts.of_deals": {
        "2026-09": "/crm/associations/2026-09/deals/contacts/batch/read",
        "2026-03": "/crm/associations/2026-03/deals/contacts/batch/read",
        "legacy": "/crm/v4/associations/deals/contacts/batch/read",
    },
}

WRITES: Final = frozenset(
    {
        "contacts.batch_update",
        "contacts.batch_upsert",
        "companies.batch_update",
        "company_properties.create",
        "company_properties.group_create",
        "properties.create",
        "properties.group_create",
        "custom_events.definition_create",
        "custom_events.send_batch",
        "notes.batch_create",
    }
)
