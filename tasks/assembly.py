"""Puts a process together from its settings: the only place that sees both rules and pipeline."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from functools import cache, cached_property
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any, Literal
from zoneinfo import ZoneInfo

from dotenv import load_dotenv
from sqlalchemy import Connection, Engine

from integration import config as connections_file
from integration.config import Config, ConnectionConfig
from integration.connectors import registry
from integration.connectors.client import CallRecord
from integration.delivery.activities import Poster
from integration.delivery.buckets import Buckets, address
from integration.delivery.budget import Budget
from integration.delivery.drain import Drain
from integration.delivery.enrollments import Enroller
from integration.delivery.flush import Flusher
from integration.delivery.limits import Limits
from integration.delivery.look import Look
from integration.delivery.lookup import Lookup
from integration.delivery.roles import RoleReader
from integration.enrichment import Enricher
from integration.errors import ConfigError
from integration.model.contacts import WRITE_CONTACT
from integration.model.identity import Identity
from integration.pipeline import Pipeline
from integration.ports import Inbound
from integration.security.seal import IndexKeys, KeyRing
from integration.settings import Settings
from integration.storage import connections, deliveries, index_keys, limits
from integration.storage.base import AWAY, engine_for, single
from integration.storage.calls import Call
from integration.storage.credentials import Grants
from mappings import store
from tasks.embedded.folder import DataFolder
from tasks.pathways import Curriculum
from tasks.projection import Projector
from tasks.reconsideration import Reconsideration

NIGHT = time(2, 0)
"""When nightly flows are written, in the time zone of the connection they go to."""


class CallLog(threading.local):
    """The calls a connector made in this thread, on their way into the database."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def note(self, record: CallRecord) -> None:
        """Take down one call; the connector's hook."""
        outcome = str(record.status) if record.status is not None else str(record.failure)
        self.calls.append(Call(record.operation, datetime.now(UTC), outcome, record.records, record.seconds))

    def take(self) -> list[Call]:
        """Hand over the calls made in this thread since the last time."""
        taken, self.calls = self.calls, []
        return taken


