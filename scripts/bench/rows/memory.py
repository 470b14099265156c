"""Memory: what the worker and the endpoint hold after 10,000 events, and after 100,000.

2,000 people, as fast as they are accepted; looked at when everything is in and two seconds have passed. RSS of the
process, which holds what the allocator has not given back.
"""

import time

from scripts.bench.arena import Arena, Running
from scripts.bench.figures import Line, Panel, Row, Sample, Turn, at_most
from scripts.bench.scene import Scene, truth_of_deliveries

__all__ = ["ROW"]

PEOPLE = 2_000
VOLLEY = 20_000
"""Requests are signed before a volley begins, and a signature is good for five minutes."""
REST = 2.0
MB = 1e6


def measure(arena: Arena, turn: Turn) -> Sample:
    """One repetition."""
    few, many = turn.size.pick(5_000, 10_000), turn.size.pick(20_000, 100_000)
    scene = Scene(f"memory{turn.number}", PEOPLE, many, turn.seed, time.time())
    with arena.ours("web", "worker", "beat") as running:
        arena.crm.begin({})
        began = time.monotonic()
        _send(arena, running, scene, 0, few)
        early = {name: process.rss() / MB for name, process in running.processes.items()}
        turn.say(f"memory: {early['worker']:.0f} MB after {few:,} events")
        _send(arena, running, scene, few, many)
        late = {name: process.rss() / MB for name, process in running.processes.items()}
        turn.say(f"memory: {late['worker']:.0f} MB after {many:,} events")
        seconds = time.monotonic() - began
    return {
        "few": few,
        "many": many,
        "worker_early": early["worker"],
        "worker_late": late["worker"],
        "worker_growth": late["worker"] - early["worker"],
        "web_early": early["web"],
        "web_late": late["web"],
        "rate": many / seconds,
    }


def _send(arena: Arena, running: Running, scene: Scene, first: int, last: int) -> None:
    arena.crm.expect(truth_of_deliveries(scene.deliveries()[:last]))
    for start in range(first, last, VOLLEY):
        arena.fire(running, scene, first=start, count=min(VOLLEY, last - start))
    arena.all_in()
    time.sleep(REST)


ROW = Row(
    key="memory",
    title="Memory: RSS after 10,000 and after 100,000 events",
    lines=(
        Line("few", "events, first look", ""),
        Line("many", "events, second look", ""),
        Line("worker_early", "worker, first look", "MB", "ours"),
        Line("worker_late", "worker, second look", "MB", "ours"),
        Line("worker_growth", "worker, growth", "MB", "ours", at_most(10)),
        Line("web_early", "web, first look", "MB"),
        Line("web_late", "web, second look", "MB"),
        Line("rate", "events a second over the whole row, waits included", "events/s"),
    ),
    measure=measure,
    minutes=(0.8, 3.0),
    panels=(Panel("Memory of the worker", "MB", ("worker_early", "worker_late", "worker_growth")),),
)
