"""What answers taught of a connection's limits: kept here, so that neither a restart nor a flushed Redis forgets it."""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import NamedTuple

from sqlalchemy import Connection

from integration.ports import Rate
from integration.storage.statement import execute

_READ = """
SELECT name, coalesce(limits -> 'rates', '{}') AS rates, daily_limit, daily_remaining, daily_seen_at
FROM connections WHERE name = ANY (%(name)s)
"""

# `rates` by endpoint class; `resets_at`: when the count of the day ends, in epoch seconds; `alone_at`: when a process
# last had to count by itself. The newest word on the day stays, whoever brings it.
_WRITE = """
UPDATE connections SET
    limits = limits || jsonb_build_object('rates', coalesce(limits -> 'rates', '{}') || %(rates)s::jsonb)
        || CASE WHEN %(alone)s THEN jsonb_build_object('alone_at', extract(epoch FROM now())) ELSE '{}' END
        || CASE WHEN daily_seen_at >= %(seen_at)s OR %(seen_at)s::timestamptz IS NULL THEN '{}'
                ELSE jsonb_build_object('resets_at', %(resets_at)s::float8) END,
    daily_limit = CASE WHEN daily_seen_at >= %(seen_at)s THEN daily_limit
                       ELSE coalesce(%(daily_limit)s, daily_limit) END,
    daily_remaining = CASE WHEN daily_seen_at >= %(seen_at)s THEN daily_remaining
                           ELSE coalesce(%(daily_remaining)s, daily_remaining) END,
    daily_seen_at = greatest(daily_seen_at, %(seen_at)s)
WHERE name = %(name)s
"""


class Today(NamedTuple):
    """The calls of the account's day, as last seen; `resets_at` is when it ends."""

    limit: int
    remaining: int
    seen_at: datetime
    resets_at: datetime | None = None


class Learned(NamedTuple):
    """What is known of one connection: the limit per endpoint class, and the day where there is a limit to it."""

    rates: Mapping[str, Rate] = MappingProxyType({})
    today: Today | None = None


def learned(db: Connection, names: Iterable[str]) -> dict[str, Learned]:
    """Return what is known of these connections; one without a row is absent."""
    rows = execute(db, _READ, {"name": list(names)})
    return {
        row.name: Learned(
            {endpoint: Rate(int(calls), float(seconds)) for endpoint, (calls, seconds) in row.rates.items()},
            None
            if row.daily_seen_at is None
            else Today(row.daily_limit or 0, row.daily_remaining or 0, row.daily_seen_at),
        )
        for row in rows
    }


def learn(db: Connection, name: str, news: Learned, *, alone: bool = False) -> None:
    """Keep what a process learned; `alone` = it has to count its calls by itself."""
    today = news.today
    values = {
        "name": name,
        "rates": json.dumps(dict(news.rates)),
        "alone": alone,
        "daily_limit": today.limit if today else None,
        "daily_remaining": today.remaining if today else None,
        "seen_at": today.seen_at if today else None,
        "resets_at": today.resets_at.timestamp() if today and today.resets_at else None,
    }
    execute(db, _WRITE, values)
