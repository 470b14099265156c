"""Field by field: what an LMS says, what rules make of it in a CRM, what is read there, and what an LMS is told."""

from collections.abc import Iterator, Mapping
from typing import Final

import yaml

from integration.config import Config, ConnectionConfig
from integration.connectors import registry
from integration.model.accounts import ACCOUNT
from integration.model.contacts import CONTACT
from integration.model.employees import Employment
from integration.model.events import Learner, LearningEvent
from mappings import transforms
from mappings.canonical import IDENTIFYING, ORIGINS
from mappings.pathways import PathwayRules, asks_deals
from mappings.rules import FieldRule, RuleSet, Scope
from tasks.inventory.model import OURS, FieldFlow
from tasks.inventory.systems import reads_roles

Places = Mapping[tuple[Scope, str, str], str]
"""Scope, object and name of a rule -> where it stands."""

CONFLICTS: Final[Mapping[str, tuple[str, str]]] = {
    "always": ("ours", "an edit is put right"),
    "only_if_blank": ("theirs", "ours only where there is nothing"),
    "never_clear": ("ours", "an edit is put right; never emptied"),
    "max": ("both", "the greater one stays"),
    "min": ("both", "the smaller one stays"),
    "append": ("both", "ours is added to the list, nothing is taken out"),
}
"""Write rule -> who has the word, and what becomes of two words."""

_LATEST: Final = "the latest by its own time counts"
_SAID: Final[Mapping[str, str]] = {
    "occurred_at": "one in the future counts from its arrival",
    "subject": "type, id and name",
    "course": "id and name",
    "module": "id and name",
    "progress": "in percent",
}
_UNSAID: Final = frozenset({"version", "type", "learner"})


def fields(config: Config, rules: RuleSet, places: Places) -> Iterator[FieldFlow]:
    """Yield the field map: what LMSs say, what CRMs get and are read for, what LMSs are told."""
    connections = config.connections.values()
    for connection in connections:
        kind = registry.interface(connection).kind
        if kind == "LMS":
            yield from _heard(connection)
        elif kind == "HR":
            yield from _said_of_work(connection)
    for connection in connections:
        if registry.system_of(connection).capabilities.holds_contacts:
            yield from _filled(connection, rules, places)
            yield from _read(config, connection, rules)
    for connection in connections:
        if registry.enrolls(connection):
            yield from _told(connection)


def _heard(lms: ConnectionConfig) -> Iterator[FieldFlow]:
    """Yield what the events of an LMS say: who learned, and what."""
    for name in Learner.model_fields:
        yield FieldFlow(
            lms.name, OURS, "learner", name, "its events", authority=lms.name, conflict=_LATEST, identifies=True
        )
    for name in LearningEvent.model_fields:
        if name not in _UNSAID:
            transform = _SAID.get(name, "as given")
            yield FieldFlow(
                lms.name, OURS, "fact", name, "its events", transform=transform, authority=lms.name, conflict=_LATEST
            )


def _said_of_work(hr: ConnectionConfig) -> Iterator[FieldFlow]:
    """Yield what HR says of employees: who they are, and their work."""
    for name in (name for name in Learner.model_fields if name != "lms_user_id"):
        yield FieldFlow(
            hr.name, OURS, "employee", name, "its words", authority=hr.name, conflict=_LATEST, identifies=True
        )
    for name in Employment.model_fields:
        if name not in _UNSAID:
            yield FieldFlow(hr.name, OURS, "employee", name, "its words", authority=hr.name, conflict=_LATEST)


