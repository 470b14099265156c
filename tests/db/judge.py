"""Who says whether a story goes right: what must hold at any moment of it, and what the CRM must show in the end."""

import json
from collections.abc import Iterator
from datetime import datetime
from typing import ClassVar

from hypothesis.stateful import invariant

from integration.observability import books
from integration.storage import sync_state
from tests.db.memory_crm import TAMPERED
from tests.db.turns import LEARNERS, Fact, expected, user_of
from tests.db.world import World


class Judged:
    """A story as its judge sees it: what was said of whom, under which ids, and who had what done to them.

    `named`: whom an LMS has named with an address. `may_be_dead`: whom the CRM has refused. `deleted`: whose contact
    somebody has deleted.
    """

    world: ClassVar[World]
    facts: dict[int, set[Fact]]
    accepted: set[tuple[str, str, bytes]]
    named: set[tuple[int, str]]
    may_be_dead: set[int]
    deleted: set[int]

    @invariant()
    def all_is_well(self) -> None:
        """Everything that must hold at any moment."""
        self.the_books_balance()
        self.no_row_contradicts_itself()
        self.nobody_is_dead_by_accident()
        self.what_we_believe_is_so()
        self.the_crm_has_seen_nothing_wrong()

    def the_books_balance(self) -> None:
        """Every accepted event is in exactly one state."""
        with self.world.look() as db:
            found = books.balance(db)
        assert found.unaccounted == 0, found
        assert found.accepted == len(self.accepted), found

    def no_row_contradicts_itself(self) -> None:
        """Nobody is written beyond what is wanted, everybody wants every fact, and a lease is held by work alone."""
        wrong = self.world.rows("""
            SELECT 'sync_state', s.id, s.status, s.wanted, s.written
            FROM sync_state s JOIN people p ON p.id = s.subject_id
            WHERE s.written > s.wanted OR s.wanted > p.version
               OR (s.status = 'sending') <> (s.lease IS NOT NULL) OR (s.status = 'in_step' AND s.written < s.wanted)
               OR (s.status = 'due' AND s.reason = 'written' AND s.written = s.wanted AND s.doubted_at IS NULL
                   AND s.remote_values IS NOT NULL) -- else a property is back, and nothing is believed any more
            UNION ALL SELECT 'inbox', id, status, 0, 0 FROM inbox WHERE (status = 'claimed') <> (lease IS NOT NULL)
            UNION ALL SELECT 'events', e.id, s.status, e.person_version, s.wanted
            FROM events e JOIN sync_state s ON s.subject_id = e.person_id
            WHERE s.wanted < e.person_version
        """)
        assert not wrong, wrong

    def nobody_is_dead_by_accident(self) -> None:
        """Only who the CRM refused is dead, and no event is."""
        dead = self.world.rows(
            "SELECT l.external_id, s.reason FROM sync_state s JOIN links l ON l.object_id = s.subject_id"
            " WHERE s.status = 'dead' AND l.object_type = 'learner'"
        )
        spared = {self.world.crm.one(who) for who in self.may_be_dead}
        dead = [(name, reason) for name, reason in dead if self._who(name) not in spared]
        assert not dead, dead
        events = self.world.rows("SELECT id, reason FROM inbox WHERE status = 'dead'")
        assert not events, events

    def what_we_believe_is_so(self) -> None:
        """What is compared with before a call is what the CRM holds, or a person has changed it there."""
        known = self.world.rows("""
            SELECT DISTINCT ON (s.id) l.external_id, s.id, s.remote_values, s.remote_id
            FROM sync_state s JOIN links l ON l.object_id = s.subject_id AND l.object_type = 'learner'
            WHERE s.status <> 'sending' AND s.remote_values IS NOT NULL
        """)
        for name, row_id, sealed, remote_id in known:
            who = self._who(name)
            contact = self.world.crm.of(who)
            believed = json.loads(self.world.ring.open(sealed, sync_state.remote_context(row_id)))
            # Of a merge of two learners that nobody has told us, one of them knows nothing yet.
            is_two = who in self.world.crm.became.values()
            if contact and contact.id == (remote_id if is_two else self.world.crm.followed(remote_id)):
                held = {field: contact.fields.get(field, "") for field in believed}
                wrong = {field for field in believed if believed[field] not in (None, held[field])}
                wrong = {field for field in wrong if (who, field) not in self.world.crm.edited}
                assert not wrong, (who, {field: (believed[field], held[field]) for field in wrong})

    def the_crm_has_seen_nothing_wrong(self) -> None:
        """No learner twice, and none written by two at once or by an older version."""
        assert not self.world.crm.wrongs, self.world.crm.wrongs

    def _rest(self) -> None:
        """Sweep until nothing is on its way, for a bounded number of rounds."""
        for _ in range(16):
            self.world.clock.advance(7_200)
            self.hear("at once")
            self.world.sweep()
            self.world.answer_all()
            busy = self.world.rows("""
                SELECT 'inbox', status, reason FROM inbox WHERE status IN ('received', 'claimed', 'enriching')
                UNION ALL SELECT 'sync_state', status, reason FROM sync_state
                WHERE status IN ('due', 'sending', 'waiting', 'parked') OR not_before IS NOT NULL
            """)
            if not busy and not self.world.crm.said:
                return
        self.world.crm.said.clear()
        raise AssertionError(f"it does not come to rest: {busy}")

    def hear(self, how: str) -> None:
        """Let what the CRM has said arrive, or not."""
        raise NotImplementedError

    def _who(self, name: str) -> int:
        """Return the learner that an LMS calls so, of several who became one the first."""
        return self.world.crm.one(int(name.rpartition("-")[2]))

    def _groups(self) -> dict[int, set[int]]:
        """Return who became one, by the first of them."""
        groups: dict[int, set[int]] = {}
        for who in range(LEARNERS):
            groups.setdefault(self.world.crm.one(who), set()).add(who)
        return groups

    def _compare(self, *, finally_: bool) -> None:
        """Compare contacts with the truth; before the last event of all, spare who hears of a change only by one."""
        crm, now = self.world.crm, self.world.clock.now()
        assert not crm.wrongs, crm.wrongs
        for who, group in self._groups().items():
            # What an LMS says of somebody it has never named waits until it does.
            facts = {one for each in group for one in self.facts[each] if (each, one.lms) in self.named}
            contact = crm.of(who)
            if not facts or (not finally_ and group & (self.may_be_dead | self.deleted)):
                continue
            assert contact is not None, f"learner {who} has no contact"
            if not finally_ and crm.is_unheard(who, "everything"):
                continue  # nobody has said that they are one
            found = dict(self._differences(who, group, contact.fields, facts, now))
            if not finally_ and contact.fields["lms_sync_status"] == TAMPERED:
                del found["lms_sync_status"]
            assert not found, (who, found)
            assert contact.fields.get("jobtitle") == crm.kept.get(who), f"learner {who}: a field of people's own"
        if finally_:
            left = self.world.rows("SELECT id, reason FROM sync_state WHERE status <> 'in_step'")
            assert not left, left
            reused = len(self.accepted) - len({(lms, webhook_id) for lms, webhook_id, _ in self.accepted})
            parked = self.world.rows("SELECT reason FROM inbox WHERE status = 'parked'")
            assert parked == [("id_reuse",)] * reused, (parked, reused)

    def _differences(
        self, who: int, group: set[int], shown: dict[str, str], facts: set[Fact], now: datetime
    ) -> Iterator[tuple[str, tuple[str, str]]]:
        wanted = {name: {value} for name, value in expected(facts, now).items()}
        ids = {lms: {f"{lms}:{user_of(one, lms)}" for one in group} for lms in sorted({one.lms for one in facts})}
        first = shown.get("lms_source", "")
        wanted["lms_user_id"] = ids.get(first, {"one of the learner's ids"})
        wanted |= {f"lms_user_id_{lms}": values for lms, values in ids.items() if lms != first}
        for name, values in wanted.items():
            found = shown.get(name, "").removesuffix(".0")
            if found not in values and not self.world.crm.is_unheard(who, name):
                yield name, (" or ".join(sorted(values)), found)
