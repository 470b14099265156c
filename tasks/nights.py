"""When contacts are compared with the truth: a run is a row, unique by connection and time, that any beat may begin."""

from collections.abc import Collection
from datetime import datetime, timedelta

from sqlalchemy import Connection

from integration.config import Config, Reconcile
from integration.storage import reconciliations
from tasks import occasions

LATE = timedelta(hours=2)
"""How long after its interval a comparison that was not made is missed: a run takes its time."""

_INTERVALS = {"day": timedelta(days=1), "week": timedelta(days=7), "month": timedelta(days=31)}


def begin_due(db: Connection, config: Config, names: Collection[str], now: datetime | None = None) -> list[int]:
    """Begin the runs that are due at `now` (None: what Postgres says), or go on with such as rest; return the ids."""

    def begin(name: str, at: datetime) -> int | None:
        calls = config.connections[name].reconcile.calls
        return reconciliations.begin(db, name, at, actor="coursewire", most_calls=calls)

    return occasions.begin_due(
        db, config, names, now, settings=lambda one: one.reconcile, last=reconciliations.last_scheduled, begin=begin
    )


def interval(settings: Reconcile) -> timedelta | None:
    """Return how often contacts are compared, None where they never are."""
    return _INTERVALS.get(settings.every)


def is_late(settings: Reconcile, since: datetime, now: datetime) -> bool:
    """Say whether a comparison is missed that was last well at `since`."""
    often = interval(settings)
    return often is not None and now - since > often + LATE
