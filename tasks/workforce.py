"""What HR says of some people, with their managers as they are called now: what the fields of work are made of."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from integration.model.employees import Work
from integration.model.people import Profile
from integration.security.seal import KeyRing
from integration.storage import employments, people
from mappings.fields import Subject
from mappings.inclusion import NO_CONNECTIONS


@dataclass(frozen=True, slots=True)
class Workforce:
    """Work and manager by person, where there are any; `unreadable` are people of whom either cannot be opened."""

    works: Mapping[int, Work]
    managers: Mapping[int, Profile]
    unreadable: frozenset[int]

    def employers(self, person_id: int) -> frozenset[str]:
        """Return the connections that said anything of a person's work."""
        work = self.works.get(person_id)
        return work.connections if work else NO_CONNECTIONS

    def shown(self, person_id: int, subject: Subject, sources: Iterable[str] | None = None) -> Subject:
        """Return a person with their work; without it where none of those who told of it is among `sources`."""
        work = self.works.get(person_id)
        if work is None or (sources is not None and work.connections.isdisjoint(sources)):
            return subject
        return replace(subject, work=work, manager=self.managers.get(person_id))


def workforce(db: Connection, ids: Iterable[int], ring: KeyRing) -> Workforce:
    """Return what HR says of these people, as this transaction sees it."""
    loaded = employments.load(db, ids, ring)
    works = {who: work for who, work in loaded.items() if work is not None}
    named = employments.managers(db, [who for who, work in works.items() if work.get("manager_id")])
    called = people.load(db, named.values(), ring) if named else {}
    hidden = {who for who, manager in named.items() if called[manager].is_unreadable}
    return Workforce(
        works,
        {who: called[manager].profile for who, manager in named.items() if who not in hidden},
        frozenset(hidden | (loaded.keys() - works.keys())),
    )
