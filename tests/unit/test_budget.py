"""The budget without any Redis: the arithmetic of a limit, lanes, what answers teach, and a process that is alone."""

import random
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integration.connectors.crm import hubspot_limits
from integration.delivery import budget as budgets
from integration.delivery import limits as known
from integration.delivery.buckets import ALONE, Buckets, address
from integration.delivery.budget import Budget
from integration.delivery.limits import Limits
from integration.delivery.pace import SHARE, Bucket, Pace, pace_of
from integration.errors import ConfigError, Reason, RetryLater
from integration.ports import ANY_CALL, Rate, Seen
from integration.storage.limits import Learned, Today
from integration.storage.sync_state import BACKFILL, LIVE

USUAL = Rate(100, 10.0)
OFTEN = Rate(10**9, 1.0)
"""A limit that no test reaches."""

rates = st.builds(Rate, st.integers(1, 500), st.floats(0.5, 60))
steps = st.lists(
    st.tuples(
        st.floats(0, 3),  # seconds, as a part of the window, until
        st.integers(1, 40),  # so many calls are asked for at once
        st.sampled_from([LIVE, BACKFILL]),
        st.booleans(),  # the first of them is not made, and is given back later
    ),
    max_size=60,
)


def worst(times: list[float], seconds: float) -> int:
    """Return the most calls that any window of this length saw."""
    most = first = 0
    for last, at in enumerate(times):
        while times[first] < at - seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


class Account:
    """An account that admits `rate.calls` in any window, whoever makes them, and says what remains."""

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self.window: list[float] = []

    def call(self, now: float) -> int | None:
        """Return how many calls remain; None where this one was too many."""
        self.window = [at for at in self.window if at > now - self.rate.seconds]
        if len(self.window) >= self.rate.calls:
            return None
        self.window.append(now)
        return self.rate.calls - len(self.window)


def greedy(
    bucket: Bucket, rate: Rate, lanes: tuple[int, ...], seconds: float, reserve: float = 0.05
) -> dict[int, list[float]]:
    """Let each lane take whatever it gets, asking again when it was told to; return the times of its calls."""
    pace, start = pace_of(rate, reserve), 1000.0
    asks = dict.fromkeys(lanes, start)
    made: dict[int, list[float]] = {lane: [] for lane in lanes}
    while (now := min(asks.values())) < start + seconds:
        lane = min(asks, key=lambda one: asks[one])
        wait = bucket.take(now, pace, lane)
        if wait == 0:
            made[lane].append(now)
        asks[lane] = now + max(wait, 1e-6)
    return made


@given(rates, st.floats(0, 0.9), steps)
def test_no_window_sees_more_than_the_limit(
    rate: Rate, reserve: float, asked: list[tuple[float, int, int, bool]]
) -> None:
    """However calls come, lanes mix and are given back, no window has more than the limit without the reserve."""
    bucket, pace, now = Bucket(), pace_of(rate, reserve), 1000.0
    made: list[float] = []
    unused: list[float] = []
    for part, count, lane, returns in asked:
        now += part * rate.seconds
        for number in range(count):
            if bucket.take(now, pace, lane) > 0:
                continue
            if returns and number == 0:
                unused.append(bucket.arrival)
            else:
                made.append(now)
        if not returns and unused:
            bucket.give_back(now, pace, unused.pop())
            made += [now for _ in range(count) if bucket.take(now, pace, lane) == 0]
    assert worst(made, rate.seconds) <= max(1, int(rate.calls * (1 - reserve)))


def test_a_call_is_given_back_once() -> None:
    """What is given back soon may be taken again; what the bucket has made up for meanwhile is no call on top."""
    bucket, pace = Bucket(), pace_of(USUAL, 0.05)
    assert [bucket.take(1000.0, pace, LIVE) for _ in range(8)] == [0.0] * 8
    assert bucket.take(1000.0, pace, LIVE) > 0
    late = bucket.arrival
    bucket.give_back(1000.0, pace, late)
    assert bucket.take(1000.0, pace, LIVE) == 0
    assert bucket.take(1100.0, pace, LIVE) == 0
    bucket.give_back(1100.0, pace, late)
    assert [bucket.take(1100.0, pace, LIVE) == 0 for _ in range(8)] == [True] * 7 + [False]


