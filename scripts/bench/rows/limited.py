"""Under the CRM's limit. 2,000 completions of 2,000 people under 190 calls in 10 s; 20,000 people under 100 in 10 s.

The CRM knows everybody, Coursewire nobody: they are looked up before they are written. Counted from the first POST to
the last contact right. A 429 would be of our own making, for the CRM injects none. Celery first with the retries of its
documentation (three, backing off), then with no end to them, for at most four minutes; the second run only once.
"""

import time

from scripts.bench.arena import Arena
from scripts.bench.figures import Line, Panel, Row, Sample, Turn, at_most
from scripts.bench.process import BenchFailed, until
from scripts.bench.scene import Scene, truth_of

__all__ = ["ROW"]

WINDOW = 10.0
SMALL, SMALL_RATE = 2_000, 190
MANY, MANY_RATE = 20_000, 100
ROLES = ("web", "worker", "beat")
PATIENCE = 240.0


def measure(arena: Arena, turn: Turn) -> Sample:
    """One repetition."""
    small = Scene(f"small{turn.number}", SMALL, SMALL, turn.seed, time.time())
    found = {f"small_{name}": value for name, value in _ours(arena, turn, small, SMALL_RATE).items()}
    found |= _celery(arena, turn, small, "")
    found["bare"] = SMALL / (SMALL_RATE / WINDOW)
    if not turn.size.quick:
        if turn.number == 0:
            found |= {f"patient_{name}": value for name, value in _celery(arena, turn, small, "none").items()}
        many = Scene(f"many{turn.number}", MANY, MANY, turn.seed, time.time())
        found |= {f"many_{name}": value for name, value in _ours(arena, turn, many, MANY_RATE).items()}
        found["many_bare"] = MANY / (MANY_RATE / WINDOW)
    return found


def _ours(arena: Arena, turn: Turn, scene: Scene, rate: int) -> dict[str, float]:
    warm = Scene(f"warm-{scene.name}", 50, 50, turn.seed, time.time())
    with arena.ours(*ROLES) as running:
        arena.warm(running, warm, scene)
        arena.crm.expect(truth_of(scene))
        arena.crm.limit(rate)
        fired = arena.fire(running, scene)
        ended = arena.all_in()
        state = arena.crm.state()
    seconds = ended - fired.began()
    calls = state.reads + state.writes
    turn.say(f"limited: {scene.people:,} people in after {seconds:.1f} s, {calls} calls, {state.refused} refused")
    return {
        "seconds": seconds,
        "calls": calls,
        "refused": state.refused,
        "limit": calls / (rate / WINDOW),
        "ratio": seconds / (calls / (rate / WINDOW)),
        "lost": state.wrong,
    }


def _celery(arena: Arena, turn: Turn, scene: Scene, retries: str) -> dict[str, float]:
    warm = Scene(f"warm-{scene.name}", 50, 50, turn.seed, time.time())
    with arena.celery("web", "worker", max_retries=retries) as running:
        arena.warm(running, warm, scene)
        arena.crm.expect(truth_of(scene))
        arena.crm.limit(SMALL_RATE)
        fired = arena.fire(running, scene)
        try:
            until(arena.celery_rests, PATIENCE, "Celery at rest", every=0.5)
        except BenchFailed:
            turn.say(f"limited: Celery still retries after {PATIENCE:.0f} s")
        state = arena.crm.state()
    seconds = (state.last_call_at or fired.ended()) - fired.began()
    turn.say(f"limited: Celery ends after {seconds:.0f} s with {state.wrong:,} lost, {state.refused:,} calls refused")
    return {"celery_seconds": seconds, "celery_lost": state.wrong, "celery_refused": state.refused}


ROW = Row(
    key="limited",
    title="Limited: 2,000 people under 190 calls / 10 s; 20,000 people under 100 calls / 10 s",
    lines=(
        Line("small_seconds", "Coursewire, 2,000 people: all in after", "s", "ours", at_most(5)),
        Line("small_lost", "Coursewire: lost", "events", "ours", at_most(0)),
        Line("small_refused", "Coursewire: calls answered with 429", "calls", "ours", at_most(0)),
        Line("small_calls", "Coursewire: calls", "calls"),
        Line("bare", "limit of one call per event: 2,000 calls / rate", "s", "limit"),
        Line("celery_seconds", "Celery, three retries: last call after", "s", "baseline"),
        Line("celery_lost", "Celery, three retries: lost", "events", "baseline"),
        Line("celery_refused", "Celery, three retries: calls answered with 429", "calls", "baseline"),
        Line("patient_celery_seconds", "Celery, endless retries: last call after (240 at most)", "s", "baseline"),
        Line("patient_celery_lost", "Celery, endless retries: not in by then", "events", "baseline"),
        Line("patient_celery_refused", "Celery, endless retries: calls answered with 429", "calls", "baseline"),
        Line("many_seconds", "Coursewire, 20,000 people: all in after", "s", "ours"),
        Line("many_limit", "limit: its calls / rate", "s", "limit"),
        Line("many_bare", "limit of one call per event: 20,000 calls / rate", "s", "limit"),
        Line("many_ratio", "all in after / (calls / rate)", "x", "ratio", at_most(1.3)),
        Line("many_refused", "Coursewire: calls answered with 429", "calls", "ours", at_most(0)),
        Line("many_calls", "Coursewire: calls", "calls"),
    ),
    measure=measure,
    minutes=(1.3, 4.5),
    panels=(
        Panel(
            "Under 190 calls in 10 s: 2,000 people in the CRM",
            "seconds",
            ("bare", "small_seconds", "celery_seconds", "patient_celery_seconds"),
        ),
        Panel("Under 190 calls in 10 s: events lost", "events", ("small_lost", "celery_lost", "patient_celery_lost")),
        Panel("Under 100 calls in 10 s: 20,000 people in the CRM", "seconds", ("many_limit", "many_seconds")),
    ),
)
