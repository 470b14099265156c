"""PHP's serialized text, in which Moodle's log keeps the details of an event: scalars and arrays, nothing that runs.

Our own instead of `phpserialize`: that one was last released in 2012, makes objects on demand and knows no bounds.
"""

import re
from typing import Final

MOST_CHARACTERS: Final = 65_536
_DEEPEST: Final = 8
_TOKEN: Final = re.compile(
    rb"(?P<null>N;)|b:(?P<bool>[01]);|i:(?P<int>[+-]?\d{1,19});|d:(?P<float>[+-]?\d{1,40}(\.\d{1,40})?([eE][+-]?\d{1,3})?);"
    rb'|s:(?P<text>\d{1,6}):"|a:(?P<array>\d{1,5}):\{'
)

Php = str | int | float | bool | None | dict[str, "Php"]


def unserialize(text: str) -> Php:
    """Return the value of `text`; an array becomes a dict whose keys are text. Lengths in it count bytes of UTF-8.

    Raises ValueError, without any of the text, for what is none of it, too long or too deep, and for objects.
    Source: PHP manual, serialize.
    """
    if len(text) > MOST_CHARACTERS:
        raise ValueError("too long")
    data = text.encode("utf-8", "replace")
    value, end = _value(data, 0, _DEEPEST)
    if end != len(data):
        raise ValueError("there is more behind the value")
    return value


def _value(data: bytes, start: int, levels: int) -> tuple[Php, int]:
    token = _TOKEN.match(data, start)
    if token is None or not levels:
        raise ValueError("not a scalar or an array, or too deep")
    kind, end = token.lastgroup, token.end()
    if kind == "text":
        return _text(data, end, int(token["text"]))
    if kind == "array":
        return _array(data, end, int(token["array"]), levels - 1)
    if token["int"] is not None:
        return int(token["int"]), end
    if token["float"] is not None:
        return float(token["float"]), end
    return (None if token["null"] else token["bool"] == b"1"), end


def _text(data: bytes, start: int, length: int) -> tuple[str, int]:
    end = start + length
    if data[end : end + 2] != b'";':
        raise ValueError("a text has another length than it says")
    return data[start:end].decode(), end + 2


def _array(data: bytes, start: int, count: int, levels: int) -> tuple[dict[str, Php], int]:
    found: dict[str, Php] = {}
    at = start
    for _ in range(count):
        key, at = _value(data, at, levels)
        if not isinstance(key, str | int) or isinstance(key, bool):
            raise ValueError("a key is neither text nor a whole number")  # noqa: TRY004 - of the text, not of ours
        found[str(key)], at = _value(data, at, levels)
    if data[at : at + 1] != b"}":
        raise ValueError("an array has another length than it says")
    return found, at + 1
