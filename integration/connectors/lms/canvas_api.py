"""Calls to the REST API of one Canvas account: tokens, pages, and what an answer means for everything."""

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

from requests.utils import parse_header_links

from integration.config import ConnectionConfig
from integration.connectors.client import Call, Client, Gate, OnCall, Reply
from integration.connectors.lms.canvas_statuses import Meaning, denied, meaning, trouble
from integration.connectors.tokens import StaticToken, bearer
from integration.errors import ConfigError, Reason, Rejected, RetryLater

V1: Final = "/api/v1"
"""What the path of every call begins with."""

_ID: Final = re.compile(r"[\w:~-]+(\.[\w:~-]+)*", re.ASCII)
_MOST_PAGES: Final = 10_000

Query = Sequence[tuple[str, str]]


class Api:
    """One Canvas account, as its token's user may use it. Keep it: threads share it and its connections."""

    def __init__(self, config: ConnectionConfig, on_call: OnCall = None, gate: Gate = None) -> None:
        """Raises ConfigError where address or token are not named; the token is read with the first call."""
        place = config.credentials.get("token")
        if place is None or config.base_url is None:
            raise ConfigError(
                f"connections.{config.name}: canvas needs base_url: https://ACCOUNT.instructure.com "
                "and credentials: {token: {env: CANVAS_TOKEN}}"
            )
        self.account = quote(config.options.account_id, safe=":")
        self._base = config.base_url
        self._tokens = StaticToken(place)
        self._client = Client(
            config.base_url,
            connection=config.name,
            allow_private_hosts=config.allow_private_hosts,
            on_call=on_call,
            gate=gate,
        )

    def get(self, operation: str, path: str, query: Query = ()) -> Reply:
        """Read once; an answer about this one thing (absent, denied, invalid) is returned. Raises as `send`."""
        return self.send(Call(operation, "GET", path_with(path, query), records=1, writes=False))

    def send(self, call: Call) -> Reply:
        """Send `call`, and once more if its token is refused and another one lies in its place.

        Raises RetryLater, UnknownOutcome or ConnectionBroken for what is not about this one thing.
        """
        token = self._tokens.token()
        reply = self._client.call(call, bearer(token))
        if meaning(reply) is Meaning.TOKEN and (fresh := self._tokens.renew(token)) != token:
            reply = self._client.call(call, bearer(fresh))
        error = trouble(reply, call.operation, writes=call.writes, advice=self._tokens.advice)
        if error is not None:
            raise error
        return reply

    def listed(self, operation: str, path: str, query: Query = ()) -> Iterator[dict[str, Any]]:
        """Yield the objects of a list, page by page; an absent one is empty.

        Raises as `send`, ConnectionBroken where the list is not permitted, Rejected where it is refused.
        Source: Canvas docs, pagination: `Link: rel="next"` is followed as it is, and may lack on the last page.
        """
        following: str | None = path_with(path, [*query, ("per_page", "100")])
        for _ in range(_MOST_PAGES):
            if following is None:
                return
            reply = self.send(Call(operation, "GET", following, writes=False))
            match meaning(reply):
                case Meaning.ABSENT:
                    return
                case Meaning.DENIED:
                    raise denied(operation)
                case Meaning.INVALID:
                    raise Rejected(Reason.INVALID_VALUE, f"{operation}: Canvas refuses the question ({reply.status})")
            if not isinstance(reply.body, list):
                raise RetryLater(Reason.MALFORMED_ANSWER, f"{operation}: Canvas answered without a list")
            yield from (one for one in reply.body if isinstance(one, dict))
            following = self.following(operation, reply, following)
        raise RetryLater(Reason.MALFORMED_ANSWER, f"{operation}: the list has no end")

    def following(self, operation: str, reply: Reply, current: str) -> str | None:
        """Return the path of the next page; our token goes to no other host, whatever a link says."""
        for link in parse_header_links(reply.headers.get("link", "")):
            if "next" not in link.get("rel", "").lower().split():
                continue
            try:
                url, home = urlsplit(link.get("url", "")), urlsplit(self._base)
                is_home = url.hostname == home.hostname
            except ValueError:
                is_home = False
            path = f"{url.path}?{url.query}" if is_home else current
            if path == current:
                raise RetryLater(Reason.MALFORMED_ANSWER, f"{operation}: the link to the next page leads nowhere")
            return path
        return None


def path_with(path: str, query: Query) -> str:
    """Return a path with its query; names may repeat, as `state[]` does."""
    return f"{path}?{urlencode(query)}" if query else path


def is_id(value: str) -> bool:
    """Say whether a value may stand in a path: an id, `shard~id`, or one with a prefix such as `sis_course_id:`.

    `self` is none: it is whoever owns the token. Source: Canvas docs, "object ids".
    """
    return bool(_ID.fullmatch(value)) and value != "self"


def sis_user(employee_id: str) -> str:
    """Return how a user is named by SIS id in a path. Source: Canvas docs, "object ids".

    Anything but letters and digits goes as hex, because a dot or slash would end it.
    """
    if re.fullmatch(r"[A-Za-z0-9_-]+", employee_id):
        return f"sis_user_id:{employee_id}"
    return f"hex:sis_user_id:{employee_id.encode().hex()}"
