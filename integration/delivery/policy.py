"""When to try again, and when to stop trying: the numbers of delivery, each with its reason."""

import random

MOST_TRIES = 8
"""Tries of one record for one and the same trouble before a person must look; outages do not count."""

RECHECK_SECONDS = 3600.0
"""How often a parked person is looked at again: sales may have created the contact, or undone a clash."""

LINGER_SECONDS = 0.5
"""How long a drain waits for a full batch while events are still coming in."""
LINGER_STEP = 0.025

SHORT_PAUSE = 2.0
"""Seconds of pause that a drain sits out; it leaves a longer one to the sweeper."""

DRAIN_SECONDS = 60.0
"""How long one task drains before it makes room and rings for the next."""

PATIENCE = 3
"""Lost answers in a row before the connection itself rests; until then only the records concerned wait."""

_RECORD_BASE, _CONNECTION_BASE, _CAP = 1.0, 2.0, 900.0


def record_backoff(tries: int) -> float:
    """Return seconds until a record may be tried again: full jitter, so that a failed batch does not come as one."""
    return random.uniform(0, min(_CAP, _RECORD_BASE * 2**tries))


def connection_backoff(failures: int, asked: float | None) -> float:
    """Return seconds a connection rests after `failures` in a row.

    What the other side `asked` for is honoured in full; otherwise equal jitter, because a delay near zero would
    spend all tries within the outage.
    """
    if asked is not None:
        return asked + random.uniform(0, min(1.0, 0.1 * asked))
    ceiling: float = min(_CAP, _CONNECTION_BASE * 2 ** min(failures, 20))
    return ceiling / 2 + random.uniform(0, ceiling / 2)
