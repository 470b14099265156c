"""What a change of rules would do: people whose properties change, and the calls that costs. Reads only."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from math import ceil
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from integration.config import Config, ConnectionConfig
from integration.connectors import registry
from integration.model.contacts import CONTACT, WRITE_CONTACT
from integration.model.identity import Identity
from integration.model.people import LEARNER
from integration.security.seal import KeyRing
from integration.storage import events, people
from integration.storage.statement import execute
from mappings.fields import STATUS, WITHOUT_FACTS, canonical, fill
from mappings.inclusion import take
from mappings.rules import FieldRule, FieldRules, RuleSet

SLICE = 2_000

_SUBJECTS = """
SELECT subject_id FROM sync_state
WHERE connection = %(connection)s AND operation = %(operation)s AND subject_id > %(after)s
ORDER BY subject_id LIMIT %(limit)s
"""


@dataclass(slots=True)
class Effect:
    """What a change does to one connection: of `people` there, `changed` are written differently.

    `properties` counts per property for how many people its value changes; `no_longer` are properties that are left
    as they are; `reads` and `writes` are calls.
    """

    connection: str
    people: int = 0
    changed: int = 0
    properties: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    no_longer: list[str] = field(default_factory=list)
    reads: int = 0
    writes: int = 0


def effects(db: Connection, config: Config, ring: KeyRing, old: RuleSet, new: RuleSet) -> Iterator[Effect]:
    """Return what going from `old` to `new`, now, does in each connection that holds contacts and is concerned."""
    for name, connection in config.connections.items():
        capabilities = registry.system_of(connection).capabilities
        if capabilities.holds_contacts:
            was, becomes = (rules.field_rules(name, connection.system, CONTACT) for rules in (old, new))
            if set(was) != set(becomes):
                found = _effect(db, connection, ring, was, becomes, old.read_at, new.identity)
                found.writes = ceil(found.changed / capabilities.batch_size)
                found.reads = found.writes if _must_look(was, becomes) else 0
                yield found


def _effect(
    db: Connection,
    connection: ConnectionConfig,
    ring: KeyRing,
    was: FieldRules,
    becomes: FieldRules,
    now: datetime,
    identity: Identity,
) -> Effect:
    """Project everybody by what differs, slice by slice; whom a rule leaves out is not written, whatever differs."""
    found = Effect(connection.name)
    gone = {rule.property for rule in was} - {rule.property for rule in becomes}
    found.no_longer = sorted(gone)
    old_part, new_part = _concerned(was, becomes), _concerned(becomes, was)
    zone = ZoneInfo(connection.options.timezone)
    taken_over = [rule for rule in new_part if _takes_over(rule, was)]
    has_facts = bool(identity) or any(rule.source not in WITHOUT_FACTS for rule in (*old_part, *new_part))
    for ids in _slices(db, connection.name):
        loaded = people.load(db, ids, ring)
        names = people.linked(db, ids, [LEARNER]) if has_facts else {}
        standings = events.standings(db, ids) if has_facts else {}
        for person in loaded.values():
            if person.is_gone or person.is_unreadable:
                continue
            links = [(source, external_id) for source, external_id, _ in names.get(person.id, [])]
            taken = take(identity, links, standings.get(person.id, []), person.profile, person.attention)
            if taken.excluded is not None:
                continue
            found.people += 1
            values = canonical(taken.subject, now)
            before, after = fill(values, old_part, zone), fill(values, new_part, zone)
            different = {name for name, value in after.wanted.items() if before.wanted.get(name) != value}
            different |= {name for name, value in fill(values, taken_over, zone).wanted.items() if value}
            found.properties.update(different)
            found.dropped.update(after.dropped.keys() - before.dropped.keys())
            found.changed += bool(different)
    return found


def _slices(db: Connection, connection: str) -> Iterator[list[int]]:
    after = 0
    while True:
        values = {"connection": connection, "operation": WRITE_CONTACT, "after": after, "limit": SLICE}
        ids = [row.subject_id for row in execute(db, _SUBJECTS, values)]
        if not ids:
            return
        yield ids
        after = ids[-1]


def _concerned(rules: FieldRules, others: FieldRules) -> list[FieldRule]:
    """Return the rules that the other side does not have; with what is required, the status may differ too."""
    differs = [rule for rule in rules if rule not in others]
    if any(rule.required for rule in {*rules} ^ {*others}):
        named = {rule.name for rule in differs}
        differs += [r for r in rules if (r.source == STATUS or r.required) and r.name not in named]
    return differs


def _takes_over(rule: FieldRule, others: FieldRules) -> bool:
    """Whether a rule writes where another condition held it back before: nobody knows what the CRM has there."""
    before = next((other for other in others if other.property == rule.property), None)
    return before is not None and (before.rule, before.owner) != (rule.rule, rule.owner)


def _must_look(was: FieldRules, becomes: FieldRules) -> bool:
    """Whether what the CRM holds must be read first: properties not known yet, or written under a condition."""
    known = {rule.property for rule in was if rule.owner == "lms"}
    new = [rule for rule in becomes if rule not in was and rule.owner == "lms"]
    return any(rule.property not in known or rule.rule != "always" for rule in new)
