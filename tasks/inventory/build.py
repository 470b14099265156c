"""The inventory of one installation, from its connections file and one rule set. Pure: it asks nobody."""

from collections.abc import Mapping

from integration.config import Config
from integration.storage.limits import Learned
from mappings.rules import RuleSet
from tasks.inventory import clock, fields, keeping, learning, routes, systems
from tasks.inventory.fields import Places
from tasks.inventory.model import Basis, Guard, Inventory


def build(
    config: Config, rules: RuleSet, basis: Basis, places: Places, learned: Mapping[str, Learned] | None = None
) -> Inventory:
    """Return what talks to what by this configuration and these rules.

    `places` says where rules stand, `learned` what answers taught of limits. Raises ConfigError for an unknown system.
    """
    return Inventory(
        basis=basis,
        systems=tuple(systems.systems(config, rules, learned or {})),
        asking=systems.asking(config),
        routes=tuple(routes.flows(config, rules)),
        fields=tuple(fields.fields(config, rules, places)),
        matching=tuple(learning.matching(config, rules)),
        roles=tuple(learning.roles(rules.pathways)),
        courses=tuple(learning.courses(rules.pathways)),
        clock=tuple(clock.ticks(config)),
        guard=Guard(config.guard.people, config.guard.most_an_hour),
        kept=tuple(keeping.kept(config.retention)),
        remarks=tuple(routes.remarks(config, rules)),
    )
