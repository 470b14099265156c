"""The limits of other systems: where our calls are counted, and whether the day's calls will do."""

from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime

import redis
from sqlalchemy import Connection

from integration.config import ConnectionConfig
from integration.delivery import forecast
from integration.delivery.buckets import connect
from integration.errors import ConfigError
from tasks.assembly import Assembly
from tasks.checks.answers import Line

_ABOUT = "budget"
_ADVICE = "Set COURSEWIRE_BUDGET_URL to a Redis, or processes together stay far below what the other side allows."


def counting(process: Assembly) -> list[Line]:
    """Ask where calls are counted whether it answers; without it each process keeps to a quarter of the limit."""
    try:
        url = process.budget_url
    except ConfigError:
        return [Line("skipped", _ABOUT, "where calls are counted is not known without a broker")]
    if url is None:
        return [Line("warning", _ABOUT, "the broker is no Redis: each process counts its calls by itself", _ADVICE)]
    try:
        client = connect(url)
    except ConfigError as error:
        return [Line("failed", _ABOUT, str(error))]
    with closing(client):
        try:
            client.ping()
        except (redis.RedisError, OSError) as error:
            what = f"Redis does not answer ({type(error).__name__}): each process counts its calls by itself"
            return [Line("warning", _ABOUT, what, _ADVICE)]
    return [Line("ok", _ABOUT, "calls to other systems are counted for all processes together")]


def today(db: Connection, named: Mapping[str, ConnectionConfig]) -> list[Line]:
    """Return a line for each connection whose calls a day are limited: what is left, and how long that lasts."""
    lines = []
    for name, connection in named.items():
        found = forecast.daily(db, name, connection.options.timezone, datetime.now(UTC))
        if found and found.hit_at:
            advice = "Ask the vendor for more calls a day, or turn flows to nightly; backfill waits before live work."
            lines.append(Line("warning", name, found.words, advice))
        elif found:
            lines.append(Line("ok", name, found.words))
    return lines
