"""Night: 100,000 contacts compared with the truth, 1 % of them edited by hand, under 190 calls in 10 s.

People, facts and links are written straight into the database, the CRM begins with what each contact should hold.
Counted from the row that begins the run to the last repaired contact. A run counts only if it names exactly the edited
contacts, if the CRM is right afterwards, and if a second run finds nothing.
"""

import random
import time
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice

import psutil
from sqlalchemy import Connection

from integration.model.reconciliation import Class
from integration.storage import reconciliations
from integration.storage.base import snapshot
from scripts.bench.arena import PATIENCE, Arena, Running
from scripts.bench.figures import Line, Panel, Row, Sample, Turn, at_most
from scripts.bench.process import BenchFailed, until
from scripts.bench.rows.plan import fill
from scripts.sandbox.contacts import FIRST_ID
from scripts.sandbox.truth import Properties
from tasks.assembly import Assembly

__all__ = ["DUE", "ROW", "WORK", "begin", "drifted"]

RATE, WINDOW = 190, 10.0
DRIFTED = 0.01
SLICE = 1_000
EDITED = "courses_completed_count"
MB = 1_000_000

_LINKED = """
INSERT INTO links (connection, object_type, external_id, object_id)
SELECT 'crm', 'contact', (id - (SELECT min(id) FROM people) + %(first)s)::text, id FROM people
"""
_HELD = """
UPDATE sync_state SET remote_id = (subject_id - (SELECT min(id) FROM people) + %(first)s)::text, not_before = NULL,
    remote_at = now() - interval '1 hour', written_at = now() - interval '1 hour'
"""
_VERSION = "UPDATE people SET version = 1"
WORK = "SELECT count(*) FROM reconciliations WHERE status = 'running'"
DUE = "SELECT count(*) FROM sync_state WHERE status <> 'in_step'"


def measure(arena: Arena, turn: Turn) -> Sample:
    """One repetition."""
    count = turn.size.pick(5_000, 100_000)
    with arena.ours() as running:
        assembly, truth, seeds = drifted(running, turn, count)
        edited = [one for one in seeds if one != truth[one["email"]]]
        arena.crm.begin({}, seeds=seeds, rate=RATE)
        turn.say(f"night: {count:,} contacts, {len(edited):,} of them edited")
        with arena.beside(running, "worker", "beat"):
            found = _run(arena, running, assembly, turn)
            named = _drifted(assembly)
            if named != len(edited):
                raise BenchFailed(f"the run names {named} drifted contacts, {len(edited)} were edited")
            arena.crm.expect(truth)
            arena.crm.require_truth()
            again = _run(arena, running, assembly, turn)
        if again["writes"] or _drifted(assembly):
            raise BenchFailed(f"the second run made {again['writes']:.0f} writes")
        assembly.engine.dispose()
    calls = found["reads"] + found["writes"]
    bare = calls / (RATE / WINDOW)
    return {"contacts": count, **found, "limit": bare, "ratio": found["seconds"] / bare, "again": again["seconds"]}


def drifted(running: Running, turn: Turn, count: int) -> tuple[Assembly, dict[str, Properties], list[Properties]]:
    """Fill a Coursewire with people; return it, what each contact should hold, and what the CRM has to begin with."""
    assert running.settings  # noqa: S101 - Coursewire, not the baseline
    assembly = Assembly(running.settings)
    fill(assembly, count)
    with assembly.engine.begin() as db:
        for statement in (_LINKED, _HELD):
            db.exec_driver_sql(statement, {"first": FIRST_ID})
        db.exec_driver_sql(_VERSION)
        db.exec_driver_sql("ANALYZE")
    truth = _truth(assembly)
    edited = set(random.Random(turn.seed).sample(sorted(truth), round(count * DRIFTED)))
    return assembly, truth, [{**one, **({EDITED: "99"} if email in edited else {})} for email, one in truth.items()]


def begin(assembly: Assembly) -> None:
    """Let a run begin."""
    with assembly.engine.begin() as db:
        reconciliations.begin(db, "crm", datetime.now(UTC), actor="user:bench")


def _run(arena: Arena, running: Running, assembly: Assembly, turn: Turn) -> dict[str, float]:
    """Let a run begin, and measure until what it found is repaired."""
    worker = psutil.Process(running.processes["worker"].pid)
    before, used = arena.crm.state(), arena.cpu(running)
    began, most = time.monotonic(), 0
    begin(assembly)

    def is_over() -> bool:
        nonlocal most
        most = max(most, _memory(worker))
        return not running.count(WORK) and not running.count(DUE)

    until(is_over, PATIENCE, "the night at its end", every=0.2)
    seconds = time.monotonic() - began
    after, now = arena.crm.state(), arena.cpu(running)
    cpu = sum(now[name] - used.get(name, 0.0) for name in now if name != "crm")
    turn.say(f"night: {seconds:.1f} s, {cpu:.1f} s of CPU, {after.writes - before.writes} writes")
    return {
        "seconds": seconds,
        "cpu": cpu,
        "memory": most / MB,
        "reads": after.reads - before.reads,
        "writes": after.writes - before.writes,
    }


def _memory(worker: psutil.Process) -> int:
    """Return the bytes that a worker and what it started have for themselves."""
    total = 0
    for process in (worker, *worker.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            total += int(process.memory_full_info().pss)
    return total


def _truth(assembly: Assembly) -> dict[str, Properties]:
    """Return what each contact should hold, in the order of the people."""
    with assembly.engine.begin() as db:
        ids = iter([row[0] for row in db.exec_driver_sql("SELECT id FROM people ORDER BY id")])
    found: dict[str, Properties] = {}
    project = assembly.sweeps["crm"].project
    while part := list(islice(ids, SLICE)):
        with snapshot(assembly.engine).begin() as db:
            targets = project(db, "crm", part).targets
        for who in part:
            email = targets[who].create_by
            if email is None:
                raise BenchFailed(f"person {who} has no e-mail")
            found[email[1]] = {"email": email[1], **targets[who].wanted}
    return found


def _drifted(assembly: Assembly) -> int:
    with assembly.engine.begin() as db:
        return _counts(db).get(Class.DRIFTED.value, 0)


def _counts(db: Connection) -> dict[str, int]:
    last = "SELECT counts FROM reconciliations ORDER BY id DESC LIMIT 1"
    found: dict[str, int] = db.exec_driver_sql(last).scalar_one()
    return found


ROW = Row(
    key="night",
    title="Night: 100,000 contacts compared, 1 % edited by hand, 190 calls / 10 s",
    lines=(
        Line("contacts", "contacts", ""),
        Line("seconds", "from its beginning to the last repair", "s", "ours"),
        Line("limit", "limit: its calls / rate", "s", "limit"),
        Line("ratio", "seconds / (calls / rate)", "x", "ratio", at_most(1.1)),
        Line("cpu", "CPU of Coursewire, Postgres and broker", "s", "ours", at_most(60)),
        Line("memory", "memory of the worker at most (PSS)", "MB", "ours", at_most(300)),
        Line("reads", "calls that read", "calls"),
        Line("writes", "calls that wrote", "calls"),
        Line("again", "the next run, with nothing to repair", "s"),
    ),
    measure=measure,
    minutes=(0.7, 4.5),
    panels=(Panel("The night", "s", ("limit", "seconds", "cpu")),),
)
