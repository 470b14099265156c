"""How contacts compare with what they should hold. Pure: nothing is read, written or repaired here."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from integration.delivery import ownership
from integration.delivery.ownership import same_value
from integration.model.contacts import Fields, RemoteContact, Target
from integration.model.reconciliation import Class, Difference, Finding
from integration.storage.reconciliation_findings import Known

_ON_ITS_WAY = ("due", "sending", "waiting")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What was known when the contacts had been read.

    `began`: when the first of them was asked for; `asked` are the properties that were. `linked` and `named` say whose
    a contact is, by its id and by what stands on it; `marks` are properties that nobody but us fills. `rule_set` is the
    one that counts: whoever is in step by an older one is yet to be looked at by it.
    """

    began: datetime
    asked: frozenset[str]
    linked: Mapping[str, int]
    named: Mapping[str, int]
    known: Mapping[int, Known]
    targets: Mapping[int, Target]
    unreadable: frozenset[int] = frozenset()
    marks: frozenset[str] = frozenset()
    rule_set: int = 0

    def compare(self, contact: RemoteContact) -> Finding:
        """Return how one contact compares."""
        who = self.linked.get(contact.id)
        return self._nobodys(contact) if who is None else self._somebodys(contact, who)

    def _nobodys(self, contact: RemoteContact) -> Finding:
        who = self.named.get(contact.id)
        if who is None:
            is_marked = any(contact.fields.get(name, "") not in ("", "0", "false") for name in self.marks)
            return Finding(Class.ORPHAN if is_marked else Class.FOREIGN, contact.id)
        row = self.known.get(who)
        if row is None:
            return Finding(Class.FOREIGN, contact.id, who)
        if row.remote_id is not None and row.remote_id != contact.id:
            return Finding(Class.DUPLICATE, contact.id, who)
        if row.status in _ON_ITS_WAY:
            return Finding(Class.PENDING, contact.id, who)
        if self._is_excluded(who):
            return Finding(Class.EXCLUDED, contact.id, who)
        return Finding(Class.UNLINKED, contact.id, who, repairs=True)

    def _somebodys(self, contact: RemoteContact, who: int) -> Finding:
        row = self.known.get(who)
        if row is None:
            return Finding(Class.FOREIGN, contact.id, who)
        if row.remote_id is not None and row.remote_id != contact.id:
            return Finding(Class.DUPLICATE, contact.id, who)
        if (kind := self._is_left(row)) is not None:
            return Finding(kind, contact.id, who)
        if self._is_excluded(who):
            return Finding(Class.EXCLUDED, contact.id, who)
        return self._differs(contact, self.targets[who])

    def _is_excluded(self, who: int) -> bool:
        """Whether nothing is written about somebody."""
        target = self.targets.get(who)
        return target is None or target.excluded is not None

    def _is_left(self, row: Known) -> Class | None:
        """Return why a contact is not compared, None where it is."""
        if row.person_id in self.unreadable:
            return Class.UNREADABLE
        if row.status in ("parked", "dead"):
            return Class.HELD
        return Class.PENDING if self.is_older(row) else None

    def is_older(self, row: Known) -> bool:
        """Whether what was read may be older than what we know, or will soon be (rule 25)."""
        said = [at for at in (row.remote_at, row.written_at) if at is not None]
        is_fresh = bool(said) and max(said) >= self.began
        is_by_old_rules = row.rule_set is not None and row.rule_set < self.rule_set
        is_coming = row.status in _ON_ITS_WAY or row.is_behind or is_by_old_rules
        return is_coming or row.doubted_at is not None or is_fresh

    def _differs(self, contact: RemoteContact, target: Target) -> Finding:
        wanted = {name: value for name, value in target.wanted.items() if name in self.asked}
        ours = {name: value for name, value in wanted.items() if name not in target.held}
        drifted = ownership.changes(ours, contact.fields, target.rules, target.types)
        if drifted:
            return Finding(
                Class.DRIFTED, contact.id, target.person_id, _differences(drifted, contact.fields), repairs=True
            )
        theirs = {
            name: value
            for name, value in wanted.items()
            if not same_value(value, contact.fields.get(name, ""), target.types.get(name, ""))
        }
        if theirs:
            return Finding(Class.THEIRS, contact.id, target.person_id, _differences(theirs, contact.fields))
        return Finding(Class.EQUAL, contact.id, target.person_id)


def _differences(wanted: Fields, there: Fields) -> dict[str, Difference]:
    return {name: Difference(there.get(name, ""), value) for name, value in wanted.items()}
