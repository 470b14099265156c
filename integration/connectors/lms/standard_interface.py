"""Any LMS that posts our JSON as an auditor sees it: which API, and how either side proves who it is."""

from integration.config import ConnectionConfig
from integration.connectors.interface import LEARNING, Interface


def interface(config: ConnectionConfig) -> Interface:
    """Return how one sender of canonical events is talked to. Source: Standard Webhooks specification."""
    is_called = config.base_url is not None
    return Interface(
        kind="LMS",
        owns=LEARNING,
        page="standard-rest.md" if is_called else "events.md",
        api="the REST contract of docs/standard-rest.md (JSON, batches)" if is_called else None,
        auth="token (Bearer)" if is_called else None,
        address=config.base_url,
        proof="Standard Webhooks v1: HMAC-SHA-256 of id, time and body" if config.webhook else None,
    )
