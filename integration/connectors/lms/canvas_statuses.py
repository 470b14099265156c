"""What an answer of the Canvas REST API means: for everything, for one record, or that it is only to wait.

Sources: Canvas docs, throttling and "OAuth2 overview"; canvas-lms, enrollments_api_controller.rb.
"""

import json
from collections.abc import Mapping
from enum import Enum
from http import HTTPStatus
from typing import Any, Final

from integration.connectors.client import Reply
from integration.errors import ConnectionBroken, CoursewireError, Reason, RetryLater, UnknownOutcome
from integration.ports import ANY_CALL, Rate, Seen

RATES: Final[Mapping[str, Rate]] = {ANY_CALL: Rate(100, 10.0)}
"""Canvas counts the cost of requests and not their number, and says that who makes one at a time is rarely throttled.
This is what its quota (600 units, 10 a second back) bears of requests of a usual cost."""

_THROTTLED_SECONDS: Final = 10.0
_SHOWN: Final = 2000


class Meaning(Enum):
    """What a status and its body say together."""

    DONE = "done"
    TOKEN = "token"  # noqa: S105 - what is wrong, not a token
    DENIED = "denied"
    THROTTLED = "throttled"
    ABSENT = "absent"
    INVALID = "invalid"
    ELSEWHERE = "elsewhere"
    FAILED = "failed"


_BY_STATUS: Final = {404: Meaning.ABSENT, 408: Meaning.FAILED, 429: Meaning.THROTTLED}
_BY_CLASS: Final = {3: Meaning.ELSEWHERE, 4: Meaning.INVALID}


def meaning(reply: Reply) -> Meaning:
    """Return what an answer means.

    A 403 is "no permission" or "too many requests", which only its body tells; without JSON it comes from something
    that stands before Canvas. A 401 with WWW-Authenticate is about the token; one without it that says `unauthorized`
    is about a permission.
    """
    if reply.ok:
        return Meaning.DONE
    if reply.status == HTTPStatus.UNAUTHORIZED:
        says = reply.body.get("status") if isinstance(reply.body, dict) else None
        is_denied = says == "unauthorized" and "www-authenticate" not in reply.headers
        return Meaning.DENIED if is_denied else Meaning.TOKEN
    if reply.status == HTTPStatus.FORBIDDEN:
        if "rate limit exceeded" in said(reply):
            return Meaning.THROTTLED
        return Meaning.DENIED if isinstance(reply.body, dict) else Meaning.ELSEWHERE
    return _BY_STATUS.get(reply.status) or _BY_CLASS.get(reply.status // 100, Meaning.FAILED)


def trouble(reply: Reply, operation: str, *, writes: bool, advice: str) -> CoursewireError | None:
    """Return what `reply` means for everything that is asked of Canvas; None where it is about this one thing.

    `advice` says what to do about a token that is refused.
    """
    match meaning(reply):
        case Meaning.TOKEN:
            return ConnectionBroken(Reason.CREDENTIALS_REFUSED, f"Canvas refuses the token: {advice}")
        case Meaning.THROTTLED:
            after = _THROTTLED_SECONDS if reply.retry_after is None else reply.retry_after
            return RetryLater(Reason.RATE_LIMITED, f"{operation}: Canvas asks to wait ({reply.status})", after=after)
        case Meaning.FAILED:
            kind = UnknownOutcome if writes else RetryLater
            return kind(Reason.SERVER_ERROR, f"{operation}: Canvas failed ({reply.status})", after=reply.retry_after)
        case Meaning.ELSEWHERE:
            detail = f"{operation}: not Canvas itself answers ({reply.status}); see base_url, and what stands before it"
            return RetryLater(Reason.SERVER_ERROR, detail)
    return None


def denied(operation: str) -> ConnectionBroken:
    """Return what follows where the token's user may not do what everything else depends on."""
    detail = f"{operation}: give the token's user an account role that permits it (docs/canvas.md)"
    return ConnectionBroken(Reason.SCOPE_MISSING, detail)


def said(reply: Reply) -> str:
    """Return the beginning of a body in small letters, to look for words in; it is never shown to anybody."""
    text = reply.text if reply.body is None else json.dumps(reply.body, ensure_ascii=False)
    return text[:_SHOWN].casefold()


def is_taken(body: Any) -> bool:
    """Say whether a user was refused because the login or SIS id belongs to somebody. Source: Canvas, users API."""
    return _has_type(body, "taken", depth=6)


def _has_type(thing: Any, word: str, depth: int) -> bool:
    if depth == 0:
        return False
    if isinstance(thing, dict):
        return thing.get("type") == word or any(_has_type(one, word, depth - 1) for one in thing.values())
    return isinstance(thing, list) and any(_has_type(one, word, depth - 1) for one in thing)


def seen(headers: Mapping[str, str]) -> Seen:
    """Return how many calls of this one's cost the quota still bears. Source: Canvas docs, throttling."""
    left, cost = _number(headers, "x-rate-limit-remaining"), _number(headers, "x-request-cost")
    return Seen(remaining=None if left is None else int(left / max(cost or 0.0, 1.0)))


def _number(headers: Mapping[str, str], name: str) -> float | None:
    try:
        found = float(headers.get(name, ""))
    except ValueError:
        return None
    return found if 0 <= found < 1e9 else None  # noqa: PLR2004 - beyond any quota: no number of Canvas
