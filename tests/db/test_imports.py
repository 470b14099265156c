"""A file of history leads to the state that its events lead to when they are told live, however often it is killed."""

import csv
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from integration.files.reader import reader_of
from integration.files.row import Mark
from integration.history import chunks, importer
from integration.history.cost import Ledger
from integration.history.importer import Importer, Overtaken
from integration.history.mapping import as_named
from integration.history.translation import Translation
from integration.pipeline import Pipeline
from integration.security.seal import IndexKeys, KeyRing
from integration.storage import imports
from integration.storage.imports import Import, New
from integration.told import Listener
from tests.db.conftest import T0, Put, event
from tests.db.standing import standing

HEADS = ("type", "occurred_at", "lms_user_id", "email", "full_name", "course_id", "course_name", "score", "passed")
Said = list[dict[str, Any]]
CUT = """
SELECT pg_terminate_backend(l.pid) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
WHERE l.locktype = 'advisory' AND l.granted AND d.datname = current_database()
"""


def history(rows: int, seed: int, learners: int = 12) -> Said:
    """Completions of some learners, most of them once more with another score, in no order."""
    luck = random.Random(seed)
    apart = min(1_440, 500_000_000 // rows)  # minutes: a day, where there are not more rows than days
    said: Said = []
    for number in range(rows):
        who, course = luck.randrange(learners), luck.randrange(6)
        said.append(
            {
                "kind": "course.completed",
                "user": f"u-{who}" if who % 4 else None,
                "email": f"p{who}@example.com" if who % 3 else None if who % 4 else f"p{who}@example.com",
                "name": f"Ada {who}",
                "at": -number * apart - luck.randrange(min(600, apart)),
                "course": f"c-{course}",
                "score": float(luck.randrange(100)),
                "passed": True,
            }
        )
    luck.shuffle(said)
    return [one for one in said if one["user"] or one["email"]]


def write(path: Path, said: Said) -> Path:
    """A file that says these."""
    with path.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(HEADS)
        for one in said:
            when = (T0 + timedelta(minutes=one["at"])).isoformat()
            row = (one["kind"], when, one["user"], one["email"], one["name"], one["course"], f"Course {one['course']}")
            writer.writerow((*row, one["score"], one["passed"]))
    return path


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a few rows be many chunks."""
    monkeypatch.setattr(chunks, "ROWS", 5)
    monkeypatch.setattr(chunks, "LEARNERS", 4)
    monkeypatch.setattr(importer, "TRIES", 2)


@pytest.fixture
def begin(engine: Engine) -> Callable[[Path], Import]:
    """Begin the import of a file."""

    def begun(path: Path) -> Import:
        with engine.begin() as db:
            held = imports.begin(db, New("academy", path.name.encode(), b"m", 1, 1, "tests"))
        assert held
        return held

    return begun


def nobody(_: Mark, refused: Mapping[int, str]) -> None:
    """Nothing is refused."""
    raise AssertionError(refused)


def take(pipeline: Pipeline, path: Path, held: Import, refuse: importer.Refuse = nobody) -> Import:
    """Take in what is left of a file."""
    reader = reader_of(path)
    told = Importer(pipeline.engine, pipeline.recorder, refuse)
    parts = chunks.chunks(reader, Translation(as_named(reader)), Mark(held.byte_offset, held.line))
    return max([held, *told.take_all(held, parts, lambda _: None)], key=lambda one: one.byte_offset)


def in_order(said: Said) -> Said:
    """Oldest first, so that every word is news when it comes."""
    return sorted(said, key=lambda one: int(one["at"]))


def test_a_file_ends_in_what_the_same_events_told_live_end_in(
    pipeline: Pipeline,
    put: Put,
    engine: Engine,
    keyring: KeyRing,
    begin: Callable[[Path], Import],
    tmp_path: Path,
) -> None:
    """People, facts, courses and who is due; told once more afterwards nothing changes (rule 8)."""
    said = in_order(history(60, 1))
    held = take(pipeline, path := write(tmp_path / "h.csv", said), begin(tmp_path / "h.csv"))
    imported = standing(engine, keyring)
    assert held.counts["facts"] == len(imported["facts"]) > 30
    assert held.counts["rows"] == len(said)
    pipeline.sync("completion", put([event(**one) for one in said]))
    assert standing(engine, keyring) == imported
    with engine.begin() as db:
        db.exec_driver_sql("TRUNCATE people, links, events, courses, sync_state, inbox, inbox_keys, audit CASCADE")
    for one in said:
        pipeline.sync("completion", put([event(**one)]))
    assert standing(engine, keyring) == imported
    assert path.exists()


def test_a_killed_import_goes_on_where_it_was(
    pipeline: Pipeline,
    engine: Engine,
    keyring: KeyRing,
    begin: Callable[[Path], Import],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed in the middle of each chunk, and after each commit: nothing is doubled and nothing missing."""
    path = write(tmp_path / "h.csv", in_order(history(60, 2)))
    whole = take(pipeline, path, begin(tmp_path / "first"))
    expected = standing(engine, keyring)
    with engine.begin() as db:
        db.exec_driver_sql("TRUNCATE people, links, events, courses, sync_state, inbox, inbox_keys, audit CASCADE")

    held = begin(tmp_path / "second")
    real, luck = imports.advance, random.Random(3)

    def killed(db: Any, *arguments: Any) -> Any:
        advanced, fate = real(db, *arguments), luck.random()
        if advanced and fate < 0.3:
            db.connection.dbapi_connection.commit()
        if fate < 0.6:
            raise KeyboardInterrupt
        return advanced

    def found() -> Import:
        with engine.begin() as db:
            again = imports.find(db, "academy", b"second", b"m")
        assert again
        return again

    monkeypatch.setattr(imports, "advance", killed)
    for _ in range(400):
        try:
            held = take(pipeline, path, held)
            break
        except (KeyboardInterrupt, Overtaken):
            held = found()
    assert held.line == whole.line
    assert held.counts == whole.counts
    assert standing(engine, keyring) == expected


def test_a_file_knows_less_than_the_webhook(
    pipeline: Pipeline, put: Put, engine: Engine, begin: Callable[[Path], Import], tmp_path: Path
) -> None:
    """The same completion, without its score and a day's time: no news, and the score stays (rule 8)."""
    pipeline.sync("completion", put([event(score=92.5, passed=True, at=600)]))
    path = tmp_path / "h.csv"
    path.write_text("type,occurred_at,lms_user_id,course_id\ncourse.completed,2026-11-20,u-1,demo-101\n")
    held = take(pipeline, path, begin(path))
    assert (held.counts["known"], held.counts["facts"]) == (1, 0)
    with engine.begin() as db:
        assert db.exec_driver_sql("SELECT score FROM events").all() == [(92.5,)]


@pytest.fixture
def strict(engine: Engine) -> Iterator[None]:
    """A database that refuses what no translation knows of: a course, and two people of one name."""
    with engine.begin() as db:
        db.exec_driver_sql("ALTER TABLE events ADD CONSTRAINT no_poison CHECK (subject_id <> 'poison')")
        db.exec_driver_sql("CREATE UNIQUE INDEX only_once ON events (subject_id) WHERE subject_id LIKE 'once%%'")
    yield
    with engine.begin() as db:
        db.exec_driver_sql("ALTER TABLE events DROP CONSTRAINT no_poison")
        db.exec_driver_sql("DROP INDEX only_once")


@pytest.mark.parametrize("bad", [[0], [7], [19], [3, 4, 11], list(range(20))])
def test_a_row_that_the_database_refuses_is_left_out_and_everything_else_taken(
    pipeline: Pipeline,
    engine: Engine,
    keyring: KeyRing,
    begin: Callable[[Path], Import],
    tmp_path: Path,
    strict: None,
    bad: list[int],
) -> None:
    """Wherever it stands; the others end as if it had not been there, and it is said with its line."""
    said = in_order(
        [{**one, "user": f"u-{n % 7}", "email": f"p{n % 7}@example.com"} for n, one in enumerate(history(40, 9))]
    )
    said = said[:20]
    kept = write(tmp_path / "f.csv", [one for n, one in enumerate(said) if n not in bad])
    take(pipeline, kept, begin(kept))
    expected = standing(engine, keyring)
    with engine.begin() as db:
        db.exec_driver_sql("TRUNCATE people, links, events, courses, sync_state, inbox, inbox_keys, audit CASCADE")
    refused: dict[int, str] = {}
    path = write(tmp_path / "h.csv", [{**one, "course": "poison"} if n in bad else one for n, one in enumerate(said)])
    held = take(pipeline, path, begin(path), lambda _, lines: refused.update(lines))
    assert refused == {n + 2: "the database refuses it: CheckViolation (no_poison)" for n in bad}
    assert (held.counts["rows"], held.counts["rejected"], held.counts["events"]) == (20, len(bad), 20 - len(bad))
    assert standing(engine, keyring) == expected


def test_of_rows_that_the_database_refuses_together_the_first_is_taken(
    pipeline: Pipeline, engine: Engine, begin: Callable[[Path], Import], tmp_path: Path, strict: None
) -> None:
    """Each half is recorded behind the one before it."""
    path, refused = tmp_path / "h.csv", dict[int, str]()
    rows = "".join(f"course.completed,2020-01-0{n},p{n}@example.com,once-1\n" for n in (1, 2, 3))
    path.write_text(f"type,occurred_at,email,course_id\n{rows}")
    held = take(pipeline, path, begin(path), lambda _, lines: refused.update(lines))
    assert set(refused) < {2, 3, 4}
    assert (len(refused), held.counts["facts"]) == (2, 1)


def test_what_needs_a_decision_waits_in_the_inbox_and_names_its_line(
    pipeline: Pipeline, put: Put, engine: Engine, begin: Callable[[Path], Import], tmp_path: Path
) -> None:
    """An e-mail that belongs to another id is parked like a webhook's, once, however often the file comes."""
    pipeline.sync("completion", put([event()]))
    path = tmp_path / "h.csv"
    rows = "course.completed,2020-01-01,u-2,ada@example.com,c1\ncourse.completed,2020-01-01,u-3,c@example.com,c1\n"
    path.write_text(f"type,occurred_at,lms_user_id,email,course_id\n{rows}")
    held = take(pipeline, path, begin(path))
    assert (held.counts["undecided"], held.counts["told"], held.counts["facts"]) == (1, 1, 1)
    with engine.begin() as db:
        query = "SELECT id, request_id, origin FROM inbox WHERE status = 'received'"
        ((row_id, request, origin),) = db.exec_driver_sql(query).all()
    assert (request, origin) == (f"import:{held.id}:line:2", "import")
    hearing = replace(pipeline, inbound={"academy": Listener(None)})
    recorded = hearing.sync("completion", [row_id])
    assert [(one.status, one.reason) for one in recorded.outcomes] == [("parked", "email_taken")]
    assert take(pipeline, path, begin(tmp_path / "again")).counts["told"] == 0


def test_imported_facts_stay_quiet_and_go_behind_live_work(
    pipeline: Pipeline, engine: Engine, begin: Callable[[Path], Import], tmp_path: Path
) -> None:
    """Nothing of a file stands on a timeline, and nobody is written before live work (rule 9)."""
    loud = pipeline.config.connections["crm"].options.model_copy(update={"activity": "note"})
    crm = pipeline.config.connections["crm"].model_copy(update={"options": loud})
    pipeline.config.connections["crm"] = crm
    take(pipeline, path := write(tmp_path / "h.csv", history(10, 4)), begin(tmp_path / "h.csv"))
    with engine.begin() as db:
        assert db.exec_driver_sql("SELECT count(*) FROM deliveries").scalar_one() == 0
        assert db.exec_driver_sql("SELECT DISTINCT lane FROM sync_state").all() == [(1,)]
        assert (
            db.exec_driver_sql("SELECT count(*) FROM events WHERE import_id IS NULL OR import_line < 2").scalar() == 0
        )
    assert path.exists()


def test_a_learner_from_a_file_lets_go_on_what_was_parked_for_them(
    pipeline: Pipeline, put: Put, engine: Engine, begin: Callable[[Path], Import], tmp_path: Path
) -> None:
    """An event without an e-mail waits for its learner, and a file may be what names them."""
    pipeline.sync("completion", put([event(user="u-9", email=None)]))
    path = tmp_path / "h.csv"
    path.write_text("type,occurred_at,lms_user_id,email,course_id\ncourse.completed,2020-01-01,u-9,n@example.com,c1\n")
    take(pipeline, path, begin(path))
    with engine.begin() as db:
        assert db.exec_driver_sql("SELECT status FROM inbox").all() == [("received",)]


def test_two_at_the_same_file_do_not_both_take_a_chunk(
    pipeline: Pipeline, engine: Engine, begin: Callable[[Path], Import], tmp_path: Path
) -> None:
    """Who was overtaken takes nothing back and adds nothing."""
    path = write(tmp_path / "h.csv", history(10, 5))
    held = begin(path)
    take(pipeline, path, held)
    with engine.begin() as db:
        before = db.exec_driver_sql("SELECT count(*) FROM events").scalar_one()
        assert imports.begin(db, New("academy", path.name.encode(), b"m", 1, 1, "tests")) is None
    with pytest.raises(Overtaken):
        take(pipeline, path, held)
    with engine.begin() as db:
        assert db.exec_driver_sql("SELECT count(*) FROM events").scalar_one() == before


def test_a_chunk_that_is_in_the_way_is_tried_again(
    pipeline: Pipeline, begin: Callable[[Path], Import], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deadlock, or a database that is away for a moment, costs time and nothing else."""
    monkeypatch.setattr(time, "sleep", lambda _: None)
    failures = [OperationalError("", None, Exception("deadlock")) for _ in range(1)]
    real = imports.advance

    def unlucky(*arguments: Any) -> Any:
        if failures:
            raise failures.pop()
        return real(*arguments)

    monkeypatch.setattr(imports, "advance", unlucky)
    path = write(tmp_path / "h.csv", history(10, 6))
    assert take(pipeline, path, begin(path)).counts["rows"] > 5


def test_a_commit_whose_answer_was_lost_is_not_taken_for_somebody_else_s(
    pipeline: Pipeline, engine: Engine, begin: Callable[[Path], Import], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The chunk is in, and the import goes on behind it."""
    monkeypatch.setattr(time, "sleep", lambda _: None)
    real, lost = imports.advance, [True]

    def unanswered(db: Any, *arguments: Any) -> Any:
        advanced = real(db, *arguments)
        if advanced and lost:
            lost.pop()
            db.connection.dbapi_connection.commit()
            raise OperationalError("", None, Exception("the connection was lost in the commit"))
        return advanced

    monkeypatch.setattr(imports, "advance", unanswered)
    said = in_order(history(20, 7))
    path = write(tmp_path / "h.csv", said)
    held = take(pipeline, path, begin(path))
    with engine.begin() as db:
        assert db.exec_driver_sql("SELECT count(*) FROM events").scalar_one() == held.counts["facts"]
    assert held.counts["rows"] == len(said)


def test_the_cost_of_a_file_counts_who_and_what_is_new(
    pipeline: Pipeline, put: Put, engine: Engine, keys: IndexKeys, tmp_path: Path
) -> None:
    """By id and by e-mail; the calls are those of full batches, and none where nothing is new."""
    pipeline.sync("completion", put([event(), event(user="u-5", email="e@example.com")]))
    path = tmp_path / "h.csv"
    rows = [("u-1", ""), ("", "ada@example.com"), ("u-7", "g@example.com"), ("", "g@example.com"), ("u-5", "")]
    said = "".join(f"course.completed,2020-01-01,{user},{email},c1\n" for user, email in rows)
    path.write_text(f"type,occurred_at,lms_user_id,email,course_id\n{said}")
    reader = reader_of(path)
    with Ledger(engine, "academy", keys, T0) as ledger:
        for chunk in chunks.chunks(reader, Translation(as_named(reader))):
            ledger.hear(chunk.said)
        cost = ledger.cost()
    assert (cost.people, cost.known_people, cost.facts, cost.known_facts) == (5, 3, 5, 0)
    assert cost.calls(2) == (3, 3)
    assert cost._replace(known_facts=5).calls(2) == (0, 0)


def test_chunks_that_came_in_before_their_turn_are_not_taken_again(
    pipeline: Pipeline,
    engine: Engine,
    keyring: KeyRing,
    begin: Callable[[Path], Import],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One chunk fails for good, the one behind it is in: mark and counts stop before it, and nothing is doubled."""
    path = write(tmp_path / "h.csv", in_order(history(60, 8, learners=500)))
    whole = take(pipeline, path, begin(tmp_path / "first"))
    expected = standing(engine, keyring)
    with engine.begin() as db:
        db.exec_driver_sql("TRUNCATE people, links, events, courses, sync_state, inbox, inbox_keys, audit CASCADE")
    held = begin(tmp_path / "second")
    reader, is_in = reader_of(path), threading.Event()
    third = list(chunks.chunks(reader, Translation(as_named(reader))))[2].before.offset
    real = imports.advance

    def refused(db: Any, import_id: int, offset: int, done: Any) -> Any:
        if offset == third:
            is_in.wait(10)
            raise ValueError("a mistake of ours")
        advanced = real(db, import_id, offset, done)
        if offset > third:
            db.connection.dbapi_connection.commit()
            is_in.set()
        return advanced

    with monkeypatch.context() as patch:
        patch.setattr(imports, "advance", refused)
        with pytest.raises(ValueError, match="a mistake of ours"):
            take(pipeline, path, held)
    with engine.begin() as db:
        left = imports.get(db, held.id)
    assert left
    assert (left.byte_offset, len(left.ahead)) == (third, 1)
    assert left.counts["rows"] < whole.counts["rows"]
    again = take(pipeline, path, left)
    assert (again.line, again.counts, again.ahead) == (whole.line, whole.counts, {})
    assert standing(engine, keyring) == expected


def test_one_process_at_a_time_is_at_a_file(engine: Engine, begin: Callable[[Path], Import], tmp_path: Path) -> None:
    """Whoever comes meanwhile is told so; after the first one another may go on."""
    held = begin(tmp_path / "h.csv")
    with imports.held(engine, held.id) as is_ours:
        assert is_ours
        with imports.held(engine, held.id) as is_theirs:
            assert not is_theirs
    with imports.held(engine, held.id) as is_ours, engine.begin() as db:
        assert is_ours
        db.exec_driver_sql(CUT)
    with imports.held(engine, held.id) as is_ours:
        assert is_ours