@pytest.mark.parametrize("lane", [LIVE, BACKFILL])
def test_a_lane_alone_gets_everything(lane: int) -> None:
    """Either lane by itself makes at least 1/1.3 of the calls that the limit allows, and never more than 95 of 100."""
    made = greedy(Bucket(), USUAL, (lane,), 200)[lane]
    assert worst(made, 10.0) <= 95
    assert len(made) >= 2000 / 1.3 * 1.1


def test_live_goes_first_and_backfill_does_not_starve() -> None:
    """When both want everything, backfill gets its share and live the rest."""
    made = greedy(Bucket(), USUAL, (LIVE, BACKFILL), 200)
    total = len(made[LIVE]) + len(made[BACKFILL])
    assert total >= 0.95 * len(greedy(Bucket(), USUAL, (LIVE,), 200)[LIVE])
    assert SHARE * 0.9 <= len(made[BACKFILL]) / total <= SHARE * 1.1
    both = sorted(made[LIVE] + made[BACKFILL])
    assert worst(both, 10.0) <= 95


def test_a_live_call_does_not_queue_behind_backfill() -> None:
    """While backfill takes all it gets, a live call every two seconds never waits."""
    bucket, pace, now = Bucket(), pace_of(USUAL, 0.05), 1000.0
    for _ in range(200):
        for _ in range(20):
            bucket.take(now, pace, BACKFILL)
            now += 0.1
        assert bucket.take(now, pace, LIVE) == 0


def test_backfill_that_has_gone_leaves_its_share_to_live() -> None:
    """A second after backfill last asked, live has all of the limit again."""
    bucket, pace = Bucket(), pace_of(USUAL, 0.05)
    greedy(bucket, USUAL, (LIVE, BACKFILL), 30)
    start = 1032.0
    made = [
        at / 100 for at in range(int(start * 100), int(start * 100) + 5000) if not bucket.take(at / 100, pace, LIVE)
    ]
    assert len(made) >= 50 * 100 / 10 / 1.3 * 1.1


def test_what_others_call_is_left_to_them() -> None:
    """Where others make half of the calls, the two together stay below the limit and use most of it."""
    account, bucket, pace = Account(USUAL), Bucket(), pace_of(USUAL, 0.05)
    chance, now, due, refused = random.Random(7), 1000.0, 1000.0, [0, 0]
    least, ours, theirs = 100, 0, 0
    for tick in range(30_000):
        now += 0.01
        is_steady = tick > 3_000
        if now >= due:
            due = now + chance.uniform(0.15, 0.25)
            theirs += is_steady
            refused[0] += account.call(now) is None
        if tick > 1_000 and bucket.take(now, pace, LIVE) == 0:  # they were there first
            remaining = account.call(now)
            ours += is_steady
            if remaining is None:
                refused[1] += 1
                bucket.hold(now, pace, USUAL.seconds)
            else:
                bucket.see(now, pace, remaining)
                least = min(least, remaining) if is_steady else least
    assert refused == [0, 0]
    assert least >= pace.kept - 1
    assert 75 <= (ours + theirs) / 27 <= 95


