"""The budget over a real Valkey and Postgres: many processes, a server that is flushed, frozen or gone, and memory."""

import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
import redis
import structlog
from pydantic import SecretStr
from sqlalchemy import Engine

from integration.connectors.crm import hubspot_limits
from integration.delivery import buckets, budget
from integration.delivery import limits as known
from integration.delivery.buckets import PREFIX, SCRIPT, Buckets
from integration.delivery.budget import Budget
from integration.delivery.limits import Limits
from integration.delivery.pace import Bucket, pace_of
from integration.errors import RetryLater
from integration.ports import ANY_CALL, Rate
from integration.settings import Settings
from integration.storage import connections, limits
from integration.storage.limits import Learned
from integration.storage.sync_state import BACKFILL, LIVE
from scripts.sandbox.hubspot import HubSpotSandbox
from tasks.assembly import Assembly
from tasks.embedded.servers import EmbeddedServers
from tests.processes import ROOT, frozen, until, write_connections

HEADERS = {"x-hubspot-ratelimit-max": "190", "x-hubspot-ratelimit-interval-milliseconds": "10000"}
DAILY = {"x-hubspot-ratelimit-daily": "1000", "x-hubspot-ratelimit-daily-remaining": "600"}

SLOW = Rate(100, 1000.0)
"""A limit of which nothing comes back while a test runs."""

HAMMER = """
import sys, threading, time
from integration.delivery.budget import Budget
from integration.delivery.buckets import Buckets
from integration.delivery.limits import Limits
from integration.ports import ANY_CALL, Rate
budget = Budget("crm", Limits("crm", {ANY_CALL: Rate(60, 1.0)}), Buckets(sys.argv[1]))
ends = time.monotonic() + float(sys.argv[2])
made = []
def hammer(lane):
    while (before := time.monotonic()) < ends:
        wait = budget.ask(lane)
        if wait == 0:
            made.append((before, time.monotonic()))
            budget._thread.granted.clear()
        else:
            time.sleep(wait)
threads = [threading.Thread(target=hammer, args=[number % 2]) for number in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert budget._buckets.is_shared
for times in made: print(*times)
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServers]:
    """A Valkey of this file's own, which its tests freeze, flush and kill."""
    with EmbeddedServers(tmp_path_factory.mktemp("valkey"), database=False, durable=False) as running:
        yield running


@pytest.fixture
def url(own: EmbeddedServers) -> str:
    """Its address; it is empty and runs."""
    assert own.valkey is not None
    own.valkey.start()
    with closing(redis.Redis.from_url(own.broker_url)) as client:
        client.flushall()
    return own.broker_url


def made(url: str, rate: Rate = Rate(100, 10.0), name: str = "crm", **options: object) -> Budget:  # noqa: B008 - immutable
    """Return the budget of one process."""
    names = ("daily_calls", "learned", "engine")
    of_this = {name: options.pop(name) for name in names if name in options}
    declared = {ANY_CALL: rate, "search": Rate(5, 1.0)}
    return Budget(
        name,
        Limits(name, declared, **of_this),  # type: ignore[arg-type]
        Buckets(url),
        read=hubspot_limits.seen,
        **options,  # type: ignore[arg-type]
    )


def drain(one: Budget, lane: int = LIVE) -> int:
    """Take what may go at once; return how many calls that was."""
    taken = 0
    while one.ask(lane) == 0:
        one._thread.granted.clear()
        taken += 1
    return taken


