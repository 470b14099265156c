"""Canvas as an auditor sees it: which API, how either side proves who it is, and what it has the word on."""

from integration.config import ConnectionConfig
from integration.connectors.interface import LEARNING, Interface
from integration.connectors.lms.canvas_keys import ALGORITHM


def interface(config: ConnectionConfig) -> Interface:
    """Return how one Canvas account is talked to. Source: Canvas docs, OAuth2 overview and live events."""
    proofs = []
    if config.options.jwks_url is not None:
        proofs.append(f"live events as JWT, signed with {ALGORITHM} by a key of options.jwks_url, and of our account")
    if config.options.unsigned_events:
        proofs.append("live events that are not signed, with a token of ours")
    is_called = config.base_url is not None
    return Interface(
        kind="LMS",
        owns=LEARNING,
        page="canvas.md",
        api="Canvas REST API v1 (JSON)" if is_called else None,
        auth="access token of a user (Bearer)" if is_called else None,
        address=config.base_url,
        proof="; or ".join(proofs) or None,
    )
