"""Routes that lead nowhere: what the connections file says and nothing can follow from."""

from collections.abc import Iterator

from integration.config import Config, Route
from integration.connectors import registry


def gaps(config: Config) -> Iterator[tuple[str, str]]:
    """Yield what is missing, and what to do about it."""
    for name, connection in config.connections.items():
        able = registry.system_of(connection).capabilities
        is_heard = able.takes_users or (able.receives_webhooks and not able.holds_contacts)
        if is_heard and not config.routes_from(name):
            yield f"no route leads from {name}", "Add a route from it, or its events end as no_route."
    for route in config.routes:
        if "role_change" in route.flows:
            yield from _of_roles(config, route)


def _of_roles(config: Config, route: Route) -> Iterator[tuple[str, str]]:
    source, target = config.connections.get(route.source), config.connections.get(route.target)
    said = f"the route from {route.source} to {route.target} carries role changes"
    if source is None or target is None:
        return
    if not source.options.role_property:
        advice = f"Name the contact's property that holds the role: connections.{route.source}.options.role_property."
        yield f"{said}, and nothing says where a role stands", advice
    if not registry.enrolls(target):
        advice = f"Name base_url and credentials of {route.target}, or take the flow out of the route."
        yield f"{said}, and nobody can be enrolled in {route.target}", advice
