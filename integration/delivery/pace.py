"""How fast a limit may be used: a token bucket by its theoretical arrival time (GCRA), without any clock of its own.

`budget.lua` does the same with the clock of Redis; a test compares the two.
"""

from dataclasses import dataclass
from typing import NamedTuple

from integration.ports import Rate
from integration.storage.sync_state import BACKFILL, LIVE

BURST = 0.08
"""The part of a limit that may go at once. More makes short bursts quicker and the steady pace slower."""

MARGIN_SECONDS = 0.1
"""Calls do not arrive as evenly as they were granted: every window is taken to be this much longer."""

SHARE = 0.2
"""The part that backfill gets while live work would take everything."""

EXPECTED_SECONDS = 1.0
"""Backfill that was told to wait and does not ask again within this time has gone; live then gets everything."""

LEAST = 0.9
"""Calls per window, besides the burst, of what is too small to be divided: never two in one window."""


class Pace(NamedTuple):
    """A limit of `calls` in any `window` seconds, as a bucket: `burst` may go at once, `steady` more in a window.

    `kept` is what others keep of it: any window sees at most burst + steady <= calls - kept grants.
    """

    calls: int
    window: float
    burst: int
    steady: float
    kept: float

    def interval(self, others: float = 0.0) -> float:
        """Return the seconds per call while others make `others` calls in a window."""
        return (self.window + MARGIN_SECONDS) / max(LEAST, self.steady - others)


def pace_of(rate: Rate, reserve: float) -> Pace:
    """Return the pace that leaves the fraction `reserve` of a limit to others."""
    burst = max(1, int(rate.calls * BURST))
    steady = max(LEAST, rate.calls * (1 - reserve) - burst)
    return Pace(rate.calls, rate.seconds, burst, steady, rate.calls * reserve)


@dataclass(slots=True)
class Bucket:
    """One limit in use. Times are seconds on any one clock; a new bucket is full.

    `others` calls in a window are not ours, as of `others_at`; `current` are ours in the window number `index`, and
    `previous` in the one before it.
    """

    arrival: float = 0.0
    live_arrival: float = 0.0
    backfill_until: float = 0.0
    others: float = 0.0
    others_at: float = 0.0
    index: int = 0
    current: int = 0
    previous: int = 0

    def take(self, now: float, pace: Pace, lane: int) -> float:
        """Take one call and return 0.0, or take nothing and return the seconds until it is worth asking again.

        Live goes first: half of the burst is kept free for it. So that backfill does not starve, live is held to
        1 - SHARE while backfill asks; what it may not take fills the bucket up to where backfill is served.
        """
        interval, arrival = pace.interval(self.others), max(self.arrival, now)
        at_once = pace.burst - 1 - (pace.burst // 2 if lane == BACKFILL else 0)
        wait = arrival - now - at_once * interval
        is_shared = lane == LIVE and now < self.backfill_until
        slower, live_arrival = interval / (1 - SHARE), max(self.live_arrival, now)
        if is_shared:
            wait = max(wait, live_arrival - now - (pace.burst - 1) * slower)
        if lane == BACKFILL:
            self.backfill_until = now + max(wait, 0.0) + EXPECTED_SECONDS
        if wait > 0:
            return wait
        self.arrival = arrival + interval
        if is_shared:
            self.live_arrival = live_arrival + slower
        self._turn(now, pace)
        self.current += 1
        return 0.0

    def give_back(self, now: float, pace: Pace, arrival: float) -> None:
        """Return a call that was not made; `arrival` is the bucket's after it was taken.

        Once that has passed the bucket has filled up without it, and returning it would make one call too many.
        """
        if now <= arrival:
            self.arrival -= pace.interval(self.others)
        self._turn(now, pace)
        self.current = max(0, self.current - 1)

    def see(self, now: float, pace: Pace, remaining: int) -> None:
        """Take over how many calls of the window an answer says remain; what is not ours in it is others'.

        More of them count at once, less of them little by little. Never more is given than remains beyond `kept`.
        """
        self._turn(now, pace)
        ours = self.current + self.previous * (1 + self.index - now / pace.window)
        others = max(0.0, pace.calls - remaining - ours)
        if others < self.others:
            others = self.others + (others - self.others) * min(1.0, (now - self.others_at) / pace.window)
        self.others, self.others_at = others, now
        free = remaining - pace.kept
        if free < pace.burst:
            self.hold(now, pace, (1 - free) * pace.interval(others))

    def hold(self, now: float, pace: Pace, seconds: float) -> None:
        """Let nobody take a call for `seconds`; less than nothing leaves so many intervals' worth of calls."""
        self.arrival = max(self.arrival, now + (pace.burst - 1) * pace.interval(self.others) + seconds)

    def _turn(self, now: float, pace: Pace) -> None:
        """Begin a new window where one has ended."""
        index = int(now / pace.window)
        if index != self.index:
            self.previous = self.current if index == self.index + 1 else 0
            self.index, self.current = index, 0
