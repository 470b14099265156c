"""Burst: 10,000 completions of 2,000 people whom the CRM knows, as fast as they are accepted, until all are in.

The clock runs from the first POST to the arrival of the call that makes the last contact right; the CRM answers every
call after 40 ms. Then the same with the whole backlog in place before a worker starts: from the worker's being ready.
Celery gets the same events, CRM, broker and machine, with 16 and with 50 threads, and the better of the two counts.
"""

import math
import time
from contextlib import ExitStack

from scripts.bench.arena import PATIENCE, Arena, Running
from scripts.bench.figures import Line, Panel, Row, Sample, Turn, at_least, at_most, percentile
from scripts.bench.process import until
from scripts.bench.scene import Scene, seeds_of, truth_of

__all__ = ["ROW"]

THREADS = (16, 50)
ALL_ROLES = ("web", "worker", "beat")
BATCH = 100


def measure(arena: Arena, turn: Turn) -> Sample:
    """One repetition."""
    events = turn.size.pick(2_000, 10_000)
    scene = Scene(f"burst{turn.number}", events // 5, events, turn.seed, time.time())
    warm = Scene(f"warm{turn.number}", 50, 50, turn.seed, time.time())
    found: dict[str, float] = _live(arena, turn, scene, warm) | _backlog(arena, turn, scene, warm)
    for threads in THREADS:
        found |= _celery(arena, turn, scene, warm, threads)
    found["baseline"] = max(found[f"baseline_{threads}"] for threads in THREADS)
    found["noop"] = arena.tasks_that_do_nothing(turn.size.pick(2_000, 10_000))
    turn.say(f"burst: {found['noop']:,.0f} tasks a second by Celery where they do nothing")
    found["ratio"] = found["ours"] / found["baseline"]
    return found


def _live(arena: Arena, turn: Turn, scene: Scene, warm: Scene) -> dict[str, float]:
    with arena.ours(*ALL_ROLES) as running:
        _begin(arena, running, scene, warm)
        before = arena.cpu(running)
        fired = arena.fire(running, scene)
        ended = arena.all_in()
        after = arena.cpu(running)
        state = arena.crm.state()
        memory = running.processes["worker"].rss()
    turn.say(f"burst: {scene.events / (ended - fired.began()):,.0f} events a second into the CRM")
    found = {
        "ours": scene.events / (ended - fired.began()),
        "accepted": fired.rate(),
        "accept_p99": percentile(fired.milliseconds(), 99),
        "writes": state.writes,
        "writes_per_batch": state.writes / math.ceil(scene.people / BATCH),
        "reads": state.reads,
        "worker_rss": memory / 1e6,
        "cpu_load": 1e6 * fired.cpu / scene.events,
    }
    return found | {f"cpu_{name}": 1e6 * (used - before[name]) / scene.events for name, used in after.items()}


def _backlog(arena: Arena, turn: Turn, scene: Scene, warm: Scene) -> dict[str, float]:
    with ExitStack() as stack:
        running = stack.enter_context(arena.ours("web"))
        arena.crm.begin(truth_of(scene), seeds=seeds_of([scene, warm]))
        arena.fire(running, scene)
        stack.enter_context(arena.beside(running, "worker", "beat"))
        began = time.monotonic()
        ended = arena.all_in()
        state = arena.crm.state()
    turn.say(f"burst: {scene.events / (ended - began):,.0f} events a second from a backlog")
    return {
        "backlog": scene.events / (ended - began),
        "backlog_writes": state.writes,
        "backlog_writes_per_batch": state.writes / math.ceil(scene.people / BATCH),
        "backlog_reads": state.reads,
    }


def _celery(arena: Arena, turn: Turn, scene: Scene, warm: Scene, threads: int) -> dict[str, float]:
    with arena.celery("web", "worker", threads=threads) as running:
        _begin(arena, running, scene, warm)
        before = arena.cpu(running)
        fired = arena.fire(running, scene)
        until(arena.celery_rests, PATIENCE, "Celery at rest")
        after = arena.cpu(running)
        state = arena.crm.state()
    rate = scene.events / ((state.last_call_at or 0.0) - fired.began())
    turn.say(f"burst: {rate:,.0f} events a second by Celery with {threads} threads, {state.wrong} contacts wrong")
    return {
        f"baseline_{threads}": rate,
        f"baseline_{threads}_wrong": state.wrong,
        "baseline_calls": state.writes,
        "baseline_cpu": 1e6 * (after["worker"] - before["worker"] + after["web"] - before["web"]) / scene.events,
    }


def _begin(arena: Arena, running: Running, scene: Scene, warm: Scene) -> None:
    arena.warm(running, warm, scene)
    arena.crm.expect(truth_of(scene))


ROW = Row(
    key="burst",
    title="Burst: completions of 2,000 people, 5 each, CRM 40 ms: first POST -> last contact right",
    lines=(
        Line("ours", "Coursewire", "events/s", "ours"),
        Line("baseline_16", "Celery, 16 threads", "events/s", "baseline"),
        Line("baseline_50", "Celery, 50 threads", "events/s", "baseline"),
        Line("baseline_16_wrong", "Celery, 16 threads: contacts wrong in the end", "people", "baseline"),
        Line("baseline_50_wrong", "Celery, 50 threads: contacts wrong in the end", "people", "baseline"),
        Line("noop", "limit: Celery tasks that do nothing, 16 threads", "tasks/s", "limit"),
        Line("ratio", "Coursewire / the better Celery", "x", "ratio", at_least(5)),
        Line("backlog", "Coursewire, backlog in place before the worker", "events/s", "ours"),
        Line("accepted", "accepted meanwhile", "/s"),
        Line("accept_p99", "p99 of the 202 meanwhile, saturated", "ms"),
        Line("writes", "contact writes (100 people each at best)", "calls"),
        Line("writes_per_batch", "contact writes / ceil(people / 100)", "x", "ratio", at_most(3)),
        Line("reads", "contact reads", "calls"),
        Line("backlog_writes_per_batch", "from a backlog: writes / ceil(people / 100)", "x", "ratio", at_most(1.2)),
        Line("backlog_reads", "from a backlog: reads", "calls"),
        Line("baseline_calls", "Celery: calls", "calls", "baseline"),
        Line("cpu_web", "CPU of web per event", "us"),
        Line("cpu_worker", "CPU of the worker per event", "us"),
        Line("cpu_postgres", "CPU of Postgres per event", "us"),
        Line("cpu_valkey", "CPU of Valkey per event", "us"),
        Line("cpu_crm", "CPU of the CRM per event", "us"),
        Line("cpu_load", "CPU of the load generator per event", "us"),
        Line("baseline_cpu", "Celery: CPU of web and worker per event", "us", "baseline"),
        Line("worker_rss", "memory of the worker afterwards", "MB"),
    ),
    measure=measure,
    minutes=(1.2, 2.5),
    panels=(
        Panel(
            "Burst: events in the CRM, which answers after 40 ms",
            "events per second",
            ("noop", "ours", "backlog", "baseline_16", "baseline_50"),
        ),
    ),
)
