"""Where everything is measured: one contender at a time, on a fresh database and an empty broker; what it is sent."""

import contextlib
import math
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, LiteralString

import psycopg
import requests

from integration.settings import Settings
from scripts.bench.ground import Ground
from scripts.bench.load import Fired, Volley
from scripts.bench.process import BenchFailed, Process, cpu_seconds, until
from scripts.bench.scene import Scene, seeds_of, truth_of
from tasks.child import Role
from tasks.embedded.process import free_port
from tasks.roles import roles
from tasks.supervisor import Supervisor

__all__ = ["PATIENCE", "Arena", "Running"]

PATIENCE = 400.0  # seconds
WEBHOOKS = "/webhooks/academy"


@dataclass(frozen=True, slots=True)
class Running:
    """A contender that runs: its processes by name, and where its endpoint listens."""

    processes: dict[str, Process]
    port: int
    settings: Settings | None = None

    def count(self, query: LiteralString) -> int:
        """One number out of Coursewire's database; RuntimeError where it is not Coursewire that runs."""
        if self.settings is None or self.settings.database_url is None:
            raise RuntimeError("the baseline has no database")
        with psycopg.connect(self.settings.database_url.get_secret_value()) as db:
            row = db.execute(query).fetchone()
        return int(row[0]) if row else 0

    def ready(self) -> None:
        """Wait until every process is ready; raises BenchFailed."""
        for name, process in self.processes.items():
            if name == "worker":
                process.await_(lambda process=process: " ready." in process.said(), "worker ready")  # type: ignore[misc]
            elif name == "web":
                process.await_(lambda: _answers(self.port), "/readyz")