@dataclass
class Assembly:
    """Everything a process needs, each part made when it is first asked for."""

    settings: Settings
    _lock: threading.RLock = field(default_factory=threading.RLock)

    @cached_property
    def config(self) -> Config:
        """The connections file, with every system known. Raises ConfigError."""
        config = connections_file.load(self.settings.config)
        for connection in config.connections.values():
            registry.system_of(connection)
        return config

    @cached_property
    def database_url(self) -> str:
        """Where Postgres is: the setting, else the embedded server that runs on the data folder. Raises ConfigError."""
        if self.settings.database_url:
            return self.settings.database_url.get_secret_value()
        return self._embedded("COURSEWIRE_DATABASE_URL", "database_url")

    @cached_property
    def broker_url(self) -> str:
        """Where the broker is, found like the database. Raises ConfigError."""
        if self.settings.broker_url:
            return self.settings.broker_url.get_secret_value()
        return self._embedded("COURSEWIRE_BROKER_URL", "broker_url")

    @cached_property
    def budget_url(self) -> str | None:
        """Where calls to other systems are counted; None = each process by itself. Raises ConfigError."""
        if self.settings.budget_url:
            return self.settings.budget_url.get_secret_value()
        return address(self.broker_url)

    def _embedded(self, variable: str, address: Literal["database_url", "broker_url"]) -> str:
        running = DataFolder(self.settings.data_dir).running()
        url = getattr(running, address, None)
        if url is None:
            raise ConfigError(
                f"{variable} is not set and no embedded server runs on {self.settings.data_dir}. "
                "Start `coursewire up`, or set the variable."
            )
        return str(url)

    @cached_property
    def ring(self) -> KeyRing:
        """The sealing keys. Raises ConfigError where none are set and no embedded server keeps them."""
        if self.settings.master_keys:
            return KeyRing.parse(self.settings.master_keys.get_secret_value())
        if self.settings.database_url:
            raise ConfigError(
                "COURSEWIRE_MASTER_KEYS is not set. Personal data is sealed with it: "
                "make one with `coursewire new-key`, keep it safe, and set it for every process."
            )
        return KeyRing.parse(DataFolder(self.settings.data_dir).master_keys())

    @cached_property
    def engine(self) -> Engine:
        """The pool of this process, a connection per worker thread."""
        return engine_for(self.database_url, pool_size=self.settings.worker_concurrency + 2)

    @cached_property
    def keys(self) -> IndexKeys:
        """The look-up keys, made by the first process of an installation."""
        with self.engine.begin() as db:
            return index_keys.load(db, self.ring)

    def grants(self) -> Grants:
        """Where OAuth tokens are kept. Raises ConfigError where database or keys are not configured."""
        return Grants(self.engine, self.ring, lambda: self.keys)

    @cached_property
    def inbound(self) -> Mapping[str, Inbound]:
        """Who can read the webhooks of which connection."""
        made = {name: registry.inbound(connection) for name, connection in self.config.connections.items()}
        return {name: system for name, system in made.items() if system is not None}

    @cached_property
    def pipeline(self) -> Pipeline:
        """From the inbox to what is due."""
        with self._lock, self.engine.begin() as db:
            systems = {name: connection.system for name, connection in self.config.connections.items()}
            connections.register(db, systems)
        return Pipeline(
            self.engine,
            self.config,
            self.inbound,
            self.ring,
            self.keys,
            self._next_night,
            identity_rules,
            self.curriculum.watch,
            frozenset(name for name, one in self.config.connections.items() if registry.enrolls(one)),
        )

    @cached_property
    def budgets(self) -> Mapping[str, Budget]:
        """How often each connection may be called, by its name; only systems that have a limit are in it."""
        with self._lock:
            # Threads that came at once get the same: each of two would count for itself while Redis is away.
            if "budgets" not in self.__dict__:
                self.__dict__["budgets"] = self._new_budgets()
            made: Mapping[str, Budget] = self.__dict__["budgets"]
            return made

    def _new_budgets(self) -> dict[str, Budget]:
        try:
            with single(self.engine) as db:
                known = limits.learned(db, self.config.connections)
        except AWAY:
            known = {}  # the declared limits until it is back
        buckets, made = Buckets(self.budget_url), {}
        for name, connection in self.config.connections.items():
            system, options = registry.system_of(connection), connection.options
            if registry.is_called(connection):
                of_this = Limits(
                    name,
                    system.capabilities.rates,
                    daily_calls=options.daily_calls,
                    timezone=options.timezone,
                    learned=known.get(name),
                    engine=self.engine,
                )
                reserves = {"reserve": options.reserve, "daily_reserve": options.daily_reserve}
                made[name] = Budget(name, of_this, buckets, read=system.limits, **reserves)
        return made

    @cached_property
    def flushers(self) -> Mapping[tuple[str, str], Flusher]:
        """From what is due to the systems, by (connection, operation)."""
        log = CallLog()
        projector = Projector(self.config, self.ring)
        # A share of the threads each, and one for everything else: a slow system must leave room for the others.
        places = max(1, self.settings.worker_concurrency // (len(self.budgets) + 1))
        made = {}
        for name, connection in self.config.connections.items():
            budget = self.budgets.get(name)
            if budget is None:
                continue  # a system that is never called
            store = registry.contacts(connection, _hearing(log, budget), budget.spend, self.grants)
            if store is not None:
                made[name, WRITE_CONTACT] = Flusher(
                    engine=self.engine,
                    connection=name,
                    operation=WRITE_CONTACT,
                    store=store,
                    ring=self.ring,
                    keys=self.keys,
                    project=projector.contacts,
                    take_calls=log.take,
                    budget=budget,
                    places=BoundedSemaphore(places),
                    on_link=deliveries.wake if connection.options.activity != "none" else None,
                )
        return made

    @cached_property
    def looks(self) -> Mapping[str, Look]:
        """What looks at contacts and learners that webhooks named and nobody here stands for, by connection."""
        made: dict[str, Look] = {}
        for (name, _), flusher in self.flushers.items():
            if system := self.inbound.get(name):
                made[name] = Lookup(
                    engine=self.engine,
                    connection=name,
                    store=flusher.store,
                    system=system,
                    ring=self.ring,
                    keys=self.keys,
                    take_calls=flusher.take_calls,
                    budget=flusher.budget,
                    watching=self.curriculum.watch,
                )
        for (name, _), drain in self.drains.items():
            if isinstance(drain, Enroller) and (system := self.inbound.get(name)):
                made[name] = Enricher(
                    engine=self.engine,
                    connection=name,
                    store=drain.store,
                    system=system,
                    ring=self.ring,
                    keys=self.keys,
                    take_calls=drain.take_calls,
                    budget=drain.budget,
                    rules=identity_rules,
                )
        return made

    @cached_property
    def drains(self) -> Mapping[tuple[str, str], Drain[Any, Any]]:
        """What works on all else than contacts, by (connection, operation)."""
        made: list[Drain[Any, Any] | None] = []
        for connection in self.config.connections.values():
            if connection.name in self.budgets:
                made += [self._poster(connection), self._enroller(connection), self._role_reader(connection)]
        return {(drain.connection, drain.operation): drain for drain in made if drain is not None}

    def _poster(self, connection: ConnectionConfig) -> Poster | None:
        log, budget = CallLog(), self.budgets[connection.name]
        store = registry.activities(connection, _hearing(log, budget), budget.spend, self.grants)
        if store is None:
            return None
        return Poster(engine=self.engine, connection=connection.name, store=store, take_calls=log.take, budget=budget)

    def _enroller(self, connection: ConnectionConfig) -> Enroller | None:
        log, budget = CallLog(), self.budgets[connection.name]
        store = registry.enrollments(connection, _hearing(log, budget), budget.spend, self.grants)
        if store is None:
            return None
        return Enroller(
            engine=self.engine,
            connection=connection.name,
            store=store,
            take_calls=log.take,
            budget=budget,
            ring=self.ring,
            may_create=connection.options.create_users,
        )

    def _role_reader(self, connection: ConnectionConfig) -> RoleReader | None:
        flusher = self.flushers.get((connection.name, WRITE_CONTACT))
        if flusher is None or not connection.options.role_property:
            return None
        return RoleReader(
            engine=self.engine,
            connection=connection.name,
            store=flusher.store,
            take_calls=flusher.take_calls,
            budget=flusher.budget,
            ring=self.ring,
            keys=self.keys,
            watching=self.curriculum.watch,
            decide=self.curriculum.decide,
        )

    @cached_property
    def curriculum(self) -> Curriculum:
        """What roles lead to."""
        return Curriculum(self.config, self.ring)

    @cached_property
    def reconsideration(self) -> Reconsideration:
        """How people's pathways are decided again."""
        return Reconsideration(self.config, self.curriculum)

    def _next_night(self, connection: str) -> datetime:
        zone = ZoneInfo(self.config.connections[connection].options.timezone)
        now = datetime.now(zone)
        tonight = datetime.combine(now.date(), NIGHT, zone)
        return tonight if tonight > now else datetime.combine(now.date() + timedelta(days=1), NIGHT, zone)


def identity_rules(db: Connection) -> Identity:
    """Return the published rules of who is matched with whom."""
    return store.active(db).identity


def _hearing(log: CallLog, budget: Budget) -> Callable[[CallRecord], None]:
    """Return a connector's hook: each call is taken down, and its answer teaches the budget."""

    def hear(record: CallRecord) -> None:
        log.note(record)
        budget.learn(record.endpoint, record.limits, record.status, record.retry_after)

    return hear


@cache
def this_process() -> Assembly:
    """Return the assembly of this process, made from its environment."""
    return Assembly(settings())


def settings() -> Settings:
    """Return the settings; secrets that stand in `.env` become part of the environment, which wins."""
    load_dotenv(Path(".env"))
    return Settings()
