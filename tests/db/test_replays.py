"""Much put back by a filter: in slices, at a rate, killed at any moment, paused, resumed, cancelled, on record."""

import threading
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from sqlalchemy import Engine

from integration.errors import Reason
from integration.observability.books import balance
from integration.pipeline import Pipeline
from integration.storage import dead, replays, sync_state
from integration.storage.dead import Chosen
from integration.storage.replays import BURST_SECONDS, SLICE, Replay
from integration.storage.sync_state import BACKFILL
from tests.db.conftest import Put, event
from tests.db.test_dead import die, is_balanced, wrong
from tests.db.test_pipeline import rows

WHO = "user:ada"
FAST = 10_000_000


@pytest.fixture
def dead_events(pipeline: Pipeline, put: Put) -> Callable[[int], list[int]]:
    """Let so many events die of one mistake; returns their ids."""

    def make(number: int) -> list[int]:
        ids = put([wrong(course=f"c-{n}") for n in range(number)])
        for start in range(0, number, 100):
            pipeline.sync("completion", ids[start : start + 100])
        return ids

    return make


def start(engine: Engine, chosen: Chosen | None = None, *, kind: dead.Kind = "event", rate: int = FAST) -> Replay:
    """Begin a replay of what is dead."""
    with engine.begin() as db:
        replay = replays.start(db, kind, chosen or Chosen(), actor=WHO, rate=rate)
    assert replay is not None
    return replay


def now(engine: Engine, replay: Replay) -> Replay:
    """How far it is."""
    with engine.begin() as db:
        found = replays.get(db, replay.id)
    assert found is not None
    return found


def back(engine: Engine) -> int:
    """How many events have been put back."""
    return int(rows(engine, "SELECT count(*) FROM inbox WHERE status = 'received'")[0][0])


def later(engine: Engine, seconds: float) -> None:
    """Let so many seconds pass for every replay."""
    with engine.begin() as db:
        db.exec_driver_sql("UPDATE replays SET updated_at = updated_at - %(by)s", {"by": timedelta(seconds=seconds)})


def test_it_goes_in_slices_until_it_is_done(engine: Engine, dead_events: Callable[[int], list[int]]) -> None:
    """Each sweep takes a slice; at the end all are back, each on record once, and the books balance."""
    dead_events(SLICE + 10)
    replay = start(engine)
    assert (replay.total, replay.replayed, replay.status) == (SLICE + 10, 0, "active")
    assert replays.work(engine).number == SLICE
    assert now(engine, replay).replayed == SLICE
    assert is_balanced(engine)
    assert replays.work(engine).number == 10
    assert replays.work(engine).number == 0
    ended = now(engine, replay)
    assert (ended.status, ended.replayed) == ("done", SLICE + 10)
    assert ended.finished_at is not None
    assert back(engine) == SLICE + 10
    said = rows(engine, "SELECT subject_id, reference FROM audit WHERE action = 'dead.replay'")
    assert len(said) == len(set(said)) == SLICE + 10
    assert {reference for _, reference in said} == {f"replay:{replay.id}"}
    assert rows(engine, "SELECT actor, outcome FROM audit WHERE action = 'replay'") == [(WHO, "started")]
    with engine.begin() as db:
        assert (balance(db).unaccounted, balance(db).waiting) == (0, SLICE + 10)


