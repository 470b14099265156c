"""Two sets of field rules side by side, so that only what differs is projected by both."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

from mappings.fields import STATUS, WITHOUT_FACTS, Template
from mappings.rules import FieldRule, FieldRules

_KEY = "{key}"


@dataclass(slots=True)
class Contrast:
    """`was` and `becomes` fill what may differ, `shared` the rest; `taken_over` what only a condition held back."""

    old: FieldRules
    new: FieldRules
    zone: ZoneInfo
    was: Template = field(init=False)
    becomes: Template = field(init=False)
    shared: Template = field(init=False)
    taken_over: Template | None = field(init=False)
    needs_facts: bool = field(init=False)

    def __post_init__(self) -> None:
        """Part the rules."""
        old, new = _concerned(self.old, self.new)
        self.was, self.becomes = Template(old, self.zone), Template(new, self.zone)
        self.shared = Template([rule for rule in self.old if rule not in old], self.zone)
        taken_over = [rule for rule in new if _takes_over(rule, self.old)]
        self.taken_over = Template(taken_over, self.zone) if taken_over else None
        self.needs_facts = any(rule.source not in WITHOUT_FACTS for rule in (*old, *new) if rule.owner == "lms")

    def __bool__(self) -> bool:
        """Whether there is any difference."""
        return set(self.old) != set(self.new)

    @property
    def no_longer(self) -> list[str]:
        """Properties that were filled and are left as they are from now on."""
        return sorted({rule.property for rule in self.old} - {rule.property for rule in self.new})

    @property
    def must_look(self) -> bool:
        """Whether what the CRM holds must be read first: properties not known yet, or written under a condition."""
        known = {rule.property for rule in self.old if rule.owner == "lms"}
        fresh = [rule for rule in self.new if rule not in self.old and rule.owner == "lms"]
        return any(rule.property not in known or rule.rule != "always" for rule in fresh)


def _concerned(old: FieldRules, new: FieldRules) -> tuple[list[FieldRule], list[FieldRule]]:
    """Return the rules of each side that may fill something else than the other side's.

    That are those that differ; where that touches the status or what is required, all of these; and whatever can meet
    one of them in a property, and so on.
    """
    concerned = {*old} ^ {*new}
    rest = {*old, *new} - concerned
    while True:
        says_status = any(rule.required or rule.source == STATUS for rule in concerned)
        also = {
            rule
            for rule in rest
            if (says_status and (rule.source == STATUS or rule.required))
            or any(_meet(rule.property, other.property) for other in concerned)
        }
        if not also:
            return [rule for rule in old if rule in concerned], [rule for rule in new if rule in concerned]
        concerned |= also
        rest -= also


def _meet(one: str, other: str) -> bool:
    """Whether two properties may be the same one, where `{key}` stands for any name."""
    if _KEY in one and _KEY in other:
        (start, end), (other_start, other_end) = _ends(one), _ends(other)
        starts = start.startswith(other_start) or other_start.startswith(start)
        return starts and (end.endswith(other_end) or other_end.endswith(end))
    pattern, name = (one, other) if _KEY in one else (other, one)
    return bool(re.fullmatch("[a-z0-9_]*".join(map(re.escape, pattern.split(_KEY))), name))


def _ends(pattern: str) -> Sequence[str]:
    start, _, end = pattern.partition(_KEY)
    return start, end


def _takes_over(rule: FieldRule, others: FieldRules) -> bool:
    """Whether a rule writes where another condition held it back before: nobody knows what the CRM has there."""
    before = next((other for other in others if other.property == rule.property), None)
    return before is not None and (before.rule, before.owner) != (rule.rule, rule.owner)
