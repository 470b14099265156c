"""What must be written to a contact: what is wanted, compared with what we believe or have just seen of it."""

from dataclasses import dataclass, field

from integration.delivery import ownership
from integration.delivery.belief import Belief
from integration.delivery.ownership import same_value
from integration.delivery.settlement import Settlement
from integration.model.contacts import Fields
from integration.security.seal import KeyRing
from integration.storage import quarantine
from integration.storage.sync_state import Claimed


@dataclass(slots=True, kw_only=True)
class Comparison(Settlement):
    """Compares the rows of a batch, each by the target of its person.

    `left_out` are properties not to be written, `believed` the rows that were compared with what we knew, without a
    look. `along`: the property that names a contact's account, which is read with the others and never written.
    """

    ring: KeyRing
    along: str | None = None
    left_out: frozenset[str] = frozenset()
    believed: set[int] = field(default_factory=set)

    def _known_values(self, row: Claimed) -> Fields | None:
        belief = None if row.is_doubted else Belief.opened(self.ring, row.id, row.remote_values)
        if belief is None or (self.along and self.along not in belief.known):
            return None
        # A property that was left out and is back may hold anything: read it. So may one that rules have just begun to
        # fill, where we would not write it whatever it holds.
        rules = self.targets[row.person_id].rules
        for name, value in self._wanted(row).items():
            is_new = name not in belief.known
            if name in belief.left_out or (is_new and (not value or ownership.hangs_on_theirs(name, rules))):
                return None
        return belief.known

    def _wanted(self, row: Claimed) -> Fields:
        target = self.targets[row.person_id]
        return {f: v for f, v in target.wanted.items() if f not in self.left_out and f not in target.held}

    def _changes(self, row: Claimed, known: Fields) -> dict[str, str]:
        target = self.targets[row.person_id]
        return ownership.changes(self._wanted(row), known, target.rules, target.types)

    def _must_look(self, row: Claimed, known: Fields) -> bool:
        rules = self.targets[row.person_id].rules
        return bool(rules) and ownership.must_look(self._changes(row, known), rules)

    def _unconditional(self, row: Claimed) -> Fields:
        """Return what a new contact gets at once: what is written under a condition waits until it can be seen."""
        rules = self.targets[row.person_id].rules
        return {f: v for f, v in self._wanted(row).items() if v and not ownership.hangs_on_theirs(f, rules)}

    def _until_complete(self, row: Claimed) -> float | None:
        """Return when a person who went without a property is looked at again; None where nothing is missing."""
        target = self.targets[row.person_id]
        is_complete = self.left_out.union(target.held).isdisjoint(target.wanted)
        return None if is_complete else quarantine.RETRY_SECONDS

    def _passive(self, row: Claimed) -> Fields:
        return {f: v for f, v in self.targets[row.person_id].passive.items() if f not in self.left_out}

    def _put_back(self, row: Claimed, written: Fields, seen: Fields) -> list[str]:
        """Return the properties that held our value when we last knew, and another one when we looked."""
        belief = Belief.opened(self.ring, row.id, row.remote_values) if row.id not in self.believed else None
        if belief is None:
            return []
        types = self.targets[row.person_id].types
        return [
            name
            for name, value in written.items()
            if name in seen
            and same_value(value, belief.known.get(name, ""), types.get(name, ""))
            and not same_value(seen[name], belief.known.get(name, ""), types.get(name, ""))
        ]

    def _sealed(self, row: Claimed, values: Fields) -> bytes:
        kept = {*self.targets[row.person_id].wanted, *filter(None, [self.along])}
        return Belief(values, self.left_out).sealed(self.ring, row.id, kept)
