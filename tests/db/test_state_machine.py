"""The pipeline under any order of events, deaths, faults and clocks: whatever happened, the CRM ends as the truth.

Hypothesis draws the story, `World` plays it on the real tasks. After each step the books must balance and nothing
that must never happen may have happened; at the end everything heals, and every contact must be what its learner's
events say. Twelve stories in CI and 25 at a desk, always the same ones; STATE_MACHINE_EXAMPLES=2000 draws
others each time; a failing one prints how to play it again.
"""

import json
import os

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from integration.model.events import Kind
from integration.storage import connections
from tests.db.judge import Judged
from tests.db.turns import (
    LAST,
    LEARNERS,
    PRODUCTS,
    Change,
    Fact,
    Happening,
    Interlude,
    Trouble,
    Turn,
    body_of,
    turns,
    user_of,
)
from tests.db.world import World, world

__all__ = ["world"]  # a fixture

EXAMPLES = int(os.environ.get("STATE_MACHINE_EXAMPLES", "0"))
ALWAYS = 12 if os.environ.get("CI") else 25


class Story(Judged, RuleBasedStateMachine):
    """Learners, two LMSs, two workers, a CRM, and everything that can go wrong between them."""

    def __init__(self) -> None:
        super().__init__()
        self.world.begin()
        self.facts = {who: set() for who in range(LEARNERS)}
        self.minutes: set[int] = set()
        self.hints = 0
        self.has_webhooks = True
        self.email = {who: f"p{who}@example.com" for who in range(LEARNERS)}
        self.sent: list[tuple[int, str, str, Kind, bytes]] = []
        self.accepted = set()
        self.may_be_dead = set()
        self.deleted = set()
        self.named = set()

    @initialize(has_webhooks=st.sampled_from([True, True, True, False]))
    def two_are_known_already(self, *, has_webhooks: bool) -> None:
        """Two of the learners are linked in both LMSs from the start, so that their addresses may change."""
        self.has_webhooks = has_webhooks
        for who in (0, 1):
            self._tell(who, "academy", "passed", "a", 10)
            self._tell(who, "campus", "passed", "a", 20)
        self.world.answer_all()

    # --- what happens

    @rule(turns=st.lists(turns, min_size=3, max_size=5))
    def it_goes_on(self, turns: list[Turn]) -> None:
        """Several turns: a rule drawn for each of them alone would leave most stories without any work."""
        for turn in turns:
            self._take_turn(turn)
            self.all_is_well()

    @rule(turn=turns)
    def it_goes_on_in_a_pause(self, turn: Turn) -> None:
        """One turn while a person has paused the connection: whatever is due waits for the end of that."""
        with self.world.look() as db:
            connections.halt(db, "crm", None)
        calls = self.world.crm.calls
        self._take_turn(turn)
        assert self.world.crm.calls == calls
        with self.world.look() as db:
            connections.resume(db, "crm")

    def _take_turn(self, turn: Turn) -> None:
        """Time passes, the CRM's mood changes, people are at it, events come in, and somebody works on them."""
        if self._deaths() < 2:  # three deaths alone would rightly quarantine a row
            self.world.clock.advance(turn.seconds)
        if turn.trouble:
            self._misbehave(turn.trouble)
        if turn.change:
            self._change_contact(turn.change)
        self.hear(turn.hears)
        for one in turn.events:
            self._happen(one)
        if turn.between:
            between = turn.between
            self.world.between.append((between.place, lambda: self._come_between(between)))
        calamity = turn.calamity
        if calamity and (not calamity.startswith("die") or self._deaths() < 2):
            self.world.workers[turn.worker].fate.decide(turn.at, calamity)
        match turn.work:
            case "all":
                self.world.answer_all(turn.worker)
            case "sweep":
                self.world.sweep(turn.worker)
            case "nothing, and the broker forgets":
                self.world.bells.clear()

    def _happen(self, one: Happening) -> None:
        """One learner does something, or an LMS says something it has said before."""
        who, newest = one.who, max((fact.minute for fact in self.facts[one.who]), default=0)
        match one.what:
            case "turns back":
                self._tell(who, one.lms, self._opposite(one), one.subject, newest + 1, one.hours)
            case "again" | "again as news" | "another body" if self.sent:
                self._say_again(one)
            case "moves":
                self._move(who, newest + 1)
            case "nameless":
                self._tell(who, one.lms, one.kind, one.subject, one.minute, one.hours, nameless=True)
            case _:
                self._tell(who, one.lms, one.kind, one.subject, one.minute, one.hours)

    def _opposite(self, one: Happening) -> str:
        """Return what takes the learner's last word on a subject back."""
        said = [fact for fact in self.facts[one.who] if (fact.lms, fact.subject) == (one.lms, one.subject)]
        last = max(said, key=lambda fact: fact.minute, default=None)
        if one.subject in PRODUCTS:
            return "revoked" if last and last.kind == "issued" else "issued"
        return "left" if last and last.kind in ("done", "passed") else "passed"

    def _say_again(self, one: Happening) -> None:
        """The same delivery, the same fact under a new id, or an id with another body."""
        who, lms, webhook_id, kind, body = self.sent[one.minute % len(self.sent)]
        if one.what == "again as news":
            webhook_id = f"again-{len(self.accepted)}"
        elif one.what == "another body":
            body = body_of(Fact(lms, "failed", "a", 8_000), who, self.email[who])
        self._deliver(lms, webhook_id, kind, body)

    def _move(self, who: int, minute: int) -> None:
        """A learner whom everybody knows gets another address, or the old one again."""
        linked = self.world.rows("SELECT external_id FROM links WHERE object_type = 'learner'")
        contact = self.world.crm.of(who)
        known = contact and contact.fields.get("lms_user_id")
        if known and {(user_of(who, "academy"),), (user_of(who, "campus"),)} <= set(linked):
            is_new = self.email[who].startswith(f"p{who}.new")
            self.email[who] = f"p{who}@example.com" if is_new else f"p{who}.new@example.com"
            self._tell(who, "academy", "graded", "a", minute)

    def _come_between(self, what: Interlude) -> None:
        """In the middle of one worker's work the other one is at it, too, or a person is."""
        world, me = self.world, self.world.current.number
        match what.what:
            case "news":
                # Best about somebody who is being written at this moment.
                names = world.rows("""
                    SELECT external_id FROM links l JOIN sync_state s ON s.subject_id = l.object_id
                    WHERE l.object_type = 'learner' AND s.status = 'sending' ORDER BY 1
                """)
                who = int(names[what.who % len(names)][0].rpartition("-")[2]) if names else what.who
                self._happen(Happening(who, "turns back", "academy", "passed", what.subject, 0, None))
                world.answer(len(world.bells) - 1, me)
            case "another worker":
                world.answer_all(me)
            case "taken for dead" if self._deaths() < 2 and what.place != "called":
                # A call ends long before its lease does; between two steps a worker may sleep for ever.
                self._come_between(what._replace(what="news"))
                world.clock.advance(130)
                world.sweep(me)
                world.answer_all(me)
            case "a person":
                self._change_contact(Change("delete or make", what.who))
            case "two become one":
                self._change_contact(Change("merge two", what.who))
                self.hear("at once")
                world.answer_all(me)

    def _misbehave(self, trouble: Trouble) -> None:
        """The next calls go wrong; a record is refused, named or not; a workflow or a property comes or goes."""
        crm = self.world.crm
        crm.outcomes.extend(trouble.outcomes)
        match trouble.what:
            case "refuses" | "poison":
                (crm.refuses if trouble.what == "refuses" else crm.poison).add(trouble.who)
                self.may_be_dead.add(trouble.who)
            case "takes all":
                crm.refuses.clear()
                crm.poison.clear()
            case "tampers":
                crm.tampers = not crm.tampers
            case "only that":
                pass
            case name:
                crm.missing ^= {name}

    def _change_contact(self, change: Change) -> None:
        crm, (what, who) = self.world.crm, change
        if what.startswith("edit"):
            crm.edit(who, f"job {len(self.accepted)}", "last_course_completed" if what == "edit ours" else None)
        elif what == "merge two":
            other = (who + 1) % LEARNERS
            known = {name for (name,) in self.world.rows("SELECT external_id FROM links")}
            names = {contact.id for one in (who, other) if (contact := crm.of(one))}
            names |= {user_of(one, lms) for one in (who, other) for lms in ("academy", "campus")}
            if names <= known:  # else only their addresses say whose they are, which is for a person to decide
                crm.merge_two(who, other)
        elif what.startswith("merge"):
            crm.merge(who, ours_first=what == "merge")
        elif who in crm.became or who in crm.became.values():
            return  # whom a person makes anew under the other address nobody can know again
        elif crm.of(who):
            crm.archive(who)
            self.deleted.add(who)
        elif not self.email[who].startswith(f"p{who}.new"):
            crm.add(who, self.email[who])

    def hear(self, how: str) -> None:
        """Let the CRM's webhooks say what happened there: later, twice and in another order, or never."""
        if how == "later" and self.has_webhooks:
            return
        crm = self.world.crm
        said, crm.said = crm.said, []
        if how == "never" or not self.has_webhooks:
            crm.unheard |= {(one.who, one.by_hand) for one in said if one.by_hand}
            return
        for _ in range(2 if how == "twice, backwards" else 1):
            for one in reversed(said) if how == "twice, backwards" else said:
                self.hints += 1
                self._deliver("crm", f"hint-{self.hints}", Kind.CONTACT, json.dumps(one.hint).encode())

    # --- and at the end

    def teardown(self) -> None:
        """Heal everything, let it come to rest, and compare every contact with what its learner's events say."""
        if not self.accepted:
            return  # the story failed before it began
        world = self.world
        world.between.clear()
        world.crm.heal()
        self._rest()
        world.clock.advance(100 * 3600)  # every certificate ends, and nobody says so
        self._rest()
        self._compare(finally_=False)
        for who, facts in self.facts.items():
            for lms in sorted({one.lms for one in facts}):
                self.email[who] = f"p{who}@example.com"
                self._tell(who, lms, "passed", f"final-{lms}", LAST)
        self._rest()
        self._compare(finally_=True)

    # --- inside

    def _tell(
        self,
        who: int,
        lms: str,
        kind: str,
        subject: str,
        minute: int,
        hours: int | None = None,
        *,
        nameless: bool = False,
    ) -> None:
        while minute in self.minutes:
            minute += 1
        self.minutes.add(minute)
        fact = Fact(lms, kind, subject, minute, hours)
        self.facts[who].add(fact)
        if not nameless:
            self.named.add((who, lms))
        body = body_of(fact, who, None if nameless else self.email[who])
        task = Kind.ENROLLMENT if kind == "left" else Kind.COMPLETION
        webhook_id = f"id-{len(self.sent)}"
        self.sent.append((who, lms, webhook_id, task, body))
        self._deliver(lms, webhook_id, task, body)

    def _deliver(self, lms: str, webhook_id: str, kind: Kind, body: bytes) -> None:
        self.accepted.add((lms, webhook_id, body))
        self.world.deliver(lms, webhook_id, body, kind=kind)

    def _deaths(self) -> int:
        """Return how often the unluckiest row has met a death alone, counting the ones still to be noticed."""
        [(most,)] = self.world.rows("""
            SELECT coalesce(max(deaths + (lease IS NOT NULL)::int), 0) FROM
            (SELECT deaths, lease FROM inbox UNION ALL SELECT deaths, lease FROM sync_state) AS claims
        """)
        return int(most)


def test_any_story_ends_in_the_truth(world: World) -> None:
    """Random interleavings of deliveries, deaths, CRM faults, people and time: nothing lost, doubled or wrong."""
    Story.world = world
    run_state_machine_as_test(
        Story,
        settings=settings(
            max_examples=EXAMPLES or ALWAYS,
            stateful_step_count=12 if EXAMPLES else 6,
            derandomize=not EXAMPLES,
            database=None,
            deadline=None,
            print_blob=True,
            phases=[Phase.generate, Phase.shrink] if EXAMPLES else [Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