def test_a_slice_and_how_far_it_came_are_one(
    engine: Engine, dead_events: Callable[[int], list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the rows and the note of how far it came, neither is kept; the next sweep does both."""
    dead_events(5)
    replay = start(engine)
    with monkeypatch.context() as broken:
        broken.setattr(replays, "_ADVANCE", "SELECT pg_terminate_backend(pg_backend_pid())")
        with pytest.raises(Exception, match="terminat"):
            replays.work(engine)
    assert back(engine) == 0
    assert rows(engine, "SELECT count(*) FROM attempts") == [(0,)]
    assert now(engine, replay).last_id == 0
    assert replays.work(engine).number == 5
    assert now(engine, replay).status == "done"


@pytest.mark.parametrize(("rate", "seconds", "number"), [(600, 2.0, 20), (60, 2.0, 2), (1, 59.0, 0), (1, 61.0, 1)])
def test_it_keeps_its_rate(
    engine: Engine, dead_events: Callable[[int], list[int]], rate: int, seconds: float, number: int
) -> None:
    """After the first burst no more than the rate allows in the time that has passed, and at a slow one not nothing."""
    dead_events(130)
    replay = start(engine, rate=rate)
    with engine.begin() as db:
        db.exec_driver_sql("UPDATE replays SET updated_at = now()")  # the burst is used up
    later(engine, seconds)
    assert replays.work(engine).number == number
    assert now(engine, replay).replayed == number


def test_time_not_used_up_is_not_lost(engine: Engine, dead_events: Callable[[int], list[int]]) -> None:
    """At 45 a minute, sweeps every two seconds come to 45 in a minute, not to 30."""
    dead_events(80)
    replay = start(engine, rate=45)
    with engine.begin() as db:
        db.exec_driver_sql("UPDATE replays SET updated_at = now()")
    for _ in range(30):
        later(engine, 2.0)
        replays.work(engine)
    assert 44 <= now(engine, replay).replayed <= 46


def test_a_sweeper_that_was_away_does_not_catch_up_all_at_once(
    engine: Engine, dead_events: Callable[[int], list[int]]
) -> None:
    """After an hour without sweeps the first two take a slice and a burst, not an hour's worth."""
    dead_events(1_200)
    start(engine, rate=600)
    later(engine, 3600)
    assert replays.work(engine).number == SLICE
    assert replays.work(engine).number <= BURST_SECONDS * 600 / 60 + 1


def test_what_dies_again_or_later_is_not_taken(
    engine: Engine, pipeline: Pipeline, dead_events: Callable[[int], list[int]]
) -> None:
    """A replay ends: what dies again, and what dies after it began, waits for the next decision."""
    first = dead_events(3)
    replay = start(engine, rate=6)
    assert replays.work(engine).number == 1
    pipeline.sync("completion", first)
    later_ones = dead_events(2)
    with engine.begin() as db:
        db.exec_driver_sql("UPDATE replays SET filter = filter || '{\"rate\": 6000}'")
    while now(engine, replay).status == "active":
        replays.work(engine)
    assert now(engine, replay).replayed == 3
    states = rows(engine, "SELECT status FROM inbox WHERE id = ANY(%(ids)s) ORDER BY id", ids=[first[0], *later_ones])
    assert states == [("dead",)] * 3


def test_a_person_who_dies_later_is_not_taken(engine: Engine, pipeline: Pipeline, put: Put) -> None:
    """Rows of people live on, so it is the time of their death that counts and not their number."""
    pipeline.sync("completion", put([event(user=f"u-{n}", email=f"u{n}@example.com") for n in range(3)]))
    ids = die(engine)
    with engine.begin() as db:
        db.exec_driver_sql("UPDATE sync_state SET status = 'in_step' WHERE id = %(id)s", {"id": ids[1]})
    replay = start(engine, kind="person")
    with engine.begin() as db:
        db.exec_driver_sql("UPDATE sync_state SET status = 'due', not_before = now() WHERE id = %(id)s", {"id": ids[1]})
    assert die(engine) == [ids[1]]
    assert replays.work(engine).number == 2
    assert now(engine, replay).status == "done"
    found = rows(engine, "SELECT status, lane FROM sync_state ORDER BY id")
    assert found == [("due", BACKFILL), ("dead", 0), ("due", BACKFILL)]


def test_a_filter_is_kept_whole(engine: Engine, pipeline: Pipeline, put: Put) -> None:
    """What was chosen is what is put back, whoever works it off."""
    pipeline.sync("completion", put([wrong(), event(course=None)]))
    pipeline.sync("completion", put([wrong()], connection="campus"))
    chosen = Chosen(connection="academy", reason="invalid_event", since=datetime.fromisoformat("2026-01-01T00:00:00Z"))
    replay = start(engine, chosen)
    assert (replay.chosen.since, replay.total) == (chosen.since, 1)
    replays.work(engine)
    assert rows(engine, "SELECT connection, status FROM inbox ORDER BY id") == [
        ("academy", "received"),
        ("academy", "dead"),
        ("campus", "dead"),
    ]
    with engine.begin() as db:
        assert replays.start(db, "person", chosen, actor=WHO) is None


def test_it_is_paused_resumed_and_cancelled(engine: Engine, dead_events: Callable[[int], list[int]]) -> None:
    """While it is paused nothing moves; resumed it goes on where it was; cancelled it stays where it is."""
    dead_events(30)
    replay = start(engine, rate=60)

    def turn(how: replays.Turn) -> bool:
        with engine.begin() as db:
            return replays.turn(db, replay.id, how, actor=WHO)

    assert replays.work(engine).number == 10
    assert turn("pause")
    later(engine, 100)
    assert replays.work(engine).number == 0
    assert not turn("pause")
    assert turn("resume")
    later(engine, 10)
    assert replays.work(engine).number == 10
    assert turn("cancel")
    later(engine, 10)
    assert replays.work(engine).number == 0
    assert not turn("resume")
    ended = now(engine, replay)
    assert (ended.status, ended.replayed, back(engine)) == ("cancelled", 20, 20)
    said = rows(engine, "SELECT outcome FROM audit WHERE action = 'replay' ORDER BY id")
    assert said == [("started",), ("paused",), ("resumed",), ("cancelled",)]
    assert is_balanced(engine)


def test_two_sweepers_at_once_put_nothing_back_twice(engine: Engine, dead_events: Callable[[int], list[int]]) -> None:
    """Two beats by accident: each row goes back once, and the count is right."""
    dead_events(SLICE * 2)
    replay = start(engine)
    gate = threading.Barrier(4)

    def sweep() -> None:
        gate.wait()
        for _ in range(10):
            replays.work(engine)

    threads = [threading.Thread(target=sweep) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    while now(engine, replay).status == "active":
        replays.work(engine)
    assert now(engine, replay).replayed == back(engine) == SLICE * 2
    assert rows(engine, "SELECT count(*) FROM attempts") == [(SLICE * 2,)]


def test_held_people_are_released_for_a_route_that_creates_now(engine: Engine, pipeline: Pipeline, put: Put) -> None:
    """Parked people go the same way: due now, behind live news, whatever their next look was."""
    pipeline.sync("completion", put([event(user=f"u-{n}", email=f"u{n}@example.com") for n in range(3)]))
    die(engine, Reason.UNKNOWN_PERSON, status="parked", after=3600.0)
    start(engine, Chosen("parked", reason="unknown_person"), kind="person")
    done = replays.work(engine)
    assert (done.number, {place[0] for place in done.places}) == (3, {"crm"})
    with engine.begin() as db:
        assert sync_state.backlog(db, "crm", "contact.upsert", burst=1).due == 3
    said = rows(engine, "SELECT DISTINCT action, outcome FROM audit WHERE subject_type = 'person'")
    assert said == [("parked.release", "unknown_person")]
    assert is_balanced(engine)
