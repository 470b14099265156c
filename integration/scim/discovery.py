"""What the server can do, and which attributes there are. Source: RFC 7643 sections 5 to 7, RFC 7644 section 4."""

from collections.abc import Mapping
from typing import Any, Final

from integration.scim import bulk
from integration.scim.attributes import CORE, ENTERPRISE, USER, WORK, Attribute

MOST_RESULTS: Final = 200
"""Most users of one page."""

_CONFIG: Final = "urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"
_TYPE: Final = "urn:ietf:params:scim:schemas:core:2.0:ResourceType"
_SCHEMA: Final = "urn:ietf:params:scim:schemas:core:2.0:Schema"


def service_provider(base: str, most_bytes: int) -> dict[str, Any]:
    """Return what this server supports; `most_bytes` of a request's body."""
    return {
        "schemas": [_CONFIG],
        "patch": {"supported": True},
        "bulk": {"supported": True, "maxOperations": bulk.MOST_OPERATIONS, "maxPayloadSize": most_bytes},
        "filter": {"supported": True, "maxResults": MOST_RESULTS},
        "changePassword": {"supported": False},
        "sort": {"supported": False},
        "etag": {"supported": True},
        "authenticationSchemes": [
            {
                "type": "oauthbearertoken",
                "name": "Bearer token",
                "description": "One of the tokens that webhook.secrets of the connection names.",
                "primary": True,
            }
        ],
        "meta": {"resourceType": "ServiceProviderConfig", "location": f"{base}/ServiceProviderConfig"},
    }


def resource_types(base: str) -> Mapping[str, dict[str, Any]]:
    """Return the kinds of resources that there are, by name."""
    user = {
        "schemas": [_TYPE],
        "id": "User",
        "name": "User",
        "endpoint": "/Users",
        "description": "An employee.",
        "schema": USER,
        "schemaExtensions": [{"schema": ENTERPRISE, "required": False}],
        "meta": {"resourceType": "ResourceType", "location": f"{base}/ResourceTypes/User"},
    }
    return {"User": user}


def schemas(base: str) -> Mapping[str, dict[str, Any]]:
    """Return the schemas with the attributes that are kept, by their URNs."""
    found = {}
    for urn, name, attributes in ((USER, "User", CORE), (ENTERPRISE, "EnterpriseUser", WORK)):
        found[urn] = {
            "schemas": [_SCHEMA],
            "id": urn,
            "name": name,
            "description": "What is taken of an employee; attributes of other names are passed over.",
            # externalId is common to all resources, and in no schema of its own.
            "attributes": [_shown(one) for one in attributes if one.kept and one.name != "externalId"],
            "meta": {"resourceType": "Schema", "location": f"{base}/Schemas/{urn}"},
        }
    return found


def _shown(one: Attribute) -> dict[str, Any]:
    is_name = one.name == "userName"
    shown: dict[str, Any] = {
        "name": one.name,
        "type": one.type,
        "multiValued": one.many,
        "description": one.about or "Kept, and told to nobody.",
        "required": is_name,
        "caseExact": one.exact,
        "mutability": "readWrite",
        "returned": "default",
        "uniqueness": "server" if is_name else "none",
    }
    if one.subs:
        shown["subAttributes"] = [_shown(sub) for sub in one.subs if sub.kept]
    return shown
