"""Rings workers: puts task names and ids on the broker, never anything else.

A ring may be lost or doubled and nothing breaks: Postgres holds the work and the sweeper rings what nobody rang. So
one quick try is enough, and a broker that is away is only counted.
"""

import queue
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from time import monotonic

import structlog

from integration.model.events import Kind

log = structlog.get_logger(__name__)

IDS = 100
"""Most ids of one message: a message is a batch, because a task costs more than the work of one event."""

GATHER_SECONDS = 0.02
"""Least time between two rounds of messages: at 500 events a second one message for ten of them instead of one each."""
BURST, BURST_GATHER_SECONDS = 20, 0.1
"""The same after a round of so many: a worker spends half as much on an event in a batch of 100 as in one of 20, and
who comes in a burst waits for the CRM longer than that."""

Send = Callable[[str, list[object]], None]
"""Publish a task by name with its arguments; raises when the broker does not take it."""


def batches(stored: Sequence[tuple[int, Kind]], size: int = IDS) -> list[tuple[str, list[int]]]:
    """Return (task name, ids) messages of at most `size` ids each."""
    by_kind: dict[Kind, list[int]] = defaultdict(list)
    for row_id, kind in stored:
        by_kind[kind].append(row_id)
    return [
        (f"{kind}.sync", ids[start : start + size])
        for kind, ids in by_kind.items()
        for start in range(0, len(ids), size)
    ]


class Publisher:
    """Publishes from a thread of its own, so that a frozen broker never holds a request up.

    While it waits on the broker, what is stored meanwhile gathers into larger messages. What comes while `backlog`
    groups wait is left to the sweeper.
    """

    def __init__(self, send: Send, *, backlog: int = 1_000) -> None:
        """`send` publishes one message and may block; `backlog` is the most groups kept while it does."""
        self._send = send
        self._queue: queue.Queue[list[tuple[int, Kind]] | None] = queue.Queue()
        self._backlog = backlog
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout: float = 2.0) -> None:
        """Publish what is queued, for at most `timeout` seconds."""
        self._stopped.set()
        self._queue.put(None)
        self._thread.join(timeout)

    def ring(self, stored: list[tuple[int, Kind]]) -> None:
        """Queue ids for publishing; never blocks, never raises."""
        if stored and self._queue.qsize() < self._backlog:
            self._queue.put(stored)

    def _run(self) -> None:
        due = 0.0
        while (first := self._queue.get()) is not None:
            # A lone event is rung for at once; in a burst a message waits a moment for company.
            self._stopped.wait(max(0.0, due - monotonic()))
            gathered, ended = list(first), False
            while not self._queue.empty():
                more = self._queue.get()
                if more is None:
                    ended = True
                    break
                gathered += more
            due = monotonic() + (GATHER_SECONDS if len(gathered) < BURST else BURST_GATHER_SECONDS)
            self._publish(gathered)
            if ended:
                return

    def _publish(self, stored: list[tuple[int, Kind]]) -> None:
        for name, ids in batches(stored):
            try:
                self._send(name, [ids])
            except Exception as error:  # noqa: BLE001 - any broker library, any failure: the sweeper covers it
                log.warning("ring.lost", task=name, ids=len(ids), error=type(error).__name__)
                return
