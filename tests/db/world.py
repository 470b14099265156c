"""One installation inside a test: the real tasks on a real Postgres, with a broker, a clock and a CRM that obey.

Two workers are put together by the composition root as ever. What befalls them is decided per step (a statement, a
commit, a call): a worker may vanish there, or the database may be gone for one statement. Between two steps of one
worker anything else may happen, which is how two of them race without threads.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal, LiteralString, Self, TypeVar
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import OperationalError

from integration.config import Config
from integration.connectors import registry
from integration.connectors.lms.standard import Standard
from integration.delivery import lease, policy
from integration.model.contacts import Answer, ContactWrite, RemoteContact
from integration.model.events import Kind
from integration.ports import Inbound, Said
from integration.security.seal import IndexKeys, KeyRing
from integration.settings import Settings
from integration.storage import inbox
from integration.storage.base import engine_for, single
from integration.storage.statement import Result
from integration.webhook.intake import Intake, Row
from tasks import app as celery
from tasks import flow, periodic, ringing
from tasks.assembly import Assembly
from tasks.embedded.servers import EmbeddedServers
from tests.clock import Clock
from tests.db.conftest import CONFIG, Telling
from tests.db.memory_crm import MemoryCrm

Told = TypeVar("Told")
Calamity = Literal["die", "die_answered", "answer_lost", "hiccup", "lost_commit"]
Place = Literal["translated", "projected", "called", "answered"]
KEPT = ("alembic_version", "rule_sets", "field_maps", "identity_rules", "index_keys", "credentials")
"""Tables that every story begins with."""


class Died(BaseException):
    """The worker is no more; nothing of it runs, not even what was to clean up after it."""


@dataclass(slots=True)
class Fate:
    """What befalls one worker, and at which of its steps."""

    at: int = 0
    calamity: Calamity | None = None
    is_dead: bool = False
    loses_commit: bool = False

    def decide(self, at: int, calamity: Calamity | None) -> None:
        """Let it happen `at` steps from now."""
        self.at, self.calamity, self.loses_commit = at, calamity, False

    def step(self, *, statement: bool = True) -> None:
        """Pass one step, or not."""
        if self.is_dead:
            raise Died
        if self.calamity in (None, "die_answered", "answer_lost"):
            return
        self.at -= 1
        if self.at > 0 or (self.calamity != "die" and not statement):
            return
        calamity, self.calamity = self.calamity, None
        if calamity == "die":
            self.is_dead = True
            raise Died
        if calamity == "hiccup":
            raise OperationalError("", None, Exception("the connection was lost"))
        self.loses_commit = True

    def answered(self) -> None:
        """Hear the answer to a write, or die of it: it is done, and nobody will ever say so."""
        if self.calamity == "die_answered":
            self.is_dead = True
        self.step(statement=False)

    def commit(self, db: Any) -> None:
        """Commit and not hear of it, where that was decided."""
        self.step()
        if self.loses_commit:
            self.loses_commit = False
            db.connection.dbapi_connection.commit()
            raise OperationalError("", None, Exception("the connection was lost in the commit"))


class World:
    """The database, the broker's messages (`bells`), the CRM, and two workers."""

    def __init__(self, url: str, config: Config, ring: KeyRing, keys: IndexKeys, broker_url: str) -> None:
        """`url` is that of a database of the test's own; `broker_url` of a broker that only limits use."""
        self.url, self.clock, self.crm = url, Clock(url), MemoryCrm(self._now)
        self.bells: deque[tuple[str, list[Any]]] = deque()
        self.between: deque[tuple[Place, Callable[[], None]]] = deque()
        self._engine = engine_for(url)
        self._loop, self._db = asyncio.Runner(), psycopg.connect(url, autocommit=True)
        self._intake = Intake(url, self._rung)
        self._loop.run(self._intake.start())
        self.ring, self._config, self._keys, self._broker_url = ring, config, keys, broker_url
        self._is_nested = False
        self.writing: set[int] = set()
        self.deleted_contact: Literal["hold", "recreate"] = "recreate"
        self.workers = [Worker(self, n) for n in range(2)]
        self.current = self.workers[0]

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Make this world the one the tasks run in."""
        for module in (celery, flow, periodic, ringing):
            patch.setattr(module, "this_process", lambda: self.current.assembly)
        patch.setattr(ringing, "publish", lambda _, name, arguments: self.bells.append((name, arguments)))
        patch.setattr(periodic, "_waiting_messages", lambda _queue: len(self.bells))
        patch.setattr(registry, "contacts", lambda _config, _heard, gate, *_: Store(self, self.current, gate))
        real, able = registry.system_of, MemoryCrm.capabilities
        patch.setattr(registry, "system_of", lambda config: real(config)._replace(capabilities=able))
        patch.setattr(lease, "FRESH_SECONDS", -1.0)  # no real time passes here
        patch.setattr(policy, "LINGER_MOST", 0.0)
        patch.setattr(policy, "SHORT_PAUSE", 0.0)

    def begin(self) -> None:
        """Start a new story: empty tables, healthy CRM, real time."""
        tables = self.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        names = [sql.Identifier(name) for (name,) in tables if name not in KEPT]
        self._db.execute(sql.SQL("TRUNCATE {}").format(sql.SQL(", ").join(names)))
        self.clock.restart()
        self.crm = MemoryCrm(self._now)
        self.bells.clear()
        self.between.clear()
        self.writing.clear()
        for worker in self.workers:
            worker.start()

    def _now(self) -> datetime:
        moment: datetime = self.rows("SELECT clock.now()")[0][0]
        return moment

    def close(self) -> None:
        """Give every connection back."""
        self._loop.run(self._intake.stop())
        self._loop.close()
        self._db.close()
        self._engine.dispose()
        for worker in self.workers:
            worker.engine.dispose()

    # --- events come in

    def deliver(self, connection: str, webhook_id: str, body: bytes, *, kind: Kind) -> None:
        """Take one event as the web process does, and ring for it."""
        request = f"req_{uuid4().hex[:8]}"
        payload = self.ring.seal(body, inbox.payload_context(connection, request))

        async def store() -> None:
            row = Row(connection, inbox.key_of(webhook_id), inbox.hash_of(body), kind, payload, request)
            await self._intake.store([row])

        self._loop.run(store())

    def _rung(self, stored: list[tuple[int, Kind]]) -> None:
        self.bells.extend((f"{kind}.sync", [[row_id]]) for row_id, kind in stored)

    # --- work is done

    def sweep(self, worker: int = 0) -> None:
        """Do what beat ticks every two seconds."""
        self._run(self.workers[worker], celery.app.tasks["periodic.sweep"].run)

    def answer(self, place: int = 0, worker: int = 0) -> None:
        """Let a worker take one message, not necessarily the oldest."""
        if not self.bells:
            return
        self.bells.rotate(-(place % len(self.bells)))
        name, arguments = self.bells.popleft()
        if not name.endswith(".failed"):  # those only mean to be seen
            self._run(self.workers[worker], lambda: celery.app.tasks[name].run(*arguments))

    def answer_all(self, worker: int = 0) -> None:
        """Let one worker take every message there is; fails where they never end."""
        for _ in range(300):
            if not self.bells:
                return
            self.answer(0, worker)
        raise AssertionError("the messages never end")

    def _run(self, worker: "Worker", work: Callable[[], object]) -> None:
        previous, self.current = self.current, worker
        try:
            work()
        except Died:
            worker.start()
        except OperationalError:
            pass  # the task failed and is forgotten: messages are acknowledged early
        finally:
            self.current = previous
            worker.fate.calamity = None

    def pass_by(self, worker: "Worker", place: Place) -> None:
        """Come to a place between two steps of a worker: what was to happen there happens now."""
        if self._is_nested or worker.fate.is_dead or not self.between or self.between[0][0] != place:
            return
        _, action = self.between.popleft()
        self._is_nested = True
        previous, self.current = self.current, self.workers[1 - worker.number]
        try:
            action()
        finally:
            self._is_nested, self.current = False, previous

    def look(self) -> AbstractContextManager[Connection]:
        """Return a connection of nobody's, on which no fate lies."""
        return single(self._engine)

    def rows(self, query: LiteralString) -> list[tuple[Any, ...]]:
        """Return what a query finds, or an empty list for a change."""
        cursor = self._db.execute(query)
        return cursor.fetchall() if cursor.description else []


