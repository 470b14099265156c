"""How often each connection may be called: put together from what its system declares and what was learned before."""

from typing import TYPE_CHECKING

from integration.connectors import registry
from integration.delivery.buckets import Buckets
from integration.delivery.budget import Budget
from integration.delivery.limits import Limits
from integration.storage import limits
from integration.storage.base import AWAY, single

if TYPE_CHECKING:
    from tasks.assembly import Assembly


def budgets_of(process: "Assembly") -> dict[str, Budget]:
    """Return the budgets of the connections that are ever called, by name. Raises ConfigError."""
    try:
        with single(process.engine) as db:
            known = limits.learned(db, process.config.connections)
    except AWAY:
        known = {}  # the declared limits until it is back
    buckets, made = Buckets(process.budget_url), {}
    for name, connection in process.config.connections.items():
        system, options = registry.system_of(connection), connection.options
        if registry.is_called(connection):
            of_this = Limits(
                name,
                system.capabilities.rates,
                daily_calls=options.daily_calls,
                timezone=options.timezone,
                learned=known.get(name),
                engine=process.engine,
            )
            reserves = {"reserve": options.reserve, "daily_reserve": options.daily_reserve}
            made[name] = Budget(name, of_this, buckets, read=system.limits, **reserves)
    return made
