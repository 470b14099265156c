"""What goes from where to where, how soon, and what makes it go; and what does not fit together."""

from collections.abc import Iterator

from integration.config import Config, Flow, Route
from integration.connectors import registry
from integration.model.events import EventType
from integration.model.identity import contacts
from mappings.pathways import asks_deals, settle_seconds
from mappings.rules import RuleSet
from tasks.checks.routes import gaps
from tasks.inventory import clock
from tasks.inventory.model import RouteFlow

ROLES = "role_change"


def flows(config: Config, rules: RuleSet) -> Iterator[RouteFlow]:
    """Yield each flow of each route, in the order of the file; routes are counted from 1."""
    for number, route in enumerate(config.routes, 1):
        target = config.connections[route.target]
        for flow, pace in route.flows.items():
            is_role = flow == ROLES
            yield RouteFlow(
                route=number,
                source=route.source,
                target=route.target,
                flow=flow,
                carries=_carries(config, route, flow),
                pace=pace,
                written=_settled(rules, route.source) if is_role else clock.written(pace, target),
                triggers=tuple(_triggers(config, rules, route, flow)),
                unknown_person=None
                if is_role
                else contacts(rules.identity, route.target).unknown_person or route.unknown_person,
            )


def _carries(config: Config, route: Route, flow: Flow) -> tuple[str, ...]:
    if flow == ROLES:
        return (f"role in {config.connections[route.source].options.role_property or 'no property named'}",)
    return tuple(kind.value for kind in EventType if kind.flow == flow)


def _settled(rules: RuleSet, crm: str) -> str:
    waits = sorted(
        {rule.settle for rule in rules.pathways.roles if rule.is_for(crm)}
        or {settle_seconds(rules.pathways, crm, None)}
    )
    span = str(waits[0]) if len(waits) == 1 else f"{waits[0]} to {waits[-1]}"
    return f"once the role was left alone for {span} s"


def _triggers(config: Config, rules: RuleSet, route: Route, flow: Flow) -> Iterator[str]:
    source = config.connections[route.source]
    if registry.interface(source).proof is not None:
        yield "webhook"
    if flow == ROLES:
        if when := clock.comparison(source):
            yield f"comparison {when}"
        if asks_deals(rules.pathways, route.source):
            yield "deal that reaches a stage"
    elif when := clock.poll(source):
        yield f"poll {when}"


def remarks(config: Config, rules: RuleSet) -> Iterator[str]:
    """Yield what the file or the rules say and nothing follows from, and what follows without a route saying so."""
    for what, advice in gaps(config):
        yield f"{what}. {advice}"
    told = {route.target for route in config.routes if ROLES in route.flows}
    taught = {one.course.connection for pathway in rules.pathways.pathways.values() for one in pathway.courses}
    for name in sorted(taught & config.connections.keys() - told):
        if registry.enrolls(config.connections[name]):
            yield f"pathways lead into courses of {name}, though no route carries role changes there"
    for name in sorted(taught - config.connections.keys()):
        yield f"pathways lead into courses of {name}, and no connection is called so"
    for scope in rules.fields:
        systems = {connection.system for connection in config.connections.values()}
        if scope.connection not in config.connections if scope.connection else scope.system not in systems:
            yield f"rules for {scope} are for no connection here"
