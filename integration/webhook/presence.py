"""The presence of an endpoint: it notes each minute that it could take events, beside the requests and not with them.

What was not heard while no endpoint was here is nobody else's silence.
"""

import asyncio
from contextlib import suppress

import psycopg

from integration.storage import attendance

EVERY = 20.0
"""Seconds between two notes: one that fails still leaves its minute another."""
DEADLINE = 5.0
"""Seconds a note may take."""


class Presence:
    """Notes that this process is here, on a database connection of its own that lasts as long as the note."""

    def __init__(self, url: str, every: float = EVERY) -> None:
        """`url` is a libpq connection string."""
        self._url = url
        self._every = every
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to note."""
        self._task = asyncio.create_task(self._run(), name="presence")

    async def stop(self) -> None:
        """Note no more."""
        if self._task:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            # Without a database no event is accepted either, so the minute is rightly not noted.
            with suppress(psycopg.Error, OSError, TimeoutError):
                await self._note()
            await asyncio.sleep(self._every)

    async def _note(self) -> None:
        async with (
            asyncio.timeout(DEADLINE),
            await psycopg.AsyncConnection.connect(self._url, connect_timeout=2, autocommit=True) as db,
        ):
            await db.execute(attendance.NOTE)
