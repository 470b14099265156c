"""Who may change a role: the CRM's people, or one field rule; and which rules would turn in a circle.

What our own write makes of a role is acted on like any other value, once it has settled. That ends, because what we
write there hangs on nothing that a role leads to; rules by which it would are refused.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from integration.config import Config
from integration.model.contacts import CONTACT
from mappings.fields import FROM_HR
from mappings.pathways import properties_read
from mappings.rules import FieldRule, RuleSet, Scope

FROM_PATHWAYS: Final = frozenset(
    {"onboarding_pathway", "onboarding_due_date", "onboarding_status", "competency", "readiness"}
)
"""The fields that say how far somebody is on what their role led to."""


class RoleOwner(NamedTuple):
    """The property that holds the role in one CRM, and the rule that writes it; None: the CRM alone does.

    `said_by` are the HR systems whose word the rule writes.
    """

    connection: str
    property: str
    rule: FieldRule | None
    said_by: tuple[str, ...] = ()

    def sentence(self) -> str:
        """Return it in words."""
        if self.rule is None:
            return f"{self.connection}: the role stands in {self.property}; only the CRM changes it."
        whose = (
            f", as HR says it ({', '.join(self.said_by) or 'no route leads here'})"
            if self.rule.source in FROM_HR
            else ""
        )
        how = f"rule {self.rule.name} changes it, from {self.rule.filled_from()}{whose}, written {self.rule.rule}"
        return f"{self.connection}: the role stands in {self.property}; {how}."


def owners(config: Config, rules: RuleSet) -> Iterator[RoleOwner]:
    """Return who may change the role, CRM by CRM."""
    for name, settings in config.connections.items():
        if role := settings.options.role_property:
            writing = (rule for rule in _written(rules, name, settings.system) if rule.property == role)
            yield RoleOwner(name, role, next(writing, None), _employers(config, name))


def circles(config: Config, rules: RuleSet) -> list[str]:
    """Return a sentence, with file and line, for each rule by which a role would undo what it is made of."""
    mistakes = []
    for name, settings in config.connections.items():
        role = settings.options.role_property
        if role is None or not any(one.is_for(name) for one in rules.pathways.roles):
            continue
        asked = properties_read(rules.pathways, name) | {role}
        for rule in _written(rules, name, settings.system):
            if rule.source in FROM_PATHWAYS and rule.property in asked:
                scopes = (Scope(connection=name), Scope(system=settings.system))
                found = (rules.where.get((scope, CONTACT, rule.name)) for scope in scopes)
                where = next((f"{place}: " for place in found if place), "")
                mistakes.append(
                    f"{where}contact.{rule.name}: {rule.property} says which pathways somebody has, and {rule.source}"
                    " follows from them, so the two would undo each other in turn. Fill it from certified, which stays "
                    "when a pathway ends, or fill another property"
                )
    return list(dict.fromkeys(mistakes))


def _employers(config: Config, connection: str) -> tuple[str, ...]:
    """Return the HR systems whose words go to a CRM."""
    return tuple(r.source for r in config.routes if r.target == connection and "employment" in r.flows)


def _written(rules: RuleSet, connection: str, system: str) -> list[FieldRule]:
    return [rule for rule in rules.field_rules(connection, system, CONTACT) if rule.owner == "lms"]
