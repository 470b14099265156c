"""When to try again, and when to stop trying: the numbers of delivery, each with its reason."""

import random

MOST_TRIES = 8
"""Tries of one record for one and the same trouble before a person must look; outages do not count."""

RECHECK_SECONDS, RECHECK_CAP = 3600.0, 86_400.0
"""A parked person is looked at again after an hour, then ever more rarely, at least daily: sales may have created the
contact, or undone a clash."""

OVERDUE_SECONDS = 3.0
"""A person who could have been written for so long waits for a drain that is dead: another one may start."""

SINGLE_READS = 5
"""Ids of one batch that are asked for one by one; the first that hangs ends the calls of the batch."""

LINGER_SECONDS = 0.5
"""How long a drain waits for a full batch while events are still coming in."""
LINGER_STEP = 0.025

SHORT_PAUSE = 2.0
"""Seconds of pause that a drain sits out; it leaves a longer one to the sweeper."""

DRAIN_SECONDS = 60.0
"""How long one task drains before it makes room and rings for the next."""

PATIENCE = 3
"""Lost answers in a row before the connection itself rests; until then only the records concerned wait."""

_LEAST = 1.0
_RECORD_BASE, _CONNECTION_BASE, _CAP = 1.0, 2.0, 900.0


def record_backoff(tries: int) -> float:
    """Return seconds until a record may be tried again: full jitter, so that a failed batch does not come as one."""
    return random.uniform(0, min(_CAP, _RECORD_BASE * 2 ** min(tries, 20)))


def recheck(tries: int) -> float:
    """Return seconds until a parked record is looked at again."""
    wait: float = RECHECK_SECONDS * 2 ** min(max(0, tries - 1), 20)
    return min(RECHECK_CAP, wait)


def connection_backoff(failures: int, asked: float | None) -> float:
    """Return seconds a connection rests after `failures` in a row.

    What the other side `asked` for is honoured in full; otherwise equal jitter, because a delay near zero would
    spend all tries within the outage.
    """
    if asked is not None:
        asked = max(asked, _LEAST)  # "now" would be a loop
        return asked + random.uniform(0, min(1.0, 0.1 * asked))
    ceiling: float = min(_CAP, _CONNECTION_BASE * 2 ** min(failures, 20))
    return ceiling / 2 + random.uniform(0, ceiling / 2)
