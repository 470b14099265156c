"""What roles lead to, and how people are found: role rules, courses of pathways, and rules of identity, in words."""

from collections.abc import Iterator
from dataclasses import fields

from integration.config import Config
from integration.connectors import registry
from integration.model import identity
from mappings.identity import said, spoken
from mappings.pathways import PathwayRules, RoleRule
from mappings.rules import RuleSet
from tasks.inventory.model import CourseLine, Matching, RoleLine

COUNTED = frozenset({"never_match", "exclude_emails", "exclude_ids"})
"""Rules of identity whose patterns may be somebody's address or id: they are counted, and not said."""


def roles(rules: PathwayRules) -> Iterator[RoleLine]:
    """Yield every role rule, by name."""
    for rule in sorted(rules.roles, key=lambda one: one.name):
        yield RoleLine(
            rule=rule.name,
            crm=rule.connection,
            condition=tuple(_conditions(rule)),
            pathway=rule.pathway,
            priority=rule.priority,
            deadline_days=rule.onboarding_days,
            settle=rule.settle,
            on_leave=rule.on_leave,
            in_progress=rule.in_progress,
        )


def _conditions(rule: RoleRule) -> Iterator[str]:
    if rule.roles:
        yield f"role is {_any(rule.roles)}"
    for name, patterns in sorted(rule.where.items()):
        yield f"{name} is {_any(patterns)}"
    if rule.deal:
        pipelines = f" of pipeline {_any(rule.deal.pipelines)}" if rule.deal.pipelines else ""
        yield f"a deal reached stage {_any(rule.deal.stages)}{pipelines}"
    if rule.starts:
        yield f"from {rule.starts} on"
    if rule.ends:
        yield f"until {rule.ends}"


def _any(patterns: tuple[str, ...]) -> str:
    return " or ".join(pattern or "blank" for pattern in patterns)


def courses(rules: PathwayRules) -> Iterator[CourseLine]:
    """Yield every course of every pathway, as often as pathways name it."""
    for _, pathway in sorted(rules.pathways.items()):
        for one in pathway.courses:
            enrolled = one.required or pathway.enroll == "all"
            yield CourseLine(pathway.name, pathway.title, one.bucket, str(one.course), one.required, enrolled)


def matching(config: Config, rules: RuleSet) -> Iterator[Matching]:
    """Yield how the people of each connection are found: what rules say, and by what people are looked up anyway."""
    for name, connection in config.connections.items():
        able = registry.system_of(connection).capabilities
        if not (able.holds_contacts or able.receives_webhooks):
            continue
        of_side = identity.contacts if able.holds_contacts else identity.learners
        policy = of_side(rules.identity, name)
        ruled = spoken(policy)
        for one in fields(policy):
            if one.name == "look_up" or one.name in ruled:
                value = getattr(policy, one.name)
                says = f"{len(value)} pattern{'s' * (len(value) != 1)}" if one.name in COUNTED else said(value)
                yield Matching(name, one.name, says, one.name in ruled)
