"""Calls of Moodle's web service: one address, the function and the token in the form, parameters as PHP reads them."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

from pydantic import SecretStr

from integration.config import ConnectionConfig
from integration.connectors.client import Call, Client, Gate, OnCall, Reply
from integration.connectors.lms.moodle_consequences import Problem, error_code, judged
from integration.connectors.tokens import StaticToken
from integration.errors import ConfigError, Reason, RetryLater, UnknownOutcome

PATH: Final = "/webservice/rest/server.php"
_STALE: Final = ("invalidtoken", "invalidtimedtoken")

T = TypeVar("T")


class Service:
    """The web service of one Moodle site. Keep it: threads share its connections."""

    def __init__(self, config: ConnectionConfig, on_call: OnCall = None, gate: Gate = None) -> None:
        """Raises ConfigError where the site or the token is not named; the token is read with the first call."""
        place = f"connections.{config.name}"
        if config.base_url is None:
            raise ConfigError(
                f"{place}: moodle needs base_url, the address of the site such as https://lms.example.org"
            )
        if "token" not in config.credentials:
            raise ConfigError(f"{place}: moodle needs credentials: {{token: {{env: MOODLE_TOKEN}}}}")
        self.where = config.base_url.rstrip("/")
        self._token = StaticToken(config.credentials["token"])
        self._client = Client(
            self.where,
            connection=config.name,
            allow_private_hosts=config.allow_private_hosts,
            on_call=on_call,
            gate=gate,
        )

    def ask(
        self,
        function: str,
        parameters: Mapping[str, object],
        *,
        records: int = 0,
        writes: bool = False,
        of_courses: bool = False,
    ) -> Any:
        """Return what a function answered, or the Problem that one record of the call has.

        Raises RetryLater, UnknownOutcome or ConnectionBroken. Source: Moodle, webservice/rest/locallib.php.
        """
        form = {"wsfunction": function, "moodlewsrestformat": "json", **php_form(parameters)}
        token = self._token.token()
        reply = self._send(function, form, token, records, writes=writes)
        if error_code(reply.body) in _STALE and (fresh := self._token.renew(token)) != token:
            reply = self._send(function, form, fresh, records, writes=writes)
        problem = judged(reply, writes=writes, of_courses=of_courses, token_advice=self._token.advice)
        return problem or reply.body

    def _send(self, function: str, form: Mapping[str, str], token: SecretStr, records: int, *, writes: bool) -> Reply:
        whole = {"wstoken": token.get_secret_value(), **form}
        call = Call(function, "POST", PATH, form=whole, records=records, writes=writes, may_be_null=writes)
        return self._client.call(call)


def php_form(parameters: Mapping[str, object]) -> dict[str, str]:
    """Return parameters as a form for PHP: `{"users": [{"id": 2}]}` becomes `users[0][id]=2`; None is left out."""
    return dict(_flat("", parameters))


def _flat(name: str, value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, one in value.items():
            yield from _flat(f"{name}[{key}]" if name else str(key), one)
    elif isinstance(value, list | tuple):
        for place, one in enumerate(value):
            yield from _flat(f"{name}[{place}]", one)
    elif value is not None:
        yield name, str(int(value)) if isinstance(value, bool) else str(value)


def apart(
    items: Sequence[T],
    send: Callable[[Sequence[T]], Any],
    known: Callable[[T], Problem | None] = lambda _: None,
) -> Iterator[tuple[Sequence[T], Any]]:
    """Send all items in one call; halve a part that is refused, until what is bad stands alone.

    Moodle takes all of a call or nothing, and names no culprit. Yields each part with its answer, which for one item
    may be its Problem; n items cost 2n - 1 calls at most. An item with a `known` problem is not sent any more.
    """
    waiting = deque([tuple(items)])
    while waiting:
        part = waiting.popleft()
        for item in part:
            if problem := known(item):
                yield (item,), problem
        part = tuple(item for item in part if known(item) is None)
        if not part:
            continue
        answer = send(part)
        if isinstance(answer, Problem) and len(part) > 1:
            middle = len(part) // 2
            waiting.extendleft((part[middle:], part[:middle]))
        else:
            yield part, answer


def rows(answer: Any, function: str, *, writes: bool = False) -> list[dict[str, Any]]:
    """Return the records of an answer. Raises RetryLater, or UnknownOutcome of a write, where it holds none."""
    if not isinstance(answer, list):
        kind = UnknownOutcome if writes else RetryLater
        raise kind(Reason.MALFORMED_ANSWER, f"{function}: answered without a list")
    return [row for row in answer if isinstance(row, dict) and number(row.get("id"))]


def number(value: object) -> str:
    """Return the number of a record as text; empty for what is none."""
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    return text if text.isascii() and text.isdigit() and text != "0" and len(text) <= 19 else ""  # noqa: PLR2004
