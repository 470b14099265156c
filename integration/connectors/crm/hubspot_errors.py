"""Reads HubSpot's several error shapes; what each code means is a line of `hubspot_consequences`.

Nothing of HubSpot's own text is passed on: its messages quote e-mail addresses. What we keep are codes,
property names and numbers, each only where it looks like one. Codes outrank text: text quotes what people typed.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from integration.connectors.crm.hubspot_consequences import BY_CODE, BY_STATUS
from integration.errors import Reason
from integration.security import redact

TEXTS: Final[tuple[tuple[re.Pattern[str], Reason], ...]] = (
    (re.compile(r'^Property "?(?P<name>[a-z]\w*)"? does not exist'), Reason.UNKNOWN_PROPERTY),
    (
        re.compile(r"^Unable to perform .* non-unique \S+ property (?P<name>[a-z]\w*)"),
        Reason.UNKNOWN_PROPERTY,
    ),
    (re.compile(r'^"?(?P<name>[a-z]\w*)"? is a read[ -]only property'), Reason.UNKNOWN_PROPERTY),
    (re.compile(r"propertyName=(?P<name>[a-z]\w*).* already has that value", re.DOTALL), Reason.CONFLICT),
    (re.compile(r"already has that value"), Reason.CONFLICT),
    (re.compile(r"^Contact already exists"), Reason.CONFLICT),
)
"""What a message says where no code does."""

PRECEDENCE: Final = (
    Reason.RATE_LIMITED,
    Reason.SERVER_ERROR,
    Reason.UNKNOWN_PROPERTY,
    Reason.CONFLICT,
    Reason.CONTACT_GONE,
    Reason.INVALID_VALUE,
)
"""Of several findings the first of these: what passes, then what a dropped field cures, then values."""

_EXISTING: Final = (
    re.compile(r"Existing ID:\s*([1-9]\d*)"),
    re.compile(r"\b([1-9]\d*) already has that value"),
)
_CODE: Final = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,99}")
_SCOPE: Final = re.compile(r"[a-z0-9_.-]{1,100}")
_VALUES: Final = re.compile(r"\"[^\"]*\"|'[^']*'|\[[^\]]*\]|\b\w*\d{3,}\w*")
_BEFORE_LIST: Final = re.compile(r"[\w .,'-]{0,120}: (?=\[\{)")


class Problem(NamedTuple):
    """One refusal: why, in words without values, and which properties and records it names.

    `said` is HubSpot's own sentence without anything in it that could be a value: it is where a rule of the customer's
    stands.
    """

    reason: Reason
    detail: str
    properties: tuple[str, ...] = ()
    existing_id: str | None = None
    traces: frozenset[str] = frozenset()
    ids: frozenset[str] = frozenset()
    said: str = ""


class _Found(NamedTuple):
    reason: Reason
    code: str | None
    name: str | None
    said: str = ""


def problems(status: int, body: Any) -> list[Problem]:
    """Return the refusals in an answer: in a 2xx those of `errors`; else the answer itself is one.

    Raises nothing, whatever `body` is. Source: HubSpot docs, error-handling, "multi-status errors".
    """
    parts = _list(_get(body, "errors"))
    if status not in BY_STATUS:
        return [problem(part) for part in parts]
    naming = [one for one in map(problem, parts) if one.traces or one.ids]
    return naming or [problem(body, BY_STATUS[status])]


def problem(error: Any, default: Reason = Reason.SERVER_ERROR) -> Problem:
    """Read one error object of HubSpot; `default` is the reason where it gives none. Raises nothing.

    Source: HubSpot docs, error-handling; the JSON inside `message` as seen in public reports of 400 answers.
    """
    category = _match(_CODE, _get(error, "category"))
    message = _text(_get(error, "message"))
    found = [*_details(error, depth=0)] or [*_from_text(message)]
    reason = next((one for one in PRECEDENCE if any(part.reason is one for part in found)), None)
    chosen = [part for part in found if part.reason is reason]
    if reason is None:
        reason = BY_CODE.get(category or "", default)
    names = tuple(dict.fromkeys(part.name for part in chosen if part.name))
    codes = dict.fromkeys(part.code for part in chosen if part.code and part.code != category)
    words = f"{category or 'no category'}: {', '.join(codes) or 'no code'}"
    context = _get(error, "context")
    return Problem(
        reason=reason,
        detail=(words + (f" on {', '.join(names)}" if names else ""))[:300],
        properties=names,
        existing_id=_existing_id(message) if reason is Reason.CONFLICT else None,
        traces=_texts(_get(context, "objectWriteTraceId")),
        ids=_texts(_get(context, "ids")) | _texts(_get(context, "id")),
        said=next((part.said for part in chosen if part.said), ""),
    )


def missing_scopes(body: Any) -> tuple[str, ...]:
    """Return the scopes that a 403 asks for, sorted; () where it names none. Raises nothing.

    Source: HubSpot docs, error-handling (`errors[].context.requiredGranularScopes`).
    """
    asked: set[str] = set()
    for part in [body, *_list(_get(body, "errors"))]:
        context = _get(part, "context")
        for key in ("requiredGranularScopes", "requiredScopes"):
            asked |= _texts(_get(context, key))
    return tuple(sorted(scope for scope in asked if _SCOPE.fullmatch(scope)))


def _details(error: Any, depth: int) -> Iterator[_Found]:
    """Yield what the structured parts say: `errors[]`, and the JSON list inside `message`."""
    for part in _embedded(_text(_get(error, "message"))):
        yield from _coded(part, [_get(part, "name")])
    for part in _list(_get(error, "errors")):
        names = _list(_get(_get(part, "context"), "propertyName")) or [_get(part, "name"), _get(part, "in")]
        known = [*_coded(part, names)]
        yield from known
        if not known and depth == 0:
            yield from _details(part, depth + 1)
    category = _get(error, "category")
    if depth == 0 and BY_CODE.get(_text(category)) in (Reason.CONFLICT, Reason.CONTACT_GONE):
        yield _Found(BY_CODE[_text(category)], None, None)


def _coded(part: Any, names: list[Any]) -> Iterator[_Found]:
    code = _match(_CODE, _get(part, "code")) or _match(_CODE, _get(part, "error"))
    if code is None:
        yield from _from_text(_text(_get(part, "message")))
        return
    reason = BY_CODE.get(code, Reason.INVALID_VALUE)
    known = [one for one in (_match(_NAME, name) for name in names) if one]
    said = _without_values(_text(_get(part, "message")))
    yield from [_Found(reason, code, name, said) for name in known] or [_Found(reason, code, None, said)]


def _without_values(message: str) -> str:
    """Return a sentence without what it quotes: names of properties stay, which are written without quotes or named."""
    return redact.text(" ".join(_VALUES.sub("...", message[:2000]).split()))[:200]


def _from_text(message: str) -> Iterator[_Found]:
    for pattern, reason in TEXTS:
        match = pattern.search(message[:2000])
        if match:
            yield _Found(reason, None, _match(_NAME, match.groupdict().get("name")))
            return


def _embedded(message: str) -> list[Any]:
    start = _BEFORE_LIST.match(message)
    if not start:
        return []
    try:
        found, _ = json.JSONDecoder().raw_decode(message, start.end())
    except (ValueError, RecursionError):
        return []
    return _list(found)


def _existing_id(message: str) -> str | None:
    """Return the id at the end of a conflict's message; a quoted value before it may hold another."""
    numbers = [number for pattern in _EXISTING for number in pattern.findall(message)]
    return str(numbers[-1]) if numbers else None


def _get(thing: Any, key: str) -> Any:
    return thing.get(key) if isinstance(thing, dict) else None


def _list(thing: Any) -> list[Any]:
    if thing is None:
        return []
    return thing if isinstance(thing, list) else [thing]


def _text(thing: Any) -> str:
    return thing if isinstance(thing, str) else ""


def _texts(thing: Any) -> frozenset[str]:
    """Return the strings and whole numbers of a value or list as text: HubSpot writes ids both ways."""
    return frozenset(str(one) for one in _list(thing) if isinstance(one, str | int) and not isinstance(one, bool))


def _match(pattern: re.Pattern[str], thing: Any) -> str | None:
    return thing if isinstance(thing, str) and pattern.fullmatch(thing) else None
