"""A thin JSON-over-HTTPS client that every connector calls through.

It knows no system: it sends one request, bounds it in time and size, tells "surely not sent" from "perhaps
applied", and reports each call once. What a status means is the connector's business.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from http.cookiejar import DefaultCookiePolicy
from typing import Any, NamedTuple
from urllib.parse import urlencode

import orjson
import requests
import structlog
import urllib3
from pydantic import SecretStr

from integration.connectors import deadline
from integration.errors import CoursewireError, Reason, RetryLater, UnknownOutcome
from integration.ports import ANY_CALL

log = structlog.get_logger(__name__)

_CHUNK = 65_536
_TEXT = 500
_DAY = 86_400.0


class Limits(NamedTuple):
    """How long a call may take, in seconds, and how many bytes (decompressed) its answer may have."""

    connect: float = 3.0
    silence: float = 8.0
    total: float = 8.0
    answer_bytes: int = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Call:
    """One request. `writes`: it may change something, so that a lost answer leaves its outcome unknown.

    `endpoint` is the class whose limit it counts against, as declared in the system's Capabilities. `form` is sent
    instead of a JSON body where there is one. `may_be_null`: JSON's null is an answer.
    """

    operation: str
    method: str
    path: str
    body: object = field(default=None, repr=False)
    params: Mapping[str, str] = field(default_factory=dict, repr=False)
    records: int = 0
    writes: bool = True
    endpoint: str = ANY_CALL
    form: Mapping[str, str] | None = field(default=None, repr=False)
    may_be_null: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back. `body` is parsed JSON, None where there was none or a null; header names are lower case.

    `text` is the beginning of a body that is no JSON: some refusals are a sentence.
    """

    status: int
    body: Any = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    retry_after: float | None = None
    text: str = field(default="", repr=False)

    @property
    def is_null(self) -> bool:
        """Whether the body is JSON's null."""
        return self.text.strip() == "null"

    @property
    def ok(self) -> bool:
        """Whether the status is a 2xx; a 207 is one too."""
        return HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES


@dataclass(frozen=True, slots=True)
class CallRecord:
    """One call as metrics and budgets see it: nothing personal, no body. `seconds` is its whole duration.

    `status` is None where no answer came; `failure` is set where the client itself raised. `limits` holds the
    rate-limit headers as they came, names in lower case; `retry_after` is in seconds.
    """

    operation: str
    status: int | None
    failure: Reason | None
    seconds: float
    records: int
    retry_after: float | None = None
    limits: Mapping[str, str] = field(default_factory=dict)
    correlation_id: str | None = None
    endpoint: str = ANY_CALL


OnCall = Callable[[CallRecord], None] | None
"""What gets a record of each call, in the thread that made it."""

Gate = Callable[[str], None] | None
"""What is asked with the endpoint class before anything is sent; it may wait, or raise RetryLater."""


