"""OAuth access tokens that all processes share: one fetches the next one, the others wait a moment and read it.

Two refreshes at once would be answered by a vendor that rotates with two different refresh tokens, of which one is
void. So the right to refresh is a lease in the store, taken without waiting, and no transaction is open meanwhile. What
a vendor answers is stored before it is used.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final, NamedTuple, TypeGuard
from uuid import UUID, uuid4

import structlog
from pydantic import SecretStr

from integration.config import SecretRef
from integration.errors import ConfigError, ConnectionBroken, Reason, RetryLater
from integration.model.tokens import Grant, Held
from integration.ports import GrantStore

log = structlog.get_logger(__name__)

NAMES: Final = ("client_id", "client_secret", "refresh_token")
"""The credentials of an OAuth connection."""

EARLY_SECONDS: Final = 300.0
EARLY_SHARE: Final = 6.0
"""A token is replaced five minutes before its end, and not before the last sixth of its life."""
LEAST_SECONDS: Final = 15.0
"""A call ends before this; a token that lives longer can still be used while another one is fetched."""
PATIENCE: Final = 5.0
"""The longest a call may wait for its token: the rows it is for are held for half a minute, and two calls go out."""
PAUSE: Final = 0.1


class GrantRefused(ConnectionBroken):
    """The refresh token is not accepted (any more); another one may be."""


class App(NamedTuple):
    """The credentials as they are now; `seed` is the refresh token that people put there."""

    client_id: SecretStr
    client_secret: SecretStr
    seed: SecretStr

    @property
    def origin(self) -> SecretStr:
        """Return what stored tokens belong to: with another app or another seed they are nobody's."""
        return SecretStr(f"{self.client_id.get_secret_value()}\0{self.seed.get_secret_value()}")


Refresh = Callable[[App, SecretStr], Grant]
"""Ask the vendor for a grant; raises RetryLater, ConnectionBroken or GrantRefused."""


class OAuth:
    """The access tokens of one connection, as a TokenSource; threads share it."""

    advice = "a token fetched just now is refused too; see that the app is still installed in this account"

    def __init__(
        self,
        connection: str,
        credentials: Mapping[str, SecretRef],
        store: Callable[[], GrantStore],
        refresh: Refresh,
    ) -> None:
        """`store` is asked for with the first call. Nothing is read yet."""
        self._connection = connection
        self._credentials = credentials
        self._store = store
        self._refresh = refresh
        self._known: tuple[SecretStr, float] | None = None

    def token(self) -> SecretStr:
        """Return an access token that will live for a while; fetches one where that is due.

        Raises RetryLater, or ConnectionBroken where the refresh token is refused or cannot be read.
        """
        known = self._known
        if known and time.monotonic() < known[1]:
            return known[0]
        return self._obtain(None)

    def renew(self, refused: SecretStr) -> SecretStr:
        """Return another access token than the one that was refused; raises like `token`."""
        return self._obtain(refused)

    def _obtain(self, refused: SecretStr | None) -> SecretStr:
        started, lease = time.monotonic(), uuid4()
        try:
            app, store = self._app(), self._store()
        except ConfigError as error:
            raise ConnectionBroken(Reason.CREDENTIALS_REFUSED, str(error)) from None
        while True:
            held = store.read(self._connection, app.origin)
            if held and _is_fresh(held, refused):
                return self._remember(held)
            if store.take(self._connection, lease):
                token = self._fetch(store, lease, app, refused)
                if time.monotonic() - started <= PATIENCE:
                    return token
                raise RetryLater(Reason.NETWORK_ERROR, "the access token came too late for this call", after=1.0)
            if _may_serve(held, refused):
                return held.grant.access
            if time.monotonic() - started > PATIENCE:
                what = "another worker is fetching the access token and has not got it yet"
                raise RetryLater(Reason.NETWORK_ERROR, what, after=PATIENCE)
            time.sleep(PAUSE)

    def _fetch(self, store: GrantStore, lease: UUID, app: App, refused: SecretStr | None) -> SecretStr:
        """Fetch a token as the holder of the lease, unless whoever held it before has done so."""
        held = None
        try:
            held = store.read(self._connection, app.origin)
            if held and _is_fresh(held, refused):
                store.release(self._connection, lease)
                return self._remember(held)
            grant, started = self._ask(app, held), time.monotonic()
            kept = store.keep(self._connection, lease, app.origin, grant, held)
        except RetryLater as error:
            if _may_serve(held, refused):
                # The lease stays: until it ends nobody asks in vain again, and calls go on with the old token.
                log.warning("oauth.refresh_failed", connection=self._connection, reason=error.reason.value)
                return held.grant.access
            self._release(store, lease)
            raise
        except Exception:
            self._release(store, lease)
            raise
        if not kept:
            raise RetryLater(Reason.NETWORK_ERROR, "another worker has stored an access token meanwhile", after=1.0)
        rotated = held is None or held.grant.refresh != grant.refresh
        log.info("oauth.refreshed", connection=self._connection, lifetime=grant.lifetime, rotated=rotated)
        return self._remember(Held(grant, grant.lifetime - (time.monotonic() - started), b""))

    def _ask(self, app: App, held: Held | None) -> Grant:
        """Ask with what is stored, and with the seed where that is refused.

        A vendor that rotates may have voided what we hold while its answer was lost; the seed may be valid again.
        """
        if held is None or held.grant.refresh == app.seed:
            return self._refresh(app, app.seed)
        try:
            return self._refresh(app, held.grant.refresh)
        except GrantRefused:
            return self._refresh(app, app.seed)

    def _app(self) -> App:
        return App(*(self._credentials[name].read() for name in NAMES))

    def _remember(self, held: Held) -> SecretStr:
        self._known = held.grant.access, time.monotonic() + held.left - _early(held)
        return held.grant.access

    def _release(self, store: GrantStore, lease: UUID) -> None:
        with suppress(RetryLater):  # it ends by itself
            store.release(self._connection, lease)


def _early(held: Held) -> float:
    return min(EARLY_SECONDS, held.grant.lifetime / EARLY_SHARE)


def _is_fresh(held: Held, refused: SecretStr | None) -> bool:
    return held.grant.access != refused and held.left > _early(held)


def _may_serve(held: Held | None, refused: SecretStr | None) -> TypeGuard[Held]:
    return held is not None and held.grant.access != refused and held.left > LEAST_SECONDS