@dataclass(slots=True)
class Worker:
    """A worker process: its fate, and everything the composition root made for it."""

    world: World
    number: int
    fate: Fate = field(default_factory=Fate)
    engine: Engine = field(init=False)
    assembly: Assembly = field(init=False)

    def __post_init__(self) -> None:
        """Connect to the database in a way that its fate can cut."""
        self.engine = engine_for(self.world.url, pool_size=3, application=f"worker {self.number}")
        event.listen(self.engine, "connect", self._watch)
        event.listen(self.engine, "commit", lambda db: self.fate.commit(db))  # noqa: PLW0108 - fates change

    def _watch(self, db: psycopg.Connection[Any], _: Any) -> None:
        """Make each statement a step at which this worker may die."""
        worker = self

        class Stepping(Result):
            def execute(self, *args: Any, **options: Any) -> Self:
                worker.fate.step()
                return super().execute(*args, **options)

        db.cursor_factory = Stepping

    def start(self) -> None:
        """Start it, in the place of one that died."""
        self.fate = Fate()
        world, made = self.world, Assembly(Settings())
        inbound = {
            name: _Inbound(Standard(one), self)
            for name, one in world._config.connections.items()
            if one.system == "standard"
        }
        inbound["crm"] = _Inbound(Telling(), self)
        vars(made).update(
            config=world._config,
            database_url=world.url,
            broker_url=world._broker_url,
            engine=self.engine,
            ring=world.ring,
            keys=world._keys,
            inbound=inbound,
        )
        previous, world.current = world.current, self
        _ = made.pipeline
        flushers = {key: replace(one, project=_between(one.project, self)) for key, one in made.flushers.items()}
        vars(made)["flushers"] = flushers
        world.current, self.assembly = previous, made


