"""What an account should show: a pure function of what its people add to it and the rules."""

from zoneinfo import ZoneInfo

from integration.model.accounts import Shown, Tally
from mappings import transforms
from mappings.canonical import CANONICAL
from mappings.fields import Canonical, Dropped, Projection, render, slug
from mappings.rules import FieldRule, FieldRules
from mappings.transforms import Unfit, Value, plain

_TIMES = ("date", "datetime")


def shown(values: Canonical, rules: FieldRules) -> Shown:
    """Return what one person adds to their account, of the things that rules count; who has no value adds nothing."""
    found = {}
    for rule in rules:
        key = slug(rule.of) if rule.of else None
        given = [value for one, value in values.get(rule.source, ()) if one == key]
        if given and given[0] is not None:
            found[_place(rule)] = _text(given[0])
    return found


def project(tally: Tally, rules: FieldRules, zone: ZoneInfo) -> Projection:
    """Return the properties of one account; only what anybody in it was ever known to have a value of is written."""
    wanted: dict[str, str] = {}
    conditions: dict[str, str] = {}
    dropped: dict[str, Dropped] = {}
    types: dict[str, str] = {}
    for rule in rules:
        if rule.owner == "crm" or _place(rule) not in tally.ever:
            continue
        made = _aggregated(rule, tally)
        try:
            value = transforms.ready(rule.transform)(made, zone) if rule.transform else made
            wanted[rule.property] = render(value, rule.type, zone)
        except Unfit as unfit:
            dropped[rule.property] = Dropped(unfit.reason, unfit.detail)
            continue
        if rule.rule != "always":
            conditions[rule.property] = rule.rule
        if rule.type in _TIMES:
            types[rule.property] = rule.type
    theirs = frozenset(rule.property for rule in rules if rule.owner == "crm")
    return Projection(wanted, {}, conditions, theirs, dropped, types)


def _aggregated(rule: FieldRule, tally: Tally) -> Value:
    values = tally.values.get(_place(rule), {})
    if rule.aggregate == "sum":
        return sum(float(value) * people for value, people in values.items())
    number = sum(people for value, people in values.items() if _counts(rule, value))
    if rule.aggregate == "percent":
        return 100 * number // tally.people if tally.people else 0
    if rule.aggregate == "any":
        return number > 0
    return number if rule.aggregate == "count" else 0 < number == tally.people


def _counts(rule: FieldRule, value: str) -> bool:
    kind = CANONICAL[rule.source].type
    if kind == "number":
        return float(value) > 0
    return value == "true" if kind == "bool" else value in rule.counted


def _place(rule: FieldRule) -> str:
    return f"{rule.source}:{slug(rule.of)}" if rule.of else rule.source


def _text(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return plain(value) if isinstance(value, int | float) else str(value)
