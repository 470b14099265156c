"""Import: `coursewire import` of years of history, the whole command: looked at first, then taken in.

The file is written before the clock runs: 20 rows of each learner, in the order of time, so that hardly a chunk names
anybody twice. A run counts only if every row became a fact. `peak` is the memory of the command, servers not included.
"""

import os
import random
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

from scripts.bench.arena import Arena
from scripts.bench.figures import Line, Panel, Row, Sample, Turn, at_least, at_most
from scripts.bench.process import BenchFailed

__all__ = ["ROW", "write_history"]

FACTS = 20
BEGAN = datetime(2016, 1, 4, 8, tzinfo=UTC)
_HEAD = "type,occurred_at,lms_user_id,email,full_name,course_id,course_name,score,score_max,passed\n"
_MB = 1 << 20


def measure(arena: Arena, turn: Turn) -> Sample:
    """One repetition."""
    rows = turn.size.pick(50_000, 1_000_000)
    file = arena.folder / "history.csv"
    write_history(file, rows, turn.seed)
    with arena.ours() as running:
        assert running.settings  # noqa: S101 - Coursewire, not the baseline
        command = [sys.executable, "-P", "-m", "tasks.cli", "import", str(file), "--connection", "academy"]
        env = arena.environment(running.settings)
        started = time.monotonic()
        seconds, peak, said = _watched([*command, "--yes", "--json"], env, started)
        facts = said.get("import", {}).get("counts", {}).get("facts")
        there = running.count("SELECT count(*) FROM events")
        if (facts, there) != (rows, rows):
            raise BenchFailed(f"the import says {facts} facts, there are {there} of {rows}")
        turn.say(f"import: {rows / seconds:,.0f} rows/s, {peak / _MB:.0f} MB")
    return {"rows": rows, "rate": rows / seconds, "peak": peak / _MB}


def _watched(command: list[str], env: dict[str, str], started: float) -> tuple[float, int, dict[str, Any]]:
    """Run a command; return its seconds, its peak memory in bytes, and what it said."""
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE) as process:
        assert process.stdout  # noqa: S101 - a pipe
        said = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise BenchFailed(f"the import ended with {process.returncode}")
    return time.monotonic() - started, used.ru_maxrss * 1024, orjson.loads(said)


def write_history(path: Path, rows: int, seed: int) -> None:
    """Write a file of completions, 20 of each learner, in the order of time and so in no order of people."""
    luck, people = random.Random(seed), max(1, rows // FACTS)
    with path.open("w", encoding="utf-8") as out:
        out.write(_HEAD)
        for number in range(rows):
            who, course = (number * 7_919) % people, number // people
            at = BEGAN + timedelta(seconds=number * 300)
            score = luck.randint(50, 100)
            out.write(
                f"course.completed,{at.isoformat()},u-{who},p{who}@example.com,Ada Byron {who},"
                f"c-{course},Course {course},{score},100,true\n"
            )


ROW = Row(
    key="import",
    title="Import: a file of 1,000,000 rows, `coursewire import`, whole command",
    lines=(
        Line("rows", "rows", ""),
        Line("rate", "rows looked at and taken in", "/s", "ours", at_least(5_000)),
        Line("peak", "memory of the command at most", "MB", "ours", at_most(250)),
    ),
    measure=measure,
    minutes=(0.5, 5.0),
    panels=(Panel("Import", "per second", ("rate",)),),
)
