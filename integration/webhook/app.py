"""The HTTP surface (architecture section 8): webhooks in, health and metrics out."""

import contextlib
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from time import perf_counter

import orjson
import structlog
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from integration.enqueue import Publisher
from integration.errors import Reason, Refused
from integration.observability.metrics import ANSWER_SECONDS, ANSWERS
from integration.security.seal import KeyRing
from integration.webhook.answers import problem
from integration.webhook.body import BODY_SECONDS, check_media_type, read_body
from integration.webhook.intake import Intake
from integration.webhook.pathways import PathwayQuestions
from integration.webhook.presence import Presence
from integration.webhook.receive import Door, rows_of

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Endpoint:
    """What the routes work with; built once per process by the composition root."""

    doors: Mapping[str, Door]
    ring: KeyRing
    intake: Intake
    publisher: Publisher
    metrics: Callable[[], tuple[bytes, str]]
    pathways: PathwayQuestions | None = None
    presence: Presence | None = None
    body_seconds: float = BODY_SECONDS

    async def webhook(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take one delivery, as an ASGI application: 202 once it is committed, or the problem that kept it out."""
        started = perf_counter()
        connection = scope["path"].split("/", 3)[2]
        label = connection if connection in self.doors else "unknown"
        try:
            response = await self._take(scope, receive, connection)
        except Refused as refused:
            response = problem(refused.status, refused.reason, refused.detail)
            log.info("webhook.refused", connection=label, status=refused.status, reason=refused.reason.value)
            _answers(label, str(refused.status), refused.reason.value).inc()
        except Exception:  # whatever it is, the sender must hear that nothing was accepted
            log.exception("webhook.failed", connection=label)
            response = problem(500, Reason.INTERNAL_ERROR, "the endpoint failed; nothing was accepted, send it again")
            _answers(label, "500", Reason.INTERNAL_ERROR.value).inc()
        else:
            _answers(label, "202", "accepted").inc()
        _seconds(label).observe(perf_counter() - started)
        await response(scope, receive, send)

    async def _take(self, scope: Scope, receive: Receive, connection: str) -> Response:
        door = self.doors.get(connection)
        if door is None:
            raise Refused(404, Reason.UNKNOWN_CONNECTION, "no connection of this name takes webhooks")
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        check_media_type(headers, door.media_types)
        raw = await read_body(receive, self.body_seconds)
        request_id = f"req_{secrets.token_hex(8)}"
        rows = rows_of(door, scope["method"], _address(scope, headers), headers, raw, self.ring, request_id)
        accepted, duplicates = await self.intake.store(rows)
        body = orjson.dumps({"accepted": accepted, "duplicates": duplicates})
        return Response(body, status_code=202, media_type="application/json", headers={"x-request-id": request_id})

    async def healthz(self, _: Request) -> Response:
        """Say that the process answers."""
        return PlainTextResponse("ok\n")

    async def readyz(self, _: Request) -> Response:
        """Say whether Postgres answers; a frozen broker or a backlog is no reason to refuse webhooks."""
        if await self.intake.ready():
            return PlainTextResponse("ok\n")
        return problem(
            503,
            Reason.DATABASE_AWAY,
            "Postgres does not answer or takes no writes, or `coursewire migrate` has not run",
        )

    async def show_metrics(self, _: Request) -> Response:
        """Render the metrics; in a thread, because the gauges ask Postgres."""
        body, media_type = await run_in_threadpool(self.metrics)
        return Response(body, media_type=media_type)

    @contextlib.asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """Run intake and publisher for as long as the process serves."""
        self.publisher.start()
        await self.intake.start()
        if self.presence:
            await self.presence.start()
        try:
            yield
        finally:
            if self.presence:
                await self.presence.stop()
            await self.intake.stop()
            await run_in_threadpool(self.publisher.stop)


# Finding a labelled metric costs more than counting with it; connections, statuses and reasons are few.
_answers = cache(ANSWERS.labels)
_seconds = cache(ANSWER_SECONDS.labels)


@dataclass(frozen=True, slots=True)
class Application:
    """The ASGI application: webhooks go straight to the endpoint, everything else but users through Starlette.

    Starlette's router and middleware cost a webhook as much as its signature, its seal and its keys together.
    """

    endpoint: Endpoint
    rest: Starlette
    users: Mapping[str, ASGIApp] = field(default_factory=dict)
    """By connection: what takes the users that an identity provider pushes, under the address of its webhooks."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the process's lifespan."""
        if scope["type"] != "http" or not scope["path"].startswith("/webhooks/"):
            await self.rest(scope, receive, send)
        elif self.users and (pushed := self.users.get(scope["path"].split("/", 3)[2])):
            await pushed(scope, receive, send)
        elif scope["method"] == "POST":
            await self.endpoint.webhook(scope, receive, send)
        else:
            refusal = problem(405, "http_405", "webhooks are sent with POST")
            await refusal(scope, receive, send)


def create_app(endpoint: Endpoint, users: Mapping[str, ASGIApp] | None = None) -> Application:
    """Return the ASGI application over an endpoint; `users` takes the users of connections that push them."""
    routes = [
        Route("/healthz", endpoint.healthz),
        Route("/readyz", endpoint.readyz),
        Route("/metrics", endpoint.show_metrics),
    ]
    if endpoint.pathways:
        routes.append(Route("/pathways/{role:path}", endpoint.pathways.answer))
    handlers = {HTTPException: _http_problem, Exception: _unexpected}
    return Application(
        endpoint,
        Starlette(routes=routes, exception_handlers=handlers, lifespan=endpoint.lifespan),  # type: ignore[arg-type]
        users or {},
    )


def _address(scope: Scope, headers: Mapping[str, str]) -> str:
    """Return the address the sender used, as far as it is known behind a proxy; some systems sign it."""
    query = f"?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else ""
    path = scope["raw_path"].decode("latin-1") if scope.get("raw_path") else scope["path"]
    return f"{scope['scheme']}://{headers.get('host', '')}{path}{query}"


async def _http_problem(_: Request, error: HTTPException) -> Response:
    response = problem(error.status_code, f"http_{error.status_code}", str(error.detail))
    response.headers.update(error.headers or {})
    return response


async def _unexpected(_: Request, __: Exception) -> Response:
    return problem(500, Reason.INTERNAL_ERROR, "the endpoint failed; try again")