def _filled(crm: ConnectionConfig, rules: RuleSet, places: Places) -> Iterator[FieldFlow]:
    """Yield what rules fill in a CRM, one line for each rule."""
    for record in (CONTACT, ACCOUNT):
        own = Scope(connection=crm.name)
        scope = own if rules.fields.get(own, {}).get(record) else Scope(system=crm.system)
        for rule in rules.field_rules(crm.name, crm.system, record):
            authority, conflict = _word(rule, crm.name)
            yield FieldFlow(
                source=OURS,
                target=crm.name,
                record=record,
                field=rule.property,
                made_of=rule.filled_from(),
                origin=ORIGINS[rule.source],
                type=rule.type,
                transform=_steps(rule),
                authority=authority,
                conflict=conflict,
                identifies=rule.source in IDENTIFYING and not rule.aggregate,
                rule=rule.name,
                place=places.get((scope, record, rule.name), ""),
            )


def _steps(rule: FieldRule) -> str:
    """Return the transforms as a rule file says them, one after the other."""
    said = []
    for step in transforms.to_data(rule.transform):
        text = yaml.safe_dump(step, default_flow_style=True, sort_keys=False, width=10_000, allow_unicode=True)
        said.append(step if isinstance(step, str) else text.strip()[1:-1])
    return ", then ".join(said)


def _word(rule: FieldRule, crm: str) -> tuple[str, str]:
    """Return who has the word on a property, and what becomes of two words."""
    if rule.owner == "crm":
        return crm, "never written"
    if rule.passive:
        return OURS, "goes along with another change"
    who, conflict = CONFLICTS[rule.rule]
    authority = {"ours": OURS, "theirs": crm}.get(who, f"{OURS} and {crm}")
    return authority, conflict + ("; required" if rule.required else "")


def _read(config: Config, crm: ConnectionConfig, rules: RuleSet) -> Iterator[FieldFlow]:
    """Yield what is read of a CRM's contacts because of their roles; nothing where no role is acted on."""
    role = crm.options.role_property
    if role is None or not reads_roles(config, crm):
        return
    for name, names in _asked(rules.pathways, crm.name, role).items():
        purpose = f"role rules: {', '.join(names)}" if names else "no role rule asks for it"
        settled = "as read last, once it has settled"
        yield FieldFlow(crm.name, OURS, CONTACT, name, purpose, authority=crm.name, conflict=settled)
    for name in ("email", *registry.system_of(crm).capabilities.name_properties):
        purpose = "who a contact with such a role is, where nobody is known for it"
        yield FieldFlow(crm.name, OURS, CONTACT, name, purpose, authority=crm.name, identifies=True)
    if asks_deals(rules.pathways, crm.name):
        by = ", ".join(rule.name for rule in rules.pathways.roles if rule.deal and rule.is_for(crm.name))
        for name in ("stage", "pipeline", "contacts"):
            reached = "a stage once reached stays reached"
            yield FieldFlow(crm.name, OURS, "deal", name, f"role rules: {by}", authority=crm.name, conflict=reached)


def _asked(pathways: PathwayRules, crm: str, role: str) -> dict[str, list[str]]:
    """Return property of a contact -> names of the role rules that ask about it; the role comes first."""
    asked: dict[str, list[str]] = {role: []}
    for rule in pathways.roles:
        if rule.is_for(crm):
            for name in dict.fromkeys((*((role,) if rule.roles else ()), *sorted(rule.where))):
                asked.setdefault(name, []).append(rule.name)
    return asked


def _told(lms: ConnectionConfig) -> Iterator[FieldFlow]:
    """Yield what an LMS is told of people and their courses."""
    users = "to look people up" + (", and to make them known" if lms.options.create_users else "")
    for name in ("email", "employee_id", *(("full_name",) if lms.options.create_users else ())):
        yield FieldFlow(
            OURS, lms.name, "user", name, users, authority=lms.name, conflict="never changed", identifies=True
        )
    told = {
        "course": "pathways, with the successors of retired courses",
        "state": "assignments, and on_leave of role rules",
    }
    if registry.system_of(lms).capabilities.due_dates == "native":
        told["due_at"] = "onboarding_days of role rules, and overrides"
    for name, made_of in told.items():
        yield FieldFlow(OURS, lms.name, "enrolment", name, made_of, ("the role", "overrides"), authority=OURS)
