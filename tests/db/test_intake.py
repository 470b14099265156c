"""Intake on a real Postgres: what one insert promises when others write at the same time."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager

import psycopg
import pytest

from integration.errors import Refused
from integration.model.events import Kind
from integration.storage import inbox
from integration.webhook.intake import Intake, Row


def row(name: str, body: bytes | None = None, request_id: str = "req_1") -> Row:
    """Return a row under this id; its payload is its id unless one is given."""
    payload = body if body is not None else name.encode()
    return Row("academy", inbox.key_of(name), inbox.hash_of(payload), Kind.COMPLETION, payload, request_id)


def run(url: str, story: Callable[[Sequence[Intake], list[int]], Awaitable[None]], processes: int = 1) -> None:
    """Tell a story with so many web processes on one database; the list is what they rang for."""
    rung: list[int] = []

    async def told() -> None:
        async with AsyncExitStack() as stack:
            intakes = [Intake(url, lambda new: rung.extend(row_id for row_id, _ in new)) for _ in range(processes)]
            for one in intakes:
                await one.start()
                stack.push_async_callback(one.stop)
            await story(intakes, rung)

    asyncio.run(asyncio.wait_for(told(), 60))


def everything(url: str) -> list[tuple[object, ...]]:
    """Return (key, payload, status, reason) of every row, having checked that each key belongs to its row."""
    query = """
        SELECT k.key, i.payload, i.status, i.reason
        FROM inbox_keys k FULL JOIN inbox i ON i.id = k.inbox_id AND i.key = k.key AND i.connection = k.connection
        ORDER BY i.id
    """
    with psycopg.connect(url) as db:
        return db.execute(query).fetchall()


@contextmanager
def held(url: str, name: str) -> Iterator[None]:
    """Somebody else has this id in a transaction that does not end."""
    with psycopg.connect(url) as db:
        db.execute("INSERT INTO inbox_keys VALUES ('academy', %s, '', 0)", [inbox.key_of(name)])
        yield
        db.rollback()


def test_a_row_is_stored_as_it_is(database_url: str) -> None:
    """Key, payload and state are what was handed over, byte for byte, and the row is rung for by its id."""
    payload = bytes(range(256)) * 100

    async def story(intakes: Sequence[Intake], rung: list[int]) -> None:
        assert await intakes[0].store([row("a", payload)]) == (1, 0)
        assert len(rung) == 1

    run(database_url, story)
    assert everything(database_url) == [(inbox.key_of("a"), payload, "received", None)]


def test_two_processes_agree_on_who_was_first(database_url: str) -> None:
    """The same events sent to two web processes at once are accepted once each, by either."""
    names = [f"event {n}" for n in range(300)]

    async def story(intakes: Sequence[Intake], rung: list[int]) -> None:
        answers = await asyncio.gather(*(one.store([row(name)]) for name in names for one in intakes))
        assert sum(fresh for fresh, _ in answers) == len(names)
        assert sum(known for _, known in answers) == len(names) * (len(intakes) - 1)
        assert len(rung) == len(names)

    run(database_url, story, processes=3)
    assert len(everything(database_url)) == len(names)


def test_groups_in_opposite_orders_do_not_block_each_other(database_url: str) -> None:
    """However requests are shuffled, rows are written in one order, so that no two groups deadlock (rule 12)."""

    async def story(intakes: Sequence[Intake], _: list[int]) -> None:
        for turn in range(25):
            names = [f"{turn}.{n}" for n in range(200)]
            forth, back = [row(name) for name in names], [row(name) for name in reversed(names)]
            answers = await asyncio.gather(intakes[0].store(forth), intakes[1].store(back))
            assert sum(fresh for fresh, _ in answers) == len(names)

    run(database_url, story, processes=2)
    with psycopg.connect(database_url) as db:
        query = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        assert db.execute(query).fetchone() == (0,)


def test_another_body_under_a_known_id_is_parked(database_url: str) -> None:
    """An id used twice is kept and parked: within one group, in a later one, and only once per body (rule 13)."""

    async def story(intakes: Sequence[Intake], rung: list[int]) -> None:
        assert await intakes[0].store([row("a", b"1"), row("a", b"2"), row("a", b"1")]) == (2, 1)
        assert await intakes[0].store([row("a", b"2"), row("a", b"3")]) == (1, 1)
        assert len(rung) == 1

    run(database_url, story)
    found = [stored[1:] for stored in everything(database_url)]
    assert found == [(b"1", "received", None), (b"2", "parked", "id_reuse"), (b"3", "parked", "id_reuse")]


def test_the_same_id_of_two_connections_is_two_events(database_url: str) -> None:
    """Ids are the sender's own: another connection may use the same."""

    async def story(intakes: Sequence[Intake], _: list[int]) -> None:
        other = row("a", b"other")
        other.connection = "university"
        assert await intakes[0].store([row("a", b"one"), other]) == (2, 0)

    run(database_url, story)
    assert [stored[2] for stored in everything(database_url)] == ["received", "received"]


def test_a_row_postgres_cannot_hold_is_refused_alone(database_url: str) -> None:
    """Among rows that are fine, one that no column can take is refused, and the others are stored (rule 12)."""

    async def story(intakes: Sequence[Intake], rung: list[int]) -> None:
        good = [intakes[0].store([row(f"{n}")]) for n in range(10)]
        bad = intakes[0].store([row("bad", request_id="req_\0")])
        answers = await asyncio.gather(*good, bad, return_exceptions=True)
        assert answers[:-1] == [(1, 0)] * 10
        assert isinstance(answers[-1], Refused)
        assert len(rung) == 10

    run(database_url, story)
    assert len(everything(database_url)) == 10


def test_a_blocked_insert_is_given_up_in_time_and_leaves_nothing_behind(database_url: str) -> None:
    """Behind somebody's lock a sender is told 503; no session of ours stays in the queue, and then all is well."""

    async def story(intakes: Sequence[Intake], rung: list[int]) -> None:
        with held(database_url, "blocked"), psycopg.connect(database_url, autocommit=True) as watcher:
            for _ in range(2):
                started = time.monotonic()
                with pytest.raises(Refused) as refused:
                    await intakes[0].store([row("blocked")])
                assert refused.value.status == 503
                assert time.monotonic() - started < 3
            query = """
                SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND wait_event_type = 'Lock'
            """
            ends = time.monotonic() + 5
            while watcher.execute(query).fetchone() != (0,):
                assert time.monotonic() < ends
                await asyncio.sleep(0.05)
        assert await intakes[0].store([row("blocked")]) == (1, 0)
        assert len(rung) == 1

    run(database_url, story)
    assert len(everything(database_url)) == 1


def test_readiness_is_about_taking_events(database_url: str) -> None:
    """Ready is a database that is there, migrated and takes writes."""
    nowhere = database_url.rpartition("/")[0] + "/nowhere"

    async def ready(url: str) -> bool:
        return await Intake(url, lambda _: None).ready()

    assert asyncio.run(ready(database_url))
    assert not asyncio.run(ready(nowhere))
    assert not asyncio.run(ready("postgresql://nobody@127.0.0.1:1/nothing"))
    assert not asyncio.run(ready(f"{database_url}?options=-c%20default_transaction_read_only%3Don"))
    with psycopg.connect(database_url, autocommit=True) as db:
        db.execute("ALTER TABLE inbox_keys RENAME TO elsewhere")
    assert not asyncio.run(ready(database_url))
