"""The HTTP face of the portal: a call is logged, authenticated, counted, perhaps made to fail, answered."""

import asyncio
import math
import time
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from scripts.sandbox.answers import Refusal
from scripts.sandbox.calls import CallLog, CallRecord
from scripts.sandbox.companies import COMPANY_OPERATIONS, COMPANY_PROPERTY_OPERATIONS, company_portal
from scripts.sandbox.control import control_routes
from scripts.sandbox.deal_operations import DEAL_OPERATIONS, OF_DEALS
from scripts.sandbox.faults import Fault, FaultPlan
from scripts.sandbox.oauth import TokenDesk
from scripts.sandbox.operations import (
    LIMIT_OPERATIONS,
    OBJECT_OPERATIONS,
    PROPERTY_OPERATIONS,
    Call,
    Handler,
    unknown_path,
)
from scripts.sandbox.portal import Portal
from scripts.sandbox.ratelimit import RateLimit
from scripts.sandbox.scopes import require
from scripts.sandbox.timeline_operations import ASSOCIATION_OPERATIONS, EVENT_OPERATIONS, NOTE_OPERATIONS
from scripts.sandbox.webhooks import Webhooks

__all__ = ["Account", "CuttableProtocol", "create_app"]

OPERATIONS = (
    OBJECT_OPERATIONS,
    PROPERTY_OPERATIONS,
    LIMIT_OPERATIONS,
    EVENT_OPERATIONS,
    NOTE_OPERATIONS,
    (*ASSOCIATION_OPERATIONS, *OF_DEALS),
    DEAL_OPERATIONS,
    COMPANY_OPERATIONS,
    COMPANY_PROPERTY_OPERATIONS,
)
VERSIONS = {
    "v3": (
        "/crm/v3/objects/contacts",
        "/crm/v3/properties/contacts",
        "/crm/v3/limits",
        "/events/v3",
        "/crm/v3/objects/notes",
        "/crm/v4/associations",
        "/crm/v3/objects/deals",
        "/crm/v3/objects/companies",
        "/crm/v3/properties/companies",
    ),
    "2026-03": (
        "/crm/objects/2026-03/contacts",
        "/crm/properties/2026-03/contacts",
        "/crm/limits/2026-03",
        "/events/2026-03",
        "/crm/objects/2026-03/notes",
        "/crm/associations/2026-03",
        "/crm/objects/2026-03/deals",
        "/crm/objects/2026-03/companies",
        "/crm/properties/2026-03/companies",
    ),
    "2026-09": (
        "/crm/objects/2026-09/contacts",
        "/crm/properties/2026-09/contacts",
        "/crm/limits/2026-09",
        "/events/custom/2026-09",
        "/crm/objects/2026-09/notes",
        "/crm/associations/2026-09",
        "/crm/objects/2026-09/deals",
        "/crm/objects/2026-09/companies",
        "/crm/properties/2026-09/companies",
    ),
}
TOKEN_PATHS = {"v3": "/oauth/v3/token", "2026-03": "/oauth/2026-03/token", "2026-09": "/oauth/2026-09/token"}
DRIP_PIECES = 20
EVENTS_IN_TEN_SECONDS = 12_500


@dataclass(slots=True)
class Account:
    """Everything one running sandbox holds."""

    portal: Portal
    companies: Portal = field(default_factory=company_portal)
    token: str = "sandbox-token"
    latency_ms: float = 0.0
    limit: RateLimit = field(default_factory=RateLimit)
    event_limit: RateLimit = field(default_factory=lambda: RateLimit(EVENTS_IN_TEN_SECONDS, 10**9))
    plan: FaultPlan = field(default_factory=FaultPlan)
    log: CallLog = field(default_factory=CallLog)
    oauth: TokenDesk = field(default_factory=TokenDesk)
    thawed: asyncio.Event = field(default_factory=asyncio.Event)
    webhooks: Webhooks | None = None


class CuttableProtocol(HttpToolsProtocol):
    """HTTP that lets the application cut its own connection, which ASGI has no word for."""

    def on_message_begin(self) -> None:
        """Hand the transport to the application."""
        super().on_message_begin()
        self.scope["state"]["transport"] = self.transport


