"""Runs the benchmark from the first line on the screen to the exit code."""

import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType

import psycopg
import redis

from integration.errors import ConfigError
from integration.settings import Settings
from scripts.bench.arena import Arena
from scripts.bench.asked import Asked
from scripts.bench.figures import Measured, Row, Sample, Size, Turn
from scripts.bench.machine import facts
from scripts.bench.plot import as_svg
from scripts.bench.process import BenchFailed
from scripts.bench.record import as_json
from scripts.bench.rows import ROWS
from scripts.bench.table import show_facts, show_row, show_verdict
from scripts.demo.progress import Screen

__all__ = ["run"]

TROUBLE = (BenchFailed, OSError, psycopg.Error, redis.RedisError)
"""What ends a row, and not the whole run."""


def run(asked: Asked) -> int:
    """Measure, print, write files; returns the exit code: 1 where a row failed, or with `strict` where a bar is missed.

    Raises ConfigError, EmbeddedUnavailable, FolderInUse.
    """
    screen = Screen()
    rows = chosen(asked.only)
    minutes = sum(row.minutes[not asked.quick] for row in rows) * asked.repetitions
    screen.say(
        f"{len(rows)} rows, each measured {asked.repetitions} times: about {max(1, round(minutes))} minutes "
        "on two quiet cores. Whatever else runs on this machine is in the figures."
    )
    with _stoppable(), Arena(Settings().data_dir) as arena:
        measured_on = facts(arena)
        show_facts(screen.console, measured_on)
        results: list[Measured] = []
        for row in rows:
            results.append(_measured(screen, arena, row, asked))
            _write(asked, measured_on, results)  # after each: a long run that is stopped has not been for nothing
    met = show_verdict(screen.console, results)
    if any(one.failure for one in results):
        return 1
    return 0 if met or not asked.strict else 1


def _write(asked: Asked, measured_on: Mapping[str, str], results: Sequence[Measured]) -> None:
    if asked.json:
        asked.json.write_bytes(as_json(asked, measured_on, results))
    if asked.plot:
        asked.plot.write_text(as_svg(results), "utf-8")


def chosen(only: str) -> list[Row]:
    """The rows of these names, all where there is none. Raises ConfigError for one that does not exist."""
    wanted = [name.strip() for name in only.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in ROWS]
    if unknown:
        raise ConfigError(f"there is no row {', '.join(unknown)}; there are: {', '.join(ROWS)}")
    return [row for name, row in ROWS.items() if not wanted or name in wanted]


def _measured(screen: Screen, arena: Arena, row: Row, asked: Asked) -> Measured:
    samples: list[Sample] = []
    failure = None
    for number in range(asked.repetitions):
        screen.say(f"{row.key}: repetition {number + 1} of {asked.repetitions}")
        turn = Turn(Size(asked.quick), number, asked.seed + number, screen.say)
        try:
            samples.append(row.measure(arena, turn))
        except TROUBLE as trouble:
            failure = str(trouble) if isinstance(trouble, BenchFailed) else f"{type(trouble).__name__}: {trouble}"
            break
    measured = Measured(row, samples, failure)
    show_row(screen.console, measured)
    return measured


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end us as Ctrl-C does, so that whatever was started is stopped."""

    def stop(_: int, __: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
