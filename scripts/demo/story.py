"""The story, in the order in which it happens: a burst, refusals, everything again, live completions, sales, roles."""

import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import requests

from integration.observability.books import Books
from scripts.demo.careers import Careers, Office
from scripts.demo.cast import WRITES, Cast, faults
from scripts.demo.ledger import Ended, Ledger
from scripts.demo.place import ACADEMY
from scripts.demo.progress import Bars, Screen
from scripts.demo.sales import QUIET_SECONDS, Calls, Desk, Echoes, Sales
from scripts.demo.stage import Stage
from scripts.demo.traces import personal_words, search
from scripts.sandbox.deliveries import Delivery
from scripts.sandbox.hubspot import HubSpotSandbox
from scripts.sandbox.lms import LmsSandbox, SendReport
from scripts.sandbox.webhooks import sign

__all__ = ["Evidence", "Live", "Refusal", "Repeat", "perform"]

LIVE_SECONDS = 5.0
CONNECTIONS = 8
LOOK_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Refusal:
    """One request that must be refused: the answer it must get, and the one it got."""

    name: str
    expected: tuple[int, str]
    got: tuple[int, str]


@dataclass(frozen=True, slots=True)
class Repeat:
    """What happened when known deliveries came again; `calls` are the operations of the CRM that were called."""

    report: SendReport
    new_ids: int
    calls: Sequence[str]


@dataclass(slots=True)
class Live:
    """Single completions one after another: seconds from sending to the CRM's admission; None where none came."""

    deliveries: list[Delivery] = field(default_factory=list)
    seconds: list[float | None] = field(default_factory=list)

    def percentile(self, percent: float) -> float:
        """The seconds within which this per cent came; 0 when none did."""
        came = sorted(one for one in self.seconds if one is not None)
        return came[min(len(came) - 1, int(len(came) * percent / 100))] if came else 0.0


@dataclass(slots=True)
class Evidence:
    """Everything the promises are judged by."""

    cast: Cast
    burst: SendReport
    quiet_after: float | None
    drained_at: float
    refusals: list[Refusal]
    stored_by_refused: int
    repeat: Repeat
    live: Live
    echoes: Echoes
    sales: Sales
    careers: Careers
    webhooks: dict[str, Any]
    said: dict[tuple[str, str], int]
    books: Books
    for_the_night: int
    ended: dict[str, Ended]
    unwritten: dict[tuple[str, str], int]
    burst_stats: dict[str, Any]
    stats: dict[str, Any]
    contacts: list[dict[str, Any]]
    traces: list[str]
    judged_at: datetime

    @property
    def sent(self) -> list[Delivery]:
        """Everything the LMS said, however often."""
        return [*self.cast.story.deliveries, *self.live.deliveries, *self.sales.deliveries, *self.careers.deliveries]


def perform(stage: Stage, cast: Cast, screen: Screen) -> Evidence:
    """Tell the story on a running installation and collect the evidence."""
    ledger = Ledger(stage.assembly.engine)
    lms = LmsSandbox(stage.place.web_url, ACADEMY, stage.place.academy_secret)
    desk = Desk(stage.crm, ledger, lms)
    office = Office(desk, stage.academy, stage.assembly, screen)
    stage.crm.seed(cast.known)
    stage.academy.know(cast.story.learners)
    stage.crm.set_faults(script=faults())
    office.begin(cast)
    screen.say(f"The academy sends {len(cast.story.deliveries):,} signed webhooks, {CONNECTIONS} at a time")
    started = time.monotonic()
    burst, quiet_after = _burst(stage, cast, ledger, lms, screen)
    drained = time.monotonic() - started
    desk.quiet()
    burst_stats = stage.crm.stats()
    stage.crm.set_faults()
    screen.say("Forgeries, resends, and twenty people who complete a course one after another")
    stored = ledger.stored()
    refusals = _refusals(stage, lms, cast.story.deliveries[0])
    stored_by_refused = ledger.stored() - stored
    repeat = _repeat(desk, cast)
    live, echoes = _live(desk, cast)
    screen.say("Sales: two contacts are edited by hand, two others are merged")
    sales = desk.work(cast)
    careers = office.work(cast, live.percentile(95))
    screen.say("Comparing the CRM with the truth, and searching logs and broker for personal data")
    books, night = ledger.books()
    return Evidence(
        cast=cast,
        burst=burst,
        quiet_after=quiet_after,
        drained_at=drained,
        refusals=refusals,
        stored_by_refused=stored_by_refused,
        repeat=repeat,
        live=live,
        echoes=echoes,
        sales=sales,
        careers=careers,
        webhooks=stage.crm.webhooks(),
        said=ledger.said(),
        books=books,
        for_the_night=night,
        ended=ledger.ended(cast.webhook_ids),
        unwritten=ledger.unwritten(),
        burst_stats=burst_stats,
        stats=stage.crm.stats(),
        contacts=stage.crm.contacts(),
        traces=search(stage.place.path, stage.assembly.broker_url, personal_words(cast.story.learners)),
        judged_at=datetime.now(UTC),
    )


