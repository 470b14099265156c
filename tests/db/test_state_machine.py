"""The pipeline under any order of events, deaths, faults and clocks: whatever happened, the CRM ends as the truth.

Hypothesis draws the story, `World` plays it on the real tasks. After each step the books must balance and nothing
that must never happen may have happened; at the end everything heals, and every contact must be what its learner's
events say. STATE_MACHINE_EXAMPLES=2000 draws other stories each time; a failing one prints how to play it again.
"""

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from integration.config import Config
from integration.model.events import Kind
from integration.observability import books
from integration.security.seal import IndexKeys, KeyRing
from integration.storage import connections, sync_state
from tasks.embedded.servers import EmbeddedServers
from tests.db.conftest import CONFIG
from tests.db.memory_crm import OUTCOMES, TAMPERED
from tests.db.world import Calamity, Place, World

EXAMPLES = int(os.environ.get("STATE_MACHINE_EXAMPLES", "0"))
LEARNERS, COURSES, PRODUCTS = 3, ("a", "b"), ("alpha", "beta")
ZONE = ZoneInfo("Europe/Berlin")
START = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(days=30)
"""When the first minute of all stories is; all of it lies in the past."""
EXPIRY = START + timedelta(days=30)
"""Certificates end some hours after this: in the story's future, and only by its clock."""
LAST = 9_000
"""The minute of the last event of every learner."""

Drawn = TypeVar("Drawn")

TYPES = {
    "done": "course.completed",
    "passed": "course.completed",
    "failed": "course.completed",
    "left": "enrollment.cancelled",
    "progress": "course.progressed",
    "graded": "assessment.graded",
    "issued": "certification.issued",
    "revoked": "certification.revoked",
    "expired": "certification.expired",
}
MORE: dict[str, dict[str, Any]] = {
    "passed": {"passed": True},
    "failed": {"passed": False},
    "progress": {"progress": 50},
}
OF_COURSES = ("done", "passed", "failed", "left", "progress", "graded")
REMOVABLE = ("last_course_completed", "certified_alpha", "certified_beta_until", "lms_sync_status")


class Fact(NamedTuple):
    """What one event says; `minute` is different for each event of a learner."""

    lms: str
    kind: str
    subject: str
    minute: int
    hours: int | None = None

    @property
    def at(self) -> datetime:
        """When it happened."""
        return START + timedelta(minutes=self.minute)

    @property
    def expires_at(self) -> datetime | None:
        """When the certificate ends."""
        return None if self.hours is None else EXPIRY + timedelta(hours=self.hours)

    @property
    def subject_type(self) -> str:
        """What it is about."""
        return "certification" if self.kind in ("issued", "revoked", "expired") else "course"


def body_of(fact: Fact, who: int, email: str | None) -> bytes:
    """Write the event as the LMS sends it."""
    data: dict[str, Any] = {"learner": {"lms_user_id": user_of(who, fact.lms), "email": email}}
    if fact.subject_type == "certification":
        data["certification"] = {"id": f"c-{fact.subject}", "product": fact.subject}
        if fact.expires_at and fact.kind == "issued":
            data["certification"]["expires_at"] = fact.expires_at.isoformat()
    else:
        data["course"] = {"id": fact.subject, "name": f"Course {fact.subject}"}
    data |= MORE.get(fact.kind, {})
    return json.dumps({"type": TYPES[fact.kind], "timestamp": fact.at.isoformat(), "data": data}).encode()


def user_of(who: int, lms: str) -> str:
    """Return what an LMS calls a learner."""
    return f"{lms[0]}-{who}"


