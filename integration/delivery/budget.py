"""How often a connection may be called: asked before work is claimed, and again by the client before each request.

One budget per connection and process; the processes share what they count through Redis. It knows no vendor: limits
are declared by the connector, then learned from the answers it reads.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import NamedTuple

from integration.delivery.buckets import Buckets, Day, Limit, Taken
from integration.delivery.limits import Limits
from integration.errors import Reason, RetryLater
from integration.ports import ANY_CALL, Seen
from integration.storage.sync_state import BACKFILL, LIVE

WAIT_SECONDS = 4.0
"""How long a call that is about to be made waits for its turn; whoever waits longer gives its rows back."""

FRESH_SECONDS = 0.5
"""How long a granted call may be made: one made much later would fall into a window that others have filled."""

ASK_AGAIN_SECONDS = 300.0
"""The longest wait that is told: limits are raised, and clocks are wrong."""


class _Granted(NamedTuple):
    """A call that this thread may make."""

    at: float
    limit: Limit
    taken: Taken
    day: Day


class _Thread(threading.local):
    """What belongs to the calling thread: its lane, and what was granted to it by endpoint class."""

    def __init__(self) -> None:
        self.lane = LIVE
        self.granted: dict[str, _Granted] = {}


class Budget:
    """The calls of one connection; threads share it. Only `spend` waits, only `spend` raises."""

    def __init__(
        self,
        connection: str,
        limits: Limits,
        buckets: Buckets,
        *,
        read: Callable[[Mapping[str, str]], Seen] | None = None,
        reserve: float = 0.05,
        daily_reserve: float = 0.1,
    ) -> None:
        """`reserve` of each limit stays with the customer's other integrations, `daily_reserve` of the day with live.

        `read` says what the headers of an answer mean; without it only a 429 teaches.
        """
        self._connection = connection
        self._limits = limits
        self._buckets = buckets
        self._read = read
        self._reserve = reserve
        self._daily_reserve = daily_reserve
        self._thread = _Thread()

    def ask(self, lane: int, endpoint: str = ANY_CALL) -> float:
        """Take one call for this thread and return 0.0, or take nothing and return the seconds to wait."""
        if self._has_fresh(endpoint):
            return 0.0
        return self._take(lane, endpoint, self._daily_reserve if lane == BACKFILL else 0.0)

    def give_back(self) -> None:
        """Return what this thread asked for and did not use."""
        while self._thread.granted:
            _, granted = self._thread.granted.popitem()
            self._return(granted)

    def spend(self, endpoint: str = ANY_CALL) -> None:
        """Let one call of this thread pass, at once if it was asked for, else when its turn has come.

        What has begun may use the whole day: the daily reserve is asked before. Raises RetryLater(BUDGET_SPENT) where
        that takes longer than WAIT_SECONDS; nothing was sent then.
        """
        ends = time.monotonic() + WAIT_SECONDS
        while not self._has_fresh(endpoint):
            wait = self._take(self._thread.lane, endpoint, 0.0)
            if time.monotonic() + wait > ends:
                detail = f"the calls of {self._connection} are used up; nothing was sent"
                raise RetryLater(Reason.BUDGET_SPENT, detail, after=wait)
            time.sleep(wait)
        del self._thread.granted[endpoint]

    @contextmanager
    def lane(self, lane: int) -> Iterator[None]:
        """Make the calls of this thread in a lane; without it they are live."""
        before, self._thread.lane = self._thread.lane, lane
        try:
            yield
        finally:
            self._thread.lane = before

    def learn(
        self, endpoint: str, headers: Mapping[str, str], status: int | None, retry_after: float | None = None
    ) -> None:
        """Learn from an answer: its rate-limit headers (names in lower case), its status, its Retry-After in seconds.

        Others use the account as well: our calls never take the last `reserve` of a window, and after a 429 nobody
        calls until that window is over.
        """
        seen = self._read(headers) if self._read else Seen()
        knows_day = self._limits.learn(endpoint, seen)
        limit = self._limit(endpoint)
        seconds: float | None = None
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            seconds = min(limit.rate.seconds if retry_after is None else retry_after, ASK_AGAIN_SECONDS)
        if seconds is not None or seen.remaining is not None or knows_day:
            day = self._day(0.0)
            calls = day.calls if knows_day else None
            self._buckets.hold(limit, day, seconds=seconds, remaining=seen.remaining, calls=calls)
        self._limits.keep(alone=not self._buckets.is_shared)

    def _has_fresh(self, endpoint: str) -> bool:
        granted = self._thread.granted.get(endpoint)
        if granted is None:
            return False
        if time.monotonic() - granted.at <= FRESH_SECONDS:
            return True
        del self._thread.granted[endpoint]
        self._return(granted)
        return False

    def _return(self, granted: _Granted) -> None:
        self._buckets.give_back(granted.limit, granted.taken, granted.day)
        self._limits.add(granted.day.date, -1)

    def _take(self, lane: int, endpoint: str, daily_reserve: float) -> float:
        limit, day = self._limit(endpoint), self._day(daily_reserve)
        at = time.monotonic()
        taken = self._buckets.take(limit, lane, day)
        if taken.calls is not None:
            self._limits.count(day.date, taken.calls)
        elif taken.wait == 0:
            self._limits.add(day.date, 1)
        self._limits.keep(alone=taken.calls is None)
        if taken.wait is None:
            return min(ASK_AGAIN_SECONDS, self._limits.until_midnight())
        if taken.wait == 0:
            self._thread.granted[endpoint] = _Granted(at, limit, taken, day)
        return taken.wait

    def _limit(self, endpoint: str) -> Limit:
        known, rate = self._limits.of(endpoint)
        return Limit(self._connection, known, rate, self._reserve)

    def _day(self, reserve: float) -> Day:
        date, calls = self._limits.today()
        most = self._limits.daily
        return Day(date, None if most is None else int(most * (1 - reserve)), calls)