class Operation:
    """One operation in one version as an ASGI application."""

    def __init__(self, account: Account, name: str, version: str, handler: Handler) -> None:
        self._account = account
        self._name = name
        self._version = version
        self._handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Log the call and answer it, or fail as planned."""
        account = self._account
        record = account.log.open(time.time(), self._name, self._version)
        started = time.monotonic()
        await account.thawed.wait()
        request = Request(scope, receive)
        try:
            raw = await request.body()
        except ClientDisconnect:
            return
        fault: Fault | None = None
        headers: dict[str, str] = {}
        try:
            self._authenticate(request)
            limit = self._limit()
            refused = limit.admit()
            headers = limit.headers(refused=refused is not None)
            if refused is not None:
                status, body = 429, refused
            else:
                fault = account.plan.strike(self._name)
                record.injected = fault.kind if fault else None
                status, body = await self._faulted(fault, request, raw, record, headers)
        except Refusal as refusal:
            status, body = refusal.status, refusal.body()
        if fault is not None and fault.kind in ("drop", "processed_then_drop"):
            await _cut(scope, receive)
            return
        if fault is not None and fault.kind == "processed_then_hang":
            await asyncio.sleep(fault.seconds)
        left = started + account.latency_ms / 1000 - time.monotonic()
        if left > 0:
            # The event loop rounds to milliseconds and may wake a little early.
            await asyncio.sleep(left + 0.001)
        record.status = status
        record.seconds = time.monotonic() - started
        await _answer(send, status, body, headers, fault)

    def _limit(self) -> RateLimit:
        """Sent events have a limit of their own, unless the portal counts them with all other calls."""
        is_apart = self._name.startswith("custom_events.send") and not self._account.portal.options.events_share_limit
        return self._account.event_limit if is_apart else self._account.limit

    def _authenticate(self, request: Request) -> None:
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        good = token == self._account.token or self._account.oauth.accepts(token)
        if kind != "Bearer" or not good:
            raise Refusal(401, "INVALID_AUTHENTICATION", "Authentication credentials not found or not valid.")

    async def _faulted(
        self, fault: Fault | None, request: Request, raw: bytes, record: CallRecord, headers: dict[str, str]
    ) -> tuple[int, Any]:
        """Answer as the fault wants it; the work is done unless the fault says it is not."""
        if fault is not None:
            if fault.kind == "drop":
                return 0, None
            if fault.kind == "token_expired":
                raise Refusal(401, "EXPIRED_AUTHENTICATION", "The access token is expired.")
            if fault.kind == "rate_limited":
                headers.update(_retry_after(fault))
                raise Refusal(429, "RATE_LIMITS", f"You have reached your {fault.policy.lower()} limit.")
            if fault.kind == "refuse_batch" and fault.word.encode() in raw:
                raise Refusal(400, "VALIDATION_ERROR", "Something in this batch is not as it must be.")
            if fault.kind == "error":
                raise Refusal(fault.status, "INTERNAL_ERROR", "The service is having a bad moment.")
            if fault.kind == "hang":
                log = self._account.log
                await asyncio.sleep(fault.seconds)
                if self._account.log is not log:
                    raise Refusal(503, "INTERNAL_ERROR", "The sandbox was reset meanwhile.")
        return self._processed(request, raw, record)

    def _processed(self, request: Request, raw: bytes, record: CallRecord) -> tuple[int, Any]:
        require(self._name, self._account.portal.options.missing_scopes)
        body = _parsed(request, raw)
        inputs = body.get("inputs")
        record.inputs = len(inputs) if isinstance(inputs, list) else 1
        params, query = request.path_params, request.query_params
        is_of_companies = self._name.startswith("compan")
        portal = self._account.companies if is_of_companies else self._account.portal
        call = Call(portal, self._version, record.number, params, query, body)
        answer = self._handler(call)
        record.processed = True
        return answer


class Tokens(Operation):
    """The token endpoint: the app proves itself in the body."""

    def _authenticate(self, request: Request) -> None:
        """Ask for no token: it is what is wanted."""

    def _processed(self, request: Request, raw: bytes, record: CallRecord) -> tuple[int, Any]:
        kind = request.headers.get("content-type", "")
        answer = self._account.oauth.exchange(kind, dict(request.query_params), raw)
        record.processed = True
        return 200, answer


def create_app(account: Account) -> Starlette:
    """Assemble the API in all its versions, the control API, and an answer for every other path."""
    routes = control_routes()
    for version, bases in VERSIONS.items():
        for base, operations in zip(bases, OPERATIONS, strict=True):
            for name, method, path, handler in operations:
                endpoint = Operation(account, name, version, handler)
                routes.append(Route(base + path, endpoint, methods=[method], name=f"{version} {name}"))
    for version, path in TOKEN_PATHS.items():
        routes.append(Route(path, Tokens(account, "oauth.token", version, unknown_path), methods=["POST"]))
    unknown = Operation(account, "unknown", "", unknown_path)
    routes.append(Route("/{path:path}", unknown, name="unknown"))
    app = Starlette(routes=routes)
    app.state.account = account
    account.thawed.set()
    return app


def _retry_after(fault: Fault) -> dict[str, str]:
    if fault.retry_after is None:
        return {}
    moment = formatdate(math.ceil(time.time()) + fault.retry_after, usegmt=True)
    return {"Retry-After": moment if fault.as_date else str(fault.retry_after)}


def _parsed(request: Request, raw: bytes) -> dict[str, Any]:
    if request.method in ("GET", "DELETE", "HEAD"):
        return {}
    if not request.headers.get("content-type", "").startswith("application/json"):
        raise Refusal(415, "VALIDATION_ERROR", "Unsupported Media Type: send application/json.")
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise Refusal(400, "VALIDATION_ERROR", f"Invalid input JSON: {error}") from None
    if not isinstance(body, dict):
        raise Refusal(400, "VALIDATION_ERROR", "Invalid input JSON: an object is expected.")
    return body


async def _cut(scope: Scope, receive: Receive) -> None:
    scope["state"]["transport"].abort()
    while (await receive())["type"] != "http.disconnect":
        pass


async def _answer(send: Send, status: int, body: Any, headers: dict[str, str], fault: Fault | None) -> None:
    payload = b"" if body is None else orjson.dumps(body)
    kind = fault.kind if fault is not None else None
    if kind == "malformed":
        payload = payload[: len(payload) // 2]
    raw_headers = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    raw_headers.append((b"content-type", b"application/json;charset=utf-8"))
    if status != 204:
        raw_headers.append((b"content-length", str(len(payload)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": raw_headers})
    if fault is not None and kind == "drip":
        size = max(1, len(payload) // DRIP_PIECES)
        for start in range(0, len(payload), size):
            piece = payload[start : start + size]
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            await asyncio.sleep(fault.seconds / DRIP_PIECES)
        payload = b""
    await send({"type": "http.response.body", "body": payload})
