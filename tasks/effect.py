"""What a change of rules would do: people whose properties change, and the calls that costs. Reads only."""

import gc
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from math import ceil
from typing import NamedTuple
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from integration.config import Config, ConnectionConfig
from integration.connectors import registry
from integration.model.contacts import CONTACT, WRITE_CONTACT
from integration.model.identity import Identity
from integration.model.people import LEARNER
from integration.security.seal import KeyRing
from integration.storage import crowd, events, people
from integration.storage.events import Standing
from integration.storage.people import Person
from integration.storage.shares import Share, divide
from mappings.fields import Subject, canonical
from mappings.inclusion import take
from mappings.rules import RuleSet
from tasks.contrast import Contrast
from tasks.workforce import Workforce, workforce


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

    def __add__(self, other: "Effect") -> "Effect":
        """Return this effect for the people of the other one too; calls are not counted yet."""
        return replace(
            self,
            people=self.people + other.people,
            changed=self.changed + other.changed,
            properties=self.properties + other.properties,
            dropped=self.dropped + other.dropped,
        )


class Slice(NamedTuple):
    """What is known of some people: themselves, their names in the LMSs, where they stand, and where they work."""

    people: Sequence[Person]
    names: Mapping[int, list[tuple[str, str, str]]]
    standings: Mapping[int, list[Standing]]
    staff: Workforce


def effects(db: Connection, config: Config, ring: KeyRing, old: RuleSet, new: RuleSet) -> Iterator[Effect]:
    """Return what going from `old` to `new`, now, does in each connection that holds contacts and is concerned."""
    for connection, contrast in contrasts(config, old, new):
        with uncollected():
            yield _effect(db, connection, contrast, ring, old.read_at, new.identity)


def contrasts(config: Config, old: RuleSet, new: RuleSet) -> Iterator[tuple[ConnectionConfig, Contrast]]:
    """Return the connections that hold contacts and whose rules differ."""
    for name, connection in config.connections.items():
        if registry.system_of(connection).capabilities.holds_contacts:
            was, becomes = (rules.field_rules(name, connection.system, CONTACT) for rules in (old, new))
            contrast = Contrast(was, becomes, ZoneInfo(connection.options.timezone))
            if contrast:
                yield connection, contrast


@contextmanager
def uncollected() -> Iterator[None]:
    """Leave the collector out: a plan makes millions of objects that go as they came, and none that holds itself."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def subject(
    person: Person,
    links: Sequence[tuple[str, str, str]],
    standings: Sequence[Standing],
    identity: Identity,
    staff: Workforce,
) -> Subject | None:
    """Return a person as a projection sees them, None where an identity rule leaves them out."""
    names = [(source, external_id) for source, external_id, _ in links]
    profile = person.profile
    if not identity:
        of_them = Subject(names, standings, person.attention, profile.email, profile.full_name, profile.employee_id)
        return staff.shown(person.id, of_them)
    taken = take(identity, names, standings, profile, person.attention, staff.employers(person.id))
    return staff.shown(person.id, taken.subject, taken.sources) if taken.excluded is None else None


def _effect(
    db: Connection, connection: ConnectionConfig, contrast: Contrast, ring: KeyRing, now: datetime, identity: Identity
) -> Effect:
    needs_facts = contrast.needs_facts or bool(identity)

    def of_share(db: Connection, share: Share) -> Effect:
        slices = _read(db, crowd.slices(db, connection.name, WRITE_CONTACT, share), ring, needs_facts=needs_facts)
        return _projected(slices, Effect(connection.name), contrast, now, identity)

    people = crowd.size(db, connection.name, WRITE_CONTACT)
    found = sum(divide(db, people, of_share), Effect(connection.name, no_longer=contrast.no_longer))
    found.writes = ceil(found.changed / registry.system_of(connection).capabilities.batch_size)
    found.reads = found.writes if contrast.must_look else 0
    return found


def _projected(slices: Iterator[Slice], found: Effect, contrast: Contrast, now: datetime, identity: Identity) -> Effect:
    """Project everybody by what differs; whom a rule leaves out is not written, whatever differs."""
    fill_was, fill_becomes, taken_over = contrast.was.fill, contrast.becomes.fill, contrast.taken_over
    for known, names, standings, staff in slices:
        for person in known:
            seen = subject(person, names.get(person.id, ()), standings.get(person.id, ()), identity, staff)
            if seen is None:
                continue
            values = canonical(seen, now)
            was, becomes = fill_was(values), fill_becomes(values)
            held = was.wanted
            different = {name for name, value in becomes.wanted.items() if held.get(name) != value}
            if taken_over:
                different |= {name for name, value in taken_over.fill(values).wanted.items() if value}
            found.people += 1
            if different:
                found.changed += 1
                found.properties.update(different)
            if becomes.dropped:
                found.dropped.update(becomes.dropped.keys() - was.dropped.keys())
    return found


def _read(db: Connection, slices: Iterator[list[int]], ring: KeyRing, *, needs_facts: bool) -> Iterator[Slice]:
    """Read slice by slice, one ahead: while one is projected, the database works on the next."""

    def read(ids: Sequence[int]) -> Slice:
        loaded, staff = people.load(db, ids, ring), workforce(db, ids, ring)
        known = [person for person in loaded.values() if not person.is_gone and not person.is_unreadable]
        if not needs_facts:
            return Slice(known, {}, {}, staff)
        return Slice(known, people.linked(db, ids, [LEARNER]), events.standings(db, ids), staff)

    found = map(read, slices)
    with ThreadPoolExecutor(1) as reader:
        following = reader.submit(next, found, None)
        while (one := following.result()) is not None:
            following = reader.submit(next, found, None)
            yield one
