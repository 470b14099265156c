"""Activities under any interleaving of duplicates, revisions, lost and late answers, and workers that die anywhere.

The real tasks run on a real Postgres (`World`); a timeline in memory takes what they send. In the end each fact is
there exactly once: custom events because a UUID is taken once, notes because their markers are looked for.
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal, NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from integration.config import Config
from integration.connectors import registry
from integration.errors import BatchRejected, ConnectionBroken, Reason, RetryLater, UnknownOutcome
from integration.model.activities import Activity
from integration.model.contacts import Answer, Failed, Written
from integration.model.events import Kind
from integration.ports import ANY_CALL
from integration.security.seal import IndexKeys, KeyRing
from integration.storage import deliveries
from tasks.embedded.servers import EmbeddedServers
from tests.db.conftest import CONFIG
from tests.db.turns import START
from tests.db.world import Calamity, Worker, World

EXAMPLES = int(os.environ.get("STATE_MACHINE_EXAMPLES", "0"))
LEARNERS, COURSES = 3, 3
LATEST = 15.9
"""Seconds after which a call whose answer was lost may still arrive: twice its deadline."""
TOO_MANY = 2
"""Deaths of one row; a third one alone would rightly quarantine it."""
OUTCOMES = ("refused", "late", "late", "lost", "killed", "killed", "server_error", "untold", "slow_down", "no_scope")
CALAMITIES: tuple[Calamity, ...] = ("die", "die_answered", "answer_lost", "hiccup", "lost_commit")


class Step(NamedTuple):
    """One thing that happens; what the numbers mean depends on it."""

    what: Literal["tell", "again", "correct", "answer", "all", "sweep", "wait", "trouble", "fate", "merge"]
    who: int
    n: int
    outcome: str
    calamity: Calamity


steps = st.lists(
    st.builds(
        Step,
        st.sampled_from(
            [
                "tell",
                "tell",
                "again",
                "correct",
                "answer",
                "all",
                "sweep",
                "wait",
                "trouble",
                "trouble",
                "fate",
                "merge",
            ]
        ),
        st.integers(0, LEARNERS - 1),
        st.integers(0, 30),
        st.sampled_from(OUTCOMES),
        st.sampled_from(CALAMITIES),
    ),
    min_size=4,
    max_size=25,
)


@dataclass
class Shelf:
    """The timelines of a CRM: what is there, what is still on its way, and what comes over the next calls."""

    takes_once: bool
    entries: list[tuple[str, str]] = field(default_factory=list)
    arriving: list[tuple[float, list[Activity]]] = field(default_factory=list)
    outcomes: list[str] = field(default_factory=list)

    def grow_old(self, seconds: float) -> None:
        """Let so much time pass for what is on its way; it arrives after LATEST seconds."""
        aged = [(age + seconds, sent) for age, sent in self.arriving]
        self.arriving = [(age, sent) for age, sent in aged if age < LATEST]
        for age, sent in aged:
            if age >= LATEST:
                self.put(sent)

    def put(self, activities: Sequence[Activity]) -> None:
        """Take entries; the first with a UUID wins where there are any."""
        for one in activities:
            mark = str(one.uuid) if self.takes_once else one.marker
            if not self.takes_once or mark not in {known for known, _ in self.entries}:
                self.entries.append((mark, one.contact))


class Store:
    """The timelines as one worker sees them: each call may be its last step, before or after it was made."""

    batch_size = 2
    endpoint = ANY_CALL

    def __init__(self, world: World, worker: Worker, shelf: Shelf, deaths: Callable[[], int]) -> None:
        """`worker` is who calls; `deaths` says how often the unluckiest row has met a death."""
        self._world, self._worker, self._shelf, self._deaths = world, worker, shelf, deaths
        self.takes_once = shelf.takes_once

    def find(self, activities: Sequence[Activity]) -> dict[str, str]:
        """Look for markers."""
        self._step()
        assert not self.takes_once
        there = {mark for mark, _ in self._shelf.entries}
        return {one.trace: "note" for one in activities if one.marker in there}

    def write(self, activities: Sequence[Activity]) -> dict[str, Answer]:
        """Write, and hear of it or not."""
        self._step()
        shelf, fate = self._shelf, self._worker.fate
        outcome = shelf.outcomes.pop(0) if shelf.outcomes else None
        if fate.calamity == "answer_lost":
            fate.calamity, outcome = None, "lost"
        match outcome:
            case "refused":
                raise (
                    BatchRejected(Reason.BATCH_REJECTED, "nobody named")
                    if len(activities) > 1
                    else RetryLater(Reason.NETWORK_ERROR, "nothing was sent")
                )
            case "slow_down":
                raise RetryLater(Reason.RATE_LIMITED, "too many calls", after=7.0)
            case "no_scope":
                raise ConnectionBroken(Reason.SCOPE_MISSING, "not granted")
            case "server_error":
                raise UnknownOutcome(Reason.SERVER_ERROR, "a fault over there")
            case "late":
                shelf.arriving.append((0.0, list(activities)))
                raise UnknownOutcome(Reason.UNKNOWN_OUTCOME, "no answer came")
        gone = {one.trace for one in activities if one.contact in self._world.crm.merged and not self.takes_once}
        shelf.put([one for one in activities if one.trace not in gone])
        fate.answered()
        if outcome == "killed" and self._deaths() < TOO_MANY:
            fate.is_dead = True
            fate.step()
        if outcome in ("lost", "killed"):
            raise UnknownOutcome(Reason.UNKNOWN_OUTCOME, "sent, but the answer was lost")
        answers: dict[str, Answer] = {one.trace: Written(one.trace) for one in activities}
        answers |= {trace: Failed(Reason.CONTACT_GONE, "no such contact") for trace in gone}
        if outcome == "untold":
            answers.pop(activities[0].trace)
        return answers

    def _step(self) -> None:
        self._worker.fate.step(statement=False)
        assert not self._worker.engine.pool.checkedout(), "a call is made while a transaction is open"  # type: ignore[attr-defined]


@dataclass
class Tale:
    """One story: what was said of whom, and how it is played."""

    world: World
    shelf: Shelf
    said: list[tuple[str, str, bytes]] = field(default_factory=list)
    achieved: set[tuple[int, str]] = field(default_factory=set)

    def play(self, step: Step) -> None:  # noqa: C901 - a table of what may happen
        """Let one step happen."""
        world, worker = self.world, step.n % 2
        match step.what:
            case "tell":
                self.tell(step.who, f"c-{step.n % COURSES}", passed=step.n % 5 != 4, score=step.n)
            case "correct":
                self.tell(step.who, f"c-{step.n % COURSES}", passed=True, score=100 + step.n)
            case "again" if self.said:
                name, _, body = self.said[step.n % len(self.said)]
                world.deliver(
                    "academy", name if step.n % 2 else f"again-{step.n}-{step.who}", body, kind=Kind.COMPLETION
                )
            case "answer":
                world.answer(step.n, worker)
            case "all":
                world.answer_all(worker)
            case "sweep":
                world.sweep(worker)
            case "wait" if self.deaths() < TOO_MANY:
                self.wait((1, 6, 40, 400)[step.n % 4])
            case "trouble":
                self.shelf.outcomes.append(step.outcome)
            case "fate" if not step.calamity.startswith("die") or self.deaths() < TOO_MANY:
                world.workers[worker].fate.decide(1 + step.n, step.calamity)
                world.sweep(worker)
                world.answer_all(worker)
            case "merge":
                self.merge(step.who)

    def tell(self, who: int, course: str, *, passed: bool, score: int) -> None:
        """Let the LMS say something of a course."""
        learner = {"lms_user_id": f"u-{who}", "email": f"p{who}@example.com"}
        when = (START + timedelta(minutes=len(self.said))).isoformat()
        data = {"learner": learner, "course": {"id": course}, "passed": passed, "score": score}
        body = json.dumps({"type": "course.completed", "timestamp": when, "data": data}).encode()
        name = f"id-{len(self.said)}"
        self.said.append((name, course, body))
        if passed:
            self.achieved.add((who, course))
        self.world.deliver("academy", name, body, kind=Kind.COMPLETION)

    def merge(self, who: int) -> None:
        """Merge a contact into a new one, and repoint its link as the webhook of the CRM would."""
        ours = self.world.crm.of(who)
        if ours is None:
            return
        self.world.crm.merge(who, ours_first=True)
        after = self.world.crm.followed(ours.id)
        self.shelf.entries = [(mark, after if contact == ours.id else contact) for mark, contact in self.shelf.entries]
        with self.world.look() as db:
            moved = {"old": ours.id, "new": after}
            db.exec_driver_sql(
                "INSERT INTO links (connection, object_type, external_id, object_id)"
                " SELECT connection, object_type, %(new)s, object_id FROM links"
                " WHERE external_id = %(old)s AND object_type = 'contact' ON CONFLICT DO NOTHING",
                moved,
            )
            db.exec_driver_sql(
                "UPDATE links SET moved_to = %(new)s WHERE external_id = %(old)s AND object_type = 'contact'", moved
            )
            deliveries.wake(db, [row[0] for row in db.exec_driver_sql("SELECT id FROM people")])

    def wait(self, seconds: float) -> None:
        """Let time pass; a call that was sent arrives within twice its deadline."""
        while self.shelf.arriving:
            until = LATEST - max(age for age, _ in self.shelf.arriving)
            if until > seconds:
                break
            self.world.clock.advance(until)
            self.world.sweep()
            self.world.answer_all()
            self.shelf.grow_old(until)
            seconds -= until
        self.world.clock.advance(seconds)
        self.shelf.grow_old(seconds)

    def deaths(self) -> int:
        """Return how often the unluckiest row has met a death alone, counting the ones still to be noticed."""
        [(most,)] = self.world.rows("""
            SELECT coalesce(max(deaths + (lease IS NOT NULL)::int), 0) FROM
            (SELECT deaths, lease FROM inbox UNION ALL SELECT deaths, lease FROM sync_state
             UNION ALL SELECT deaths, lease FROM deliveries) AS claims
        """)
        return int(most)

    def end(self) -> None:
        """Heal everything and let it come to rest, for a bounded number of rounds."""
        self.wait(40)
        self.shelf.outcomes.clear()
        busy: list[tuple[Any, ...]] = []
        for _ in range(16):
            self.shelf.grow_old(LATEST)
            self.world.clock.advance(7_200)
            self.world.sweep()
            self.world.answer_all()
            busy = self.world.rows("""
                SELECT 'inbox', status, reason FROM inbox WHERE status IN ('received', 'claimed')
                UNION ALL SELECT 'deliveries', status, reason FROM deliveries
                WHERE status NOT IN ('delivered', 'cancelled')
            """)
            if not busy:
                return
        raise AssertionError(f"it does not come to rest: {busy}")

    def judge(self) -> None:
        """Each fact is on its contact exactly once, unless it was taken back before it was written."""
        twice = [mark for mark, number in Counter(mark for mark, _ in self.shelf.entries).items() if number > 1]
        assert not twice, f"there more than once: {twice}"
        found = self.world.rows("""
            SELECT l.external_id, e.subject_id, d.status FROM deliveries d JOIN events e ON e.id = d.event_id
            JOIN links l ON l.object_id = d.person_id AND l.object_type = 'learner'
        """)
        planned = {(int(name.rpartition("-")[2]), course): status for name, course, status in found}
        assert len(found) == len(planned)
        assert planned.keys() == self.achieved
        written = sum(status == "delivered" for status in planned.values())
        cancelled = len(planned) - written
        assert written <= len(self.shelf.entries) <= written + cancelled
        for _, contact in self.shelf.entries:
            assert contact in self.world.crm.contacts, "on a contact that is no more"


@pytest.fixture
def build(
    database_url: str, servers: EmbeddedServers, keyring: KeyRing, keys: IndexKeys, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Tale]:
    """Build a world whose CRM shows activities of a kind."""
    monkeypatch.setenv("TEST_SECRET", "whsec_" + "QUJD" * 8)
    worlds: list[World] = []

    def build_tale(kind: str) -> Tale:
        if not worlds:
            data = deepcopy(CONFIG)
            data["connections"]["crm"]["options"]["activity"] = kind
            world = World(database_url, Config.model_validate(data), keyring, keys, servers.broker_url)
            world.install(monkeypatch)
            worlds.append(world)
        world, shelf = worlds[0], Shelf(takes_once=kind == "custom_event")
        tale = Tale(world, shelf)
        made = lambda *_: Store(world, world.current, shelf, tale.deaths)  # noqa: E731
        monkeypatch.setattr(registry, "activities", made)
        world.begin()
        return tale

    return build_tale


@pytest.mark.parametrize("kind", ["custom_event", "note"])
def test_each_fact_is_there_once_whatever_happens(build: Callable[[str], Tale], kind: str) -> None:
    """Random stories of events, deaths, lost and late answers, merges and time; at the end everything heals."""

    @settings(
        max_examples=EXAMPLES or 30,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        print_blob=True,
        phases=[Phase.generate, Phase.shrink] if EXAMPLES else [Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(steps)
    def told(story: list[Step]) -> None:
        tale = build(kind)
        for step in story:
            tale.play(step)
        tale.end()
        tale.judge()

    told()