def expected(facts: set[Fact], now: datetime) -> dict[str, str]:
    """Return what the contact must show, read plainly from what was said: the latest word on each subject counts."""
    latest: dict[tuple[str, str, str], Fact] = {}
    for fact in sorted(facts, key=lambda one: one.minute):
        if fact.kind not in ("progress", "graded"):
            latest[fact.lms, fact.subject_type, fact.subject] = fact
    completed = [one for one in latest.values() if one.kind in ("done", "passed")]
    last = max(completed, key=lambda one: one.minute, default=None)
    shown = {
        "courses_completed_count": str(len(completed)),
        "last_course_completed": f"Course {last.subject}" if last else "",
        "recent_course_completion_date": last.at.astimezone(ZONE).date().isoformat() if last else "",
        "lms_sync_status": "ok",
    }
    for product in {fact.subject for fact in facts if fact.subject_type == "certification"}:
        held = [
            one
            for one in latest.values()
            if one.subject_type == "certification" and one.subject == product and one.kind == "issued"
            if one.expires_at is None or one.expires_at > now
        ]
        ends = [one.expires_at for one in held if one.expires_at]
        shown[f"certified_{product}"] = "true" if held else "false"
        shown[f"certified_{product}_until"] = max(ends).astimezone(ZONE).date().isoformat() if ends else ""
    return shown


class Happening(NamedTuple):
    """Something a learner does or an LMS says; `what` is how, and decides which of the rest counts."""

    who: int
    what: str
    lms: str
    kind: str
    subject: str
    minute: int
    hours: int | None


class Trouble(NamedTuple):
    """What the CRM does from now on: the outcomes of its next calls, and one lasting mood."""

    outcomes: list[str | None]
    what: str
    who: int


class Change(NamedTuple):
    """What a person does in the CRM."""

    what: str
    who: int


class Interlude(NamedTuple):
    """What happens between two steps of a worker."""

    place: Place
    what: str
    who: int
    subject: str


def rarely(strategy: st.SearchStrategy[Drawn]) -> st.SearchStrategy[Drawn | None]:
    """Draw one time in four, or nothing."""
    return st.integers(0, 3).flatmap(lambda dice: st.none() if dice else strategy)


class Turn(NamedTuple):
    """What happens, in this order; `calamity` befalls the worker at that step of its work."""

    seconds: int
    trouble: Trouble | None
    change: Change | None
    events: list[Happening]
    between: Interlude | None
    work: str
    worker: int
    at: int
    calamity: Calamity | None


learners = st.integers(0, LEARNERS - 1)
lmss = st.sampled_from(["academy", "academy", "campus"])
minutes = st.integers(0, 3_000)
hours = st.sampled_from([None, 5, 30, 60, 96, -5])
ways = st.sampled_from(
    ["turns back"] * 4 + ["new"] * 3 + ["again", "again as news", "another body", "moves", "nameless"]
)
of_courses = st.tuples(st.sampled_from(OF_COURSES), st.sampled_from(COURSES), st.none())
of_certificates = st.tuples(
    st.sampled_from(["issued", "issued", "revoked", "expired"]), st.sampled_from(PRODUCTS), hours
)
happenings = st.builds(
    lambda who, how, lms, minute, about: Happening(who, how, lms, about[0], about[1], minute, about[2]),
    learners,
    ways,
    lmss,
    minutes,
    of_courses | of_certificates,
)
moods = st.sampled_from(["only that"] * 4 + ["refuses", "poison", "takes all", "tampers", "tampers", *REMOVABLE])
troubles = st.builds(Trouble, st.lists(st.none() | st.sampled_from(OUTCOMES), max_size=3), moods, learners)
changes = st.builds(Change, st.sampled_from(["edit", "edit ours", "merge", "merge into", "delete or make"]), learners)
interludes = st.builds(
    Interlude,
    st.sampled_from(["translated", "projected", "called", "answered"]),
    st.sampled_from(["news", "news", "another worker", "taken for dead", "a person"]),
    learners,
    st.sampled_from([*COURSES, *PRODUCTS]),
)
calamities: st.SearchStrategy[Calamity | None] = st.sampled_from(
    [None, None, None, None, "die", "die_answered", "die_answered", "hiccup", "lost_commit"]
)
turns = st.builds(
    Turn,
    st.sampled_from([130, 1, 20, 45, 700, 4_000, 4_000, 90_000, 90_000]),
    rarely(troubles),
    rarely(changes),
    st.lists(happenings, min_size=1, max_size=3),
    st.none() | interludes,
    st.sampled_from(["all", "all", "all", "all", "sweep", "nothing, and the broker forgets"]),
    st.integers(0, 1),
    st.integers(1, 40),
    calamities,
)


