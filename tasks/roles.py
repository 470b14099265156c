"""The roles of an installation: what each process is started as, alone in a container or all together by `up`."""

import ipaddress
import os
import socket
import sys
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import ParamSpec

import structlog

from integration.config import Config
from integration.connectors import registry
from integration.errors import ConfigError
from integration.observability import logs, probe
from integration.settings import Settings
from tasks import memory
from tasks.assembly import Assembly
from tasks.child import Probe, Role
from tasks.embedded.servers import EmbeddedServers
from tasks.supervisor import Supervisor

log = structlog.get_logger(__name__)

P = ParamSpec("P")

ROLES = ("web", "worker", "beat", "flower")


def web(assembly: Assembly) -> None:
    """Serve webhooks until told to stop."""
    from tasks import web as endpoint  # noqa: PLC0415 - Celery and uvicorn are slow to import, other commands need neither

    _begin(assembly, "web")
    endpoint.serve(assembly)


def worker(assembly: Assembly) -> None:
    """Run a Celery worker on threads: calls to other systems wait, and threads wait at a fraction of the memory."""
    threads = str(assembly.settings.worker_concurrency)
    options = ["--pool", "threads", "--concurrency", threads, "--without-gossip", "--without-mingle"]
    _celery(assembly, "worker", [*options, "--loglevel", "INFO"])


def beat(assembly: Assembly) -> None:
    """Tick the periodic tasks. No schedule file: beat only ticks, what is due stands in Postgres."""
    _celery(assembly, "beat", ["--scheduler", "celery.beat:Scheduler", "--pidfile", "", "--loglevel", "INFO"])


def flower(assembly: Assembly) -> None:
    """Show live workers and failed tasks, read-only. Raises ConfigError where it would be open to the network."""
    settings = assembly.settings
    password = settings.flower_basic_auth.get_secret_value() if settings.flower_basic_auth else ""
    if not password and not _is_loopback(settings.flower_host):
        raise ConfigError(
            f"Flower would be open to everybody on {settings.flower_host}. "
            "Set COURSEWIRE_FLOWER_BASIC_AUTH=user:password, or COURSEWIRE_FLOWER_HOST=127.0.0.1."
        )
    if password and ":" not in password:
        raise ConfigError("COURSEWIRE_FLOWER_BASIC_AUTH must read user:password")
    if password:
        # Not on the command line, where every user of the machine could read it.
        os.environ["FLOWER_BASIC_AUTH"] = password
    options = [f"--address={settings.flower_host}", f"--port={settings.flower_port}", "--read_only=True"]
    _celery(assembly, "flower", [*options, "--max_tasks=10000"])


def everything(settings: Settings, migrate: Callable[[Assembly], None]) -> int:
    """Run all roles on this machine, with embedded servers where no URL is set; return the exit code.

    `migrate` brings the schema to head before any role starts.

    Raises ConfigError, EmbeddedUnavailable or FolderInUse before anything runs.
    """
    database, broker = settings.database_url is None, settings.broker_url is None
    config = Assembly(settings).config  # a wrong file must be said before servers start
    for sentence in unreadable_secrets(config):
        log.warning("secret.missing", cause=sentence)
    servers = EmbeddedServers(settings.data_dir, database=database, broker=broker) if database or broker else None
    with servers or nullcontext():
        settings = settings_with(settings, servers)
        migrate(Assembly(settings))
        return Supervisor(roles(settings), servers.servers if servers else ()).run()


def unreadable_secrets(config: Config) -> list[str]:
    """Return a sentence for each secret that the connections file names and that cannot be read now."""
    named = [("api", token) for token in (config.api.tokens if config.api else ())]
    for connection in config.connections.values():
        webhook = connection.webhook.secrets if connection.webhook else ()
        named += [(connection.name, secret) for secret in (*webhook, *connection.credentials.values())]
    sentences = []
    for place, secret in named:
        try:
            secret.read()
        except ConfigError as error:
            sentences.append(f"{place}: {error}")
    return sentences


def settings_with(settings: Settings, servers: EmbeddedServers | None) -> Settings:
    """Return the settings of child processes: the addresses and the key of the embedded servers filled in."""
    if servers is None:
        return settings
    found: dict[str, str] = {}
    if servers.postgres:
        found["database_url"] = servers.database_url
        if settings.master_keys is None:
            found["master_keys"] = servers.folder.master_keys()
    if servers.valkey:
        found["broker_url"] = servers.broker_url
    return Settings(**{**settings.model_dump(), **found})


def roles(settings: Settings) -> list[Role]:
    """Return what `up` runs; secrets go by environment, never on a command line."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    for name, value in settings.model_dump().items():
        if value is not None:
            shown = value.get_secret_value() if hasattr(value, "get_secret_value") else value
            environment[f"COURSEWIRE_{name.upper()}"] = str(shown)
    # The worker is stopped last: what web has just stored may still be worked off, and a call must end. Web gets more
    # than its own 12 s of politeness.
    how = {"worker": (1, 30.0), "web": (0, 15.0)}
    probes = signs_of_life(settings)
    return [
        Role(
            name,
            [sys.executable, "-m", "tasks.cli", name],
            environment,
            *how.get(name, (0, 10.0)),
            probe=probes.get(name),
        )
        for name in ROLES
    ]


def signs_of_life(settings: Settings, *, deaf: float = probe.DEAF_SECONDS) -> dict[str, Probe]:
    """Return how `up` asks each role whether it works; none for a role whose address is not known.

    `deaf` is for how many seconds a worker may hear nothing.
    """
    probes = {}
    if settings.port:
        probes["web"] = Probe(f"http://{_here(settings.host)}:{settings.port}/healthz")
    if settings.flower_port:
        probes["flower"] = Probe(f"http://{_here(settings.flower_host)}:{settings.flower_port}/healthcheck")
    if settings.broker_url and settings.database_url:
        broker, database = settings.broker_url.get_secret_value(), settings.database_url.get_secret_value()
        host = socket.gethostname()
        # Four in a row are a minute, in which a canary is sent and heard after any outage. And before it has run for
        # as long as it may be deaf, nothing can be held against it.
        probes["worker"] = Probe(
            lambda pid: _well(probe.ask_worker, database, broker, host, pid, allowed=deaf),
            interval=15,
            failures=4,
            grace=deaf,
        )
        probes["beat"] = Probe(lambda _: _well(probe.ask_beat, broker, host), interval=30, grace=60)
    return probes


def _well(ask: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> bool:
    """Say whether it is well, as far as can be known while broker or Postgres is away. Raises Unhealthy."""
    with suppress(probe.Away):
        ask(*args, **kwargs)
    return True


def _here(host: str) -> str:
    """Return where this machine reaches what listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104


def _begin(assembly: Assembly, role: str) -> None:
    logs.configure(assembly.settings.log_format)
    memory.bound()
    registry.validate()
    assert assembly.config  # noqa: S101 - read now, so that a mistake ends the process with its sentence
    assert assembly.ring  # noqa: S101
    log.info("role.started", role=role, pid=os.getpid(), host=assembly.settings.host, port=assembly.settings.port)


def _celery(assembly: Assembly, role: str, options: list[str]) -> None:
    from tasks.app import app  # noqa: PLC0415 - it configures itself from the environment of this role

    if role == "flower":
        logs.configure(assembly.settings.log_format)  # it needs the broker alone, no connections and no keys
    else:
        _begin(assembly, role)
    app.start(["--quiet", role, *options])


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
