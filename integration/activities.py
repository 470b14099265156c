"""Which facts become an activity on a contact's timeline: decided once, while they are recorded (rules 8 and 10).

Only facts that are recorded from then on: who switches activities on later does not find years of them on contacts.
"""

from collections.abc import Callable, Iterable
from datetime import datetime

from sqlalchemy import Connection

from integration.config import AT_ONCE, Config, Pace
from integration.model.activities import WRITE_ACTIVITY, is_activity
from integration.model.results import IMPORTED
from integration.storage import deliveries
from integration.storage.deliveries import Planned
from integration.storage.events import Appended
from integration.storage.sync_state import BACKFILL, LIVE


def plan(db: Connection, config: Config, facts: Iterable[Appended], later: Callable[[str, Pace], datetime]) -> None:
    """Plan an activity for each fact that is one, in each system that its routes lead to and that shows activities.

    Nothing that an imported file says is one: nobody wants years of learning on a timeline in one night. What is
    replayed, or released after days, makes one as well: it stands there under its own date, behind live work, and
    tells nobody. `later` says when a flow that gathers is due next.
    """
    planned: dict[tuple[int, str], Planned] = {}
    for fact in facts:
        if fact.origin == IMPORTED or not is_activity(fact.type, fact.passed):
            continue
        for route in config.routes_from(fact.connection):
            kind, pace = config.connections[route.target].options.activity, route.flows.get("completion")
            if kind == "none" or pace is None:
                continue
            is_now = pace in AT_ONCE
            lane = LIVE if fact.origin == "live" and is_now else BACKFILL
            due_at = None if is_now else later(route.target, pace)
            new = Planned(fact.id, route.target, kind, lane, due_at)
            known = planned.get((fact.id, route.target))
            if known is None or _is_sooner(due_at, known.not_before):
                planned[fact.id, route.target] = new
    deliveries.plan(db, WRITE_ACTIVITY, list(planned.values()))


def _is_sooner(one: datetime | None, other: datetime | None) -> bool:
    """Say whether a moment comes before another; None is now."""
    return other is not None and (one is None or one < other)
