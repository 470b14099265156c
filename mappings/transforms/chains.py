"""Chains of transforms: read from YAML, kept as JSON, and run on a value."""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from mappings.transforms.table import TRANSFORMS
from mappings.transforms.values import TransformFault, Value, a, any_of, filled, kind_of, unfit


@dataclass(frozen=True, slots=True)
class Step:
    """One transform with its argument, checked and hashable: None, a text, a number, or sorted pairs of texts."""

    name: str
    argument: object = None


def parse(given: object) -> tuple[Step, ...]:
    """Return the steps of what stands in YAML: a name, `{name: argument}`, or a list of these.

    Raises TransformFault: an unknown name, with the nearest one there is, or a wrong argument, with what to write.
    """
    return tuple(map(_step, given if isinstance(given, list) else [given]))


def _step(given: object) -> Step:
    match given:
        case str():
            name, argument = given, None
        case dict() if len(given) == 1:
            [(name, argument)] = given.items()
        case dict() if given:
            raise TransformFault("two transforms stand in one; write a list: [strip, {truncate: 100}]")
        case _:
            raise TransformFault("a transform is a name or a name with its argument: strip, or {truncate: 100}")
    transform = TRANSFORMS.get(name)
    if transform is None:
        raise TransformFault(_unknown(str(name)))
    try:
        return Step(transform.name, transform.check(argument))
    except TransformFault as fault:
        example = f"for example {transform.example}" if transform.told else transform.example
        raise TransformFault(f"`{transform.name}` {fault}; write {example}") from None


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name.partition(":")[0].strip().lower()[:50], TRANSFORMS, n=1)
    hint = f"the nearest is {TRANSFORMS[near[0]].example}" if near else f"there are {', '.join(TRANSFORMS)}"
    return f"there is no transform `{name[:50]}`; {hint}"


def to_data(steps: Sequence[Step]) -> list[str | dict[str, object]]:
    """Return the steps as JSON and YAML hold them; `from_data` reads it."""
    return [step.name if step.argument is None else {step.name: _data(step.argument)} for step in steps]


def from_data(data: object) -> tuple[Step, ...]:
    """Return the steps that `to_data` wrote. Raises TransformFault where another version wrote them."""
    return parse(data)


def _data(argument: object) -> object:
    return dict(argument) if isinstance(argument, tuple) else argument


Chain = Callable[[Value, ZoneInfo], Value]


def run(steps: Sequence[Step], value: Value, zone: ZoneInfo) -> Value:
    """Return what the chain makes of a value; None, '' and an empty list are None. `zone` is the customer's.

    Raises Unfit, and nothing else, where the value cannot become that; the caller leaves the property out.
    """
    return ready(steps)(value, zone)


def ready(steps: Sequence[Step]) -> Chain:
    """Return the chain as a function, for many values: `run` says what it does."""
    parts = [(step.name, step.argument, TRANSFORMS[step.name]) for step in steps]
    calls = [(name, argument, transform.takes, transform.apply) for name, argument, transform in parts]

    def chain(value: Value, zone: ZoneInfo) -> Value:
        value = value or filled(value)
        for name, argument, takes, apply in calls:
            if value is None:
                value = argument if name == "default" else None  # type: ignore[assignment]
                continue
            kind = "text" if type(value) is str else kind_of(value)
            if kind not in takes:
                raise unfit(f"the transform {name} takes {any_of(takes)}, and was given {a(kind)}")
            value = apply(value, argument, zone)
            value = value or filled(value)
        if value is not None:
            kind_of(value)
        return value

    return chain
