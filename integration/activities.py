"""Which facts become an activity on a contact's timeline: decided once, while they are recorded (rules 8 and 10).

Only facts that are recorded from then on: who switches activities on later does not find years of them on contacts.
"""

from collections.abc import Callable, Iterable
from datetime import datetime

from sqlalchemy import Connection

from integration.config import Config
from integration.model.activities import WRITE_ACTIVITY, is_activity
from integration.storage import deliveries
from integration.storage.deliveries import Planned
from integration.storage.events import Appended
from integration.storage.sync_state import BACKFILL, LIVE


def plan(db: Connection, config: Config, facts: Iterable[Appended], nightly: Callable[[str], datetime]) -> None:
    """Plan an activity for each fact that is one, in each system that its routes lead to and that shows activities.

    What is replayed, or released after days, makes one as well: it stands on the timeline under its own date and tells
    nobody. It goes behind live work. `nightly` says when a nightly flow into a connection is due next.
    """
    planned: dict[tuple[int, str], Planned] = {}
    for fact in facts:
        if not is_activity(fact.type, fact.passed):
            continue
        for route in config.routes_from(fact.connection):
            kind, pace = config.connections[route.target].options.activity, route.flows.get("completion")
            if kind == "none" or pace is None:
                continue
            lane = LIVE if fact.origin == "live" and pace == "realtime" else BACKFILL
            later = nightly(route.target) if pace == "nightly" else None
            new = Planned(fact.id, route.target, kind, lane, later)
            known = planned.get((fact.id, route.target))
            if known is None or later is None:
                planned[fact.id, route.target] = new
    deliveries.plan(db, WRITE_ACTIVITY, list(planned.values()))
