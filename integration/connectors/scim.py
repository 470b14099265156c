"""An identity provider that pushes its users by SCIM 2.0: who may, and what `coursewire check` says of it.

What is pushed has a door of its own (`integration/webhook/scim.py`), because a client also reads what it pushed.
"""

from integration.config import ConnectionConfig
from integration.connectors.interface import EMPLOYMENT, Interface
from integration.errors import ConfigError
from integration.ports import Capabilities, Finding, WhatIsWanted
from integration.security.signatures import LEAST_BYTES, SigningKeys

CAPABILITIES = Capabilities(takes_users=True)


def tokens(config: ConnectionConfig) -> SigningKeys:
    """Return the bearer tokens of a connection; several = rotation. Raises ConfigError where it names none."""
    if config.webhook is None:
        raise ConfigError(f"connections.{config.name}: scim needs webhook: {{secrets: [{{env: SCIM_TOKEN}}]}}")
    return SigningKeys(config.webhook.secrets, decode=_token)


def interface(config: ConnectionConfig) -> Interface:
    """Return how one identity provider is talked to: it calls us. Source: RFC 7644."""
    return Interface(
        kind="HR",
        owns=EMPLOYMENT,
        page="scim.md",
        proof="bearer token (SCIM 2.0, RFC 7644)" if config.webhook else None,
    )


class Check:
    """One connection, as Doctor: it is never called, so all there is to see are its tokens."""

    def __init__(self, config: ConnectionConfig) -> None:
        """Raises ConfigError where the connection names no token."""
        self._config = config
        self._tokens = tokens(config)

    def check(self, wanted: WhatIsWanted | None = None) -> list[Finding]:
        """Say whether the tokens can be read, and where users are to be pushed; raises nothing."""
        try:
            count = len(self._tokens.current())
        except ConfigError as error:
            return [Finding(False, "a bearer token cannot be used", str(error))]
        where = f"users are taken at /webhooks/{self._config.name}/Users"
        return [Finding(True, f"bearer tokens that can be read: {count}"), Finding(True, where)]


def _token(secret: str) -> bytes:
    token = secret.strip().encode()
    if len(token) < LEAST_BYTES:
        raise ConfigError("a bearer token is too short; make one with: openssl rand -hex 32")
    return token
