"""When flows that gather are written, by their pace."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, time

from integration.config import Config, Pace
from tasks.recurring import Recurring

TIMES: Mapping[Pace, Recurring] = {
    "hourly": Recurring("hour", time(0)),
    "nightly": Recurring("day", time(2)),
    "weekly": Recurring("week", time(2)),
    "monthly": Recurring("month", time(2)),
}
"""In the time zone of the connection that they go to."""


def following(config: Config, connection: str, pace: Pace) -> datetime:
    """Return when a flow of this pace into a connection is due next, in UTC."""
    return replace(TIMES[pace], zone=config.connections[connection].options.timezone).following(datetime.now(UTC))
