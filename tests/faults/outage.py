"""An outage as long as a real one, in three flavours, with no wait made shorter: `make outage`.

    python -m tests.faults.outage --seconds 90

While events keep coming in, the CRM refuses connections, then takes them and says nothing, then answers 503. Each time
the calls made meanwhile are counted, and how long the backlog takes to drain by itself once the CRM is back. In the end
the whole history is judged (`tests.faults.history`). The exit code is 1 when a promise was broken.
"""

import argparse
import base64
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from integration.security.seal import new_key
from scripts.sandbox.deliveries import Delivery
from scripts.sandbox.faults import fault
from tests.faults.installation import settled
from tests.faults.wired import Wired, wired

LEARNERS = 40
DRAIN_SECONDS = 300.0
TRIED = "SELECT coalesce(sum(calls), 0) FROM api_calls"
UNDONE = "SELECT count(*) FROM sync_state WHERE status IN ('dead', 'parked')"


@dataclass(frozen=True)
class Flavour:
    """A way to be away, and the way back."""

    name: str
    begin: Callable[[Wired], object]
    end: Callable[[Wired], object]


FLAVOURS = (
    Flavour("connections refused", lambda home: home.to_crm.refuse(), lambda home: home.to_crm.heal()),
    Flavour("connections taken, no word", lambda home: home.crm.freeze(), lambda home: home.crm.freeze(frozen=False)),
    Flavour("503", lambda home: home.crm.set_faults(fault("error", status=503)), lambda home: home.crm.set_faults()),
)


def suffer(home: Wired, flavour: Flavour, seed: int, seconds: float) -> str:
    """Let one outage pass while its story is told; return what to print about it."""
    story = home.tell(seed, learners=LEARNERS)
    before = int(str(home.ask(TRIED)))
    flavour.begin(home)
    began = time.monotonic()
    _trickle(home, story, seconds)
    time.sleep(max(0.0, began + seconds - time.monotonic()))
    calls, undone = int(str(home.ask(TRIED))) - before, home.ask(UNDONE)
    flavour.end(home)
    healed = time.monotonic()
    settled(home.engine(), DRAIN_SECONDS, hasten=False)
    drained = time.monotonic() - healed
    return (
        f"{flavour.name:28} {len(story):5,} events  {calls:4} calls  {undone} put aside  drained {drained:5.1f} s after"
    )


def _trickle(home: Wired, deliveries: Sequence[Delivery], seconds: float) -> None:
    """Deliver evenly over the outage, a second's worth at a time."""
    share = max(1, round(len(deliveries) / max(1.0, seconds * 0.9)))
    for start in range(0, len(deliveries), share):
        began = time.monotonic()
        home.accept(list(deliveries[start : start + share]))
        time.sleep(max(0.0, began + 1 - time.monotonic()))


def _say(line: object) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="make outage", description="An outage in three flavours, nothing hurried.")
    parser.add_argument("--seconds", type=float, default=90, help="how long each lasts")
    asked = parser.parse_args(arguments)
    with wired(f"soak:{base64.b64encode(new_key()).decode()}") as home:
        for number, flavour in enumerate(FLAVOURS):
            _say(suffer(home, flavour, 900 + number, asked.seconds))
        found = home.violations()
    for one in found:
        _say(one)
    _say("every promise held" if not found else f"{len(found)} promises were broken")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