class Story(RuleBasedStateMachine):
    """Learners, two LMSs, two workers, a CRM, and everything that can go wrong between them."""

    world: ClassVar[World]

    def __init__(self) -> None:
        super().__init__()
        self.world.begin()
        self.facts: dict[int, set[Fact]] = {who: set() for who in range(LEARNERS)}
        self.minutes: dict[int, set[int]] = {who: set() for who in range(LEARNERS)}
        self.email = {who: f"p{who}@example.com" for who in range(LEARNERS)}
        self.sent: list[tuple[int, str, str, Kind, bytes]] = []
        self.accepted: set[tuple[str, str, bytes]] = set()
        self.may_be_dead: set[int] = set()
        self.deleted: set[int] = set()
        self.named: set[tuple[int, str]] = set()

    @initialize()
    def two_are_known_already(self) -> None:
        """Two of the learners are linked in both LMSs from the start, so that their addresses may change."""
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
                world.clock.advance(130)
                world.sweep(me)
                world.answer_all(me)
            case "a person":
                self._change_contact(Change("delete or make", what.who))

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
        elif what.startswith("merge"):
            crm.merge(who, ours_first=what == "merge")
        elif crm.of(who):
            crm.archive(who)
            self.deleted.add(who)
        elif not self.email[who].startswith(f"p{who}.new"):
            crm.add(who, self.email[who])

    # --- what must hold after every step

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
        assert found.unaccounted == 0
        assert found.accepted == len(self.accepted)

    def no_row_contradicts_itself(self) -> None:
        """Nobody is written beyond what is wanted, everybody wants every fact, and a lease is held by work alone."""
        wrong = """
            SELECT 'sync_state', s.id FROM sync_state s JOIN people p ON p.id = s.subject_id
            WHERE s.written > s.wanted OR s.wanted > p.version
               OR (s.status = 'sending') <> (s.lease IS NOT NULL) OR (s.status = 'in_step' AND s.written < s.wanted)
            UNION ALL SELECT 'inbox', id FROM inbox WHERE (status = 'claimed') <> (lease IS NOT NULL)
            UNION ALL SELECT 'events', e.id FROM events e JOIN sync_state s ON s.subject_id = e.person_id
            WHERE s.wanted < e.person_version
        """
        assert self.world.rows(wrong) == []

    def nobody_is_dead_by_accident(self) -> None:
        """Only who the CRM refused is dead, and no event is."""
        dead = self.world.rows(
            "SELECT l.external_id, s.reason FROM sync_state s JOIN links l ON l.object_id = s.subject_id"
            " WHERE s.status = 'dead' AND l.object_type = 'learner'"
        )
        assert [(name, reason) for name, reason in dead if int(name.rpartition("-")[2]) not in self.may_be_dead] == []
        assert self.world.rows("SELECT reason FROM inbox WHERE status = 'dead'") == []

    def what_we_believe_is_so(self) -> None:
        """What is compared with before a call is what the CRM holds, or a person has changed it there."""
        known = self.world.rows("""
            SELECT DISTINCT ON (s.id) l.external_id, s.id, s.remote_values, s.remote_id
            FROM sync_state s JOIN links l ON l.object_id = s.subject_id AND l.object_type = 'learner'
            WHERE s.status <> 'sending' AND s.remote_values IS NOT NULL
        """)
        for name, row_id, sealed, remote_id in known:
            who = int(name.rpartition("-")[2])
            contact = self.world.crm.of(who)
            believed = json.loads(self.world.ring.open(sealed, sync_state.remote_context(row_id)))
            if contact and contact.id == self.world.crm.followed(remote_id):
                held = {field: contact.fields.get(field, "") for field in believed}
                wrong = {field for field in believed if believed[field] not in (None, held[field])}
                assert {field for field in wrong if (who, field) not in self.world.crm.edited} == set()

    def the_crm_has_seen_nothing_wrong(self) -> None:
        """No learner twice, and none written by two at once or by an older version."""
        assert self.world.crm.wrongs == []

    # --- and at the end

    def teardown(self) -> None:
        """Heal everything, let it come to rest, and compare every contact with what its learner's events say."""
        if not self.accepted:
            return  # the story failed before it began
        world = self.world
        world.between.clear()
        world.crm.heal()
        self._rest()
        self._compare(finally_=False)
        for who, facts in self.facts.items():
            for lms in sorted({one.lms for one in facts}):
                self.email[who] = f"p{who}@example.com"
                self._tell(who, lms, "passed", f"final-{lms}", LAST)
        self._rest()
        self._compare(finally_=True)

    def _rest(self) -> None:
        """Sweep until nothing is on its way, for a bounded number of rounds."""
        for _ in range(16):
            self.world.clock.advance(7_200)
            self.world.sweep()
            self.world.answer_all()
            busy = self.world.rows("""
                SELECT 'inbox', status, reason FROM inbox WHERE status IN ('received', 'claimed')
                UNION ALL SELECT 'sync_state', status, reason FROM sync_state
                WHERE status IN ('due', 'sending', 'waiting', 'parked') OR not_before IS NOT NULL
            """)
            if not busy:
                return
        raise AssertionError(f"it does not come to rest: {busy}")

    def _compare(self, *, finally_: bool) -> None:
        """Compare contacts with the truth; before the last event of all, spare who hears of a change only by one."""
        crm, now = self.world.crm, self.world.clock.now()
        assert crm.wrongs == []
        for who in range(LEARNERS):
            # What an LMS says of somebody it has never named waits until it does.
            facts = {one for one in self.facts[who] if (who, one.lms) in self.named}
            contact = crm.of(who)
            if not facts or (not finally_ and (who in self.may_be_dead or who in self.deleted)):
                continue
            assert contact is not None
            found = dict(self._differences(who, contact.fields, facts, now))
            if not finally_ and contact.fields["lms_sync_status"] == TAMPERED:
                del found["lms_sync_status"]
            assert found == {}
            assert contact.fields.get("jobtitle") == crm.kept.get(who)
        if finally_:
            assert self.world.rows("SELECT id, reason FROM sync_state WHERE status <> 'in_step'") == []
            reused = len(self.accepted) - len({(lms, webhook_id) for lms, webhook_id, _ in self.accepted})
            assert self.world.rows("SELECT reason FROM inbox WHERE status = 'parked'") == [("id_reuse",)] * reused

    def _differences(
        self, who: int, shown: dict[str, str], facts: set[Fact], now: datetime
    ) -> Iterator[tuple[str, tuple[str, str]]]:
        wanted = expected(facts, now)
        ids = {name: f"{name}:{user_of(who, name)}" for name in sorted({one.lms for one in facts})}
        first = shown.get("lms_source", "")
        wanted["lms_user_id"] = ids.get(first, "one of the learner's ids")
        wanted |= {f"lms_user_id_{name}": value for name, value in ids.items() if name != first}
        for name, value in wanted.items():
            found = shown.get(name, "").removesuffix(".0")
            if found != value and (who, name) not in self.world.crm.edited:
                yield name, (value, found)

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
        while minute in self.minutes[who]:
            minute += 1
        self.minutes[who].add(minute)
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


@pytest.fixture
def world(
    database_url: str,
    servers: EmbeddedServers,
    keyring: KeyRing,
    keys: IndexKeys,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[World]:
    """An installation with two LMSs and a CRM, in which a test is everybody."""
    monkeypatch.setenv("TEST_SECRET", "whsec_" + "QUJD" * 8)
    made = World(database_url, Config.model_validate(CONFIG), keyring, keys, servers.broker_url)
    made.install(monkeypatch)
    yield made
    made.close()


def test_any_story_ends_in_the_truth(world: World) -> None:
    """Random interleavings of deliveries, deaths, CRM faults, people and time: nothing lost, doubled or wrong."""
    Story.world = world
    run_state_machine_as_test(
        Story,
        settings=settings(
            max_examples=EXAMPLES or 25,
            stateful_step_count=12 if EXAMPLES else 6,
            derandomize=not EXAMPLES,
            database=None,
            deadline=None,
            print_blob=True,
            phases=[Phase.generate, Phase.shrink] if EXAMPLES else [Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
