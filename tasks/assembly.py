"""Puts a process together from its settings: the only place that sees both rules and pipeline."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any, Literal

from dotenv import load_dotenv
from sqlalchemy import Engine

from integration import config as connections_file
from integration.config import Config, ConnectionConfig
from integration.connectors import registry
from integration.delivery.buckets import address
from integration.delivery.budget import Budget
from integration.delivery.drain import Drain
from integration.delivery.enrollments import Enroller
from integration.delivery.flush import Flusher
from integration.delivery.look import Look
from integration.errors import ConfigError
from integration.hr.collector import Collector
from integration.pipeline import Pipeline
from integration.ports import Inbound
from integration.reconciliation.polling import Poller
from integration.reconciliation.sweep import Sweep
from integration.security.seal import IndexKeys, KeyRing
from integration.settings import Settings
from integration.storage import connections, index_keys
from integration.storage.base import engine_for
from integration.storage.credentials import Grants
from integration.told import Listener
from tasks import paces, readers, writers
from tasks.budgets import budgets_of
from tasks.collectors import collector_of
from tasks.embedded.folder import DataFolder
from tasks.pathways import Curriculum
from tasks.pollers import poller_of
from tasks.reconsideration import Reconsideration
from tasks.sweeps import sweep_of


@dataclass
class Assembly:
    """Everything a process needs, each part made when it is first asked for."""

    settings: Settings
    _lock: threading.RLock = field(default_factory=threading.RLock)

    @cached_property
    def config(self) -> Config:
        """The connections file, with every system known. Raises ConfigError."""
        config = connections_file.load(self.settings.config, registry.poll_of)
        for connection in config.connections.values():
            registry.system_of(connection)
            registry.files(connection)  # says what is missing
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
        """Who takes the webhooks of which connection."""
        made = {name: registry.inbound(connection) for name, connection in self.config.connections.items()}
        return {name: system for name, system in made.items() if system is not None}

    @cached_property
    def listeners(self) -> Mapping[str, Listener]:
        """Who understands what is in the inbox, by connection."""
        return {name: Listener(self.inbound.get(name)) for name in self.config.connections}

    @cached_property
    def pipeline(self) -> Pipeline:
        """From the inbox to what is due."""
        with self._lock, self.engine.begin() as db:
            systems = {name: connection.system for name, connection in self.config.connections.items()}
            connections.register(db, systems)
        return Pipeline(
            self.engine,
            self.config,
            self.listeners,
            self.ring,
            self.keys,
            partial(paces.following, self.config),
            readers.identity_rules,
            self.curriculum.watch,
            frozenset(name for name, one in self.config.connections.items() if registry.enrolls(one)),
        )

    @cached_property
    def budgets(self) -> Mapping[str, Budget]:
        """How often each connection may be called, by its name; only systems that have a limit are in it."""
        with self._lock:
            # Threads that came at once get the same: each of two would count for itself while Redis is away.
            if "budgets" not in self.__dict__:
                self.__dict__["budgets"] = budgets_of(self)
            made: Mapping[str, Budget] = self.__dict__["budgets"]
            return made

    @cached_property
    def flushers(self) -> Mapping[tuple[str, str], Flusher]:
        """From what is due to the systems, by (connection, operation)."""
        made = [writers.flusher_of(self, connection) for connection in self._called()]
        return {(one.connection, one.operation): one for one in made if one is not None}

    @cached_property
    def looks(self) -> Mapping[str, Look]:
        """What looks at contacts and learners that webhooks named and nobody here stands for, by connection."""
        made: list[Look] = [readers.lookup_of(self, flusher) for flusher in self.flushers.values()]
        made += [readers.enricher_of(self, drain) for drain in self.drains.values() if isinstance(drain, Enroller)]
        return {one.connection: one for one in made}

    @cached_property
    def drains(self) -> Mapping[tuple[str, str], Drain[Any, Any]]:
        """What works on all else than contacts, by (connection, operation)."""
        made: list[Drain[Any, Any] | None] = []
        for connection in self._called():
            made += [
                writers.poster_of(self, connection),
                writers.enroller_of(self, connection),
                readers.role_reader_of(self, connection),
                readers.deal_reader_of(self, connection),
                writers.account_writer_of(self, connection),
            ]
        return {(drain.connection, drain.operation): drain for drain in made if drain is not None}

    def _called(self) -> list[ConnectionConfig]:
        return [connection for name, connection in self.config.connections.items() if name in self.budgets]

    @cached_property
    def sweeps(self) -> Mapping[str, Sweep]:
        """What compares contacts with the truth, by connection."""
        return {name: sweep_of(one, self.config, self.curriculum.watch) for (name, _), one in self.flushers.items()}

    @cached_property
    def pollers(self) -> Mapping[str, Poller]:
        """What asks LMSs what happened, by connection."""
        made = [poller_of(self, connection) for connection in self.config.connections.values()]
        return {one.connection: one for one in made if one is not None}

    @cached_property
    def collectors(self) -> Mapping[str, Collector]:
        """What collects the files of HR, by connection."""
        made = [collector_of(self, connection) for connection in self.config.connections.values()]
        return {one.connection: one for one in made if one is not None}

    @cached_property
    def curriculum(self) -> Curriculum:
        """What roles lead to."""
        return Curriculum(self.config, self.ring)

    @cached_property
    def reconsideration(self) -> Reconsideration:
        """How people's pathways are decided again."""
        return Reconsideration(self.config, self.curriculum)


@cache
def this_process() -> Assembly:
    """Return the assembly of this process, made from its environment."""
    return Assembly(settings())


def settings() -> Settings:
    """Return the settings; secrets that stand in `.env` become part of the environment, which wins."""
    load_dotenv(Path(".env"))
    return Settings()
