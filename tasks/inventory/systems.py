"""The connected systems: doors on both sides, what we may do there, and what makes us move."""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from integration.config import Config, ConnectionConfig, SecretRef
from integration.connectors import registry
from integration.connectors.interface import Interface
from integration.model.accounts import ACCOUNT
from integration.model.identity import contacts
from integration.ports import ANY_CALL
from integration.storage.limits import Learned
from mappings.pathways import asks_deals
from mappings.rules import RuleSet
from tasks.inventory import clock
from tasks.inventory.model import Access, Api, Door, Limit, System


def systems(config: Config, rules: RuleSet, learned: Mapping[str, Learned]) -> Iterator[System]:
    """Yield every connection, in the order of the file; `learned`: what answers taught of its limits."""
    for name, connection in config.connections.items():
        known, interface = registry.system_of(connection), registry.interface(connection)
        yield System(
            name=name,
            system=known.name,
            title=known.title,
            kind=interface.kind,
            owns=interface.owns,
            page=interface.page,
            timezone=connection.options.timezone,
            options=_options(connection),
            access=tuple(_access(config, connection, rules)),
            triggers=tuple(_triggers(config, connection, rules, interface)),
            door=_door(connection, interface),
            api=_api(connection, interface, learned.get(name, Learned())),
        )


def asking(config: Config) -> Door | None:
    """Return where other systems may ask which courses a role needs, None where nobody may."""
    if config.api is None:
        return None
    return Door("/pathways/{role}", "a bearer token of `api:`", tuple(map(place_of, config.api.tokens)))


def place_of(secret: SecretRef) -> str:
    """Return where a secret is kept, and never the secret."""
    return f"env {secret.env}" if secret.env is not None else f"file {secret.file}"


def host(address: str) -> str:
    """Return an address without what may open it: no user, no password, no query."""
    url = urlsplit(address)
    at = url.hostname or ""
    at = f"[{at}]" if ":" in at else at
    port = f":{url.port}" if url.port is not None else ""
    return f"{url.scheme}://{at}{port}{url.path}".rstrip("/")


def _options(connection: ConnectionConfig) -> dict[str, Any]:
    """Return the options that the file names, as it says them."""
    options = connection.options
    said = {name: getattr(options, name) for name in type(options).model_fields if name in options.model_fields_set}
    files = connection.files.model_dump(mode="json") if connection.files else {}
    picked_up = {f"files.{name}": value for name, value in files.items()}
    return said | ({"jwks_url": host(options.jwks_url)} if options.jwks_url else {}) | picked_up


def _door(connection: ConnectionConfig, interface: Interface) -> Door | None:
    if interface.proof is None:
        return None
    webhook = connection.webhook
    return Door(
        path=f"/webhooks/{connection.name}",
        proof=interface.proof,
        secrets=tuple(map(place_of, webhook.secrets)) if webhook else (),
        public_url=host(webhook.public_url) if webhook and webhook.public_url else None,
        expects={kind: _span(within) for kind, within in webhook.expect.items()} if webhook else {},
    )


def _span(within: Any) -> str:
    return within if isinstance(within, str) else f"within {within.total_seconds() / 3600:g} h"


def _api(connection: ConnectionConfig, interface: Interface, learned: Learned) -> Api | None:
    if interface.api is None or interface.address is None:
        return None
    options, declared = connection.options, registry.system_of(connection).capabilities.rates
    limits = [
        Limit(endpoint, *learned.rates.get(endpoint, rate), learned=endpoint in learned.rates)
        for endpoint, rate in sorted(declared.items(), key=lambda one: (one[0] != ANY_CALL, one[0]))
    ]
    return Api(
        address=host(interface.address),
        kind=interface.api,
        auth=interface.auth or "none",
        credentials={name: place_of(secret) for name, secret in connection.credentials.items()},
        limits=tuple(limits),
        reserve=options.reserve,
        daily_calls=options.daily_calls,
        daily_reserve=options.daily_reserve,
        allows_private_hosts=connection.allow_private_hosts,
    )


def _access(config: Config, connection: ConnectionConfig, rules: RuleSet) -> Iterator[Access]:
    """Yield what we may do with which records over there: what the system can, as far as settings and rules use it."""
    able, options = registry.system_of(connection).capabilities, connection.options
    if able.holds_contacts:
        into = [route for route in config.routes if route.target == connection.name]
        unknown = contacts(rules.identity, connection.name).unknown_person
        updates = ("update",) if into or reads_roles(config, connection) else ()
        creates = ("create",) if any((unknown or route.unknown_person) == "create" for route in into) else ()
        lists = ("list",) if clock.comparison(connection) else ()
        yield Access("contacts", ("read", *updates, *creates, *lists), "rules of contact:")
        if any(rule.owner == "lms" for rule in rules.field_rules(connection.name, connection.system, ACCOUNT)):
            yield Access("companies", ("read", "update"), "rules of account:")
        if reads_roles(config, connection) and asks_deals(rules.pathways, connection.name):
            yield Access("deals", ("read",), "role rules that ask for a deal")
        if options.activity != "none":
            yield Access("timeline", ("write",), f"options.activity: {options.activity}")
        if registry.system_of(connection).installer:
            yield Access("definitions of properties", ("list", "create"), "a person, with `coursewire check --apply`")
    if registry.enrolls(connection):
        creates = ("create",) if options.create_users else ()
        yield Access("users", ("look up", *creates), "enrolments" + (", options.create_users" if creates else ""))
        yield Access("enrolments", ("read", "create", "conclude", "remove"), "pathways of role rules and overrides")
        yield Access("courses", ("list",), "a person, with `coursewire courses`")
    if connection.files:
        yield Access("files", ("list", "read", "move"), f"files: {connection.files.pattern}")
    if registry.lists(connection):
        yield Access("results", ("list",), f"poll: it lists {able.lists_results}")


def reads_roles(config: Config, connection: ConnectionConfig) -> bool:
    """Return whether the roles of this connection's contacts are read, and acted on."""
    takes = any("role_change" in route.flows for route in config.routes_from(connection.name))
    return takes and connection.options.role_property is not None


def _triggers(config: Config, connection: ConnectionConfig, rules: RuleSet, interface: Interface) -> Iterator[str]:
    if interface.proof is not None:
        yield "webhook"
    if when := clock.poll(connection):
        yield f"poll {when}"
    if when := clock.comparison(connection):
        yield f"comparison {when}"
    if reads_roles(config, connection) and asks_deals(rules.pathways, connection.name):
        yield "deal that reaches a stage"
