"""What both contenders stand on: PostgreSQL, Valkey, the CRM and the load generator, fresh databases, settings."""

import base64
import contextlib
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

import psycopg
import redis
from psycopg import sql
from pydantic import SecretStr

from integration.settings import Settings
from scripts.bench import crm as crm_process
from scripts.bench.gun import Gun
from scripts.bench.portal import Crm
from scripts.bench.process import Process, plain_environment
from tasks.assembly import Assembly
from tasks.cli import migrate
from tasks.embedded.folder import DataFolder
from tasks.embedded.process import free_port
from tasks.embedded.servers import EmbeddedServers

__all__ = ["Ground"]

TEMPLATE = "bench_template"
CONNECTIONS = """\
# Written by `coursewire bench`.
connections:
  academy:
    system: standard
    webhook: {{secrets: [{{env: BENCH_SECRET}}]}}
  crm:
    system: hubspot
    base_url: {url}
    credentials: {{token: {{env: BENCH_CRM_TOKEN}}}}
    options: {{timezone: Europe/Berlin}}
routes:
  - {{from: academy, to: crm, flows: {{enrollment: realtime, completion: realtime, progress: realtime}},
     unknown_person: create}}
"""


class Ground:
    """What both contenders share; a context manager that starts and stops it."""

    def __init__(self, data_dir: Path) -> None:
        """`data_dir` is where `bench/` keeps the servers' data; its disk is part of what is measured."""
        DataFolder(data_dir).create()
        self.servers = EmbeddedServers(data_dir / "bench")  # durable: settings as shipped, fsync included
        self.secret = "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()
        self._stack = ExitStack()
        self._serial = iter(range(1_000_000))

    def __enter__(self) -> Self:
        """Start the servers, the CRM and the load generator; raises EmbeddedUnavailable, FolderInUse, BenchFailed."""
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Stop everything."""
        self._stack.close()

    def _start(self) -> None:
        self._stack.enter_context(self.servers)
        self._tidy()
        self._stack.callback(self._tidy)
        for log in self.folder.glob("bench-*.log"):
            log.unlink()
        self.crm = Crm(self._stack.enter_context(self.process("crm", ["scripts.bench.crm"], {})))
        self.gun = self._stack.enter_context(Gun(self.servers.watchdog))
        self.servers.folder.write("coursewire.yaml", CONNECTIONS.format(url=self.crm.url))
        self._make_template()

    @property
    def folder(self) -> Path:
        """Where data and logs are."""
        return self.servers.folder.path

    @contextmanager
    def database(self) -> Iterator[str]:
        """A fresh, migrated database beside an empty broker; dropped afterwards. Yields its address."""
        self.empty_broker()
        name = f"bench_{next(self._serial)}"
        with self._server() as db:
            db.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(TEMPLATE)))
            db.execute("CHECKPOINT")  # none that an earlier measurement left behind falls into this one
        try:
            yield self._url(name)
        finally:
            with self._server() as db:
                db.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def empty_broker(self) -> None:
        """Forget every message and key."""
        with self.broker() as broker:
            broker.flushall()

    def broker(self) -> contextlib.closing[redis.Redis]:
        """A client of the broker, closed after use."""
        return contextlib.closing(redis.Redis.from_url(self.servers.broker_url, decode_responses=True))

    def settings(self, database_url: str) -> Settings:
        """Settings of Coursewire's processes: defaults, whatever the environment and a `.env` here say."""
        given: dict[str, object] = {
            "config": self.folder / "coursewire.yaml",
            "database_url": SecretStr(database_url),
            "broker_url": SecretStr(self.servers.broker_url),
            "master_keys": SecretStr(self.servers.folder.master_keys()),
            "port": free_port(),
            "data_dir": self.folder,
        }
        rest = {name: field.get_default() for name, field in Settings.model_fields.items() if name not in given}
        return Settings(_env_file=None, **{**rest, **given})

    def environment(self, settings: Settings) -> dict[str, str]:
        """The whole environment of Coursewire's processes, secrets included."""
        ours = {"BENCH_SECRET": self.secret, "BENCH_CRM_TOKEN": crm_process.TOKEN}
        for name, value in settings.model_dump().items():
            if value is not None:
                ours[f"COURSEWIRE_{name.upper()}"] = str(
                    value.get_secret_value() if isinstance(value, SecretStr) else value
                )
        return plain_environment(**ours)

    def baseline_environment(self, port: int, threads: int, max_retries: str) -> dict[str, str]:
        """The whole environment of the baseline's processes."""
        return plain_environment(
            BASELINE_BROKER_URL=self.servers.broker_url,
            BASELINE_SECRET=self.secret,
            BASELINE_CRM_URL=self.crm.url,
            BASELINE_CRM_TOKEN=crm_process.TOKEN,
            BASELINE_PORT=str(port),
            BASELINE_THREADS=str(threads),
            BASELINE_MAX_RETRIES=max_retries,
        )

    def process(self, name: str, command: list[str], env: dict[str, str]) -> Process:
        """A process of ours with a log of its name; nothing runs before it is entered."""
        log = self.folder / f"bench-{name}.log"
        env = env or plain_environment()
        return Process(name, command, env=env, log=log, watchdog=self.servers.watchdog, cwd=self.folder)

    def _make_template(self) -> None:
        with self._server() as db:
            db.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(TEMPLATE)))
        assembly = Assembly(self.settings(self._url(TEMPLATE)))
        migrate(assembly)
        assembly.engine.dispose()

    def _tidy(self) -> None:
        """Drop every database of the benchmark, those of a run that was killed included."""
        with self._server() as db:
            rows = db.execute("SELECT datname FROM pg_database WHERE datname LIKE 'bench\\_%'").fetchall()
            for (name,) in rows:
                db.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def _server(self) -> psycopg.Connection[tuple[str]]:
        return psycopg.connect(self.servers.database_url, autocommit=True)

    def _url(self, database: str) -> str:
        return f"{self.servers.database_url.rpartition('/')[0]}/{database}"
