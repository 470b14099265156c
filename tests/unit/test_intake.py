"""Group commit, with a database that does as it is told: what waits together is stored together, or told so."""

import asyncio
import gc
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any, Self

import psycopg
import pytest

from integration.errors import Refused
from integration.model.events import Kind
from integration.storage import inbox
from integration.webhook import intake
from integration.webhook.intake import Intake, Row

BAD = b"bad"


class Cursor:
    def __init__(self, rows: list[tuple[Any, ...]]) -> None:
        self._rows = rows

    async def fetchall(self) -> list[tuple[Any, ...]]:
        return self._rows


class Database:
    """Answers the two statements of intake from memory; `hold` keeps an insert waiting, `failure` ends it."""

    closed = False

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.go.set()
        self.failure: Exception | None = None
        self.inserts: list[list[bytes]] = []
        self.parked: list[bytes] = []
        self._known: dict[tuple[str, bytes], bytes] = {}
        self._ids = count(1)

    @property
    def pgconn(self) -> "Database":
        return self

    def finish(self) -> None:
        self.closed = True

    async def execute(self, query: str, values: dict[str, Any]) -> Cursor:
        if query == inbox.STORE:
            return await self._store(values)
        assert query == inbox.KNOWN
        places = zip(values["connection"], values["key"], strict=True)
        return Cursor([(*place, self._known[place]) for place in places if place in self._known])

    async def _store(self, values: dict[str, Any]) -> Cursor:
        self.inserts.append(values["payload"])
        await self.go.wait()
        if self.failure:
            raise self.failure
        if BAD in values["payload"]:
            raise psycopg.DataError
        if values["status"] == "parked":
            self.parked += values["payload"]
        fresh = []
        for connection, key, body in zip(values["connection"], values["key"], values["body_hash"], strict=True):
            if (connection, key) not in self._known:
                self._known[connection, key] = body
                fresh.append((connection, key, next(self._ids)))
        return Cursor(fresh)


class Bench:
    """An intake on a database that is not there."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.database = Database()
        self.stored: list[tuple[int, Kind]] = []
        self.intake = Intake("postgresql://nobody", self.stored.extend)
        self._monkeypatch = monkeypatch

    async def __aenter__(self) -> Self:
        async def connected() -> Database:
            if self.database.closed:
                self.database.closed = False
            return self.database

        self._monkeypatch.setattr(self.intake, "_connected", connected)
        await self.intake.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.database.go.set()
        await self.intake.stop()

    async def occupy(self) -> "asyncio.Task[tuple[int, int]]":
        """Keep the writer busy with one row, so that what comes now has to wait."""
        self.database.go.clear()
        first = asyncio.create_task(self.intake.store([row("occupied")]))
        while not self.database.inserts:  # noqa: ASYNC110 - nobody could set an event here
            await asyncio.sleep(0)
        return first

    async def wait_for(self, waiting: int) -> None:
        """Return when so many rows wait."""
        while len(self.intake._waiting) < waiting:  # noqa: ASYNC110 - the same
            await asyncio.sleep(0)


def row(name: str, payload: bytes | None = None) -> Row:
    """Return a row under this id; its payload is its id unless one is given."""
    body = payload if payload is not None else name.encode()
    return Row("academy", inbox.key_of(name), inbox.hash_of(body), Kind.COMPLETION, body, f"req_{name}")


def run(monkeypatch: pytest.MonkeyPatch, story: Callable[[Bench], Awaitable[None]]) -> None:
    """Tell a story on a bench of its own."""

    async def told() -> None:
        async with Bench(monkeypatch) as bench:
            await story(bench)

    asyncio.run(asyncio.wait_for(told(), 20))


def test_all_that_wait_become_one_insert(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred requests that wait while one is written are written together, and each gets its own answer."""

    async def story(bench: Bench) -> None:
        first = await bench.occupy()
        others = [asyncio.create_task(bench.intake.store([row(f"{n}")])) for n in range(100)]
        await bench.wait_for(100)
        bench.database.go.set()
        assert await asyncio.gather(first, *others) == [(1, 0)] * 101
        assert [len(group) for group in bench.database.inserts] == [1, 100]

    run(monkeypatch, story)


def test_a_request_of_many_events_is_counted_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    """One answer counts all events of its request, new and known."""

    async def story(bench: Bench) -> None:
        assert await bench.intake.store([row("a"), row("b")]) == (2, 0)
        assert await bench.intake.store([row("b"), row("c"), row("c")]) == (1, 2)

    run(monkeypatch, story)


