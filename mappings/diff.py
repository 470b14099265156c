"""What differs between two rule sets, entry by entry."""

from dataclasses import dataclass, fields
from typing import Literal, NamedTuple

from mappings import transforms
from mappings.rules import FieldRule, RuleSet, Scope

_SPOKEN = {"source": "from", "counted": "is"}


class Differs(NamedTuple):
    """One part of a rule, as it was and as it becomes, in words."""

    part: str
    was: str
    becomes: str


@dataclass(frozen=True, slots=True)
class Change:
    """One rule that is added, removed or changed."""

    kind: Literal["added", "removed", "changed"]
    scope: Scope
    object_type: str
    rule: FieldRule
    parts: tuple[Differs, ...] = ()


def diff(old: RuleSet, new: RuleSet) -> list[Change]:
    """Return what must change in `old` to be `new`, in the order of scopes, objects and names."""
    before, after = _by_place(old), _by_place(new)
    changes = []
    for place in sorted(before.keys() | after.keys()):
        was, becomes = before.get(place), after.get(place)
        scope, object_type, _ = place
        if was is None and becomes is not None:
            changes.append(Change("added", scope, object_type, becomes))
        elif was is not None and becomes is None:
            changes.append(Change("removed", scope, object_type, was))
        elif was is not None and becomes is not None and was != becomes:
            changes.append(Change("changed", scope, object_type, becomes, _parts(was, becomes)))
    return changes


def said(rule: FieldRule, part: str) -> str:
    """Return one part of a rule as a rule file says it."""
    value = getattr(rule, part)
    if part == "transform":
        return ", ".join(map(_step, transforms.to_data(value))) or "nothing"
    if part == "counted":
        return ", ".join(value) or "any"
    return ("yes" if value else "no") if isinstance(value, bool) else str(value) or "all of them"


def _step(step: str | dict[str, object]) -> str:
    return step if isinstance(step, str) else " ".join(f"{name} {argument}" for name, argument in step.items())


def _parts(was: FieldRule, becomes: FieldRule) -> tuple[Differs, ...]:
    return tuple(
        Differs(_SPOKEN.get(part.name, part.name), said(was, part.name), said(becomes, part.name))
        for part in fields(FieldRule)
        if getattr(was, part.name) != getattr(becomes, part.name)
    )


def _by_place(rules: RuleSet) -> dict[tuple[Scope, str, str], FieldRule]:
    return {(scope, object_type, rule.name): rule for scope, object_type, rule in rules.each()}
