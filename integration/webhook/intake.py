"""Group commit: all requests waiting at this moment become one multi-row insert, then each is answered.

The database's answer is what a 202 rests on; a group that fails is tried row by row, so that one bad row never
takes its neighbours along (rules 12 and 13).
"""

import asyncio
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import psycopg
import structlog

from integration.errors import Reason, Refused
from integration.model.events import Kind
from integration.storage import arrays, inbox

log = structlog.get_logger(__name__)

DEADLINE = 2.5
"""Seconds a request waits for its commit before it is told 503; a sender that resends finds it deduplicated."""
STATEMENT = 2.0
"""Seconds one insert may take; afterwards the connection is dropped, because its state is unknown."""
GROUP, GROUP_BYTES = 500, 8 * 1024 * 1024
"""Most rows and bytes of one insert; what waits beyond that is the next group."""
WAITING, WAITING_BYTES = 5_000, 64 * 1024 * 1024
"""Most rows and bytes waiting; beyond that the endpoint says 503 at once instead of piling up memory."""

Stored = Callable[[list[tuple[int, Kind]]], None]


@dataclass(slots=True, eq=False)
class Row:
    """One event on its way into the inbox; the payload is sealed. `done` yields whether it was new."""

    connection: str
    key: bytes
    body_hash: bytes
    kind: Kind
    payload: bytes
    request_id: str
    done: asyncio.Future[bool] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Intake:
    """The only writer of the inbox in a web process."""

    def __init__(self, url: str, on_stored: Stored) -> None:
        """`url` is a libpq connection string; `on_stored` is told (id, kind) after each commit and must not block."""
        self._url = url
        self._on_stored = on_stored
        self._waiting: list[Row] = []
        self._waiting_bytes = 0
        self._wake = asyncio.Event()
        self._db: psycopg.AsyncConnection[tuple[Any, ...]] | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to write; connects when the first group comes."""
        self._task = asyncio.create_task(self._run(), name="intake")

    async def stop(self) -> None:
        """Write what waits, then close."""
        if self._task:
            if self._waiting:
                await asyncio.wait([row.done for row in self._waiting], timeout=DEADLINE)
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        await self._drop()

    async def store(self, rows: Sequence[Row]) -> tuple[int, int]:
        """Commit `rows`; return how many were new and how many were known.

        Raises Refused(503) where the database does not confirm in time. Nothing is then half-stored: a row may have
        been kept whole, and the resend of it is a duplicate.
        """
        size = _size(rows)
        if len(self._waiting) + len(rows) > WAITING or self._waiting_bytes + size > WAITING_BYTES:
            raise Refused(503, Reason.DATABASE_AWAY, "too many events wait for the database")
        self._waiting.extend(rows)
        self._waiting_bytes += size
        self._wake.set()
        # Not asyncio.timeout, which costs five times as much as a timer alone.
        timer = asyncio.get_running_loop().call_later(DEADLINE, _fail, rows, TimeoutError())
        try:
            fresh = [await row.done for row in rows]
        except (TimeoutError, psycopg.Error, OSError) as error:
            _fail(rows, error)
            raise Refused(503, Reason.DATABASE_AWAY, "the database did not confirm; send it again") from None
        finally:
            timer.cancel()
        return sum(fresh), len(fresh) - sum(fresh)

    async def ready(self) -> bool:
        """Say whether the database would take an event now: it answers, is migrated, and may be written to."""
        try:
            async with asyncio.timeout(STATEMENT):
                async with await psycopg.AsyncConnection.connect(self._url, connect_timeout=2) as db:
                    await db.execute("SELECT 1 FROM inbox_keys LIMIT 1")
                    cursor = await db.execute("SHOW transaction_read_only")
                    return await cursor.fetchone() == ("off",)
        except (TimeoutError, psycopg.Error, OSError):
            return False

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            group = self._next_group()
            if not self._waiting:
                self._wake.clear()
            # A request that has given up must not be stored behind its back when it can be helped.
            group = [row for row in group if not row.done.done()]
            if group:
                await self._store_group(group)

    def _next_group(self) -> list[Row]:
        count = 0
        for size in accumulate(len(row.payload) for row in self._waiting[:GROUP]):
            if count and size > GROUP_BYTES:
                break
            count += 1
        group, self._waiting = self._waiting[:count], self._waiting[count:]
        self._waiting_bytes -= _size(group)
        return group

    async def _store_group(self, group: list[Row]) -> None:
        try:
            await self._insert(group)
        except psycopg.errors.DataError as error:
            log.warning("intake.group_refused", rows=len(group), error=type(error).__name__)
            if len(group) == 1:
                _fail(group, error)
            else:
                for row in group:
                    await self._store_group([row])
        except (TimeoutError, psycopg.Error, OSError) as error:
            log.warning("intake.database_away", rows=len(group), error=type(error).__name__)
            await self._drop()
            _fail(group, error)
        except Exception as error:  # the writer must outlive anything, or every later request waits in vain
            log.exception("intake.failed", rows=len(group))
            await self._drop()
            _fail(group, error)

    async def _insert(self, group: list[Row]) -> None:
        firsts: dict[tuple[str, bytes], Row] = {}
        for row in group:
            firsts.setdefault((row.connection, row.key), row)
        deadline = asyncio.get_running_loop().time() + STATEMENT
        async with asyncio.timeout_at(deadline):
            db = await self._connected()
        with _cut_off_at(deadline, db):
            fresh = await _write(db, list(firsts.values()), status="received", reason=None)
            known = {place: firsts[place].body_hash for place in firsts if place in fresh}
            known |= await _body_hashes(db, [row for place, row in firsts.items() if place not in fresh])
            # Of an erased person's event the key alone is kept.
            reused = [row for row in group if known.get((row.connection, row.key)) not in (row.body_hash, b"")]
            parked = await self._park_reused(db, reused)
        self._on_stored([(row_id, firsts[place].kind) for place, row_id in fresh.items()])
        accepted = len(fresh) + len(parked)
        # One line for the group: a line for each request cost as much as all the rest of it.
        log.info(
            "webhook.accepted",
            connections=sorted({row.connection for row in group}),
            requests=list(dict.fromkeys(row.request_id for row in group)),
            accepted=accepted,
            duplicates=len(group) - accepted,
        )
        for row in group:
            place = (row.connection, row.key)
            new = (place in fresh and row is firsts[place]) or row in parked
            if not row.done.done():
                row.done.set_result(new)

    async def _park_reused(self, db: psycopg.AsyncConnection[tuple[Any, ...]], rows: list[Row]) -> list[Row]:
        """Store bodies that came under an id already used, under a key of their own, parked (rule 13)."""
        own: dict[tuple[str, bytes], Row] = {}
        for row in rows:
            own.setdefault((row.connection, inbox.hash_of(row.key + row.body_hash)), row)
        if not own:
            return []
        fresh = await _write(db, list(own.values()), status="parked", reason=Reason.ID_REUSE, keys=[k for _, k in own])
        return [own[place] for place in fresh]

    async def _connected(self) -> psycopg.AsyncConnection[tuple[Any, ...]]:
        if self._db is None or self._db.closed:
            self._db = await psycopg.AsyncConnection.connect(
                self._url,
                autocommit=True,
                connect_timeout=2,
                prepare_threshold=1,
                application_name="coursewire web",
                options=f"-c statement_timeout={STATEMENT * 1000:.0f}",
            )
            arrays.register(self._db)
        return self._db

    async def _drop(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            # Not `close()`: that would wait for a server which may be frozen.
            db.pgconn.finish()


@contextmanager
def _cut_off_at(deadline: float, db: psycopg.AsyncConnection[tuple[Any, ...]]) -> Iterator[None]:
    """End the connection under a statement that is not through by `deadline`, which then raises OperationalError.

    Not by cancelling it: psycopg would first ask the server to cancel the query, and wait up to ten seconds for one
    that is frozen or out of reach. A server that is neither has ended the statement by then.
    """

    def cut() -> None:
        with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(db.fileno())) as wire:
            wire.shutdown(socket.SHUT_RDWR)

    timer = asyncio.get_running_loop().call_at(deadline, cut)
    try:
        yield
    finally:
        timer.cancel()


async def _write(
    db: psycopg.AsyncConnection[tuple[Any, ...]],
    rows: list[Row],
    *,
    status: str,
    reason: Reason | None,
    keys: list[bytes] | None = None,
) -> dict[tuple[str, bytes], int]:
    values = {
        "connection": [row.connection for row in rows],
        "key": keys or [row.key for row in rows],
        "body_hash": [row.body_hash for row in rows],
        "kind": [row.kind.value for row in rows],
        "payload": [row.payload for row in rows],
        "request_id": [row.request_id for row in rows],
        "origin": "live",
        "status": status,
        "reason": reason,
    }
    cursor = await db.execute(inbox.STORE, values)
    return {(connection, bytes(key)): row_id for connection, key, row_id in await cursor.fetchall()}


async def _body_hashes(db: psycopg.AsyncConnection[tuple[Any, ...]], rows: list[Row]) -> dict[tuple[str, bytes], bytes]:
    if not rows:
        return {}
    values = {"connection": [row.connection for row in rows], "key": [row.key for row in rows]}
    cursor = await db.execute(inbox.KNOWN, values)
    return {(connection, bytes(key)): bytes(body) for connection, key, body in await cursor.fetchall()}


def _size(rows: Sequence[Row]) -> int:
    return sum(len(row.payload) for row in rows)


def _fail(group: Sequence[Row], error: Exception) -> None:
    for row in group:
        if not row.done.done():
            row.done.set_exception(error)
            row.done.exception()  # seen: a request of several rows raises the first one's and forgets the others
