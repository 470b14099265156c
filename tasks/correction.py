"""Correcting the payload of an event: single values by their path, what differs, and what of that may be shown."""

import json
import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, NamedTuple

import orjson

from integration.errors import CoursewireError
from integration.ports import Translator
from integration.security import redact
from tasks.saying import plain

_ABSENT = object()
_LONGEST = 200

# What our event format says of the learning itself. All else, known or not, may be about a person.
_IMPERSONAL = re.compile(
    r"type|timestamp"
    r"|data\.(score|score_max|passed|progress|attempt|enrollment_id|expires_at)"
    r"|data\.(course|module|assessment|certification)(\..+)?"
)


class CannotCorrect(Exception):
    """Why the correction asked for cannot be made; the text says what can be done instead, and no value."""


class Change(NamedTuple):
    """One field that differs, as text; None = there is no such field."""

    field: str
    was: str | None
    becomes: str | None


def lenient(body: bytes) -> Any:
    """Return a payload as JSON, hostile as it may be. Raises CannotCorrect where not even that can be had."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise CannotCorrect(
            "The payload cannot be taken apart, so its fields cannot be set one by one. "
            "Give the whole event with --file, or leave both out to edit it."
        ) from None


def with_values(body: Any, settings: Iterable[str]) -> bytes:
    """Return a payload with each `path=value` set; a value is JSON where it can be read as such, else text.

    Raises CannotCorrect for a setting that leads nowhere.
    """
    for setting in settings:
        path, equals, value = setting.partition("=")
        if not equals or not path:
            raise CannotCorrect("A value is set as path=value, for example data.score=92.")
        _set(body, path, _value(value))
    try:
        return orjson.dumps(body)
    except TypeError:
        raise CannotCorrect("The event would still hold text or numbers that cannot be sent; use --file.") from None


def refusal(system: Translator, body: bytes) -> str | None:
    """Return why the connector would not take a payload, None where it does; names the field and not its value."""
    try:
        found = system.translate(body)
    except CoursewireError as error:
        return f"{error.detail or error.reason} ({error.reason})"
    return None if found else "it holds no event"


def changes(before: Any, after: Any) -> list[Change]:
    """Return every field that differs, in the order of the fields; a list's places are numbers.

    The names are fit to be shown and kept: a sender can call a field what it likes, even by somebody's e-mail.
    """
    old, new = _leaves(before), _leaves(after)
    return [
        Change(redact.text(plain(path))[:_LONGEST], _text(old.get(path, _ABSENT)), _text(new.get(path, _ABSENT)))
        for path in dict.fromkeys([*new, *old])
        if _text(old.get(path, _ABSENT)) != _text(new.get(path, _ABSENT))
    ]


def unfamiliar(before: Any, settings: Iterable[str]) -> list[str]:
    """Return a sentence for each setting of a field that the event did not have: it may be mistyped."""
    known, found = _leaves(before), []
    for setting in settings:
        path = setting.partition("=")[0]
        if path in known:
            continue
        name = path.rpartition(".")[2]
        alike = [one for one in known if one.rpartition(".")[2] == name] or get_close_matches(path, known, n=1)
        meant = f" Did you mean {redact.text(plain(alike[0]))}?" if alike else ""
        found.append(f"The event had no {redact.text(plain(path))[:_LONGEST]}.{meant}")
    return found


def masked(change: Change) -> Change:
    """Return a change with what may be personal made unrecognisable."""
    veil = redact.text if _IMPERSONAL.fullmatch(change.field) else _veil
    return change._replace(
        was=None if change.was is None else veil(change.was),
        becomes=None if change.becomes is None else veil(change.becomes),
    )


def _veil(text: str) -> str:
    if text == "null":
        return text
    return " ".join(redact.email(word) if "@" in word else redact.name(word) for word in text.split())


def _set(body: Any, path: str, value: Any) -> None:
    *way, last = path.split(".")
    place = body
    for step in way:
        place = _enter(place, step, path)
    if isinstance(place, dict):
        place[last] = value
    elif isinstance(place, list) and last.isdecimal() and int(last) < len(place):
        place[int(last)] = value
    else:
        raise _leads_nowhere(path, last)


def _enter(place: Any, step: str, path: str) -> Any:
    if isinstance(place, dict):
        if place.get(step) is None:
            place[step] = {}
        return place[step]
    if isinstance(place, list) and step.isdecimal() and int(step) < len(place):
        return place[int(step)]
    raise _leads_nowhere(path, step)


def _leads_nowhere(path: str, step: str) -> CannotCorrect:
    return CannotCorrect(f"{path} leads nowhere: there is nothing in the event that {step!r} could be part of.")


def _value(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def _leaves(value: Any) -> dict[str, Any]:
    """Return the values of a JSON value by their paths; without recursion, because it may be as deep as it likes."""
    found, waiting = {}, [("", value)]
    while waiting:
        path, part = waiting.pop()
        inside: list[tuple[object, Any]] = []
        if isinstance(part, dict):
            inside = list(part.items())
        elif isinstance(part, list):
            inside = list(enumerate(part))
        if inside:
            waiting += [(f"{path}.{name}" if path else str(name), deeper) for name, deeper in reversed(inside)]
        elif path:
            found[path] = part
    return found


def _text(value: Any) -> str | None:
    if value is _ABSENT:
        return None
    return value if isinstance(value, str) else json.dumps(value)
