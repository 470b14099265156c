"""What a connected system says of the properties that rules would write: asked before anything is published."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from integration.connectors import registry
from integration.errors import ConfigError
from integration.model.contacts import CONTACT
from integration.storage import quarantine
from mappings.rules import RuleSet, Scope
from tasks.assembly import Assembly
from tasks.checks.wanted import filling, of_connection


@dataclass(frozen=True, slots=True)
class Judgement:
    """Of one connection: properties it has not, with their form, and what is wrong with others, each a sentence.

    Each begins with the file and line of the rule that fills the property.
    """

    connection: str
    missing: list[str]
    faults: list[str]


def judgements(process: Assembly, rules: RuleSet) -> Iterator[Judgement]:
    """Ask every system that can be asked, one read for each kind of record, changing nothing; yields what they say."""
    for name, config in process.config.connections.items():
        system = registry.system_of(config)
        if system.installer is None:
            continue
        with process.engine.begin() as db:
            left_out = quarantine.known(db, name, CONTACT)[CONTACT]
        named = of_connection(rules, name, system.name, left_out.held | left_out.retried)
        try:
            installer = registry.installer(config, process.grants)
        except ConfigError as error:
            yield Judgement(name, [], [f"it was not asked: {error}"])
            continue
        if installer is not None:
            plan = installer.plan(named.wanted)
            at = partial(_place, rules, name, system.name)
            missing = [f"{at(step.wanted.of, step.wanted.name)}{step.what}" for step in plan.steps if step.wanted]
            faults = [
                f"{at(one.of, one.about)}{one.what.rstrip('.')}: {one.advice}" for one in plan.findings if not one.ok
            ]
            if missing or faults:
                yield Judgement(name, missing, faults)


def _place(rules: RuleSet, connection: str, system: str, of: str, name: str) -> str:
    """Return `file:line: ` of the rule that fills a property; nothing where it stands in no file."""
    rule = filling(rules.field_rules(connection, system, of), name)
    scopes = (Scope(connection=connection), Scope(system=system))
    found = (rules.where.get((scope, of, rule.name)) for scope in scopes) if rule else ()
    return next((f"{place}: " for place in found if place), "")
