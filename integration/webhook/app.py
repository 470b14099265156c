"""The HTTP surface (architecture section 8): webhooks in, health and metrics out."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
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
from starlette.types import Receive, Scope, Send

from integration.enqueue import Publisher
from integration.errors import Reason, Refused
from integration.observability.metrics import ANSWER_SECONDS, ANSWERS
from integration.security.seal import KeyRing
from integration.webhook.answers import problem
from integration.webhook.intake import Intake
from integration.webhook.pathways import PathwayQuestions
from integration.webhook.receive import Door, rows_of

log = structlog.get_logger(__name__)

BODY_LIMIT = 1024 * 1024
"""Most bytes of a body."""
BODY_HEARD = 8 * BODY_LIMIT
"""Most bytes listened to: a sender cut off while it still sends sees a broken connection instead of its 413."""
BODY_SECONDS = 10.0
"""How long a sender may take over its body."""


@dataclass(slots=True)
class Endpoint:
    """What the routes work with; built once per process by the composition root."""

    doors: Mapping[str, Door]
    ring: KeyRing
    intake: Intake
    publisher: Publisher
    metrics: Callable[[], tuple[bytes, str]]
    pathways: PathwayQuestions | None = None
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
        _check_media_type(headers, door.media_types)
        raw = await self._body(receive)
        request_id = f"req_{secrets.token_hex(8)}"
        rows = rows_of(door, scope["method"], _address(scope, headers), headers, raw, self.ring, request_id)
        accepted, duplicates = await self.intake.store(rows)
        body = orjson.dumps({"accepted": accepted, "duplicates": duplicates})
        return Response(body, status_code=202, media_type="application/json", headers={"x-request-id": request_id})

    async def _body(self, receive: Receive) -> bytes:
        """Read the body under a size cap and a deadline; no server in front does both.

        `Content-Length` is not trusted, because a body may come without one or with a false one.
        """
        parts: list[bytes] = []
        size, more = 0, True
        try:
            async with asyncio.timeout(self.body_seconds):
                while more and size <= BODY_HEARD:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Refused(400, Reason.MALFORMED_BODY, "the sender left before its body was in")
                    chunk = message.get("body", b"")
                    size += len(chunk)
                    if size <= BODY_LIMIT:
                        parts.append(chunk)
                    more = message.get("more_body", False)
        except TimeoutError:
            seconds = f"{self.body_seconds:g}"
            raise Refused(408, Reason.BODY_TOO_SLOW, f"the body was not in within {seconds} s") from None
        if size > BODY_LIMIT:
            raise Refused(413, Reason.BODY_TOO_LARGE, f"a body may have {BODY_LIMIT} bytes")
        return b"".join(parts)

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
        try:
            yield
        finally:
            await self.intake.stop()
            await run_in_threadpool(self.publisher.stop)


# Finding a labelled metric costs more than counting with it; connections, statuses and reasons are few.
_answers = cache(ANSWERS.labels)
_seconds = cache(ANSWER_SECONDS.labels)


@dataclass(frozen=True, slots=True)
class Application:
    """The ASGI application: webhooks go straight to the endpoint, everything else through Starlette.

    Starlette's router and middleware cost a webhook as much as its signature, its seal and its keys together.
    """

    endpoint: Endpoint
    rest: Starlette

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the process's lifespan."""
        if scope["type"] != "http" or not scope["path"].startswith("/webhooks/"):
            await self.rest(scope, receive, send)
        elif scope["method"] == "POST":
            await self.endpoint.webhook(scope, receive, send)
        else:
            refusal = problem(405, "http_405", "webhooks are sent with POST")
            await refusal(scope, receive, send)


def create_app(endpoint: Endpoint) -> Application:
    """Return the ASGI application over an endpoint."""
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
    )


def _address(scope: Scope, headers: Mapping[str, str]) -> str:
    """Return the address the sender used, as far as it is known behind a proxy; some systems sign it."""
    query = f"?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else ""
    path = scope["raw_path"].decode("latin-1") if scope.get("raw_path") else scope["path"]
    return f"{scope['scheme']}://{headers.get('host', '')}{path}{query}"


def _check_media_type(headers: Mapping[str, str], also: tuple[str, ...]) -> None:
    """Refuse what says it is no JSON, nor `also`; a sender that says nothing is judged by its body."""
    said = headers.get("content-type", "").partition(";")[0].strip().lower()
    if said and said != "application/json" and not said.endswith("+json") and said not in also:
        raise Refused(415, Reason.UNSUPPORTED_MEDIA_TYPE, "send application/json")


async def _http_problem(_: Request, error: HTTPException) -> Response:
    response = problem(error.status_code, f"http_{error.status_code}", str(error.detail))
    response.headers.update(error.headers or {})
    return response


async def _unexpected(_: Request, __: Exception) -> Response:
    return problem(500, Reason.INTERNAL_ERROR, "the endpoint failed; try again")
