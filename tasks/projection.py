"""From people to what a connection should hold of them: where facts and rules meet."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import get_args
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from integration.config import Config, DeletedContact, Route, UnknownPerson
from integration.errors import Reason
from integration.model.contacts import CONTACT, Projected, Target
from integration.model.people import LEARNER
from integration.security.seal import KeyRing
from integration.storage import events, loops, people
from integration.storage.loops import Loop
from integration.storage.people import Person
from mappings import store
from mappings.canonical import LOOKED_UP_BY
from mappings.fields import Subject, project
from mappings.rules import FieldRules

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
        # The database's clock wakes people whose certificate expires, so it must also say that it has.
        now = rules.read_at
        zone = ZoneInfo(settings.options.timezone)
        loaded = people.load(db, person_ids, self.ring)
        unreadable = frozenset(person.id for person in loaded.values() if person.is_unreadable)
        found = {p.id: p for p in loaded.values() if not p.is_gone and not p.is_unreadable}
        names = people.linked(db, found, [LEARNER])
        standings = events.standings(db, found)
        held = _by_person(loops.held(db, connection, found))
        targets = {}
        for person in found.values():
            links = [(source, external_id) for source, external_id, _ in names.get(person.id, [])]
            profile = person.profile
            left = held.get(person.id, {})
            attention = person.attention or (Reason.FIELD_LOOP.value if left else None)
            subject = Subject(links, standings.get(person.id, []), attention, profile.email, profile.full_name)
            projection = project(subject, filled, zone, now)
            sources = {source for source, _ in links} | {standing.connection for standing in subject.standings}
            targets[person.id] = Target(
                person_id=person.id,
                version=person.version,
                keys=_keys(person, projection.wanted, filled),
                create_by=("email", profile.email) if profile.email else None,
                wanted=projection.wanted,
                passive=projection.passive,
                unknown_person=self._policy(sources, connection),
                deleted_contact=self._deleted(sources, connection),
                rules=projection.rules,
                theirs=projection.theirs,
                held=left,
                dropped={name: f"{why.detail} ({why.reason})" for name, why in projection.dropped.items()},
            )
        return Projected(targets, rules.id, unreadable)

    def _policy(self, sources: set[str], target: str) -> UnknownPerson:
        """Return what the routes that brought this person say; the most permissive one where they differ."""
        said = [route.unknown_person for route in self._routes(sources, target)]
        return max(said, key=_PERMISSIVE.__getitem__, default="hold")

    def _deleted(self, sources: set[str], target: str) -> DeletedContact:
        """Return what the same routes say of a contact that was deleted; it stays so unless one of them differs."""
        said = {route.deleted_contact for route in self._routes(sources, target)}
        return "recreate" if "recreate" in said else "hold"

    def _routes(self, sources: set[str], target: str) -> list[Route]:
        return [route for route in self.config.routes if route.target == target and route.source in sources]


def _by_person(held: Iterable[Loop]) -> dict[int, dict[str, datetime]]:
    found: dict[int, dict[str, datetime]] = {}
    for one in held:
        found.setdefault(one.person_id, {})[one.field] = one.held_until
    return found


def _keys(person: Person, wanted: Mapping[str, str], rules: FieldRules) -> tuple[tuple[str, str], ...]:
    """Return what to find the contact by: our own id for the learner first, the e-mail second."""
    places = [rule.property for rule in rules if rule.source == LOOKED_UP_BY and rule.owner == "lms"]
    keys = [(place, wanted[place]) for place in places if wanted.get(place)]
    return tuple([*keys, ("email", person.profile.email)] if person.profile.email else keys)