def test_the_script_does_what_the_arithmetic_says(url: str) -> None:
    """The bucket in Redis and the one in Python answer alike, whatever is asked of them."""
    clock = "redis.call('TIME')"
    assert clock in SCRIPT
    chance = random.Random(20261121)
    with closing(redis.Redis.from_url(url, decode_responses=True)) as client:
        script = client.register_script(SCRIPT.replace(clock, "{ARGV[#ARGV], 0}"))
        for number in range(30):
            rate = Rate(chance.choice([1, 2, 5, 40, 100, 190]), chance.choice([0.5, 1.0, 10.0]))
            bucket, pace, now = Bucket(), pace_of(rate, chance.choice([0.0, 0.05, 0.5])), 1_700_000_000.0
            keys, granted = [f"bucket:{number}", f"day:{number}"], []
            for _ in range(150):
                # Never twice at the same moment: Redis keeps microseconds, and a wait of none may come out as one.
                now += chance.choice([1e-5, 0.001, 0.02, 0.3, 2.0]) * chance.uniform(0.9, 1.1) * rate.seconds
                word = chance.choices(["take", "back", "see", "hold"], [20, 2, 2, 1])[0]
                if word == "take":
                    lane = chance.choice([LIVE, BACKFILL])
                    wait = bucket.take(now, pace, lane)
                    found = script(keys=keys, args=["take", *pace, lane, 0, "", 0, now])
                    assert float(found[0]) == pytest.approx(wait, abs=1e-4)
                    if wait == 0:
                        assert float(found[1]) == pytest.approx(bucket.arrival, abs=1e-4)
                        granted.append(bucket.arrival)
                elif word == "back" and granted:
                    arrival = granted.pop()
                    bucket.give_back(now, pace, arrival - 0.01)
                    script(keys=keys, args=["back", *pace, arrival - 0.01, now])
                elif word == "see":
                    remaining = chance.randint(0, rate.calls)
                    bucket.see(now, pace, remaining)
                    script(keys=keys, args=["hold", *pace, "", remaining, "", now])
                elif word == "hold":
                    bucket.hold(now, pace, 0.5)
                    script(keys=keys, args=["hold", *pace, 0.5, "", "", now])


def test_many_processes_stay_below_the_limit(url: str) -> None:
    """Four processes of four threads that take all they get never have more than the limit in any window."""
    processes = [
        subprocess.Popen([sys.executable, "-c", HAMMER, url, "4"], stdout=subprocess.PIPE, text=True, cwd=ROOT)
        for _ in range(4)
    ]
    said = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4
    times = [tuple(map(float, line.split())) for text in said for line in text.splitlines()]
    assert len(times) > 60
    # Admitted at some moment between the question and its answer: count those that were in a window for certain.
    begun, done = sorted(first for first, _ in times), sorted(last for _, last in times)
    most = max(
        sum(start <= first and last <= start + 1.0 for first, last in times) for start in begun if start <= done[-1]
    )
    assert most <= 57


def test_a_flushed_server_forgets_nothing(url: str) -> None:
    """After FLUSHALL a process does not get its burst again: it remembers, and says so."""
    one = made(url, SLOW)
    assert drain(one) == 8
    with closing(redis.Redis.from_url(url)) as client:
        client.flushall()
    assert one.ask(LIVE) > 0
    # A process that has seen nothing of it gets one burst, no more.
    assert drain(made(url, SLOW)) <= 8


def test_a_refusal_stops_the_other_processes(url: str) -> None:
    """After a 429 in one process another one waits as well, for this class and this connection alone."""
    one, other = made(url), made(url)
    one.learn(ANY_CALL, {}, 429)
    assert other.ask(LIVE) > 9
    assert other.ask(LIVE, "search") == 0
    assert made(url, name="other").ask(LIVE) == 0


def test_what_remains_slows_everybody_down(url: str) -> None:
    """Where others use the account, what is left of the window beyond the reserve is all that we take."""
    one, other = made(url, SLOW), made(url, SLOW)
    one.learn(ANY_CALL, {"x-hubspot-ratelimit-remaining": "8"}, 200)
    assert drain(other) <= 8 - 5
    one.learn(ANY_CALL, {"x-hubspot-ratelimit-remaining": "4"}, 200)
    assert other.ask(LIVE) > 1.0


def test_all_processes_count_the_same_day(url: str) -> None:
    """The daily cap is one for all processes; what is given back is not counted; an answer sets the count."""
    one, other = (made(url, Rate(1000, 1.0), daily_calls=10) for _ in range(2))
    for each in (one, other):
        for _ in range(3):
            assert each.ask(LIVE) == 0
            each.give_back()
    assert drain(one) == 10
    assert other.ask(LIVE) > 5
    assert other._limits.today()[1] == 10
    assert one.ask(LIVE) > 5
    one.learn(ANY_CALL, DAILY | {"x-hubspot-ratelimit-daily-remaining": "0"}, 200)
    third = made(url, daily_calls=1000)
    assert third.ask(LIVE) > 5
    assert third._limits.today()[1] == 1000


