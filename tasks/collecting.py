"""When the folders of HR are looked at: a look is due at its times by the clock, whichever beat notices."""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import Connection

from integration.config import Config
from integration.connectors import registry
from integration.storage import hr_looks
from tasks import occasions


def begin_due(db: Connection, config: Config, names: Collection[str], now: datetime | None = None) -> None:
    """Let the folders be looked at that are due at `now` (None: what Postgres says)."""

    def begin(name: str, at: datetime) -> int | None:
        return 1 if hr_looks.due(db, name, at) else None

    occasions.begin_due(db, config, names, now, settings=registry.poll_of, last=hr_looks.last_scheduled, begin=begin)