def _between(project: Callable[..., Any], worker: Worker) -> Callable[..., Any]:
    def projected(*arguments: Any) -> Any:
        found = project(*arguments)
        worker.world.pass_by(worker, "projected")
        policy = worker.world.deleted_contact
        return replace(found, targets={who: replace(t, deleted_contact=policy) for who, t in found.targets.items()})

    return projected


@dataclass(slots=True)
class _Inbound:
    """A connector that lets time pass after each payload it reads."""

    system: Inbound
    worker: Worker

    def verify(self, method: str, url: str, headers: Mapping[str, str], raw: bytes) -> None:
        self.system.verify(method, url, headers, raw)

    def split(self, headers: Mapping[str, str], raw: bytes) -> Any:
        return self.system.split(headers, raw)

    def translate(self, payload: bytes) -> Sequence[Said]:
        found = self.system.translate(payload)
        self.worker.world.pass_by(self.worker, "translated")
        return found


class Store:
    """The CRM as one worker sees it: each call may be its last step, before or after it was made."""

    capabilities = MemoryCrm.capabilities

    def __init__(self, world: World, worker: Worker, gate: Callable[[], None]) -> None:
        """`worker` is who calls, `gate` what its client asks before each call."""
        self._world, self._worker, self._gate = world, worker, gate

    def read(self, by: str | None, values: Sequence[str], fields: Sequence[str]) -> dict[str, RemoteContact]:
        """As the CRM does."""
        return self._call(lambda crm: crm.read(by, values, fields), ())

    def update(self, writes: Sequence[ContactWrite]) -> dict[str, Answer]:
        """As the CRM does."""
        return self._call(lambda crm: crm.update(writes), writes)

    def upsert(self, by: str, writes: Sequence[ContactWrite]) -> dict[str, Answer]:
        """As the CRM does."""
        return self._call(lambda crm: crm.upsert(by, writes), writes)

    def _call(self, call: Callable[[MemoryCrm], dict[str, Told]], writes: Sequence[ContactWrite]) -> dict[str, Told]:
        world, fate = self._world, self._worker.fate
        self._gate()
        fate.step(statement=False)
        if self._worker.engine.pool.checkedout():  # type: ignore[attr-defined]
            world.crm.wrongs.append("a call is made while a transaction is open")
        about = world.crm.whose(writes)
        if about & world.writing:
            world.crm.wrongs.append(f"learners {about & world.writing} are written by two workers at once")
        world.writing |= about
        if writes and fate.calamity == "answer_lost":
            fate.calamity = None
            world.crm.outcomes.appendleft("lost")
        try:
            world.pass_by(self._worker, "called")
            answer = call(world.crm)
        finally:
            world.writing -= about
        world.pass_by(self._worker, "answered")
        if writes:
            fate.answered()
        return answer


@pytest.fixture
def world(
    database_url: str,
    servers: EmbeddedServers,
    keyring: KeyRing,
    keys: IndexKeys,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[World]:
    """An installation with two LMSs and a CRM, in which a test is everybody."""
    monkeypatch.setenv("TEST_SECRET", "whsec_" + "QUJD" * 8)
    made = World(database_url, Config.model_validate(CONFIG), keyring, keys, servers.broker_url)
    made.install(monkeypatch)
    made.begin()
    yield made
    made.close()