def _burst(
    stage: Stage, cast: Cast, ledger: Ledger, lms: LmsSandbox, screen: Screen
) -> tuple[SendReport, float | None]:
    """Send everything at once; return the answers, and after how many more seconds the system was quiet."""
    reports: list[SendReport] = []
    sending = threading.Thread(
        target=lambda: reports.append(lms.send(cast.story.deliveries, concurrency=CONNECTIONS)), daemon=True
    )
    with screen.bars(len(cast.webhook_ids)) as bars:
        sending.start()
        while sending.is_alive():
            _look(bars, ledger, stage.crm)
            sending.join(LOOK_SECONDS)
        started = time.monotonic()
        while (waited := time.monotonic() - started) < QUIET_SECONDS:
            if _look(bars, ledger, stage.crm) == 0:
                return reports[0], waited
            time.sleep(LOOK_SECONDS)
    return reports[0], None


def _look(bars: Bars, ledger: Ledger, crm: HubSpotSandbox) -> int:
    now = ledger.standing()
    calls = int(crm.stats()["total"])
    bars.show(accepted=now.accepted, applied=now.applied, people=now.people, in_step=now.in_step, calls=calls)
    return now.open


def _refusals(stage: Stage, lms: LmsSandbox, genuine: Delivery) -> list[Refusal]:
    """Post what must be kept out: wrong signatures, a stale timestamp, and an address nobody gave out."""
    fresh = replace(genuine, webhook_id=f"{genuine.webhook_id}_forged")
    forger = LmsSandbox(lms.url.rpartition("/webhooks/")[0], ACADEMY, "whsec_" + "A" * 43 + "=")
    crm, now = stage.place.crm_webhooks_url, time.time_ns() // 1_000_000
    erasure = b'[{"subscriptionType":"contact.privacyDeletion","objectId":501,"occurredAt":%d}]' % now
    signed = {
        "x-hubspot-signature-v3": sign("of another app", crm, erasure, now),
        "x-hubspot-request-timestamp": str(now),
    }
    body = fresh.body
    tries = (
        ("wrong signature", (401, "bad_signature"), lms.url, forger.headers(fresh), body),
        ("stale one", (401, "stale_timestamp"), lms.url, lms.headers(fresh, at=time.time() - 3600), body),
        ("unknown address", (404, "unknown_connection"), f"{lms.url}-x", lms.headers(fresh), body),
        ("false CRM", (401, "bad_signature"), crm, {"content-type": "application/json", **signed}, erasure),
    )
    answers = []
    with requests.Session() as session:
        session.trust_env = False
        for name, expected, url, headers, said in tries:
            answer = session.post(url, data=said, headers=headers, timeout=10)
            answers.append(Refusal(name, expected, (answer.status_code, str(answer.json().get("reason")))))
    return answers


def _repeat(desk: Desk, cast: Cast) -> Repeat:
    """Send known deliveries once more, some of them under new ids, and count what that leads to."""
    before = desk.seen()
    again = cast.again
    report = desk.lms.send(again, concurrency=CONNECTIONS)
    desk.quiet()
    new_ids = sum(one.webhook_id.endswith("_again") for one in again)
    return Repeat(report, new_ids, [one["operation"] for one in desk.crm.calls(before)])


def _live(desk: Desk, cast: Cast) -> tuple[Live, Echoes]:
    """One completion after another, each measured until the CRM has admitted the call that writes it.

    The CRM tells us of each of these writes; what that leads to is counted when all is quiet.
    """
    live, dice = Live(), random.Random(1)
    before, told, said = desk.seen(), desk.crm.webhooks()["told"], desk.ledger.said()
    for number, learner in enumerate(cast.live):
        delivery = cast.completion(number, learner)
        seen = desk.seen()
        desk.lms.send([delivery], concurrency=1)
        sent_at = next(one.at for one in reversed(desk.lms.log) if one.webhook_id == delivery.webhook_id)
        admitted = _admission(desk.crm, seen)
        live.deliveries.append(delivery)
        live.seconds.append(None if admitted is None else admitted - sent_at)
        time.sleep(dice.uniform(0.05, 0.15))  # people do not finish a course on each other's heels
    desk.quiet()
    became = {
        end: number - said.get(end, 0) for end, number in desk.ledger.said().items() if number != said.get(end, 0)
    }
    calls = Calls.of(desk.crm.calls(before))
    return live, Echoes(len(live.deliveries), desk.crm.webhooks()["told"] - told, became, calls)


def _admission(crm: HubSpotSandbox, seen: int) -> float | None:
    """When the next write after call number `seen` arrived; returns once it is answered."""
    deadline = time.monotonic() + LIVE_SECONDS
    while time.monotonic() < deadline:
        for call in crm.calls(seen):
            if call["operation"] in WRITES and call["status"]:
                return float(call["at"])
        time.sleep(0.01)
    return None
