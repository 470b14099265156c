"""What this installation consists of, asked piece by piece: settings, configuration, keys, servers, connections."""

from collections.abc import Iterator, Mapping
from functools import partial

from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from integration.config import Config, ConnectionConfig, SecretRef
from integration.connectors import registry
from integration.errors import ConfigError, CoursewireError
from integration.ports import WhatIsWanted
from integration.security.seal import KeyRing
from mappings import store
from tasks.assembly import Assembly, settings
from tasks.checks import hr, limits, routes, rules, servers
from tasks.checks.answers import Level, Line, begin
from tasks.checks.wanted import of_connection
from tasks.saying import count, wrong_settings


def run() -> Iterator[Line]:
    """Ask everything at once and yield the answers in order: settings, keys, database, broker, budget, connections."""
    try:
        process = Assembly(settings())
    except ValidationError as error:
        for sentence in wrong_settings(error):
            yield Line("failed", "settings", sentence, "Correct the variable.")
        return
    config, lines = _configuration(process)
    yield from lines
    ring, lines = _keys(process)
    yield from lines
    named = config.connections if config else {}
    answers = [
        begin("database", partial(servers.database, process, ring, named)),
        begin("rules", partial(_rule_files, process, config)),
        begin("broker", partial(servers.broker, process)),
        begin("budget", partial(limits.counting, process)),
        *(begin(name, partial(_connection, process, one)) for name, one in named.items()),
    ]
    for answer in answers:
        yield from answer()


def _configuration(process: Assembly) -> tuple[Config | None, list[Line]]:
    about, path = "configuration", process.settings.config
    try:
        registry.validate()
        config = process.config
    except ConfigError as error:
        advice = "Correct the connections file." if path.is_file() else ""
        return None, [Line("failed", about, line, advice) for line in str(error).splitlines()]
    found = [
        Line(
            "ok", about, f"{path}: {count(len(config.connections), 'connection')}, {count(len(config.routes), 'route')}"
        )
    ]
    found += [Line("warning", about, what, advice) for what, advice in routes.gaps(config)]
    tokens = {f"api.tokens[{place}]": ref for place, ref in enumerate(config.api.tokens if config.api else ())}
    found += [Line("failed", about, f"{place}: {why}") for place, why in _read(tokens).items() if why]
    return config, found


def _keys(process: Assembly) -> tuple[KeyRing | None, list[Line]]:
    try:
        ring = process.ring
    except (ConfigError, OSError) as error:
        return None, [Line("failed", "keys", str(error), "Set COURSEWIRE_MASTER_KEYS for every process alike.")]
    return ring, [Line("ok", "keys", "the master keys can be read")]


def _connection(process: Assembly, config: ConnectionConfig) -> list[Line]:
    secrets = _secrets(config)
    unreadable = [Line("failed", config.name, f"{place}: {why}") for place, why in secrets.items() if why]
    if unreadable:
        return unreadable
    lines = [Line("ok", config.name, f"{count(len(secrets), 'secret')} can be read")] if secrets else []
    try:
        doctor = registry.doctor(config, process.grants)
    except ConfigError as error:
        return [*lines, Line("failed", config.name, str(error), "Correct the connections file.")]
    for finding in doctor.check(_wanted(process, config)) if doctor else ():
        level: Level = "ok" if finding.ok else "failed"
        lines.append(Line(level, config.name, finding.what, finding.advice))
    return [*lines, *hr.mapping(process.settings.config.parent, config), *_deals(process, config)]


def _rule_files(process: Assembly, config: Config | None) -> list[Line]:
    """Return whether the rule files are published; nothing where the published ones cannot be read."""
    try:
        with process.engine.begin() as db:
            return rules.lines(db, config) if config else []
    except (ConfigError, CoursewireError, LookupError, SQLAlchemyError):
        return []


def _deals(process: Assembly, config: ConnectionConfig) -> list[Line]:
    """Return whether deals can be read, where a published rule asks for them."""
    try:
        with process.engine.begin() as db:
            watch = process.curriculum.watch(db, config.name)
    except (ConfigError, CoursewireError, LookupError, SQLAlchemyError):
        return []
    if watch is None or watch.asks_for is None:
        return []
    source = registry.deals(config, grants=process.grants)
    if source is None:
        what = "role rules ask for deals, and none can be read from this system"
        return [Line("failed", config.name, what, "Name another connection in these rules, or leave out `deal`.")]
    return [Line("ok" if one.ok else "failed", config.name, one.what, one.advice) for one in source.check()]


def _wanted(process: Assembly, config: ConnectionConfig) -> WhatIsWanted | None:
    """Return what the published rules write there; None where they cannot be read, which the database's lines say."""
    try:
        with process.engine.begin() as db:
            published = store.active(db)
    except (ConfigError, CoursewireError, LookupError, SQLAlchemyError):
        return None
    return lambda known: of_connection(published, config.name, config.system, known).wanted


def _secrets(config: ConnectionConfig) -> dict[str, str]:
    """Return where the secrets of a connection are named, and why one cannot be read ('' = it can)."""
    named: dict[str, SecretRef] = {f"credentials.{name}": ref for name, ref in config.credentials.items()}
    if config.webhook:
        named |= {f"webhook.secrets[{place}]": ref for place, ref in enumerate(config.webhook.secrets)}
    return _read(named)


def _read(named: Mapping[str, SecretRef]) -> dict[str, str]:
    """Return why each of these cannot be read ('' = it can)."""
    found = {}
    for place, ref in named.items():
        try:
            ref.read()
        except (ConfigError, UnicodeDecodeError) as error:
            found[place] = str(error) if isinstance(error, ConfigError) else "it is no text"
        else:
            found[place] = ""
    return found