class Arena(Ground):
    """Runs one contender at a time; a context manager."""

    def cpu(self, running: Running) -> dict[str, float]:
        """CPU seconds used so far by each process, the servers and the CRM."""
        used = {name: cpu_seconds(process.pid) for name, process in running.processes.items()}
        used |= {server.name: cpu_seconds(server.process.pid) for server in self.servers.servers}
        return {**used, "crm": cpu_seconds(self.crm.process.pid)}

    # -- the contenders

    @contextmanager
    def ours(self, *roles: str) -> Iterator[Running]:
        """Run these roles of Coursewire on a fresh database and an empty broker, as `coursewire up` starts them."""
        with self.database() as url:
            settings = self.settings(url)
            env = self.environment(settings)
            made = {name: self.process(name, ["tasks.cli", name], env) for name in roles}
            with self._run(Running(made, settings.port, settings)) as running:
                yield running

    @contextmanager
    def beside(self, running: Running, *roles: str) -> Iterator[None]:
        """Run more roles of a Coursewire that runs."""
        assert running.settings  # noqa: S101 - Coursewire, not the baseline
        env = self.environment(running.settings)
        made = {name: self.process(name, ["tasks.cli", name], env) for name in roles}
        with self._run(Running(made, running.port, running.settings)):
            running.processes.update(made)
            yield

    @contextmanager
    def celery(self, *roles: str, threads: int = 16, max_retries: str = "") -> Iterator[Running]:
        """Run these roles of the one-task-per-event baseline on an empty broker."""
        self.empty_broker()
        port = free_port()
        env = self.baseline_environment(port, threads, max_retries)
        made = {name: self.process(f"celery-{name}", ["scripts.bench.baseline", name], env) for name in roles}
        with self._run(Running(made, port)) as running:
            yield running

    @contextmanager
    def empty_route(self) -> Iterator[Running]:
        """Serve the empty route as the web role is served."""
        settings = self.settings(self.servers.database_url)
        web = self.process("empty", ["scripts.bench.empty"], self.environment(settings))
        with self._run(Running({"web": web}, settings.port)) as running:
            yield running

    @contextmanager
    def ours_supervised(self) -> Iterator[tuple[Running, Supervisor]]:
        """Run Coursewire under its supervisor, which starts again what dies, servers included."""
        with self.database() as url:
            settings = self.settings(url)
            env = self.environment(settings)
            made = [replace(role, env=env) for role in roles(settings) if role.name != "flower"]
            with self._supervised(made, Running({}, settings.port, settings)) as supervised:
                yield supervised

    @contextmanager
    def celery_supervised(self) -> Iterator[tuple[Running, Supervisor]]:
        """Run the baseline under the same supervisor."""
        self.empty_broker()
        port = free_port()
        env = self.baseline_environment(port, 16, "")
        command = [sys.executable, "-P", "-m", "scripts.bench.baseline"]
        made = [Role(name, [*command, name], env) for name in ("web", "worker")]
        with self._supervised(made, Running({}, port)) as supervised:
            yield supervised

    @contextmanager
    def _supervised(self, made: list[Role], running: Running) -> Iterator[tuple[Running, Supervisor]]:
        log = self.folder / "bench-supervised.log"
        with log.open("w", encoding="utf-8") as out:
            supervisor = Supervisor(made, self.servers.servers, out=out)
            supervisor.start()
            try:
                ready = lambda: _answers(running.port) and " ready." in log.read_text("utf-8", "replace")  # noqa: E731
                until(ready, PATIENCE, "the supervised roles ready")
                yield running, supervisor
            finally:
                supervisor.stop()
                for server in self.servers.servers:  # the supervisor stops them too
                    server.start()

    def tasks_that_do_nothing(self, tasks: int, threads: int = 16) -> float:
        """Tasks a second of a Celery worker that finds so many in its queue, each of which does nothing."""
        self.empty_broker()
        env = self.baseline_environment(0, threads, "")
        with self.process("celery-flood", ["scripts.bench.baseline", "flood", str(tasks)], env) as process:
            process.wait()
        with self.process("celery-worker", ["scripts.bench.baseline", "worker"], env), self.broker() as broker:
            until(lambda: broker.get("mark:last"), PATIENCE, "all tasks done")
            first, last = (float(str(broker.get(f"mark:{name}"))) for name in ("first", "last"))
        return tasks / (last - first)

    @contextmanager
    def _run(self, running: Running) -> Iterator[Running]:
        with ExitStack() as stack:
            for process in running.processes.values():
                stack.enter_context(process)
            running.ready()
            yield running

    # -- what is sent, and when it is in

    def volley(self, running: Running, scene: Scene, **how: Any) -> Volley:
        """A scene on its way to the endpoint that runs; `how`: as in `load.Volley`."""
        return Volley(**{"scene": scene, "port": running.port, "path": WEBHOOKS, "secret": self.secret, **how})

    def fire(self, running: Running, scene: Scene, **how: Any) -> Fired:
        """Send a scene; raises BenchFailed unless every request was answered with 202."""
        volley = self.volley(running, scene, **how)
        fired = self.gun.fire(volley)
        missing = len(fired.status) - len(fired.accepted())
        if missing:
            raise BenchFailed(f"{missing:,} of {len(fired.status):,} requests were not answered with 202")
        return fired

    def all_in(self, patience: float = PATIENCE) -> float:
        """Wait until every contact is right; returns when the last one became so (`time.monotonic`).

        Raises BenchFailed where one is not right after `patience` seconds, or differs from the truth in anything.
        """
        until(lambda: not self.crm.state().wrong, patience, "every contact right")
        self.crm.require_truth()
        return self.crm.state().right_at or 0.0

    def warm(self, running: Running, scene: Scene, *more: Scene) -> None:
        """Let a few events through first, so that no process connects or compiles for the first time afterwards.

        `more` are scenes to come, whose people the CRM knows too.
        """
        self.crm.begin(truth_of(scene), seeds=seeds_of([scene, *more]))
        self.fire(running, scene)
        self.all_in()

    def celery_rests(self) -> bool:
        """Whether the baseline is through: no message and no call for two seconds, or only held ones and none for 30.

        Held are retries, which come within seconds, and what a killed worker had taken along, which the broker hands
        out again after an hour.
        """
        with self.broker() as broker:
            waiting = int(broker.llen("celery"))
        last = self.crm.state().last_call_at
        quiet = time.monotonic() - last if last else math.inf
        return not waiting and quiet > (30 if self.celery_holds() else 2)

    def celery_holds(self) -> int:
        """Messages that a worker of the baseline took and has not acknowledged."""
        with self.broker() as broker:
            return int(broker.hlen("unacked"))


def _answers(port: int) -> bool:
    with contextlib.suppress(requests.RequestException), requests.Session() as session:
        session.trust_env = False
        return session.get(f"http://127.0.0.1:{port}/readyz", timeout=2).ok
    return False
