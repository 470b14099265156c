"""Whether a payload that nobody could make sense of names somebody."""

import json
from collections.abc import Collection, Iterator
from typing import Any


def mentions(body: bytes, values: Collection[str]) -> bool:
    """Say whether some field of a payload has one of these values, whatever its case.

    One that cannot be taken apart may hold it anywhere.
    """
    wanted = {value.strip().casefold() for value in values}
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        text = body.lower()
        return any(value.encode() in text for value in wanted)
    return any(_as_text(leaf).strip().casefold() in wanted for leaf in _leaves(parsed))


def _leaves(value: Any) -> Iterator[Any]:
    """Walk a JSON value without recursion, because it may be as deep as it likes."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part
        else:
            yield part


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
