"""When to try again, and when to stop trying: the numbers of delivery, each with its reason."""

import random
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from integration.errors import Reason
from integration.storage.breakers import TRIP


class Cap(NamedTuple):
    """How much trouble of one kind a record may have: then it is parked (`tries`), then dead (`seconds`). None: any."""

    tries: int | None
    seconds: float | None


_RECORD: Final = Cap(tries=8, seconds=72 * 3600.0)
_SYSTEM: Final = Cap(tries=None, seconds=None)

CAPS: Final[Mapping[Reason, Cap]] = MappingProxyType(
    {
        # The record's own: eight tries, and three days for somebody to mend it on either side.
        Reason.CONTACT_GONE: _RECORD,
        Reason.CONTACT_MERGED: _RECORD,
        Reason.CONFLICT: _RECORD,
        # The other side's: an outage ends nobody's record, however long it lasts.
        Reason.UNKNOWN_OUTCOME: _SYSTEM,
    }
)
"""Per class of trouble. A reason that is not here is decided at once, or is the connection's affair."""

SUSPECT = _RECORD
"""A record on which the system fails while it answers others: it is alone with its trouble, so that ends as well."""

BLAMED: Final = frozenset({Reason.SERVER_ERROR, Reason.MALFORMED_ANSWER, Reason.UNKNOWN_OUTCOME})
"""Failures of a call that one record of it may have caused; a refusal or a pause is nobody's."""

REFUSED_SECONDS = 300.0
"""How long an operation rests that the other side does not permit, or that is not set up there; then it is tried with
one record, so that it heals by itself."""

RECHECK_SECONDS, RECHECK_CAP = 3600.0, 86_400.0
"""A parked person is looked at again after an hour, then ever more rarely, at least daily: sales may have created the
contact, or undone a clash."""

SINGLE_READS = 5
"""Ids of one batch that are asked for one by one; the first that hangs ends the calls of the batch."""

BURST = 20
"""So many events on their way in are a burst: batches then fill by themselves. Fewer would only wait for each other."""

LINGER_LEAST, LINGER_MOST, LINGER_STEP = 0.5, 10.0, 0.025
"""Seconds a drain waits for company in a burst, and how often it looks meanwhile."""
LINGER_SHARE = 1 / 3
"""The part of who is due that it then writes. In 10,000 events of 2,000 people that is about 45 calls; all: 70."""

OVERDUE_SECONDS = LINGER_MOST + 5.0
"""A person who could have been written for so long waits for a drain that is dead: another one may start in a burst."""

SETTLE_SECONDS, SETTLE_PAUSE = 10.0, 0.25
"""How long a worker tries to settle what it has written, and how long it waits in between: a restart of Postgres."""

SHORT_PAUSE = 2.0
"""Seconds of pause that a drain sits out; it leaves a longer one to the sweeper."""
LONGEST_WAIT = 20.0
"""Seconds of short pauses one after the other after which a drain leaves it to the sweeper as well."""

DRAIN_SECONDS = 60.0
"""How long one task drains before it makes room and rings for the next."""

BACKFILL_TURN = 5
"""Each fifth batch starts with whoever waits longest in the backfill lane, so that live traffic never starves it."""

_LEAST = 1.0
_RECORD_BASE, _CAP = 1.0, 900.0
_FIRST_RESTS = (1.0, 2.0, 4.0, 8.0)
_OPEN_RESTS = (30.0, 60.0, 120.0, 240.0, 300.0)
assert len(_FIRST_RESTS) == TRIP - 1  # noqa: S101 - the next failure opens the breaker


def record_backoff(tries: int) -> float:
    """Return seconds until a record may be tried again: full jitter, so that a failed batch does not come as one."""
    return random.uniform(0, min(_CAP, _RECORD_BASE * 2 ** min(tries, 20)))


def recheck(tries: int) -> float:
    """Return seconds until a parked record is looked at again."""
    wait: float = RECHECK_SECONDS * 2 ** min(max(0, tries - 1), 20)
    return min(RECHECK_CAP, wait)


def rests() -> list[float]:
    """Return seconds an operation rests after the first, second, ... failure in a row; the last one holds for all more.

    Equal jitter, because a delay near zero would spend all tries within the outage.
    """
    first = [rest / 2 + random.uniform(0, rest / 2) for rest in _FIRST_RESTS]
    return first + [rest * random.uniform(0.9, 1.1) for rest in _OPEN_RESTS]


def as_asked(seconds: float) -> float:
    """Return seconds to pause where the other side asked for them: in full, and a little longer, each otherwise."""
    seconds = max(seconds, _LEAST)  # "now" would be a loop
    return seconds + random.uniform(0, min(1.0, 0.1 * seconds))


JOINED_SECONDS = 60.0
"""How long after a contact was created it is looked at once more: by then the CRM has put it under its company."""
