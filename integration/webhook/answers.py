"""How the endpoint says no: RFC 9457 problems, each with the reason that docs/reasons.md explains."""

from http import HTTPStatus

import orjson
from starlette.responses import Response

from integration.errors import Reason

RETRY_AFTER = 5
"""Seconds a sender is asked to wait while the database is away."""


def problem(status: int, reason: Reason | str, detail: str) -> Response:
    """Return an RFC 9457 problem; one that ends a request early also ends its connection."""
    body = {
        "type": f"urn:coursewire:reason:{reason}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "reason": str(reason),
    }
    headers = {"retry-after": str(RETRY_AFTER)} if status == HTTPStatus.SERVICE_UNAVAILABLE else {}
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["allow"] = "POST"
    if status in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE):
        headers["connection"] = "close"
    return Response(orjson.dumps(body), status, headers, "application/problem+json")
