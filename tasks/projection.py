"""From people to what a connection should hold of them: where facts and rules meet."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import get_args
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from integration.config import Config, UnknownPerson
from integration.connectors import registry
from integration.errors import Reason
from integration.model.accounts import ACCOUNT
from integration.model.contacts import CONTACT, Projected, Target
from integration.model.identity import contacts
from integration.model.people import LEARNER
from integration.security.seal import KeyRing
from integration.storage import events, loops, people
from integration.storage.accounts import tally as tallies
from integration.storage.loops import Loop
from mappings import accounts, store
from mappings.fields import Template, canonical
from mappings.inclusion import take
from mappings.rules import FieldRules
from tasks.pathways import learned
from tasks.workforce import workforce

_PERMISSIVE = {policy: place for place, policy in enumerate(("ignore", "hold", "create"))}
assert set(_PERMISSIVE) == set(get_args(UnknownPerson))  # noqa: S101 - a new policy must be given its place


@dataclass(frozen=True, slots=True)
class Projector:
    """Projects contacts by the published rules; reads everything anew in the transaction it is given."""

    config: Config
    ring: KeyRing

    def contacts(self, db: Connection, connection: str, person_ids: Sequence[int]) -> Projected:
        """Return what `connection` should hold of these people; somebody merged or erased is left out."""
        rules = store.active(db)
        settings = self.config.connections[connection]
        filled = rules.field_rules(connection, settings.system, CONTACT)
        counted = rules.field_rules(connection, settings.system, ACCOUNT)
        matched = contacts(rules.identity, connection)
        # The database's clock wakes people whose certificate expires, so it must also say that it has.
        now = rules.read_at
        zone = ZoneInfo(settings.options.timezone)
        loaded = people.load(db, person_ids, self.ring)
        unreadable = frozenset(person.id for person in loaded.values() if person.is_unreadable)
        found = {p.id: p for p in loaded.values() if not p.is_gone and not p.is_unreadable}
        names = people.linked(db, found, [LEARNER])
        standings = events.standings(db, found)
        left_alone = loops.held(db, connection, found)
        held, undone = _by_person(left_alone), _by_person(one for one in left_alone if not one.rewrites)
        fought_over = {one.person_id for one in left_alone if one.rewrites}
        staff = workforce(db, found, self.ring)
        unreadable |= staff.unreadable
        in_pathways = learned(db, rules.pathways, standings, found, now)
        targets, template = {}, Template(filled, zone)
        for person in found.values():
            if person.id in unreadable:
                continue
            links = [(source, external_id) for source, external_id, _ in names.get(person.id, [])]
            profile = person.profile
            attention = person.attention or (Reason.FIELD_LOOP.value if person.id in fought_over else None)
            told = standings.get(person.id, [])
            taken = take(rules.identity, links, told, profile, attention, staff.employers(person.id))
            subject = staff.shown(person.id, taken.subject, taken.sources)
            if person.id in in_pathways:
                assigned, past_buckets = in_pathways[person.id]
                subject = replace(subject, assignments=assigned, past_buckets=past_buckets)
            values = canonical(subject, now)
            projection = template.fill(values)
            targets[person.id] = Target(
                person_id=person.id,
                version=person.version,
                keys=_keys(matched.look_up, profile.email, projection.wanted, filled),
                create_by=("email", profile.email) if profile.email else None,
                wanted=projection.wanted,
                passive=projection.passive,
                unknown_person=matched.unknown_person or self._policy(taken.sources, connection),
                rules=projection.rules,
                theirs=projection.theirs,
                held=held.get(person.id, {}),
                undone=frozenset(undone.get(person.id, ())),
                dropped={name: f"{why.detail} ({why.reason})" for name, why in projection.dropped.items()},
                types=projection.types,
                deleted_contact=matched.deleted_contact,
                excluded=taken.excluded,
                shows=accounts.shown(values, counted) if counted and taken.excluded is None else None,
            )
        along = registry.system_of(settings).capabilities.account_property if counted else None
        return Projected(targets, rules.id, unreadable, along)

    def accounts(self, db: Connection, connection: str, numbers: Sequence[int]) -> Projected:
        """Return what `connection` should hold of these accounts of its contacts, by our numbers of them."""
        rules, settings = store.active(db), self.config.connections[connection]
        counted = rules.field_rules(connection, settings.system, ACCOUNT)
        if not counted:
            return Projected({}, rules.id)
        zone = ZoneInfo(settings.options.timezone)
        targets = {}
        for number, tally in tallies(db, numbers).items():
            made = accounts.project(tally, counted, zone)
            targets[number] = Target(
                person_id=number,
                version=0,
                keys=(),
                create_by=None,
                wanted=made.wanted,
                passive=made.passive,
                rules=made.rules,
                theirs=made.theirs,
                dropped={name: f"{why.detail} ({why.reason})" for name, why in made.dropped.items()},
                types=made.types,
            )
        return Projected(targets, rules.id)

    def _policy(self, sources: Collection[str], target: str) -> UnknownPerson:
        """Return what the routes that brought this person say; the most permissive one where they differ."""
        said = [r.unknown_person for r in self.config.routes if r.target == target and r.source in sources]
        return max(said, key=_PERMISSIVE.__getitem__, default="hold")


def _by_person(held: Iterable[Loop]) -> dict[int, dict[str, datetime]]:
    found: dict[int, dict[str, datetime]] = {}
    for one in held:
        found.setdefault(one.person_id, {})[one.field] = one.held_until
    return found


def _keys(
    look_up: Sequence[str], email: str | None, wanted: Mapping[str, str], rules: FieldRules
) -> tuple[tuple[str, str], ...]:
    """Return what to find the contact by, in the order the identity rules say; the e-mail needs no rule to fill it."""
    keys = []
    for name in look_up:
        if name == "email":
            keys += [("email", email)] if email else []
        else:
            places = [rule.property for rule in rules if rule.source == name and rule.owner == "lms"]
            keys += [(place, wanted[place]) for place in places if wanted.get(place)]
    return tuple(keys)
