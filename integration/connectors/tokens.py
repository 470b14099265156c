"""Where a connector's bearer token comes from: a place it is kept in, or OAuth (`oauth.py`)."""

from typing import Protocol

from pydantic import SecretStr

from integration.config import SecretRef
from integration.errors import ConfigError, ConnectionBroken, Reason


class TokenSource(Protocol):
    """What a connector asks for its token. Both methods raise RetryLater and ConnectionBroken."""

    advice: str
    """What to do when a token that has just been fetched is refused."""

    def token(self) -> SecretStr:
        """Return the token for the next call."""

    def renew(self, refused: SecretStr) -> SecretStr:
        """Return the token to use instead of one that was refused; the same one where there is no other."""


class StaticToken:
    """A token that people put in its place; read anew when it is refused, so that rotating it needs no restart."""

    advice = "put a valid one where credentials.token points"

    def __init__(self, place: SecretRef) -> None:
        """The token itself is read with the first call."""
        self._place = place
        self._token: SecretStr | None = None

    def token(self) -> SecretStr:
        """Return the token as it was last read. Raises ConnectionBroken where there is none."""
        if self._token is None:
            self._token = self._read()
        return self._token

    def renew(self, refused: SecretStr) -> SecretStr:
        """Return what lies in its place now. Raises ConnectionBroken."""
        self._token = self._read()
        return self._token

    def _read(self) -> SecretStr:
        try:
            token = self._place.read()
        except ConfigError as error:
            raise ConnectionBroken(Reason.CREDENTIALS_REFUSED, str(error)) from None
        if not can_be_sent(token):
            raise ConnectionBroken(
                Reason.CREDENTIALS_REFUSED,
                "what credentials.token points to is no token: it has blanks or more",
            )
        return token


def can_be_sent(token: SecretStr) -> bool:
    """Say whether this may stand in a header: anything else was put there by mistake."""
    text = token.get_secret_value()
    return bool(text) and text.isascii() and text.isprintable() and " " not in text


def bearer(token: SecretStr) -> SecretStr:
    """Return the Authorization header. Source: RFC 6750, 2.1."""
    return SecretStr(f"Bearer {token.get_secret_value()}")
