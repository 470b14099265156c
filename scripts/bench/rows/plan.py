"""Plan: `coursewire rules plan` for 50,000 people with 20 facts each and 40 rules, of which 30 are new.

The whole command, from its start to its JSON, without asking the CRM. The rows are written straight into the database.
A run counts only if the plan finds everybody and says that everybody changes. `replay`: the same with a day replayed,
in which one of the twenty facts was recorded.
"""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import Connection

from integration.model.people import Profile
from integration.storage import people
from integration.storage.people import Person
from mappings import export, store, transforms
from mappings.rules import FieldRule, RuleSet, Scope
from scripts.bench.arena import PATIENCE, Arena, Running
from scripts.bench.figures import Line, Panel, Row, Sample, Turn, at_most
from scripts.bench.process import BenchFailed
from tasks.assembly import Assembly

__all__ = ["ROW", "fill"]

FACTS = 20
ADDED = 30
HUBSPOT = Scope("hubspot")
SLICE = 1_000

_LINKS = """
INSERT INTO links (connection, object_type, external_id, object_id, created_at)
SELECT 'academy', 'learner', 'u-' || id, id, created_at FROM people
"""
_HELD = """
INSERT INTO sync_state (connection, object_type, operation, subject_id, wanted, written, status, rule_set)
SELECT 'crm', 'contact', 'contact.upsert', p.id, 1, 1, 'in_step', r.id FROM people p, rule_sets r
"""
_PAST = "UPDATE people SET created_at = now() - interval '40 days'"
_FACTS = """
INSERT INTO events (fact_key, content_hash, revision, rank, person_version, connection, person_id, type, subject_type,
                    subject_id, subject_name, course_id, passed, occurred_at, recorded_at)
SELECT decode(md5(p.id || '.' || n), 'hex'), decode(md5(n::text), 'hex'), 1, 1, 1, 'academy', p.id, 'course.completed',
       'course', 'c-' || n, 'Course ' || n, 'c-' || n, true, now() - n * interval '23 hours',
       now() - n * interval '23 hours'
FROM generate_series(1, %(facts)s::int) n, people p
WHERE p.id BETWEEN %(first)s::bigint AND %(last)s::bigint
"""


def measure(arena: Arena, turn: Turn) -> Sample:
    """One repetition."""
    count = turn.size.pick(5_000, 50_000)
    with arena.ours() as running:
        assert running.settings  # noqa: S101 - Coursewire, not the baseline
        assembly = Assembly(running.settings)
        folder = arena.folder / "bench-rules"
        with assembly.engine.begin() as db:
            _write_rules(db, folder)
        fill(assembly, count)
        assembly.engine.dispose()
        seconds = _planned(arena, running, folder, count)
        turn.say(f"plan: {seconds:.1f} s for {count:,} people")
        replay = _planned(arena, running, folder, count, "--replay", "1d")
        turn.say(f"plan: {replay:.1f} s with a day replayed")
    return {"people": count, "seconds": seconds, "replay": replay}


def _planned(arena: Arena, running: Running, folder: Path, count: int, *more: str) -> float:
    """Return how long the command takes; raises BenchFailed where it does not say what is so."""
    assert running.settings  # noqa: S101 - as above
    command = [sys.executable, "-P", "-m", "tasks.cli", "rules", "plan", str(folder), "--offline", "--json", *more]
    started = time.monotonic()
    done = subprocess.run(
        command, env=arena.environment(running.settings), capture_output=True, timeout=PATIENCE, check=False
    )
    seconds = time.monotonic() - started
    said: dict[str, Any] = orjson.loads(done.stdout) if done.stdout else {}
    found = [(one["people"], one["changed"], len(one["properties"])) for one in said.get("effects", ())]
    if found != [(count, count, ADDED)]:
        raise BenchFailed(f"the plan says {found}, exit code {done.returncode}")
    return seconds


def _write_rules(db: Connection, folder: Path) -> None:
    rules = store.active(db)
    added = [
        FieldRule(
            f"added_{n}",
            "full_name" if n % 2 else "last_course_completed",
            f"added_{n}",
            "string",
            transforms.parse([{"truncate": 20 + n}]),
        )
        for n in range(ADDED)
    ]
    new = RuleSet(0, rules.read_at, {HUBSPOT: {"contact": (*rules.fields[HUBSPOT]["contact"], *added)}})
    export.write(new, folder, force=True)


def fill(assembly: Assembly, count: int) -> None:
    """Write people who completed one course every 23 hours, and were written to the CRM."""
    with assembly.engine.begin() as db:
        ids = people.new_ids(db, count)
    for at in range(0, count, SLICE):
        part = ids[at : at + SLICE]
        with assembly.engine.begin() as db:
            made = [
                Person(
                    n, 1, Profile(email=f"p{n}@example.com", full_name=f"Ada Byron {n}"), is_new=True, is_changed=True
                )
                for n in part
            ]
            people.save(db, made, assembly.ring, assembly.keys)
            db.exec_driver_sql(_FACTS, {"facts": FACTS, "first": part[0], "last": part[-1]})
    with assembly.engine.begin() as db:
        for statement in (_PAST, _LINKS, _HELD, "ANALYZE"):
            db.exec_driver_sql(statement)


ROW = Row(
    key="plan",
    title="Plan: 50,000 people with 20 facts each, 30 new rules of 40",
    lines=(
        Line("people", "people", ""),
        Line("seconds", "`coursewire rules plan`, whole command", "s", "ours", at_most(10)),
        Line("replay", "with a day replayed", "s", "ours"),
    ),
    measure=measure,
    minutes=(0.5, 3.0),
    panels=(Panel("Plan", "s", ("seconds", "replay")),),
)
