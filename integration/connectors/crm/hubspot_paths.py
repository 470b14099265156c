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
    "contacts.get": {
        "2026-09": "/crm/objects/2026-09/contacts/{id}",
        "2026-03": "/crm/objects/2026-03/contacts/{id}",
        "legacy": "/crm/v3/objects/contacts/{id}",
    },
    "properties.list": {
        "2026-09": "/crm/properties/2026-09/contacts",
        "2026-03": "/crm/properties/2026-03/contacts",
        "legacy": "/crm/v3/properties/contacts",
    },
}

WRITES: Final = frozenset({"contacts.batch_update", "contacts.batch_upsert"})
