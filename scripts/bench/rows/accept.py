"""Accept: a signed webhook -> committed in Postgres -> 202, with 32 keep-alive clients.

Rates are closed-loop: each client sends its next request when it has an answer. Answer times are open-loop, at half of
that rate with nothing else at work, and at a quarter of it while a worker drains the backlog that the first part left;
a request is timed from when it was due, so that a stall counts for all that should have been sent in it.

Limits: the same server, settings and protocol class with a route that does nothing, not even read the body; INSERT and
COMMIT of a payload from one connection. Celery's 202 means that the broker has the message.
"""

import time
from contextlib import ExitStack
from typing import Any

import psycopg

from scripts.bench.arena import Arena, Running
from scripts.bench.figures import Line, Panel, Row, Sample, Turn, at_least, at_most, percentile
from scripts.bench.load import Fired
from scripts.bench.process import BenchFailed, until
from scripts.bench.scene import Scene, truth_of

__all__ = ["ROW"]

PEOPLE_SHARE = 5
WARM = 200
INSERT = "INSERT INTO bare (payload) VALUES (%s)"
PATIENCE = 120.0  # seconds for each wait: all of them together take less than that


def measure(arena: Arena, turn: Turn) -> Sample:
    """One repetition."""
    found = _ours(arena, turn)
    found |= _empty(arena, turn)
    found |= _insert(arena, turn)
    found |= _celery(arena, turn)
    found["ratio"] = found["ours"] / found["empty"]
    found["per_insert"] = found["ours"] / found["insert"]
    found["per_baseline"] = found["ours"] / found["baseline"]
    return found


def _ours(arena: Arena, turn: Turn) -> dict[str, float]:
    scene = _scene("accept", turn, turn.size.pick(2_000, 10_000))
    arena.crm.begin(truth_of(scene))
    with ExitStack() as stack:
        running = stack.enter_context(arena.ours("web"))
        _warm(arena, running, turn)
        before = arena.cpu(running)
        fired = _fire(arena, running, scene)
        after = arena.cpu(running)
        rate = fired.rate()
        turn.say(f"accept: {rate:,.0f} accepted a second")
        quiet = _fire(arena, running, _scene("quiet", turn, int(rate / 2 * _seconds(turn))), rate=rate / 2)
        _require_stored(running, fired, quiet)
        stack.enter_context(arena.beside(running, "worker", "beat"))
        busy = _fire(arena, running, _scene("busy", turn, int(rate / 4 * _seconds(turn))), rate=rate / 4)
        until(lambda: not arena.crm.state().wrong, PATIENCE, "the backlog in the CRM")
        drained = arena.crm.state().right_at or 0.0
    while_draining = [
        1000 * (answered - sent) for sent, answered in zip(busy.sent, busy.answered, strict=True) if sent < drained
    ]
    return {
        "ours": rate,
        "p99_saturated": percentile(fired.milliseconds(), 99),
        "p50_quiet": percentile(quiet.milliseconds(), 50),
        "p99_quiet": percentile(quiet.milliseconds(), 99),
        "p99_busy": percentile(while_draining, 99),
        "busy_requests": len(while_draining),
        "web_cpu": 1e6 * (after["web"] - before["web"]) / scene.events,
        "postgres_cpu": 1e6 * (after["postgres"] - before["postgres"]) / scene.events,
        "load_cpu": 1e6 * fired.cpu / scene.events,
    }


def _empty(arena: Arena, turn: Turn) -> dict[str, float]:
    with arena.empty_route() as running:
        _warm(arena, running, turn)
        fired = _fire(arena, running, _scene("empty", turn, turn.size.pick(3_000, 20_000)))
        read = _fire(arena, running, _scene("read", turn, turn.size.pick(3_000, 20_000)), path="/read/academy")
    turn.say(f"accept: {fired.rate():,.0f} a second on an empty route")
    return {"empty": fired.rate(), "read": read.rate()}