class _Session(requests.Session):
    """A session that stays as it was made, so that threads can share it and its pool of connections."""

    def __init__(self) -> None:
        super().__init__()
        self.trust_env = False
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        for scheme in ("http://", "https://"):
            self.mount(scheme, deadline.DeadlineAdapter(pool_connections=4, pool_maxsize=64))
        self.headers.update({"User-Agent": "coursewire", "Accept": "application/json"})

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Follow nothing: a redirect would carry our token elsewhere."""


class Client:
    """Calls one outside system. Make one per connection and keep it: threads share its connections."""

    def __init__(
        self,
        base_url: str,
        *,
        connection: str = "",
        allow_private_hosts: bool = False,
        on_call: OnCall = None,
        gate: Gate = None,
        limits: Limits = Limits(),  # noqa: B008 - immutable
    ) -> None:
        """`connection` names the system in logs; `on_call` gets a record per call, in the calling thread.

        `gate` is called with the endpoint class before anything is sent, and may wait or raise RetryLater; the
        call's time begins after it.
        """
        self._base = base_url.rstrip("/")
        self._connection = connection
        self._private = allow_private_hosts
        self._on_call = on_call
        self._gate = gate
        self._limits = limits
        self._session = _Session()

    def __repr__(self) -> str:
        """Name the system, never what opens it."""
        return f"Client({self._connection!r})"

    def call(self, call: Call, authorization: SecretStr | None = None) -> Reply:
        """Send `call` once and return what came back, whatever its status.

        Raises RetryLater(NETWORK_ERROR) where nothing was sent; UnknownOutcome(UNKNOWN_OUTCOME) where the
        answer was lost, late (`Limits`, seconds) or cut; UnknownOutcome(MALFORMED_ANSWER) where a 2xx is no
        JSON. For a call that writes nothing the last two are RetryLater(NETWORK_ERROR) and
        RetryLater(MALFORMED_ANSWER), and whatever the gate raises. Source: our own (docs/architecture.md, "unknown
        outcome").
        """
        if self._gate:
            self._gate(call.endpoint)
        started = time.monotonic()
        reply: Reply | None = None
        error: CoursewireError | None = None
        try:
            reply = self._exchange(call, authorization)
            _require_json(call, reply)
        except RetryLater as raised:
            error = raised
            raise
        finally:
            self._report(call, reply, error, time.monotonic() - started)
        return reply

    def close(self) -> None:
        """Close the pooled connections."""
        self._session.close()

    def _exchange(self, call: Call, authorization: SecretStr | None) -> Reply:
        deadline.begin(self._limits.total, private=self._private)
        try:
            return self._receive(self._send(call, authorization))
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            name = type(error).__name__
        # Outside the handler, so that no traceback carries the request, its token or its body along.
        raise _lost(call, name)

    def _send(self, call: Call, authorization: SecretStr | None) -> requests.Response:
        headers = {"Authorization": authorization.get_secret_value()} if authorization else {}
        data = None
        if call.form is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            data = urlencode(call.form).encode()
        elif call.body is not None:
            headers["Content-Type"] = "application/json"
            data = orjson.dumps(call.body)
        request = requests.Request(
            call.method, self._base + call.path, headers=headers, params=dict(call.params), data=data
        )
        return self._session.send(
            self._session.prepare_request(request),
            timeout=(self._limits.connect, self._limits.silence),
            allow_redirects=False,
            stream=True,
        )

    def _receive(self, response: requests.Response) -> Reply:
        with response:
            headers = {name.lower(): value for name, value in response.headers.items()}
            body = bytearray()
            for chunk in response.iter_content(_CHUNK):
                body += chunk
                if len(body) > self._limits.answer_bytes:
                    body.clear()
                    break
            parsed = _parse(bytes(body))
            text = bytes(body[:_TEXT]).decode("utf-8", "replace") if parsed is None else ""
            return Reply(response.status_code, parsed, headers, retry_after(headers.get("retry-after")), text)

    def _report(self, call: Call, reply: Reply | None, error: CoursewireError | None, seconds: float) -> None:
        record = CallRecord(
            operation=call.operation,
            status=reply.status if reply else None,
            failure=error.reason if error else None,
            seconds=seconds,
            records=call.records,
            retry_after=reply.retry_after if reply else None,
            limits=_rate_limits(reply.headers) if reply else {},
            correlation_id=_correlation_id(reply) if reply else None,
            endpoint=call.endpoint,
        )
        log.info(
            "crm.called",
            connection=self._connection,
            operation=record.operation,
            status=record.status,
            failure=record.failure,
            milliseconds=round(seconds * 1000, 1),
            records=record.records,
            retry_after=record.retry_after,
            correlation_id=record.correlation_id,
        )
        if self._on_call:
            try:
                self._on_call(record)
            except Exception as fault:  # noqa: BLE001 - a fault of the metrics must not lose a done write
                log.warning("crm.hook_failed", operation=call.operation, error=type(fault).__name__)


def _lost(call: Call, name: str) -> RetryLater:
    """Return what follows from a call that brought no whole answer; `name` is the kind of failure."""
    if not deadline.was_sent():
        return RetryLater(Reason.NETWORK_ERROR, f"{call.operation}: nothing was sent ({name})")
    if not call.writes:
        return RetryLater(Reason.NETWORK_ERROR, f"{call.operation}: the answer was lost ({name})")
    return UnknownOutcome(Reason.UNKNOWN_OUTCOME, f"{call.operation}: sent, but the answer was lost ({name})")


def _require_json(call: Call, reply: Reply) -> None:
    is_answer = reply.body is not None or (call.may_be_null and reply.is_null)
    if reply.ok and not is_answer and reply.status != HTTPStatus.NO_CONTENT:
        kind = UnknownOutcome if call.writes else RetryLater
        raise kind(Reason.MALFORMED_ANSWER, f"{call.operation}: {reply.status} without JSON that we can read")


def _parse(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except ValueError:
        pass
    try:
        # A half emoji that someone cut off is legal JSON and must not make a whole batch unreadable for ever.
        text = json.dumps(json.loads(body), ensure_ascii=False)
        return orjson.loads(text.encode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None


def retry_after(value: str | None, now: datetime | None = None) -> float | None:
    """Return a `Retry-After` header as seconds from `now`, between 0 and a day; None where it says nothing.

    Takes seconds or an HTTP date. A day is the longest pause we let another machine impose unseen.
    Source: RFC 9110, 10.2.3.
    """
    text = (value or "").strip()
    try:
        if text.isascii() and text.replace(".", "", 1).isdigit():
            return min(float(text), _DAY)
        moment = parsedate_to_datetime(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return min(max((moment - (now or datetime.now(UTC))).total_seconds(), 0.0), _DAY)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _rate_limits(headers: Mapping[str, str]) -> Mapping[str, str]:
    return {
        name: value[:100]
        for name, value in headers.items()
        if "ratelimit" in name or "rate-limit" in name or name in ("sforce-limit-info", "x-request-cost")
    }


def _correlation_id(reply: Reply) -> str | None:
    found = reply.body.get("correlationId") if isinstance(reply.body, dict) else None
    found = found or reply.headers.get("x-hubspot-correlation-id") or reply.headers.get("x-request-id")
    if not isinstance(found, str):
        return None
    return "".join(letter for letter in found[:64] if letter.isalnum() or letter in "-_") or None
