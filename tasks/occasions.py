"""When something is due of a connection: at each of its times once, whoever asks, and late rather than never."""

from collections.abc import Callable, Collection
from datetime import datetime

from sqlalchemy import Connection

from integration.config import Config, ConnectionConfig, Poll, Reconcile
from integration.storage import runs
from mappings import store
from tasks.recurring import Recurring

Begin = Callable[[str, datetime], int | None]
"""Begin the one of a connection that is due at a time, and return its id; None where it is not to be begun."""


def begin_due(
    db: Connection,
    config: Config,
    names: Collection[str],
    now: datetime | None,
    *,
    settings: Callable[[ConnectionConfig], Poll | Reconcile],
    last: Callable[[Connection, str], datetime | None],
    begin: Begin,
) -> list[int]:
    """Begin what is due at `now` (None: what Postgres says) of these connections; return the ids.

    `last` says when the newest one by the clock was due. A time that nobody was there for is made up for, the newest
    alone; nothing is due from before the first rules.
    """
    now = now or runs.clock(db)
    since = store.first_published(db)
    if since is None:
        return []
    begun = []
    for name in sorted(names):
        connection = config.connections[name]
        at = latest(settings(connection), connection.options.timezone, now)
        if at is None or at <= max(since, last(db, name) or since):
            continue
        one = begin(name, at)
        if one is not None:
            begun.append(one)
    return begun


def latest(settings: Poll | Reconcile, zone: str, now: datetime) -> datetime | None:
    """Return the last time up to `now` at which something was due, in UTC; None where nothing ever is."""
    return None if settings.every == "never" else Recurring(settings.every, settings.at, zone).latest(now)