def alone(rate: Rate = OFTEN, **options: object) -> Budget:
    """Return a budget of a process without Redis; `rate` is what it may call by itself."""
    declared = {ANY_CALL: Rate(rate.calls * ALONE, rate.seconds), "search": Rate(5, 1.0)}
    names = ("daily_calls", "timezone", "learned")
    limits = Limits("crm", declared, **{name: options.pop(name) for name in names if name in options})  # type: ignore[arg-type]
    buckets = Buckets(None)
    buckets._opened |= {f"{{crm}}:{name}" for name in declared}  # it has been alone for long
    return Budget("crm", limits, buckets, **options)  # type: ignore[arg-type]


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let nobody really sleep; returns what was slept."""
    slept: list[float] = []
    monkeypatch.setattr("integration.delivery.budget.time.sleep", slept.append)
    return slept


def test_what_was_asked_for_is_spent_without_asking_again() -> None:
    """The call that was granted before the claim is the one the client's gate lets through."""
    budget = alone()
    assert budget.ask(LIVE) == 0.0
    granted = budget._thread.granted[ANY_CALL]
    assert budget.ask(LIVE) == 0.0
    assert budget._thread.granted[ANY_CALL] is granted
    budget.spend()
    assert not budget._thread.granted


def test_a_grant_belongs_to_its_thread() -> None:
    """Nobody spends what another thread asked for."""
    budget = alone()
    assert budget.ask(LIVE) == 0.0
    seen: list[dict[str, object]] = []
    thread = threading.Thread(target=lambda: seen.append(dict(budget._thread.granted)))
    thread.start()
    thread.join()
    assert seen == [{}]


