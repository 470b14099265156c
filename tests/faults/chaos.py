"""The bounded soak behind `make chaos`: an installation, a CRM, a sender that never gives up, and a hundred kills.

    python -m tests.faults.chaos --events 50000 --kills 100 --minutes 10 --seed 7 --json report.json

Everything is drawn from the seed. When the time is up everything is healed, the work comes to rest by itself, and the
whole history is judged (`tests.faults.history`). The exit code is 1 when a promise was broken.
"""

import argparse
import faulthandler
import json
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from scripts.sandbox.deliveries import Delivery
from scripts.sandbox.hubspot import HubSpotSandbox
from scripts.sandbox.lms import SendReport
from scripts.sandbox.story import Story, tell
from tests.faults.history import History, Leaks, Violation, check
from tests.faults.installation import ACADEMY, CRM, TIMEZONE, Installation, settled
from tests.faults.mischief import KILLS, Mischief
from tests.faults.proxy import ChaosProxy
from tests.faults.watch import Watch
from tests.processes import until

SENDERS, SLICE = 4, 50
"""Who sends, and how many deliveries each sends together."""
TROUBLES_PER_KILL = 0.6
REST_SECONDS = 1_800.0
"""How long the work may take to come to rest once everything is healed: back-off of a connection included."""

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be done: so many events and kills within so many minutes. `rate` is calls in ten seconds.

    `each` kills everything once before it throws dice; `hasten` lets the leases of the dead end early.
    """

    events: int
    kills: int
    minutes: float
    seed: int
    rate: int = 190
    each: bool = False
    hasten: bool = False


@dataclass(kw_only=True)
class Outcome:
    """What happened, and what the judge says to it."""

    plan: Plan
    kills: dict[str, int] = field(default_factory=dict)
    troubles: dict[str, int] = field(default_factory=dict)
    answers: dict[str, int] = field(default_factory=dict)
    accepted: int = 0
    learners: int = 0
    calls: int = 0
    busiest: int = 0
    refused_by_limit: int = 0
    searched_bytes: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    violations: list[Violation] = field(default_factory=list)

    @property
    def broken(self) -> dict[str, int]:
        """How often each promise was broken."""
        return dict(sorted(Counter(one.invariant for one in self.violations).items()))

    def lines(self) -> list[str]:
        """The report for people."""
        kills, sent, troubles = (sum(one.values()) for one in (self.kills, self.answers, self.troubles))
        lost, doubled = self.broken.get("I1", 0), self.broken.get("I5", 0)
        aside = sum("by accident" in one.seen for one in self.violations)
        rest = {name: count for name, count in self.broken.items() if name not in ("I1", "I5")}
        lines = [
            f"seed {self.plan.seed}: {self.accepted:,} events of {self.learners:,} learners accepted",
            f"{sent:,} deliveries sent: {_counted(self.answers)}",
            f"{kills} kills -9: {_counted(self.kills)}",
            f"{troubles} other faults: {_counted(self.troubles)}",
            f"lost {lost}, doubled {doubled}, put aside by accident {aside}; other promises broken: {_counted(rest)}",
            f"calls to the CRM {self.calls:,}, refused with 429 because of us {self.refused_by_limit}",
            f"in ten seconds at most {self.busiest} calls, allowed {self.plan.rate}",
            f"searched for what is personal or secret: {self.searched_bytes / 1e6:.0f} MB",
            "took " + ", ".join(f"{seconds:.0f} s {name}" for name, seconds in self.seconds.items()),
        ]
        if not lost + doubled:
            of_events, of_kills = 3 / max(1, self.accepted), 3 / max(1, kills)
            bound = f"3/N at 95 %: under {of_events:.4%} of events are lost, under {of_kills:.1%} of kills lose any"
            lines.append(bound)
        lines += [f"VIOLATION {one}" for one in self.violations[:50]]
        return [*lines, f"{'FAILED' if self.violations else 'passed'}: {len(self.violations)} violations"]

    def document(self) -> dict[str, object]:
        """The report for programs."""
        return {**asdict(self), "broken": self.broken}


class Senders:
    """Several LMS processes in one: they share a story, spread it over so many seconds, and never give up."""

    def __init__(self, home: Installation, deliveries: Sequence[Delivery], seconds: float) -> None:
        self.reports: list[SendReport] = []
        self._home, self._deliveries, self._seconds = home, deliveries, seconds
        self._threads = [threading.Thread(target=self._send, args=(n,), daemon=True) for n in range(SENDERS)]

    def start(self) -> None:
        """Begin to send."""
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        """Wait until everything is accepted."""
        for thread in self._threads:
            thread.join()

    @property
    def accepted(self) -> int:
        """Deliveries answered 2xx so far."""
        return sum(len(report.accepted) for report in self.reports)

    @property
    def progress(self) -> float:
        """The part of the story that is accepted."""
        return self.accepted / len(self._deliveries)

    @property
    def answers(self) -> dict[str, int]:
        """How often each status, or each error, came back."""
        counts: Counter[str] = Counter()
        for report in self.reports:
            counts.update(report.statuses)
        return dict(counts)

    def _send(self, number: int) -> None:
        lms, begun = self._home.lms(first_wait=0.2, longest_wait=1.0), time.monotonic()
        mine = self._deliveries[number::SENDERS]
        for start in range(0, len(mine), SLICE):
            due = begun + self._seconds * start / len(mine)
            time.sleep(max(0.0, due - time.monotonic()))
            self.reports.append(lms.send(mine[start : start + SLICE], concurrency=4))


def run(plan: Plan, place: Path, say: Say) -> Outcome:
    """Do what is planned in an empty folder and judge it."""
    outcome = Outcome(plan=plan)
    story = _story(plan)
    outcome.learners = len(story.learners)
    with HubSpotSandbox(rate=plan.rate) as crm, ChaosProxy(int(crm.url.rpartition(":")[2])) as to_crm:
        crm.seed(story.contacts[::2])  # the other half is new to the CRM
        home = Installation(place, f"http://127.0.0.1:{to_crm.port}", worker_concurrency=8)
        try:
            home.start()
            _let_it_happen(outcome, story, home, crm, to_crm, say)
            _judge(outcome, story, home, crm)
        finally:
            home.stop()
    return outcome


def _story(plan: Plan) -> Story:
    """Return a story of as many events as are wanted at least, resent ones not counted."""
    learners = max(3, plan.events // 10)
    while True:
        story = tell(plan.seed, learners=learners)
        if len({one.webhook_id for one in story.deliveries}) >= plan.events:
            return story
        learners += max(1, learners // 20)


def _let_it_happen(
    outcome: Outcome, story: Story, home: Installation, crm: HubSpotSandbox, to_crm: ChaosProxy, say: Say
) -> None:
    plan, begun = outcome.plan, time.monotonic()
    leaks = Leaks(story.learners, home.secrets)
    dice = random.Random(plan.seed)
    mischief = Mischief(home, crm, to_crm, dice)
    senders = Senders(home, story.deliveries, plan.minutes * 60)
    with Watch(home, leaks) as watch:
        senders.start()
        _torment(plan, mischief, senders, dice, say)
        mischief.heal()
        outcome.seconds["of faults"] = time.monotonic() - begun
        say("everything is healed; waiting until all is sent and nothing is on its way")
        senders.join()
        until(home.ready, 120, 0.1)
        engine = home.engine()
        try:
            settled(engine, REST_SECONDS, hasten=plan.hasten)
            with engine.connect() as db:
                until(lambda: not db.exec_driver_sql("SELECT count(*) FROM audit WHERE row_hash IS NULL").scalar(), 60)
        finally:
            engine.dispose()
        outcome.seconds["in all"] = time.monotonic() - begun
    for log in (home.log, *home.log.parent.glob("data/*.log*")):
        with log.open("rb") as lines:
            for line in lines:
                leaks.search(log.name, line)
    for name, looks in watch.looks.items():
        if not looks:
            leaks.found.append(Violation("I9", f"{name} could never be looked at"))
    outcome.violations += leaks.found
    outcome.searched_bytes = leaks.searched
    outcome.kills, outcome.troubles = dict(mischief.kills), dict(mischief.troubles)
    outcome.answers = senders.answers
    outcome.accepted = len({one.webhook_id for report in senders.reports for one in report.accepted})


def _torment(plan: Plan, mischief: Mischief, senders: Senders, dice: random.Random, say: Say) -> None:
    """Kill until it was often enough, in step with the clock and with the story; the pauses in between are drawn."""
    begun = told = time.monotonic()
    named = dice.sample(list(KILLS), len(KILLS)) if plan.each else []
    due = 0.0
    while (killed := sum(mischief.kills.values())) < plan.kills:
        mischief.tick()
        now = time.monotonic()
        if now >= told:
            troubles, accepted = sum(mischief.troubles.values()), senders.accepted
            say(f"{killed}/{plan.kills} kills, {troubles} other faults, {accepted:,} deliveries accepted")
            told = now + 10
        if due <= min((now - begun) / (plan.minutes * 60), senders.progress):
            due = (killed + dice.uniform(0.5, 1.5)) / plan.kills
            if dice.random() < TROUBLES_PER_KILL:
                mischief.trouble()
            missing = [name for name in named if not mischief.kills[name]]
            mischief.kill(missing[0] if missing else None)
        time.sleep(0.02)


def _judge(outcome: Outcome, story: Story, home: Installation, crm: HubSpotSandbox) -> None:
    begun = time.monotonic()
    for status in outcome.answers.keys() - {"202", "503"}:
        if status.isdigit():
            seen = f"the endpoint answered {status} {outcome.answers[status]} times"
            outcome.violations.append(Violation("answers", seen))
    calls = crm.calls()
    outcome.calls = len(calls)
    outcome.busiest = crm.stats()["max_calls_in_10s"]
    outcome.refused_by_limit = sum(1 for call in calls if call["status"] == 429 and not call["injected"])
    engine = home.engine()
    try:
        with engine.connect() as db:
            outcome.violations += check(
                History(
                    accepted=story.deliveries,
                    db=db,
                    ring=home.keyring,
                    contacts=crm.contacts(),
                    calls=calls,
                    rate=outcome.plan.rate,
                    may_die=frozenset({story.odd["poison"].webhook_id}),
                    may_park=frozenset({"invalid_email", "email_taken"}),
                    connection=ACADEMY,
                    crm=CRM,
                    timezone=TIMEZONE,
                )
            )
    finally:
        engine.dispose()
    outcome.seconds["of judging"] = time.monotonic() - begun


def main(arguments: list[str] | None = None) -> int:
    """Run one soak as the command line asks; return 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.chaos", description=__doc__.partition("\n")[0])
    parser.add_argument("--events", type=int, default=50_000, help="events at least")
    parser.add_argument("--kills", type=int, default=100, help="kills -9 in all")
    parser.add_argument("--minutes", type=float, default=10, help="over which they are spread")
    parser.add_argument("--seed", type=int, default=None, help="of everything that is drawn (default: drawn itself)")
    parser.add_argument("--rate", type=int, default=190, help="calls that the CRM allows in ten seconds")
    parser.add_argument("--json", type=Path, default=None, help="write the report there, too")
    asked = parser.parse_args(arguments)
    faulthandler.enable()
    seed = asked.seed if asked.seed is not None else random.SystemRandom().randrange(10**6)
    plan = Plan(events=asked.events, kills=asked.kills, minutes=asked.minutes, seed=seed, rate=asked.rate)
    place = Path(tempfile.mkdtemp(prefix="coursewire-chaos-"))
    place.chmod(0o711)
    begun = time.monotonic()

    def say(text: str) -> None:
        sys.stdout.write(f"{time.monotonic() - begun:6.0f} s  {text}\n")
        sys.stdout.flush()

    say(f"seed {seed}, {plan.events:,} events, {plan.kills} kills, {plan.minutes:g} minutes; folder {place}")
    try:
        outcome = run(plan, place, say)
    except BaseException:
        sys.stderr.write(f"The run broke off; seed {seed}. What is left of it is in {place}.\n")
        raise
    sys.stdout.write("\n".join(outcome.lines()) + "\n")
    if asked.json:
        asked.json.write_text(json.dumps(outcome.document(), indent=2, default=str), "utf-8")
    if outcome.violations:
        sys.stderr.write(f"The logs are in {place}.\n")
    else:
        shutil.rmtree(place)
    return int(bool(outcome.violations))


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items(), key=lambda item: -item[1])) or "none"


if __name__ == "__main__":
    sys.exit(main())
