"""The body of a request, under limits that no server in front keeps."""

import asyncio
from collections.abc import Mapping

from starlette.types import Receive

from integration.errors import Reason, Refused

BODY_LIMIT = 1024 * 1024
"""Most bytes of a body."""
BODY_HEARD = 8 * BODY_LIMIT
"""Most bytes listened to: a sender cut off while it still sends sees a broken connection instead of its 413."""
BODY_SECONDS = 10.0
"""How long a sender may take over its body."""


async def read_body(receive: Receive, seconds: float = BODY_SECONDS) -> bytes:
    """Read the body under a size cap and a deadline; no server in front does both.

    `Content-Length` is not trusted, because a body may come without one or with a false one. Raises Refused.
    """
    parts: list[bytes] = []
    size, more = 0, True
    try:
        async with asyncio.timeout(seconds):
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
        raise Refused(408, Reason.BODY_TOO_SLOW, f"the body was not in within {seconds:g} s") from None
    if size > BODY_LIMIT:
        raise Refused(413, Reason.BODY_TOO_LARGE, f"a body may have {BODY_LIMIT} bytes")
    return b"".join(parts)


def check_media_type(headers: Mapping[str, str], also: tuple[str, ...] = ()) -> None:
    """Refuse what says it is no JSON, nor `also`; a sender that says nothing is judged by its body."""
    said = headers.get("content-type", "").partition(";")[0].strip().lower()
    if said and said != "application/json" and not said.endswith("+json") and said not in also:
        raise Refused(415, Reason.UNSUPPORTED_MEDIA_TYPE, "send application/json")
