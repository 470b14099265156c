"""Whether a chain leads from a canonical type to a property's type, before any value is seen."""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import date
from zoneinfo import ZoneInfo

from mappings.transforms.chains import Step, run
from mappings.transforms.table import BASE, TRANSFORMS, Form
from mappings.transforms.values import Unfit, Value, a, any_of, kind_of

_SOURCES: Mapping[str, Form] = {
    "string": "text",
    "email": "text",
    "phone": "text",
    "name": "text",
    "number": "number",
    "bool": "yes or no",
    "datetime": "date and time",
    "date": "day",
    "list": "list",
}
_TARGETS: Mapping[str, frozenset[Form]] = {
    "string": frozenset(BASE) - {"list"},
    "number": frozenset({"number", "number of a moment", "number of a day"}),
    "bool": frozenset({"yes or no"}),
    "date": frozenset({"day", "date and time", "text of a day", "number of a day"}),
    "datetime": frozenset({"date and time", "text of a moment", "number of a moment"}),
    "enumeration": frozenset({"text", "number", "yes or no"}),
}
_UTC = ZoneInfo("UTC")
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")


def accepts(steps: Sequence[Step], source_type: str, target_type: str) -> str | None:
    """Return None where the chain leads from a canonical type to a property type, else a sentence that says why not.

    What is neither text nor list goes into a property as `mappings.fields.render` writes it. Whether an enumeration
    has the options is for the caller to ask of `outcomes`.
    """
    if source_type not in _SOURCES:
        return f"there is no field type {source_type}; there are {', '.join(_SOURCES)}"
    if target_type not in _TARGETS:
        return f"there is no property type {target_type}; there are {', '.join(_TARGETS)}"
    form = _SOURCES[source_type]
    for step in steps:
        takes, gives = TRANSFORMS[step.name].takes, TRANSFORMS[step.name].gives
        if BASE[form] not in takes:
            return f"`{step.name}` takes {any_of(takes)}, and what comes to it is {a(form)}"
        if step.name == "default":
            kind = kind_of(_default(step))
            if kind != BASE[form]:
                return (
                    f"the value of `default` is {a(kind)}, and what it stands in for is {a(form)}; write the same kind"
                )
            gives = form if form == "text of a day" and _is_day(_default(step)) else kind
        form = gives or form
    if form in _TARGETS[target_type] or _whatever_comes_fits(steps, target_type):
        return None
    return f"a property of type {target_type} cannot hold {a(form)}{_hint(form, target_type)}"


def outcomes(steps: Sequence[Step]) -> frozenset[str] | None:
    """Return every text that the chain can end with, besides nothing; None where they cannot be counted."""
    known: set[Value] | None = None
    for step in steps:
        if step.name in ("lookup", "bool_text"):
            known = {text for _, text in step.argument} if isinstance(step.argument, tuple) else {"true", "false"}
        elif known is not None and step.name == "default":
            known.add(_default(step))
        elif known is not None:
            known = _after(step, known)
    if known is None or not all(isinstance(value, str) for value in known):
        return None
    return frozenset(value for value in known if isinstance(value, str) and value)


def _after(step: Step, values: set[Value]) -> set[Value]:
    after: set[Value] = set()
    for value in values:
        with suppress(Unfit):
            after.add(run((step,), value, _UTC))
    return after - {None}


def _default(step: Step) -> str | int | float | bool:
    if not isinstance(step.argument, str | int | float):
        raise TypeError("a default without a value was not made by parse")
    return step.argument


def _is_day(value: object) -> bool:
    try:
        return isinstance(value, str) and date.fromisoformat(value).isoformat() == value
    except ValueError:
        return False


_TEXT_FITS: Mapping[str, Callable[[str], object]] = {
    "bool": {"true", "false"}.__contains__,
    "number": _NUMBER.fullmatch,
    "date": _is_day,
}


def _whatever_comes_fits(steps: Sequence[Step], target_type: str) -> bool:
    """Say whether the property takes all the texts that can come out, as with a lookup to true and false."""
    counted, fits = outcomes(steps), _TEXT_FITS.get(target_type)
    return bool(counted) and fits is not None and all(map(fits, counted or ()))


def _hint(form: Form, target_type: str) -> str:
    match BASE[form], target_type:
        case "list", _:
            hint = "`join` makes a text of it"
        case "text", "number":
            hint = "`number` reads a text as one"
        case "text", "bool":
            hint = "a `lookup` that gives nothing but true and false would do"
        case (("date and time" | "number"), "date"):
            hint = "`epoch_day_ms` makes a day of a date and time"
        case _, "date" | "datetime":
            hint = f"map a field of type {target_type}, or another property"
        case _:
            hint = "map another property"
    return f"; {hint}"
