"""The token endpoint of the portal: access tokens that end, refresh tokens with and without rotation, a revocation."""

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from scripts.sandbox.answers import Refusal

__all__ = ["TokenDesk"]


class OAuthRefusal(Refusal):
    """A refusal in the words of OAuth, beside those of HubSpot."""

    def __init__(self, error: str, status: str, message: str) -> None:
        super().__init__(400, status, message)
        self._error = error

    def body(self) -> dict[str, Any]:
        """The refusal as the whole answer."""
        return {
            "error": self._error,
            "error_description": self.message,
            "status": self.category,
            "message": self.message,
        }


@dataclass(slots=True)
class TokenDesk:
    """One app's installation in the portal: which tokens are good, and how often new ones were given.

    `rotation` is what becomes of a refresh token that was used: "none", it is given back; "lenient", a new one is
    given and the old one is good until the new one is used; "strict", the old one is void at once.
    """

    client_id: str = "sandbox-app"
    client_secret: str = "sandbox-app-secret"
    refresh_token: str = "sandbox-seed"
    lifetime: int = 1800
    rotation: str = "none"
    refreshes: int = 0
    refused: int = 0
    given: list[str] = field(default_factory=list)
    _ends: dict[str, float] = field(default_factory=dict)
    _former: str = ""

    def accepts(self, token: str) -> bool:
        """Say whether an access token is good; refuses one that has ended, as HubSpot does."""
        ends = self._ends.get(token)
        if ends is not None and ends <= time.time():
            raise Refusal(401, "EXPIRED_AUTHENTICATION", "The OAuth token used to make this call is expired.")
        return ends is not None

    def exchange(self, kind: str, query: Mapping[str, str], raw: bytes) -> dict[str, Any]:
        """Answer the token endpoint; everything must be in the body, form-urlencoded."""
        try:
            return self._exchanged(kind, query, raw)
        except OAuthRefusal:
            self.refused += 1
            raise

    def change(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Change a setting; `expire` ends all access tokens, `revoke` everything, as when the app is removed."""
        for name in asked.keys() & {"client_id", "client_secret", "lifetime", "rotation", "refreshes", "refused"}:
            setattr(self, name, asked[name])
        if asked.get("expire") or asked.get("revoke"):
            self._ends = dict.fromkeys(self._ends, 0.0)
        if asked.get("revoke"):
            self._ends, self.refresh_token, self._former = {}, "", ""
        if "refresh_token" in asked:
            self.refresh_token, self._former = asked["refresh_token"], ""
        return {
            "refreshes": self.refreshes,
            "refused": self.refused,
            "given": self.given,
            "refresh_token": self.refresh_token,
        }

    def _exchanged(self, kind: str, query: Mapping[str, str], raw: bytes) -> dict[str, Any]:
        if query or not kind.startswith("application/x-www-form-urlencoded"):
            raise OAuthRefusal("invalid_request", "BAD_REQUEST", "the parameters belong in the body")
        form = {name: values[0] for name, values in parse_qs(raw.decode(), strict_parsing=True).items()}
        if form.get("grant_type") != "refresh_token":
            raise OAuthRefusal("unsupported_grant_type", "BAD_GRANT_TYPE", "unknown grant type")
        if form.get("client_id") != self.client_id:
            raise OAuthRefusal("invalid_client", "BAD_CLIENT_ID", "missing or unknown client id")
        if form.get("client_secret") != self.client_secret:
            raise OAuthRefusal("invalid_client", "BAD_CLIENT_SECRET", "missing or wrong client secret")
        used = form.get("refresh_token", "")
        if not used or used not in (self.refresh_token, self._former):
            raise OAuthRefusal("invalid_grant", "BAD_REFRESH_TOKEN", "missing or invalid refresh token")
        if self.rotation != "none":
            self._former = used if self.rotation == "lenient" else ""
            self.refresh_token = f"na1-refresh-{secrets.token_hex(16)}"
            self.given.append(self.refresh_token)
        access = f"access-{secrets.token_hex(40)}"
        self.given.append(access)
        self._ends[access] = time.time() + self.lifetime
        self.refreshes += 1
        return {
            "token_type": "bearer",
            "access_token": access,
            "refresh_token": self.refresh_token,
            "hub_id": 4242,
            "scopes": ["oauth"],
            "expires_in": self.lifetime,
        }
