"""What runs by the clock: the table of jobs, and the tick that starts each of them exactly once per scheduled time.

Beat only ticks. What is due follows from the clock of Postgres and the rows of `runs`: so two beats, no beat for a
day and a clock set back end in the same runs, and after a gap the latest missed time alone is made up for.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from datetime import time as wall_time

import structlog
from sqlalchemy import Connection, Engine

from integration.config import Config
from integration.storage import purge, runs
from integration.storage.base import AWAY
from integration.storage.runs import Held, RunTaken
from tasks.recurring import Recurring

log = structlog.get_logger(__name__)

TICK_SECONDS = 20.0
"""How often beat asks what is due."""
TURN_SECONDS = 15.0
"""How long one tick works: a thread of the worker is not held for the length of a night."""

Step = Callable[[Connection, Config], dict[str, int]]
"""Do one slice of a job within the transaction given; return what was done by name, or nothing when all is done."""


@dataclass(frozen=True, slots=True)
class Every:
    """Again and again, counted from midnight of 1970 in UTC, so that all workers agree."""

    interval: timedelta

    def latest(self, now: datetime) -> datetime:
        """Return the last scheduled time up to `now`, in UTC."""
        start = datetime(1970, 1, 1, tzinfo=UTC)
        return start + (now - start) // self.interval * self.interval


@dataclass(frozen=True, slots=True)
class Job:
    """What to run and when."""

    schedule: Recurring | Every
    step: Step
    purpose: str


def _purge(db: Connection, config: Config) -> dict[str, int]:
    kept = config.retention
    return purge.step(
        db,
        payload_days=kept.payload_days,
        failed_payload_days=kept.failed_payload_days,
        history_days=kept.history_days,
    )


JOBS: Mapping[str, Job] = {
    "purge": Job(
        Recurring("day", wall_time(1, 30)), _purge, "remove payloads and history that are older than `retention` says"
    ),
}


def tick(
    engine: Engine,
    config: Config,
    jobs: Mapping[str, Job] = JOBS,
    *,
    now: datetime | None = None,
    seconds: float = TURN_SECONDS,
) -> None:
    """Start what is due at `now` (None: what Postgres says), and work on open runs for about `seconds`."""
    ends = time.monotonic() + seconds
    with engine.begin() as db:
        now = now or runs.clock(db)
        for name, job in jobs.items():
            runs.start(db, name, job.schedule.latest(now), now)
    with engine.begin() as db:
        taken = runs.take(db, list(jobs), now)
    for left, held in zip(range(len(taken), 0, -1), taken, strict=True):
        share = (ends - time.monotonic()) / left
        _work(engine, config, jobs[held.job].step, held, time.monotonic() + share)


def _work(engine: Engine, config: Config, step: Step, held: Held, ends: float) -> None:
    """Do slice after slice until nothing is left or time is up."""
    try:
        while True:
            with engine.begin() as db:
                done = step(db, config)
                held = runs.advance(db, held, done)
            if not done or time.monotonic() >= ends:
                break
        with engine.begin() as db:
            if done:
                runs.leave(db, held)
                return
            runs.finish(db, held, "done")
        log.info("run.finished", name=held.job, outcome="done", counts=held.counts)
    except RunTaken:
        log.info("run.taken", name=held.job)
    except AWAY as error:
        # Nothing is wrong with the job: whoever finds the run abandoned goes on with it.
        log.warning("run.interrupted", name=held.job, error=type(error).__name__)
    except Exception:
        log.exception("run.failed", name=held.job)
        with engine.begin() as db:
            runs.finish(db, held, "failed")
