"""Which properties of a system's contacts and accounts the rules write, as far as they can be named now."""

import re
from collections.abc import Collection, Iterable
from typing import NamedTuple

from integration.model.accounts import ACCOUNT
from integration.model.contacts import CONTACT
from integration.model.identity import contacts
from integration.ports import Wanted
from mappings.canonical import CANONICAL, LOOKED_UP_BY
from mappings.rules import FieldRule, FieldRules, RuleSet
from mappings.transforms import outcomes

KEY = "{key}"


class Named(NamedTuple):
    """The properties that can be named, and those of which only the pattern is known yet."""

    wanted: tuple[Wanted, ...]
    patterns: tuple[str, ...]


def of_connection(rules: RuleSet, connection: str, system: str, seen: Iterable[str]) -> Named:
    """Return what all rules write in one connection; `seen` are names of properties of contacts, as in `wanted`."""
    look_up = contacts(rules.identity, connection).look_up
    found = wanted(rules.field_rules(connection, system, CONTACT), seen, look_up)
    return found._replace(wanted=found.wanted + of_accounts(rules.field_rules(connection, system, ACCOUNT)))


def of_accounts(rules: FieldRules) -> tuple[Wanted, ...]:
    """Return what rules write of accounts: whole names, by none of which anything is looked up."""
    return tuple(
        Wanted(
            rule.property,
            rule.type,
            values=outcomes(rule.transform) if rule.type == "enumeration" else None,
            is_list=rule.rule == "append",
            of=ACCOUNT,
        )
        for rule in rules
        if rule.owner == "lms"
    )


def wanted(rules: FieldRules, seen: Iterable[str], look_up: Iterable[str] = ()) -> Named:
    """Return what `rules` write; where a name holds `{key}`, those that were `seen` in the system or refused by it.

    What the CRM owns is not ours. `look_up` are the fields that contacts are found by: their properties hold unique
    values.
    """
    unique = {LOOKED_UP_BY, *look_up} - {"email"}  # which the CRM has already, whatever else is filled from it
    ours = [rule for rule in rules if rule.owner == "lms"]
    whole = {rule.property: _wanted(rule, rule.property, unique) for rule in ours if KEY not in rule.property}
    open_ones = [rule for rule in ours if KEY in rule.property]
    for name in sorted(set(seen) - whole.keys()):
        rule = filling(open_ones, name)
        if rule:
            whole[name] = _wanted(rule, name, unique)
    return Named(tuple(whole.values()), tuple(sorted({one.property for one in open_ones})))


def filling(rules: FieldRules, name: str) -> FieldRule | None:
    """Return the rule that fills a property: its own, else of the patterns that fit the one with the most letters."""
    fitting = [rule for rule in rules if name == rule.property or (KEY in rule.property and _fits(rule.property, name))]
    return max(fitting, key=lambda rule: (name == rule.property, len(rule.property)), default=None)


def _wanted(rule: FieldRule, name: str, unique: Collection[str]) -> Wanted:
    values = outcomes(rule.transform)
    if not rule.transform and CANONICAL[rule.source].type == "bool":
        values = frozenset(("true", "false"))
    return Wanted(
        name,
        rule.type,
        unique=rule.source in unique and KEY not in rule.property,
        values=values if rule.type == "enumeration" else None,
        is_list=rule.rule == "append",
    )


def _fits(pattern: str, name: str) -> bool:
    return bool(re.fullmatch("[a-z0-9_]+".join(map(re.escape, pattern.split(KEY))), name))
