"""Live: 20 events a second, each of another person; from the sending of the POST to the CRM's admitting the write.

The CRM answers every call after 40 ms. `known`: the person's contact has been written before, so one call is enough.
`new`: nobody has heard of the person, so they are looked up by two keys before they are created: three calls, of which
two must be answered before the third can be sent; 80 of the milliseconds are the CRM's.
"""

import time

from scripts.bench.arena import Arena, Running
from scripts.bench.figures import Line, Panel, Row, Sample, Turn, at_most, percentile
from scripts.bench.scene import Scene, seeds_of, truth_of

__all__ = ["ROW"]

RATE = 20.0
PAUSE = 2.0
THREADS = 16


def measure(arena: Arena, turn: Turn) -> Sample:
    """One repetition."""
    with arena.ours("web", "worker", "beat") as running:
        found = _measured(arena, turn, running, "")
    with arena.celery("web", "worker", threads=THREADS) as running:
        return found | _measured(arena, turn, running, "baseline_")


def _measured(arena: Arena, turn: Turn, running: Running, prefix: str) -> dict[str, float]:
    people = int(RATE * turn.size.pick(6, 30))
    first = Scene(f"known{turn.number}", people, people, turn.seed, time.time() - 3600)
    again = Scene(f"known{turn.number}", people, people, turn.seed + 1, time.time(), version=2)
    new = Scene(f"new{turn.number}", people, people, turn.seed, time.time())
    arena.crm.begin(truth_of(first), seeds=seeds_of([first]))
    arena.fire(running, first)
    arena.all_in()
    found: dict[str, float] = {}
    for name, scene, truth in (("known", again, truth_of(first, again)), ("new", new, truth_of(new))):
        time.sleep(PAUSE)  # an idle system: leases and gatherings of what went before are over
        arena.crm.expect(truth)
        fired = arena.fire(running, scene, rate=RATE)
        arena.all_in()
        right = arena.crm.right_since()
        took = [1000 * (right[email] - sent) for email, sent in zip(scene.addressed(), fired.sent, strict=True)]
        found |= {f"{prefix}{name}_p{p}": percentile(took, p) for p in (50, 95, 99)}
        found[f"{prefix}{name}_202"] = percentile(fired.milliseconds(), 50)
        shown = f"p50 {found[f'{prefix}{name}_p50']:.0f} ms, p95 {found[f'{prefix}{name}_p95']:.0f} ms"
        turn.say(f"live: {name} contacts{' by Celery' if prefix else ''}: {shown}")
    return found


ROW = Row(
    key="live",
    title="Live: 20 events/s, CRM 40 ms: POST sent -> the CRM has admitted the write",
    lines=(
        Line("known_p50", "Coursewire, known contacts, p50", "ms", "ours", at_most(30)),
        Line("known_p95", "Coursewire, known contacts, p95", "ms", "ours", at_most(80)),
        Line("known_p99", "Coursewire, known contacts, p99", "ms", "ours"),
        Line("baseline_known_p50", "Celery, known contacts, p50", "ms", "baseline"),
        Line("baseline_known_p95", "Celery, known contacts, p95", "ms", "baseline"),
        Line("new_p50", "Coursewire, new contacts, p50", "ms", "ours"),
        Line("new_p95", "Coursewire, new contacts, p95", "ms", "ours", at_most(200)),
        Line("baseline_new_p50", "Celery, new contacts (one upsert), p50", "ms", "baseline"),
        Line("baseline_new_p95", "Celery, new contacts (one upsert), p95", "ms", "baseline"),
        Line("known_202", "Coursewire, 202 after, p50", "ms"),
        Line("baseline_known_202", "Celery, 202 after, p50", "ms", "baseline"),
    ),
    measure=measure,
    minutes=(0.9, 2.8),
    panels=(
        Panel(
            "Live, 20 events a second: webhook sent -> write admitted by the CRM",
            "ms",
            (
                "known_p50",
                "known_p95",
                "baseline_known_p50",
                "baseline_known_p95",
                "new_p50",
                "new_p95",
                "baseline_new_p95",
            ),
        ),
    ),
)
