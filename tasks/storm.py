"""Which people's roles really changed, and whom the guard stops until somebody has said that a storm of them is meant.

What counts is what a change of the contact, or leaving the company, does by the rules of now: never a publish, an
override or the clock. An identity provider that deactivates everybody by mistake is a storm, too.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from integration.delivery.belief import Belief
from integration.model.roles import Mark
from integration.security.seal import KeyRing
from integration.storage import storm
from integration.storage.roles import Known
from mappings.pathways import ContactSeen, Override
from tasks.verdict import Judge, Stored, Verdict


@dataclass(frozen=True, slots=True)
class Storm:
    """Looks at people whose contacts of one CRM were read; `role` is the property that holds the role.

    `rows` say by what each was decided last, `contacts` what is known of them now. `most`: people whose changed roles
    are acted on within an hour, None = any number. `rule_set` is the one that is in force.
    """

    connection: str
    role: str
    most: int | None
    ring: KeyRing
    judge: Judge
    rows: Mapping[int, Known]
    contacts: Mapping[int, Sequence[ContactSeen]]
    overrides: Mapping[int, Sequence[Override]]
    stored: Stored
    rule_set: int

    def verdicts(self, db: Connection, ids: Iterable[int]) -> tuple[dict[int, Verdict], dict[int, Mark]]:
        """Return what becomes of each person, and what the guard says of them.

        Whoever is stopped is judged by what was acted on last, so that overrides and rules go on counting; where that
        is not known, nothing becomes of them. Holds off all others of the CRM until the transaction ends.
        """
        found = {who: self._verdict(who, self.contacts.get(who, ())) for who in ids}
        let_go = {who for who, verdict in found.items() if self._is_let_go(who, verdict)}
        moved = let_go | {who for who, verdict in found.items() if self._is_moved(who, verdict)}
        words = {who: row.guard for who in found if (row := self.rows.get(who)) is not None and row.guard is not None}
        marks = {who: Mark() for who in words}
        if self.most is None:
            return found, marks
        asking = {who for who in moved if who not in words}
        passed = storm.let_through(db, self.connection, asking, most=self.most)
        marks |= {who: Mark(is_counted=True) for who in passed}
        for who in sorted((asking - passed) | {who for who in moved if words.get(who) == "held"}):
            marks[who] = Mark(is_held=True)
            before = self._before(who)
            if before is None:
                del found[who]
            else:
                found[who] = self._verdict(who, before, stays=who in let_go)
        return found, marks

    def _is_let_go(self, who: int, verdict: Verdict) -> bool:
        """Return whether somebody loses something because HR says that they have left, and not because of a publish.

        Whoever was decided by the rules of now had it although these were in force: so it is HR that has spoken since.
        """
        row = self.rows.get(who)
        if who not in self.stored.left or row is None or not (row.guard or row.rule_set == self.rule_set):
            return False
        kept = self._deserves(who, self.contacts.get(who, ()), has_left=False)
        return any(one.pathway in kept for one in verdict.ended)

    def _is_moved(self, who: int, verdict: Verdict) -> bool:
        """Return whether a change of the contact changes what somebody deserves."""
        if not verdict.is_change:
            return False
        before = self._before(who)
        if before is not None:
            has_left = who in self.stored.left
            now = self.contacts.get(who, ())
            return self._deserves(who, before, has_left=has_left) != self._deserves(who, now, has_left=has_left)
        # What was acted on is not known any more. Where nobody has said anything of the contact, it is due for a rule.
        row = self.rows[who]
        is_heard = row.doubted_at is not None or not row.is_acted_on
        return is_heard and any(one.cause.startswith("rule:") for one in (*verdict.put, *verdict.ended))

    def _before(self, who: int) -> list[ContactSeen] | None:
        """Return somebody's contacts as they were acted on last; None where that is not known any more.

        A property that was not read then, because no rule asked about it, is taken to have been as it is, and so are
        deals: what they reach is no change of role.
        """
        now = self.contacts.get(who, ())
        others = [one for one in now if one.connection != self.connection]
        row = self.rows.get(who)
        if row is None or row.is_new:
            return others
        belief = Belief.opened(self.ring, row.id, row.remote_values) if row.is_acted_on else None
        if belief is None:
            return None
        here = next((one for one in now if one.connection == self.connection), None)
        properties = {**(here.properties if here else {}), **belief.known}
        deals = here.deals if here else ()
        return [*others, ContactSeen(self.connection, properties.get(self.role, ""), properties, deals)]

    def _verdict(self, who: int, contacts: Sequence[ContactSeen], *, stays: bool = False) -> Verdict:
        stored = self.stored._replace(left={*self.stored.left} - {who}) if stays else self.stored
        return self.judge.verdict(who, contacts, self.overrides.get(who, ()), stored)

    def _deserves(self, who: int, contacts: Sequence[ContactSeen], *, has_left: bool) -> dict[str, object]:
        """Return the pathways somebody with these contacts deserves, each with what its deadline hangs on."""
        found = self.judge.deserves(contacts, self.overrides.get(who, ()), has_left=has_left)
        return {name: (one.onboarding_days, one.due_at) for name, one in found.items()}
