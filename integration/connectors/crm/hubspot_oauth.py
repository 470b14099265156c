"""How HubSpot gives access tokens: one call, whose answer also says which refresh token to use from then on."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

from pydantic import SecretStr

from integration.config import ConnectionConfig
from integration.connectors.client import Call, Client, Limits, Reply
from integration.connectors.crm.hubspot_paths import PATHS
from integration.connectors.oauth import NAMES, PATIENCE, App, GrantRefused, OAuth
from integration.connectors.tokens import StaticToken, TokenSource, can_be_sent
from integration.errors import ConfigError, ConnectionBroken, CoursewireError, Reason, RetryLater
from integration.model.tokens import Grant
from integration.ports import GrantStore

_OPERATION: Final = "oauth.token"
_LIFETIME: Final = 1800.0
"""Of an access token whose answer does not say. Source: HubSpot docs, manage-oauth-tokens."""
_LIMITS: Final = Limits(connect=2.0, silence=PATIENCE, total=PATIENCE, answer_bytes=65_536)
_VOID: Final = frozenset({"invalid_grant", "BAD_REFRESH_TOKEN"})
_EXAMPLE: Final = ", ".join(f"{name}: {{env: HUBSPOT_{name.upper()}}}" for name in NAMES)


def source_of(config: ConnectionConfig, grants: Callable[[], GrantStore] | None, url: str) -> TokenSource:
    """Return where this connection's token comes from. Raises ConfigError where the credentials are not complete."""
    named = [name for name in NAMES if name in config.credentials]
    place = f"connections.{config.name}"
    if not named:
        if "token" not in config.credentials:
            raise ConfigError(f"{place}: hubspot needs credentials: {{token: {{env: HUBSPOT_TOKEN}}}}")
        return StaticToken(config.credentials["token"])
    if "token" in config.credentials:
        raise ConfigError(f"{place}: credentials name a token and {named[0]}; give either token or all of OAuth")
    if missing := [name for name in NAMES if name not in named]:
        raise ConfigError(f"{place}: OAuth lacks {' and '.join(missing)}; write credentials: {{{_EXAMPLE}}}")
    if grants is None:
        raise ConfigError(f"{place}: OAuth tokens are kept in the database, and none is at hand here")
    client = Client(url, connection=config.name, allow_private_hosts=config.allow_private_hosts, limits=_LIMITS)
    path = PATHS[_OPERATION][config.options.api_version]
    return OAuth(config.name, config.credentials, grants, lambda app, token: fetch(client, path, app, token))


def fetch(client: Client, path: str, app: App, refresh_token: SecretStr) -> Grant:
    """Exchange a refresh token for an access token. Raises RetryLater, ConnectionBroken or GrantRefused.

    Everything goes in the body: addresses are logged on the way. Source: HubSpot docs, manage-oauth-tokens.
    """
    form = {
        "grant_type": "refresh_token",
        "client_id": app.client_id.get_secret_value(),
        "client_secret": app.client_secret.get_secret_value(),
        "refresh_token": refresh_token.get_secret_value(),
    }
    # It changes nothing of the customer's: after a lost answer it is merely asked again.
    reply = client.call(Call(_OPERATION, "POST", path, form=form, writes=False))
    if not reply.ok:
        raise _refused(reply)
    body = reply.body if isinstance(reply.body, dict) else {}
    access = _secret(body.get("access_token"))
    if access is None:
        raise RetryLater(Reason.MALFORMED_ANSWER, "HubSpot answered the request for a token without one")
    return Grant(access, _secret(body.get("refresh_token")) or refresh_token, _lifetime(body.get("expires_in")))


def _refused(reply: Reply) -> CoursewireError:
    """Return what an answer without a token means; nothing of its sentences is kept, they may quote what we sent."""
    if reply.status in (HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED) and isinstance(reply.body, dict):
        if _VOID & {str(reply.body.get(name)) for name in ("error", "status")}:
            advice = "install the app in the account again and put the new refresh token where"
            return GrantRefused(
                Reason.CREDENTIALS_REFUSED,
                f"HubSpot refuses the refresh token: {advice} credentials.refresh_token points",
            )
        advice = "see that credentials.client_id and credentials.client_secret are those of the app"
        return ConnectionBroken(Reason.CREDENTIALS_REFUSED, f"HubSpot refuses the app ({reply.status}): {advice}")
    if reply.status == HTTPStatus.TOO_MANY_REQUESTS:
        return RetryLater(Reason.RATE_LIMITED, "too many requests for tokens (429)", after=reply.retry_after or 10.0)
    what = f"HubSpot gives no access token ({reply.status})"
    return RetryLater(Reason.SERVER_ERROR, what, after=reply.retry_after)


def _secret(value: Any) -> SecretStr | None:
    found = SecretStr(value) if isinstance(value, str) else None
    return found if found and can_be_sent(found) else None


def _lifetime(value: Any) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 < value < 10 * 365 * 86_400 else _LIFETIME
