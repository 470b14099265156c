"""HubSpot as an auditor sees it: which API, how either side proves who it is, and what it has the word on."""

from integration.config import ConnectionConfig
from integration.connectors.crm.hubspot import CAPABILITIES, DEFAULT_URL
from integration.connectors.interface import Interface
from integration.connectors.oauth import NAMES


def interface(config: ConnectionConfig) -> Interface:
    """Return how one HubSpot account is talked to. Source: HubSpot docs, authentication and validating requests."""
    has_oauth = any(name in config.credentials for name in NAMES)
    return Interface(
        kind="CRM",
        owns=("contacts", "companies", "deals", "roles"),
        page="hubspot.md",
        api=f"HubSpot CRM API {config.options.api_version} (REST, JSON, batches of {CAPABILITIES.batch_size})",
        auth="OAuth 2.0, access tokens fetched with a refresh token"
        if has_oauth
        else "access token of an app (Bearer)",
        address=config.base_url or DEFAULT_URL,
        proof="HubSpot signature v3: HMAC-SHA-256 of method, address, body and time" if config.webhook else None,
    )