def test_an_old_grant_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that was granted long ago is given back: it would fall into a window that others have filled."""
    budget = alone()
    assert budget.ask(LIVE) == 0.0
    monkeypatch.setattr(budgets, "FRESH_SECONDS", -1.0)
    first = budget._thread.granted[ANY_CALL]
    assert budget.ask(LIVE) == 0.0
    assert budget._thread.granted[ANY_CALL] is not first


def test_a_call_waits_for_its_turn_but_not_for_ever(patient: list[float]) -> None:
    """Where the turn comes too late nothing is sent, nothing is waited for, and the wait is told."""
    budget = alone()
    budget.learn(ANY_CALL, {}, 429, retry_after=60.0)
    with pytest.raises(RetryLater) as raised:
        budget.spend()
    assert raised.value.reason is Reason.BUDGET_SPENT
    assert 55 < (raised.value.after or 0) <= 61
    assert patient == []


def test_the_wait_of_a_call_is_bounded_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often others are quicker, a call waits WAIT_SECONDS in all."""
    budget, now = alone(), [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr("integration.delivery.budget.time.monotonic", lambda: now[0])
    monkeypatch.setattr("integration.delivery.budget.time.sleep", sleep)
    monkeypatch.setattr(budget, "_take", lambda lane, endpoint, reserve: 0.3)
    with pytest.raises(RetryLater):
        budget.spend()
    assert budgets.WAIT_SECONDS - 0.6 <= now[0] <= budgets.WAIT_SECONDS


def test_the_lane_is_that_of_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls are live, or in the lane that was said for them; afterwards they are live again."""
    budget = alone()
    lanes: list[int] = []

    def take(lane: int, endpoint: str, reserve: float) -> float:
        lanes.append(lane)
        return take_really(lane, endpoint, reserve)

    take_really = budget._take
    monkeypatch.setattr(budget, "_take", take)
    budget.spend()
    with budget.lane(BACKFILL):
        budget.spend()
    budget.spend()
    assert lanes == [LIVE, BACKFILL, LIVE]


def test_classes_have_limits_of_their_own() -> None:
    """A class that rests keeps no other from its calls; an unknown class counts as any call."""
    budget = alone()
    budget.learn("search", {}, 429, retry_after=60.0)
    assert budget.ask(LIVE, "search") > 50
    assert budget.ask(LIVE) == 0.0
    budget.give_back()
    budget.learn("unheard-of", {}, 429, retry_after=60.0)
    assert budget.ask(LIVE) > 50


def test_a_429_stops_every_thread() -> None:
    """A refusal that came in spite of us empties the bucket for a whole window."""
    budget = alone(Rate(1000, 30.0))
    budget.learn(ANY_CALL, {}, 429)
    waits: list[float] = []
    threads = [threading.Thread(target=lambda: waits.append(budget.ask(LIVE))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert min(waits) > 25


def test_answers_teach_the_limit() -> None:
    """A limit that an answer states replaces the declared one of its class, and only of that."""
    limits = Limits("crm", {ANY_CALL: USUAL, "search": Rate(5, 1.0)})
    limits.learn(ANY_CALL, Seen(rate=Rate(190, 10.0)))
    assert limits.of(ANY_CALL) == (ANY_CALL, Rate(190, 10.0))
    assert limits.of("search") == ("search", Rate(5, 1.0))
    limits.learn("search", Seen())
    assert limits.of("search")[1] == Rate(5, 1.0)


def test_what_others_learned_is_known_from_the_start() -> None:
    """A process starts with what was kept: limits, and the calls of today, but not those of yesterday."""
    now = datetime.now(UTC)
    learned = Learned({ANY_CALL: Rate(190, 10.0)}, Today(1000, 400, now))
    limits = Limits("crm", {ANY_CALL: USUAL}, learned=learned)
    assert limits.of(ANY_CALL)[1] == Rate(190, 10.0)
    assert (limits.daily, limits.today()[1]) == (1000, 600)
    old = Learned({}, Today(1000, 0, now - timedelta(days=2)))
    assert Limits("crm", {ANY_CALL: USUAL}, learned=old).today()[1] == 0


def test_the_daily_reserve_stops_backfill_and_the_cap_stops_all() -> None:
    """Backfill stops where a tenth of the day is left; live goes on to the last call, and then waits as well."""
    budget = alone(daily_calls=20, timezone="Europe/Berlin")
    made = {BACKFILL: 0, LIVE: 0}
    for lane in (BACKFILL, LIVE):
        for _ in range(40):
            if budget.ask(lane) == 0:
                budget.spend()
                made[lane] += 1
    assert made == {BACKFILL: 18, LIVE: 2}
    assert 0 < budget.ask(LIVE) <= budgets.ASK_AGAIN_SECONDS


def test_what_has_begun_may_use_the_reserve_of_the_day() -> None:
    """A backfill batch that is under way is finished: it would pause live work otherwise."""
    budget = alone(daily_calls=10, daily_reserve=0.5)
    with budget.lane(BACKFILL):
        for _ in range(10):
            budget.spend()
        with pytest.raises(RetryLater):
            budget.spend()


def test_the_day_is_what_the_answers_say() -> None:
    """Calls that others made today count, and a day that began over there counts from nothing here."""
    headers = {"x-hubspot-ratelimit-daily": "1000", "x-hubspot-ratelimit-daily-remaining": "40"}
    budget = alone(read=hubspot_limits.seen)
    budget.learn(ANY_CALL, headers, 200)
    assert budget.ask(BACKFILL) > 0
    assert budget.ask(LIVE) == 0
    budget.give_back()
    budget.learn(ANY_CALL, headers | {"x-hubspot-ratelimit-daily-remaining": "999"}, 200)
    assert budget.ask(BACKFILL) == 0


def test_a_call_given_back_is_not_one_of_the_day() -> None:
    """What was asked for and not used leaves the day as it was."""
    budget = alone(daily_calls=5, daily_reserve=0.0)
    for _ in range(20):
        assert budget.ask(LIVE) == 0
        budget.give_back()


def test_midnight_is_the_account_s() -> None:
    """The day ends at midnight in the account's time zone."""
    limits = Limits("crm", {ANY_CALL: USUAL}, timezone="Pacific/Kiritimati")
    ends = datetime.now(ZoneInfo("Pacific/Kiritimati")) + timedelta(seconds=limits.until_midnight())
    assert ends.hour == 0 or ends.minute == 59
    assert limits.today()[0] == f"{datetime.now(ZoneInfo('Pacific/Kiritimati')):%Y-%m-%d}"


def test_a_process_alone_takes_a_quarter() -> None:
    """Without Redis many threads of a process together stay within a quarter of the limit, and do get calls."""
    rate = Rate(200, 1.0)
    limits = Limits("crm", {ANY_CALL: rate})
    budget = Budget("crm", limits, Buckets(None))
    started: list[float] = []
    ended: list[float] = []

    def hammer() -> None:
        for _ in range(12):
            before = time.monotonic()
            while wait := budget.ask(LIVE):
                time.sleep(wait)
                before = time.monotonic()
            started.append(before)
            ended.append(time.monotonic())
            budget.spend()

    threads = [threading.Thread(target=hammer) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(started) == 96
    # A call was admitted at some moment between its `started` and `ended`: count those that were so for certain.
    begun, done = sorted(started), sorted(ended)
    most = max(sum(begun[0] <= at <= begun[0] + rate.seconds for at in done), 0)
    assert most <= 50


def test_a_process_alone_counts_one_thread_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that ask at the same moment do not take the same call."""
    inside, met = threading.Lock(), threading.Event()

    class Watched(Bucket):
        def take(self, now: float, pace: Pace, lane: int) -> float:
            if not inside.acquire(blocking=False):
                met.set()
                return 1.0
            time.sleep(0.001)
            inside.release()
            return super().take(now, pace, lane)

    monkeypatch.setattr("integration.delivery.buckets.Bucket", Watched)
    budget = alone()

    def ask() -> None:
        for _ in range(20):
            budget.ask(LIVE)
            budget.give_back()

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not met.is_set()


@pytest.mark.parametrize(
    ("broker", "found"),
    [
        ("redis://:p%40ss@host:6379/0", "redis://:p%40ss@host:6379/0"),
        ("rediss://host/1?ssl_cert_reqs=CERT_REQUIRED", "rediss://host/1?ssl_cert_reqs=required"),
        ("redis+socket:///run/redis.sock?virtual_host=2", "unix:///run/redis.sock?db=2"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock"),
        ("amqp://guest@host//", None),
        ("sentinel://host:26379", None),
    ],
)
def test_where_the_budget_is(broker: str, found: str | None) -> None:
    """The broker's Redis is found in whatever form Celery takes; a broker that is none has none."""
    assert address(broker) == found


@pytest.mark.parametrize("url", ["amqp://host", "redis://host:port"])
def test_a_budget_url_that_is_none(url: str) -> None:
    """An address that cannot be used says so when the process starts."""
    with pytest.raises(ConfigError, match="COURSEWIRE_BUDGET_URL"):
        Buckets(url)


@pytest.mark.parametrize(
    ("headers", "seen"),
    [
        ({"max": "190", "interval-milliseconds": "10000", "remaining": "7"}, Seen(Rate(190, 10.0), 7)),
        ({"daily": "250000", "daily-remaining": "0"}, Seen(None, None, 250000, 0)),
        ({}, Seen()),
        ({"max": "0", "interval-milliseconds": "10000", "daily": "0"}, Seen()),
        ({"max": "-5", "interval-milliseconds": "x", "remaining": "1e9", "daily": "9" * 50}, Seen()),
        ({"max": "10", "interval-milliseconds": "999999999"}, Seen()),
    ],
)
def test_hubspot_s_headers(headers: Mapping[str, str], seen: Seen) -> None:
    """HubSpot's headers become numbers; absent or absurd ones say nothing."""
    assert hubspot_limits.seen({f"x-hubspot-ratelimit-{name}": value for name, value in headers.items()}) == seen


def test_only_news_hurries_the_keeping(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is new is written down soon, what is known already at leisure, and no call ever waits for it."""
    limits = Limits("crm", {ANY_CALL: USUAL})
    at_leisure = limits._keep_at
    limits.learn(ANY_CALL, Seen(rate=USUAL, remaining=50))
    assert limits._keep_at == at_leisure
    limits.learn(ANY_CALL, Seen(rate=Rate(190, 10.0)))
    assert limits._keep_at < at_leisure - known.KEEP_SECONDS / 2
