"""Are contacts compared as often as the connections file says?"""

from collections.abc import Mapping

from sqlalchemy import Connection

from integration.config import ConnectionConfig
from integration.connectors import registry
from integration.observability.whynot import moment
from integration.storage import comparisons
from tasks.checks.answers import Line
from tasks.nights import interval, is_late

_ADVICE = (
    "See that `coursewire beat` and a `coursewire worker` run, and what `coursewire reconcile list` says of the last "
    "runs. `coursewire reconcile --connection {name}` compares now."
)


def lines(db: Connection, named: Mapping[str, ConnectionConfig]) -> list[Line]:
    """Return a line for each CRM that was not compared for too long; the others were, or are not due yet."""
    found, standings = [], comparisons.standings(db)
    for name, connection in named.items():
        if not registry.system_of(connection).capabilities.holds_contacts or name not in standings:
            continue
        standing = standings[name]
        since = standing.succeeded_at or standing.first_at
        if is_late(connection.reconcile, since, standing.now):
            last = f"last at {moment(since)}" if standing.succeeded_at else "never to the end"
            what = f"its contacts are to be compared each {connection.reconcile.every}, and were {last}"
            found.append(Line("failed", name, what, _ADVICE.format(name=name)))
        elif interval(connection.reconcile) is not None and standing.succeeded_at:
            found.append(Line("ok", name, f"its contacts were last compared at {moment(standing.succeeded_at)}"))
    return found
