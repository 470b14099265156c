"""What tests share: one embedded Postgres and Valkey per test process, and a migrated database of its own per test."""

import base64
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import Engine

from integration.observability import logs
from integration.security.seal import IndexKeys, KeyRing, new_key
from integration.storage import index_keys
from integration.storage.base import engine_for
from mappings.store import publish_defaults
from scripts.migrations import upgrade
from tasks.embedded.servers import EmbeddedServers
from tests.throwaway import throwaway_folder

TEMPLATE = "coursewire_template"
COPY = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY")
"""Half the work of the default, which writes each page to the log too: nobody recovers these."""
Clerk = psycopg.Connection[tuple[object, ...]]
WAITING = ("e2e", "faults")
"""The folders whose tests mostly wait: for processes to start, for leases and time-outs to end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mix files that wait with files that compute, where several processes share the cores; the last ones are short.

    The processes of pytest-xdist take file after file in this order (`--dist loadfile --no-loadscope-reorder`).
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return
    files = list(dict.fromkeys(item.path for item in items))
    waiting = [path for path in files if path.parent.name in WAITING]
    others = [path for path in files if path.parent.name not in WAITING]
    place = {path: 0.8 * number / len(waiting) for number, path in enumerate(waiting)}
    place |= {path: number / len(others) for number, path in enumerate(others)}
    items.sort(key=lambda item: place[item.path])


@pytest.fixture(scope="session", autouse=True)
def own_logs() -> Iterator[None]:
    """Let no command that runs in this process take its logs: they are the tests'."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logs, "configure", lambda *_: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def heeded_ctrl_c() -> None:
    """Let the processes that tests start obey Ctrl-C: a job that a script started with `&` passes its deafness on."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def master_keys() -> str:
    """The sealing keys as text, for COURSEWIRE_MASTER_KEYS of a process that a test starts."""
    return f"test:{base64.b64encode(new_key()).decode()}"


@pytest.fixture(scope="session")
def keyring(master_keys: str) -> KeyRing:
    """The sealing keys of all tests of this process."""
    return KeyRing.parse(master_keys)


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServers]:
    """Postgres and Valkey that are thrown away: no fsync, and in memory where there is room."""
    with (
        throwaway_folder(tmp_path_factory.mktemp("servers")) as folder,
        EmbeddedServers(folder, durable=False) as running,
    ):
        _let_in_quickly(running.database_url)
        yield running


def _let_in_quickly(database_url: str) -> None:
    """Store the password with one round of hashing instead of 4,096, which cost more than all else of a connection."""
    with psycopg.connect(database_url, autocommit=True) as db:
        if db.info.server_version >= 160_000:
            db.execute("SET scram_iterations = 1")
            db.execute(sql.SQL("ALTER ROLE CURRENT_USER PASSWORD {}").format(sql.Literal(db.info.password)))


@pytest.fixture(scope="session")
def clerk(servers: EmbeddedServers) -> Iterator[Clerk]:
    """Who makes and drops databases, over one connection: a new one each time would cost as much again."""
    with psycopg.connect(servers.database_url, autocommit=True) as db:
        yield db


@pytest.fixture(scope="session")
def template(servers: EmbeddedServers, clerk: Clerk, keyring: KeyRing) -> str:
    """The name of a migrated database to copy from."""
    clerk.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(TEMPLATE)))
    engine = engine_for(_url(servers, TEMPLATE))
    with engine.begin() as db:
        upgrade(db)
        publish_defaults(db)
        index_keys.load(db, keyring)
    engine.dispose()
    return TEMPLATE


_serial = iter(range(1_000_000))


@contextmanager
def fresh_database(servers: EmbeddedServers, clerk: Clerk, template: str) -> Iterator[str]:
    """Lend the address of a migrated database that nobody has used; who still uses it at the end is cut off."""
    name = f"test_{next(_serial)}"
    clerk.execute(COPY.format(sql.Identifier(name), sql.Identifier(template)))
    yield _url(servers, name)
    clerk.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def database_url(servers: EmbeddedServers, clerk: Clerk, template: str) -> Iterator[str]:
    """The address of a fresh, migrated database; dropped after the test."""
    with fresh_database(servers, clerk, template) as url:
        yield url


@pytest.fixture(scope="module")
def module_database_url(servers: EmbeddedServers, clerk: Clerk, template: str) -> Iterator[str]:
    """The same for a whole file, where each test minds what the others left."""
    with fresh_database(servers, clerk, template) as url:
        yield url


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """A pool on the test's own database."""
    engine = engine_for(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def keys(engine: Engine, keyring: KeyRing) -> IndexKeys:
    """The look-up keys of the test's own database."""
    with engine.begin() as db:
        return index_keys.load(db, keyring)


def _url(servers: EmbeddedServers, database: str) -> str:
    return servers.database_url.rpartition("/")[0] + f"/{database}"
