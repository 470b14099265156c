"""How long work that can wait takes, and waits for a call in the backfill lane, while what is worked on stays ours."""

import time
from collections.abc import Callable

from integration.delivery.budget import Budget
from integration.errors import Reason, RetryLater
from integration.storage.sync_state import BACKFILL

TURN_SECONDS = 300.0
"""How long one turn works before it makes room and rings for the next: each is a process, which costs seconds to start.
"""

LONGEST_WAIT = 15.0
"""Seconds of waiting for a call that are sat out, above the window of any limit; more is left to whoever comes next."""

SLICE = 2.0
"""Seconds after which whoever waits says that they are still there."""


def wait_for_call(budget: Budget, connection: str, still_ours: Callable[[], None]) -> None:
    """Return as soon as a call may be made; `still_ours` renews a lease, and raises where it is lost.

    Raises RetryLater where it would take too long.
    """
    while True:
        still_ours()
        wait = budget.ask(BACKFILL)
        if wait == 0:
            return
        if wait > LONGEST_WAIT:
            raise RetryLater(
                Reason.BUDGET_SPENT, f"the calls of {connection} are used up; nothing was sent", after=wait
            )
        time.sleep(min(wait, SLICE))
