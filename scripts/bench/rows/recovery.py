"""Recovery: kill -9 under load, with the supervisor of `coursewire up` starting again what dies.

100 completions a second, each of another person whom the CRM knows, for 15 s, from an LMS that sends again until it
hears 202. After 5 s one process is killed. `again`: from the kill to the first contact right whose event was sent after
it. `slowest`: the longest way of any event from its 202 to the CRM, which is what the unlucky ones waited. `lost`: what
was answered with 202 and is not in the CRM when nothing moves any more. Celery runs under the same supervisor; what a
killed worker of it had taken along is handed out again after an hour, the visibility timeout, and counts as held.
"""

import os
import signal
import time
from collections.abc import Iterator

from scripts.bench.arena import Arena, Running
from scripts.bench.figures import Line, Panel, Row, Sample, Turn, at_most
from scripts.bench.load import Fired
from scripts.bench.process import BenchFailed, until
from scripts.bench.scene import Scene, truth_of
from tasks.supervisor import Supervisor

__all__ = ["ROW"]

RATE = 100.0
KILL_AFTER = 5.0
PATIENCE = 200.0
VICTIMS = {"worker": "worker", "web": "web", "broker": "valkey", "postgres": "postgres"}
"""What is killed, by the name the supervisor has for it."""
CELERY_VICTIMS = ("worker", "web", "broker")


def measure(arena: Arena, turn: Turn) -> Sample:
    """One repetition."""
    found: dict[str, float] = {}
    for victim in VICTIMS:
        with arena.ours_supervised() as (running, supervisor):
            found |= _killed(arena, turn, running, supervisor, victim, "")
        if victim in CELERY_VICTIMS:
            with arena.celery_supervised() as (running, supervisor):
                found |= _killed(arena, turn, running, supervisor, victim, "celery_")
    found["lost"] = sum(found[f"{victim}_lost"] for victim in VICTIMS)
    found["celery_lost"] = sum(found[f"celery_{victim}_lost"] for victim in CELERY_VICTIMS)
    return found


def _killed(
    arena: Arena, turn: Turn, running: Running, supervisor: Supervisor, victim: str, prefix: str
) -> dict[str, float]:
    events = int(RATE * turn.size.pick(10, 15))
    scene = Scene(f"{prefix.strip('_')}{victim}{turn.number}", events, events, turn.seed, time.time())
    warm = Scene(f"warm-{scene.name}", 50, 50, turn.seed, time.time())
    arena.warm(running, warm, scene)
    arena.crm.expect(truth_of(scene))
    arena.gun.load(arena.volley(running, scene, rate=RATE, resend=True))
    arena.gun.pull()
    time.sleep(KILL_AFTER)
    killed = time.monotonic()
    os.kill(supervisor.pids()[VICTIMS[victim]], signal.SIGKILL)
    fired = arena.gun.result()
    rests = arena.celery_rests if prefix else lambda: not arena.crm.state().wrong
    try:
        until(rests, PATIENCE, "everything in", every=0.2)
    except BenchFailed:
        turn.say(f"recovery: {victim} killed: not everything is in after {PATIENCE:.0f} s")
    found = _judged(fired, scene, arena.crm.right_since(), killed)
    who = "Celery's " if prefix else ""
    turn.say(
        f"recovery: {who}{victim} killed: goes on after {found['again']:.1f} s, "
        f"slowest event {found['slowest']:.0f} s, {found['lost']:.0f} of {len(fired.accepted()):,} lost"
    )
    if prefix:
        found["held"] = arena.celery_holds()
    return {f"{prefix}{victim}_{name}": value for name, value in found.items()}


def _judged(fired: Fired, scene: Scene, right: dict[str, float], killed: float) -> dict[str, float]:
    emails = scene.addressed()
    accepted = fired.accepted()
    arrived = [number for number in accepted if emails[number] in right]
    after = [right[emails[number]] - killed for number in arrived if fired.sent[number] > killed]
    return {
        "again": min(after, default=float("nan")),
        "slowest": max((right[emails[number]] - fired.answered[number] for number in arrived), default=float("nan")),
        "lost": len(accepted) - len(arrived),
        "refused": len(fired.status) - len(accepted),
    }


def _lines() -> Iterator[Line]:
    yield Line("lost", "Coursewire, lost at all kills", "events", "ours", at_most(0))
    yield Line("celery_lost", "Celery, lost or held at all kills", "events", "baseline")
    for victim in VICTIMS:
        yield Line(f"{victim}_again", f"{victim} killed: goes on after", "s", "ours")
        yield Line(f"{victim}_slowest", f"{victim} killed: slowest event, 202 -> CRM", "s", "ours")
        yield Line(f"{victim}_lost", f"{victim} killed: lost", "events", "ours", at_most(0))
        if victim in CELERY_VICTIMS:
            yield Line(f"celery_{victim}_again", f"Celery, {victim} killed: goes on after", "s", "baseline")
            yield Line(f"celery_{victim}_slowest", f"Celery, {victim} killed: slowest event", "s", "baseline")
            yield Line(f"celery_{victim}_lost", f"Celery, {victim} killed: lost or held", "events", "baseline")
            yield Line(f"celery_{victim}_held", "   of which the broker holds for an hour", "events", "baseline")


ROW = Row(
    key="recovery",
    title="Recovery: kill -9 at 100 events/s, under the supervisor of `coursewire up`",
    lines=tuple(_lines()),
    measure=measure,
    minutes=(5.0, 5.5),
    panels=(
        Panel(
            "kill -9 at 100 events a second: the flow goes on after",
            "seconds",
            tuple(line.key for line in _lines() if line.key.endswith("_again")),
        ),
        Panel("kill -9 at 100 events a second: accepted events lost", "events", ("lost", "celery_lost")),
    ),
)
