"""When LMSs are asked what happened: a poll is a row, unique by connection and time, that any beat may begin."""

from collections.abc import Collection
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import Connection

from integration.config import Config
from integration.connectors import registry
from integration.storage import polls
from tasks import occasions


def begin_due(db: Connection, config: Config, names: Collection[str], now: datetime | None = None) -> list[int]:
    """Begin the polls that are due at `now` (None: what Postgres says); return their ids."""
    begin_one = partial(begin, db, config)
    return occasions.begin_due(
        db, config, names, now, settings=registry.poll_of, last=polls.last_scheduled, begin=begin_one
    )


def begin(db: Connection, config: Config, name: str, at: datetime, *, actor: str = "coursewire") -> int | None:
    """Begin a poll of a connection now; None where there was one for this time, or another one goes on."""
    connection = config.connections[name]
    return polls.begin(
        db,
        name,
        at,
        actor=actor,
        overlap=timedelta(minutes=connection.poll.overlap_minutes),
        look_back=timedelta(days=connection.poll.look_back_days),
        everything=registry.system_of(connection).capabilities.lists_results == "everything",
    )
