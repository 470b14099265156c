"""From people to what a connection should hold of them: where facts and rules meet."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import get_args
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from integration.config import Config, UnknownPerson
from integration.errors import Reason
from integration.model.contacts import CONTACT, Projected, Target
from integration.model.identity import contacts
from integration.model.people import LEARNER
from integration.security.seal import KeyRing
from integration.storage import events, loops, people
from integration.storage.loops import Loop
from mappings import store
from mappings.fields import project
from mappings.inclusion import take
from mappings.rules import FieldRules
from tasks.pathways import learned

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
        matched = contacts(rules.identity, connection)
        # The database's clock wakes people whose certificate expires, so it must also say that it has.
        now = rules.read_at
        zone = ZoneInfo(settings.options.timezone)
        loaded = people.load(db, person_ids, self.ring)
        unreadable = frozenset(person.id for person in loaded.values() if person.is_unreadable)
        found = {p.id: p for p in loaded.values() if not p.is_gone and not p.is_unreadable}
        names = people.linked(db, found, [LEARNER])
        standings = events.standings(db, found)
        held = _by_person(loops.held(db, connection, found))
        in_pathways = learned(db, rules.pathways, standings, found, now)
        targets = {}
        for person in found.values():
            links = [(source, external_id) for source, external_id, _ in names.get(person.id, [])]
            profile = person.profile
            left = held.get(person.id, {})
            attention = person.attention or (Reason.FIELD_LOOP.value if left else None)
            taken = take(rules.identity, links, standings.get(person.id, []), profile, attention)
            subject = taken.subject
            if person.id in in_pathways:
                assigned, past_buckets = in_pathways[person.id]
                subject = replace(subject, assignments=assigned, past_buckets=past_buckets)
            projection = project(subject, filled, zone, now)
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
                held=left,
                dropped={name: f"{why.detail} ({why.reason})" for name, why in projection.dropped.items()},
                types=projection.types,
                deleted_contact=matched.deleted_contact,
                excluded=taken.excluded,
            )
        return Projected(targets, rules.id, unreadable)

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
