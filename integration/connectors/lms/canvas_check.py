"""What `coursewire check` says about a Canvas account: reached, let in, the account readable, its events provable."""

from collections.abc import Iterator

from integration.config import ConnectionConfig
from integration.connectors.client import Reply
from integration.connectors.lms import canvas_webhooks
from integration.connectors.lms.canvas_api import V1, Api
from integration.connectors.lms.canvas_statuses import Meaning, meaning
from integration.errors import ConfigError, CoursewireError, Reason
from integration.ports import Finding, WhatIsWanted

_PERMISSION = "give the token's user an account role that may read it, or name another account: options.account_id"


class Check:
    """One Canvas connection, as Doctor."""

    def __init__(self, config: ConnectionConfig) -> None:
        """Nothing is read and nobody called yet."""
        self._config = config

    def check(self, wanted: WhatIsWanted | None = None) -> list[Finding]:
        """Return what is right and what is not, changing nothing; raises nothing.

        A connection without a token only receives events, one without keys and tokens of events only enrols.
        Source: Canvas docs, users API ("self") and accounts API.
        """
        found = [*self._account()] if self._config.credentials else []
        found += canvas_webhooks.findings(self._config)
        nothing = "it neither receives events nor enrols anybody"
        return found or [Finding(False, nothing, "add base_url and credentials, or options.jwks_url (docs/canvas.md)")]

    def _account(self) -> Iterator[Finding]:
        where = self._config.base_url
        try:
            api = Api(self._config)
            me = api.get("canvas.check", f"{V1}/users/self")
            account = api.get("canvas.check", f"{V1}/accounts/{api.account}")
        except ConfigError as error:
            yield Finding(False, "Canvas cannot be called", str(error))
        except CoursewireError as error:
            what = (
                "Canvas refuses the token" if error.reason is Reason.CREDENTIALS_REFUSED else "Canvas does not answer"
            )
            yield Finding(False, f"{what} at {where}", f"{error.detail} ({error.reason})")
        else:
            if meaning(me) is Meaning.DONE:
                yield Finding(True, f"the token is accepted at {where}")
            else:
                advice = f"see that base_url is the address of your Canvas ({me.status})"
                yield Finding(False, f"{where} does not know the token's user", advice)
            yield from self._readable(account)

    def _readable(self, account: Reply) -> Iterator[Finding]:
        if meaning(account) is not Meaning.DONE or not isinstance(account.body, dict):
            yield Finding(False, f"the account {self._config.options.account_id} cannot be read", _PERMISSION)
            return
        yield Finding(True, "the account can be read")
        theirs, ours = account.body.get("uuid"), self._config.options.root_account_uuid
        is_root = account.body.get("root_account_id") is None
        if ours is not None and is_root and theirs is not None and theirs != ours:
            advice = "all events would be ignored as another account's; correct it, it stands in each of your events"
            yield Finding(False, "options.root_account_uuid is not this account's", advice)