def _insert(arena: Arena, turn: Turn) -> dict[str, float]:
    payload = _scene("insert", turn, 1).deliveries()[0].body
    with arena.database() as url, psycopg.connect(url, autocommit=True, prepare_threshold=1) as db:
        db.execute("CREATE TABLE bare (id bigserial PRIMARY KEY, payload bytea NOT NULL)")
        count, began = 0, time.monotonic()
        while time.monotonic() - began < _seconds(turn):
            db.execute(INSERT, (payload,))
            count += 1
        return {"insert": count / (time.monotonic() - began)}


def _celery(arena: Arena, turn: Turn) -> dict[str, float]:
    with arena.celery("web") as running:
        _warm(arena, running, turn)
        fired = _fire(arena, running, _scene("baseline", turn, turn.size.pick(2_000, 10_000)))
    turn.say(f"accept: {fired.rate():,.0f} accepted a second by Celery")
    return {"baseline": fired.rate(), "baseline_p99": percentile(fired.milliseconds(), 99)}


def _seconds(turn: Turn) -> float:
    return turn.size.pick(2, 5)


def _scene(name: str, turn: Turn, events: int) -> Scene:
    return Scene(f"{name}{turn.number}", max(1, events // PEOPLE_SHARE), max(1, events), turn.seed, time.time())


def _warm(arena: Arena, running: Running, turn: Turn) -> None:
    _fire(arena, running, _scene("warm", turn, WARM))


def _fire(arena: Arena, running: Running, scene: Scene, **how: Any) -> Fired:
    return arena.fire(running, scene, patience=PATIENCE, **how)


def _require_stored(running: Running, *volleys: Fired) -> None:
    """A 202 without a committed row would make the whole row worthless."""
    accepted = sum(len(fired.accepted()) for fired in volleys)
    stored = running.count("SELECT count(*) FROM inbox WHERE request_id IS NOT NULL") - WARM
    if stored != accepted:
        raise BenchFailed(f"wrong result: {accepted:,} accepted, {stored:,} stored")


ROW = Row(
    key="accept",
    title="Accept: signed webhook -> committed -> 202, 32 clients",
    lines=(
        Line("ours", "Coursewire, accepted", "/s", "ours"),
        Line("empty", "limit: empty route", "/s", "limit"),
        Line("read", "limit: the same, reading the body and answering JSON", "/s", "limit"),
        Line("insert", "limit: bare INSERT + COMMIT, one connection", "/s", "limit"),
        Line("baseline", "Celery: published to the broker -> 202", "/s", "baseline"),
        Line("ratio", "Coursewire / empty route", "x", "ratio", at_least(0.45)),
        Line("per_insert", "Coursewire / bare INSERT", "x", "ratio"),
        Line("per_baseline", "Coursewire / Celery", "x", "ratio"),
        Line("p50_quiet", "p50, at half the rate, idle", "ms", "ours"),
        Line("p99_quiet", "p99, at half the rate, idle", "ms", "ours", bar=at_most(30)),
        Line("p99_busy", "p99, at a quarter of the rate, while a backlog drains", "ms", "ours", bar=at_most(100)),
        Line("busy_requests", "   requests in that figure", ""),
        Line("p99_saturated", "p99, saturated", "ms"),
        Line("baseline_p99", "Celery: p99, saturated", "ms", "baseline"),
        Line("web_cpu", "CPU of web per request", "us"),
        Line("postgres_cpu", "CPU of Postgres per request", "us"),
        Line("load_cpu", "CPU of the load generator per request", "us"),
    ),
    measure=measure,
    minutes=(0.8, 1.5),
    panels=(
        Panel(
            "Accept: signed webhooks committed and answered with 202, 32 clients",
            "per second",
            ("empty", "read", "insert", "ours", "baseline"),
        ),
        Panel("Accept: how long a sender waits", "ms", ("p50_quiet", "p99_quiet", "p99_busy")),
    ),
)
