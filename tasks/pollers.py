"""How a connection is asked what happened: put together from its settings."""

from typing import TYPE_CHECKING

from integration.config import ConnectionConfig
from integration.connectors import registry
from integration.reconciliation.polling import Poller
from tasks.calls import CallLog, hearing
from tasks.named import named_courses

if TYPE_CHECKING:
    from tasks.assembly import Assembly


def poller_of(process: "Assembly", connection: ConnectionConfig) -> Poller | None:
    """Return what asks a connection, None where it cannot be asked."""
    budget = process.budgets.get(connection.name)
    if budget is None:
        return None
    log = CallLog()
    lister = registry.results(connection, hearing(log, budget), budget.spend, process.grants)
    if lister is None:
        return None
    return Poller(
        engine=process.engine,
        connection=connection.name,
        lister=lister,
        ring=process.ring,
        keys=process.keys,
        budget=budget,
        take_calls=log.take,
        courses=named_courses,
    )