def test_a_group_is_bounded_in_rows_and_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood is written in groups that the database can take in time, whatever the size of its events."""

    async def story(bench: Bench) -> None:
        first = await bench.occupy()
        small = [row(f"small {n}") for n in range(intake.GROUP + 1)]
        large = [row(f"large {n}", bytes([n]) * (intake.GROUP_BYTES // 3)) for n in range(7)]
        huge = row("huge", b"x" * (intake.GROUP_BYTES + 1))
        others = [asyncio.create_task(bench.intake.store([one])) for one in [*small, *large, huge]]
        await bench.wait_for(len(others))
        bench.database.go.set()
        await asyncio.gather(first, *others)
        assert [len(group) for group in bench.database.inserts] == [1, intake.GROUP, 3, 3, 2, 1]
        assert bench.intake._waiting_bytes == 0

    run(monkeypatch, story)


@pytest.mark.parametrize("by", ["rows", "bytes"])
def test_what_would_pile_up_is_refused_at_once(monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    """While too much waits, a sender is told 503 immediately instead of after its time is up."""

    async def story(bench: Bench) -> None:
        first = await bench.occupy()
        if by == "rows":
            rows = [row(f"{n}") for n in range(intake.WAITING)]
        else:
            rows = [row("big", bytes(intake.WAITING_BYTES))]
        waiting = asyncio.create_task(bench.intake.store(rows))
        await bench.wait_for(len(rows))
        with pytest.raises(Refused) as refused:
            await asyncio.wait_for(bench.intake.store([row("late")]), 0.5)
        assert refused.value.status == 503
        bench.database.go.set()
        await asyncio.gather(first, waiting)
        assert await bench.intake.store([row("later")]) == (1, 0)

    run(monkeypatch, story)


def test_one_bad_row_costs_its_neighbours_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A group the database cannot take is tried row by row: only the row that is wrong is refused (rule 12)."""

    async def story(bench: Bench) -> None:
        first = await bench.occupy()
        good = [asyncio.create_task(bench.intake.store([row(f"{n}")])) for n in range(10)]
        bad = asyncio.create_task(bench.intake.store([row("bad", BAD)]))
        good += [asyncio.create_task(bench.intake.store([row(f"{n}")])) for n in range(10, 20)]
        await bench.wait_for(21)
        bench.database.go.set()
        assert await asyncio.gather(first, *good) == [(1, 0)] * 21
        with pytest.raises(Refused):
            await bad
        assert [len(group) for group in bench.database.inserts] == [1, 21, *[1] * 21]

    run(monkeypatch, story)


def test_a_database_that_fails_refuses_the_group_and_takes_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever went wrong, everybody in the group is told, and the writer goes on over a new connection."""

    async def story(bench: Bench) -> None:
        for failure in (psycopg.OperationalError("gone"), OSError("gone"), psycopg.errors.ReadOnlySqlTransaction()):
            bench.database.failure = failure
            answers = await asyncio.gather(
                *(bench.intake.store([row(f"{n}")]) for n in range(3)), return_exceptions=True
            )
            assert [getattr(answer, "status", None) for answer in answers] == [503, 503, 503]
        bench.database.failure = ValueError("a bug of ours")
        with pytest.raises(ValueError, match="bug"):
            await bench.intake.store([row("unlucky")])
        bench.database.failure = None
        assert await bench.intake.store([row("0")]) == (1, 0)

    run(monkeypatch, story)


def test_a_failed_request_of_many_events_leaves_no_loose_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of its events failed; asyncio must not complain, with the database's words, about those nobody asked for."""
    complaints: list[object] = []

    async def story(bench: Bench) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        bench.database.failure = psycopg.OperationalError("password for ada@example.com")
        with pytest.raises(Refused):
            await bench.intake.store([row("a"), row("b")])
        gc.collect()

    run(monkeypatch, story)
    assert complaints == []


def test_who_gave_up_is_not_stored_behind_their_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sender that was told 503 while its event still waited finds it not stored."""
    monkeypatch.setattr(intake, "DEADLINE", 0.1)

    async def story(bench: Bench) -> None:
        first = await bench.occupy()
        with pytest.raises(Refused):
            await bench.intake.store([row("impatient")])
        with pytest.raises(Refused):
            await first
        bench.database.go.set()
        assert await bench.intake.store([row("patient")]) == (1, 0)
        assert b"impatient" not in [payload for group in bench.database.inserts for payload in group]

    run(monkeypatch, story)


def test_only_what_is_new_is_rung_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers hear of new rows: not of duplicates, and not of what is parked."""

    async def story(bench: Bench) -> None:
        await bench.intake.store([row("a"), row("a"), row("a", b"another body"), row("b")])
        await bench.intake.store([row("a"), row("b", b"yet another")])
        assert bench.stored == [(1, Kind.COMPLETION), (2, Kind.COMPLETION)]
        assert bench.database.parked == [b"another body", b"yet another"]

    run(monkeypatch, story)


def test_what_waits_is_written_before_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopping writes what is waiting first."""

    async def story(bench: Bench) -> None:
        first = await bench.occupy()
        other = asyncio.create_task(bench.intake.store([row("other")]))
        await bench.wait_for(1)
        stopping = asyncio.create_task(bench.intake.stop())
        await asyncio.sleep(0)
        bench.database.go.set()
        assert [await first, await other] == [(1, 0), (1, 0)]
        await stopping

    run(monkeypatch, story)
