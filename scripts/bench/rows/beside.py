"""Beside a night: known contacts as in the live row, alone, and while 100,000 contacts are compared with the truth.

The same worker reads the night's pages, as under `coursewire up`. 400 calls in 10 s are allowed: the 190 that a night
has by itself, and the 20 a second that live events take. A run counts only if the night lasts as long as the live
events, and if in the end the CRM shows both what they said and what the night was to repair.
"""

import time

from scripts.bench.arena import PATIENCE, Arena, Running
from scripts.bench.figures import Line, Panel, Row, Sample, Turn, at_most, percentile
from scripts.bench.process import BenchFailed, until
from scripts.bench.rows import live, night
from scripts.bench.scene import Scene, seeds_of, truth_of

__all__ = ["ROW"]

LIMIT = 400


def measure(arena: Arena, turn: Turn) -> Sample:
    """One repetition."""
    count, people = turn.size.pick(20_000, 100_000), int(live.RATE * turn.size.pick(6, 30))
    now = time.time()
    scenes = [Scene(f"beside{turn.number}", people, people, turn.seed + n, now + n - 3600, n + 1) for n in range(3)]
    with arena.ours() as running:
        assembly, truth, seeds = night.drifted(running, turn, count)
        arena.crm.begin(truth_of(scenes[0]), seeds=[*seeds, *seeds_of(scenes)], rate=LIMIT)
        with arena.beside(running, "web", "worker", "beat"):
            arena.fire(running, scenes[0])
            _written(arena)
            found = _measured(arena, turn, running, scenes[:2], "alone")
            night.begin(assembly)
            began = time.monotonic()
            found |= _measured(arena, turn, running, scenes, "beside")
            if not running.count(night.WORK):
                raise BenchFailed("the night was over before the last live event was sent")
            until(lambda: not running.count(night.WORK) and not running.count(night.DUE), PATIENCE, "the night's end")
            arena.crm.expect(truth)
            arena.crm.require_truth()
        assembly.engine.dispose()
    return {"contacts": count, **found, "seconds": time.monotonic() - began}


def _measured(arena: Arena, turn: Turn, running: Running, scenes: list[Scene], name: str) -> dict[str, float]:
    """Send the last of these scenes at the pace of the live row; what went before is in."""
    time.sleep(live.PAUSE)
    arena.crm.expect(truth_of(*scenes))
    fired = arena.fire(running, scenes[-1], rate=live.RATE)
    _written(arena)
    right = arena.crm.right_since()
    took = [1000 * (right[email] - sent) for email, sent in zip(scenes[-1].addressed(), fired.sent, strict=True)]
    found = {f"{name}_p{p}": percentile(took, p) for p in (50, 95, 99)}
    turn.say(f"beside: {name}: p50 {found[f'{name}_p50']:.0f} ms, p95 {found[f'{name}_p95']:.0f} ms")
    return found


def _written(arena: Arena) -> None:
    """Wait until the contacts of the live events are right; the others are judged at the end of the night."""
    until(lambda: not arena.crm.state().wrong, PATIENCE, "every live contact right")


ROW = Row(
    key="beside",
    title="Beside a night of 100,000 contacts: 20 events/s, CRM 40 ms, 400 calls / 10 s",
    lines=(
        Line("contacts", "contacts that the night compares", ""),
        Line("alone_p50", "known contacts, no night, p50", "ms", "limit"),
        Line("alone_p95", "known contacts, no night, p95", "ms", "limit"),
        Line("alone_p99", "known contacts, no night, p99", "ms", "limit"),
        Line("beside_p50", "known contacts beside the night, p50", "ms", "ours", at_most(30)),
        Line("beside_p95", "known contacts beside the night, p95", "ms", "ours", at_most(80)),
        Line("beside_p99", "known contacts beside the night, p99", "ms", "ours"),
        Line("seconds", "the night, from its beginning to the last repair", "s"),
    ),
    measure=measure,
    minutes=(1.5, 5.5),
    panels=(Panel("Beside a night", "ms", ("alone_p50", "alone_p95", "beside_p50", "beside_p95")),),
)