def test_a_frozen_server_costs_one_thread_a_moment(
    url: str, own: EmbeddedServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis hangs: after one unanswered question nobody asks for a while, each counts by itself, and goes back."""
    assert own.valkey is not None
    monkeypatch.setattr(buckets, "_AWAY_SECONDS", 3600.0)
    one = made(url)
    assert one.ask(LIVE) == 0
    one.give_back()
    asked: list[float] = []
    script = one._buckets._script
    assert script is not None

    def ask(**given: object) -> object:
        asked.append(time.monotonic())
        return script(**given)  # type: ignore[arg-type]

    monkeypatch.setattr(one._buckets, "_script", ask)
    with structlog.testing.capture_logs() as logs, frozen(own.valkey.pid):
        until(lambda: one.ask(LIVE) == 0)
        for _ in range(50):
            one.ask(LIVE)
            one.give_back()
        assert not one._buckets.is_shared
        assert len(asked) == 1
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [("budget.alone", "warning")]
    one._thread.granted.clear()
    one._buckets._ask_again_at = 0.0
    with structlog.testing.capture_logs() as logs:
        until(lambda: one.ask(LIVE) == 0 and one._buckets.is_shared)
    assert [entry["event"] for entry in logs] == ["budget.shared"]


def test_without_a_server_there_is_a_conservative_limit(
    url: str, own: EmbeddedServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis is gone: a process begins with nothing, then gets its quarter; back again, all count together."""
    assert own.valkey is not None
    monkeypatch.setattr(buckets, "_AWAY_SECONDS", 0.05)
    one = made(url, Rate(40, 1.0))
    assert one.ask(LIVE) == 0
    one.give_back()
    own.valkey.stop()
    assert one.ask(LIVE) > 0
    bucket = one._buckets._own["{crm}:any"]
    now, pace = time.monotonic(), pace_of(Rate(10, 1.0), 0.05)
    assert bucket.arrival >= now + (pace.burst - 1) * pace.interval()
    until(lambda: one.ask(LIVE) == 0)
    assert not one._buckets.is_shared
    one._thread.granted.clear()
    own.valkey.start()
    until(lambda: one.ask(LIVE) == 0 and one._buckets.is_shared)


def test_a_restarted_server_is_used_at_once(url: str, own: EmbeddedServers) -> None:
    """Connections that a restart has closed are no reason to count alone."""
    assert own.valkey is not None
    one = made(url)
    assert one.ask(LIVE) == 0
    one.give_back()
    own.valkey.stop()
    own.valkey.start()
    with structlog.testing.capture_logs() as logs:
        assert one.ask(LIVE) == 0
    assert logs == []


def test_what_answers_taught_outlives_the_process(engine: Engine, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits and the calls of the day are in Postgres, from where the next process, and others, take them."""
    monkeypatch.setattr(known, "SOONEST_SECONDS", 0.0)
    with engine.begin() as db:
        connections.register(db, {"crm": "hubspot"})
    one, running = made(url, engine=engine), made(url, engine=engine)
    one.learn(ANY_CALL, HEADERS | DAILY, 200)

    def kept() -> Learned:
        with engine.begin() as db:
            return limits.learned(db, ["crm"])["crm"]

    until(lambda: kept().rates)
    found = kept()
    assert found.rates == {ANY_CALL: Rate(190, 10.0)}
    assert found.today is not None
    assert (found.today.limit, found.today.remaining) == (1000, 600)
    with closing(redis.Redis.from_url(url)) as client:
        client.flushall()
    fresh = made(url, learned=found)
    assert fresh._limits.of(ANY_CALL)[1] == Rate(190, 10.0)
    assert fresh._limits.today()[1] == 400
    assert fresh.ask(LIVE) == 0
    assert fresh._limits.today()[1] == 401
    running._limits._keep_at = 0.0
    running.ask(LIVE)
    until(lambda: running._limits.of(ANY_CALL)[1] == Rate(190, 10.0))


def test_calls_do_not_write_each_time(engine: Engine, url: str) -> None:
    """A thousand answers that say nothing new cost Postgres nothing."""
    with engine.begin() as db:
        connections.register(db, {"crm": "hubspot"})
    one = made(url, engine=engine)
    plenty = {"x-hubspot-ratelimit-max": "1000000", "x-hubspot-ratelimit-interval-milliseconds": "1000"}
    one.learn(ANY_CALL, plenty, 200)
    until(lambda: not one._limits._is_busy)
    begun: list[object] = []
    keep = Limits._keep
    one._limits._keep = lambda engine: begun.append(keep(one._limits, engine))  # type: ignore[method-assign]
    for _ in range(500):
        one.ask(LIVE)
        one.spend()
        one.learn(ANY_CALL, plenty, 200)
    assert begun == []


def test_an_absent_database_holds_no_call_up(engine: Engine, url: str) -> None:
    """What could not be written is kept for the next time, and nobody is told but the log."""
    one = made(url, engine=engine)
    with engine.begin() as db:
        db.exec_driver_sql("ALTER TABLE connections RENAME TO elsewhere")
    with structlog.testing.capture_logs() as logs:
        one.learn(ANY_CALL, HEADERS, 200)
        until(lambda: not one._limits._is_busy)
    assert [entry["event"] for entry in logs] == ["limits.not_kept"]
    assert one._limits._new_rates == {ANY_CALL: Rate(190, 10.0)}
    assert one.ask(LIVE) == 0


def test_the_newest_word_on_the_day_stays(engine: Engine) -> None:
    """A process that was slow to write does not bring back what the day looked like before."""
    with engine.begin() as db:
        connections.register(db, {"crm": "hubspot"})
        early, late = (datetime(2026, 11, 21, hour, tzinfo=UTC) for hour in (9, 10))
        limits.learn(db, "crm", Learned({}, limits.Today(1000, 500, late)))
        limits.learn(db, "crm", Learned({"search": Rate(4, 1.0)}, limits.Today(1000, 900, early)))
        limits.learn(db, "crm", Learned())
        found = limits.learned(db, ["crm", "unknown"])
    assert found == {"crm": Learned({"search": Rate(4, 1.0)}, limits.Today(1000, 500, late))}


def test_no_call_is_refused_for_being_too_much(
    database_url: str, url: str, tmp_path: Path, master_keys: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process as it is put together, against a CRM with a low limit: calls wait or are given up, none gets a 429."""
    monkeypatch.setenv("HUBSPOT_TOKEN", "t0ken")
    monkeypatch.setenv("ACADEMY_SECRET", "whsec_" + "QUJD" * 8)
    monkeypatch.setenv("ACADEMY_OLD_SECRET", "whsec_" + "QUJD" * 8)
    with HubSpotSandbox(token="t0ken", rate=30) as crm:
        settings = Settings(
            config=write_connections(tmp_path, crm.url),
            database_url=SecretStr(database_url),
            broker_url=SecretStr(url),
            master_keys=SecretStr(master_keys),
        )
        process = Assembly(settings)
        with process.engine.begin() as db:
            connections.register(db, {"crm": "hubspot"})
        store = process.flushers["crm", "contact.upsert"].store
        store.read(None, ["1"], [])  # teaches the limit: 30, not the declared 100
        assert process.budgets["crm"]._limits.of(ANY_CALL)[1] == Rate(30, 10.0)
        monkeypatch.setattr(budget, "WAIT_SECONDS", 0.5)
        outcomes: list[str] = []
        lock = threading.Lock()

        def call(_: int) -> None:
            try:
                store.read(None, ["1", "2"], [])
            except RetryLater as error:
                with lock:
                    outcomes.append(error.reason.value)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(call, range(80)))
        assert set(outcomes) == {"budget_spent"}
        assert crm.stats()["limited"] == 0
        assert 10 < crm.stats()["total"] <= 30
        process.engine.dispose()


def test_keys_are_the_budget_s_own(url: str) -> None:
    """Everything it keeps in Redis has its prefix, and ends by itself."""
    one = made(url, daily_calls=10)
    one.ask(LIVE)
    one.learn(ANY_CALL, HEADERS | DAILY, 429)
    with closing(redis.Redis.from_url(url, decode_responses=True)) as client:
        keys = sorted(map(str, client.scan_iter()))
        assert all(key.startswith(PREFIX) for key in keys)
        assert len(keys) == 2
        assert all(0 < client.ttl(key) <= 172_800 for key in keys)
    assert json.dumps(keys).count("{crm}") == 2
