"""A payload as strict readers take it."""

from typing import Any

import orjson

from integration.errors import Reason, Rejected


def json_object(payload: bytes, noun: str) -> dict[str, Any]:
    """Return the object that `payload` is; `noun` is what to call it. Raises Rejected, which holds none of it."""
    try:
        found = orjson.loads(payload)
    except orjson.JSONDecodeError:
        raise Rejected(
            Reason.HOSTILE_JSON, f"the {noun} is JSON that strict readers refuse: too deep, NaN or broken text"
        ) from None
    if not isinstance(found, dict):
        raise Rejected(Reason.INVALID_EVENT, f"the {noun} must be an object")
    return found
