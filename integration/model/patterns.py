"""Patterns of `*` (any text) and `?` (one character), as rules write them."""

import re
from collections.abc import Iterable
from functools import lru_cache

_PARTS = re.compile(r"\*+|.", re.DOTALL)


@lru_cache(maxsize=4096)
def compiled(pattern: str) -> re.Pattern[str]:
    """Return a pattern as an expression that a whole text meets or not."""
    # One star for many: neighbours say nothing more, and cost a hostile pattern's price.
    parts = (".*" if part[0] == "*" else "." if part == "?" else re.escape(part) for part in _PARTS.findall(pattern))
    return re.compile("".join(parts), re.DOTALL)


def meets(value: str, patterns: Iterable[str]) -> bool:
    """Return whether a value meets one of the patterns; neither case nor blanks around either count."""
    plain = value.strip().casefold()
    return any(compiled(pattern.strip().casefold()).fullmatch(plain) for pattern in patterns)
