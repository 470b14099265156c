"""The second door of HR: SCIM 2.0 under `/webhooks/{connection}/`, for identity providers such as Entra ID and Okta.

Who comes shows a bearer token. Everything else is done in one of a few threads, so that no webhook waits for it.
"""

import asyncio
import hmac
import secrets
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from time import perf_counter
from typing import Any, Final
from urllib.parse import parse_qsl

import orjson
import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from integration.errors import Reason, Refused
from integration.observability.metrics import ANSWER_SECONDS, ANSWERS
from integration.scim.refusal import Refusal
from integration.scim.requests import Answer, Asked, answer, error_body
from integration.scim.users import Users
from integration.security.signatures import SigningKeys
from integration.webhook.answers import RETRY_AFTER
from integration.webhook.body import BODY_LIMIT, check_media_type, read_body

log = structlog.get_logger(__name__)

THREADS, WAITING = 4, 200
"""Most requests of a connection at work, and most that wait for them; beyond that a client hears 503 at once."""
DEEPEST: Final = 16
"""Levels of JSON that a body may have; a user has five."""
MEDIA_TYPE: Final = "application/scim+json"
_HEADERS: Final[Mapping[int, Mapping[str, str]]] = {
    HTTPStatus.UNAUTHORIZED: {"www-authenticate": "Bearer"},
    HTTPStatus.REQUEST_TIMEOUT: {"connection": "close"},
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: {"connection": "close"},
    HTTPStatus.SERVICE_UNAVAILABLE: {"retry-after": str(RETRY_AFTER)},
}
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})


class ScimDoor:
    """Takes the users of one connection, as an ASGI application."""

    def __init__(self, connection: str, tokens: SigningKeys, users: Users, public_url: str | None = None) -> None:
        """`public_url` is the address that clients call, where the one they seem to call is a proxy's."""
        self._connection = connection
        self._tokens = tokens
        self._users = users
        self._public_url = public_url
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix=f"scim {connection}")
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        started = perf_counter()
        request_id = f"req_{secrets.token_hex(8)}"
        try:
            found = await self._answer(scope, receive, request_id)
            reason = "accepted" if found.status < HTTPStatus.BAD_REQUEST else Reason.USER_REFUSED.value
        except Refused as refused:
            reason, found = refused.reason.value, _error(refused.status, refused.detail)
        except Refusal as refusal:
            is_away = refusal.status == HTTPStatus.SERVICE_UNAVAILABLE
            reason = (Reason.DATABASE_AWAY if is_away else Reason.USER_REFUSED).value
            found = _error(refusal.status, refusal.detail, refusal.scim_type)
        except Exception:  # whatever it is, the client must hear that nothing was accepted
            log.exception("scim.failed", connection=self._connection)
            reason, found = Reason.INTERNAL_ERROR.value, _error(500, "the endpoint failed; send it again")
        log.info(
            "scim.answered",
            connection=self._connection,
            action=scope["method"],
            status=found.status,
            reason=reason,
            request=request_id,
        )
        ANSWERS.labels(self._connection, str(found.status), reason).inc()
        ANSWER_SECONDS.labels(self._connection).observe(perf_counter() - started)
        body = b"" if found.body is None else orjson.dumps(found.body)
        headers = {"x-request-id": request_id, "cache-control": "no-store", **found.headers}
        await Response(body, found.status, headers, MEDIA_TYPE if body else None)(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, request_id: str) -> Answer:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        self._let_in(headers.get("authorization", ""))
        method = scope["method"]
        body: Any = None
        if method in _WITH_BODY:
            check_media_type(headers)
            body = _parsed(await read_body(receive))
        asked = Asked(
            method=method,
            place=tuple(filter(None, scope["path"].split("/")[3:])),
            query={name.lower(): value for name, value in parse_qsl(scope["query_string"].decode("latin-1"))},
            body=body,
            request_id=request_id,
            base=self._base(scope, headers),
            most_bytes=BODY_LIMIT,
            if_match=headers.get("if-match"),
            if_none_match=headers.get("if-none-match"),
        )
        return await self._done(asked)

    async def _done(self, asked: Asked) -> Answer:
        """Do what is asked in one of our threads. Raises Refused (503) where too many wait already."""
        if self._under_way >= THREADS + WAITING:
            raise Refused(503, Reason.DATABASE_AWAY, "too many requests wait for the database; send it again")
        self._under_way += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, answer, self._users, asked)
        finally:
            self._under_way -= 1

    def _let_in(self, authorization: str) -> None:
        """Compare with every token, in a time that says nothing of them. Raises Refused (401, 503)."""
        scheme, _, sent = authorization.partition(" ")
        given, is_known = sent.strip().encode("latin-1", "replace"), False
        for token in self._tokens.for_request():
            is_known |= hmac.compare_digest(given, token)
        if not is_known or scheme.lower() != "bearer":
            raise Refused(401, Reason.BAD_TOKEN, "send a token of this connection as Authorization: Bearer ...")

    def _base(self, scope: Scope, headers: dict[str, str]) -> str:
        called = f"{scope['scheme']}://{headers.get('host', '')}/webhooks/{self._connection}"
        return (self._public_url or called).rstrip("/")


def _parsed(raw: bytes) -> Any:
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise Refusal(400, "the body must be one JSON object", "invalidSyntax") from None
    level = [body]
    for _ in range(DEEPEST):
        parts = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)]
        level = [one for part in parts for one in part]
    if level:
        raise Refusal(400, f"the body may have {DEEPEST} levels", "invalidSyntax")
    return body


def _error(status: int, detail: str, scim_type: str | None = None) -> Answer:
    return Answer(status, error_body(status, detail, scim_type), _HEADERS.get(status, {}))
