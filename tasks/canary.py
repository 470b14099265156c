"""The canary: each worker sends itself a message every half minute, through broker, thread pool and Postgres.

A process that lives proves nothing: workers are known to stop consuming in silence. What reads the signs and restarts
the worker is the health check, in `up` (`tasks.roles`) and in containers.
"""

import os
import threading
from contextlib import suppress
from typing import Any

import structlog
from celery import shared_task, signals
from kombu import Exchange, Queue

from integration.storage import heartbeats
from integration.storage.base import AWAY, single
from tasks.app import app
from tasks.assembly import this_process

log = structlog.get_logger(__name__)

EVERY = 30.0
"""Seconds between two canaries."""
RETRY = 5.0
"""Seconds to the next try where broker or Postgres is away."""
QUEUE_SECONDS = 600.0
"""How long the queue of a dead worker stays at the broker."""


@shared_task(name="periodic.canary")
def canary(node: str) -> None:
    """Note that this worker heard its canary."""
    with single(this_process().engine) as db:
        heartbeats.heard(db, node)


class Pulse:
    """Sends the canaries of one worker from a thread of its own, and notes what it does."""

    def __init__(self, node: str, queue: Queue) -> None:
        """`node` is the worker's name, `queue` the one that it alone consumes."""
        self.node = node
        self.queue = queue
        self._stopped = threading.Event()
        self._worked = threading.Event()  # a task has ended since the last canary
        self._thread = threading.Thread(target=self._run, name="canary", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        signals.task_postrun.connect(self._note_work, weak=False)
        self._thread.start()

    def hush(self) -> None:
        """Send no more: what is sent while the worker ends would stay at the broker. Safe in a signal handler."""
        self._stopped.set()

    def stop(self) -> None:
        """Take the worker's row away: one that ends as it should is not missed. Its queue goes with its consumer."""
        self.hush()
        self._thread.join(RETRY)
        with suppress(*AWAY), single(this_process().engine) as db:
            heartbeats.forget(db, self.node)

    def _note_work(self, task: Any, **_: Any) -> None:
        if task.name != canary.name:
            self._worked.set()

    def _run(self) -> None:
        is_over = True  # nothing is waited for: the worker starts, or broker or Postgres was away
        while not self._stopped.is_set():
            try:
                self._send(anew=is_over)
                is_over = False
            except Exception as error:  # noqa: BLE001 - broker or database, whatever library says so
                log.warning("canary.lost", error=type(error).__name__)
                is_over = True
            self._stopped.wait(RETRY if is_over else EVERY)

    def _send(self, *, anew: bool) -> None:
        """Send one and note it; raises what broker or database raise."""
        # It expires, so that canaries of a worker that does not consume never pile up.
        app.send_task("periodic.canary", args=[self.node], queue=self.queue.name, expires=EVERY, ignore_result=True)
        busy = self._worked.is_set()
        self._worked.clear()
        with single(this_process().engine) as db:
            if anew:
                heartbeats.begin(db, self.node)
            else:
                heartbeats.sent(db, self.node, busy=busy)


@signals.celeryd_after_setup.connect
def _begin(sender: str, **_: Any) -> None:
    """Let this worker consume a queue of its own, and start its pulse."""
    node = f"{sender}:{os.getpid()}"  # the process belongs to the name: its successor has the same host
    # No exchange, or its list of bindings would remember every worker there ever was. Durable, because RabbitMQ is
    # about to refuse transient queues that are not exclusive; it goes with its consumer all the same.
    queue = Queue(f"canary.{node}", Exchange(""), durable=True, auto_delete=True, expires=QUEUE_SECONDS)
    queue.routing_key = queue.name
    app.amqp.queues[queue.name] = queue
    app.amqp.queues.consume_from[queue.name] = queue
    pulse = Pulse(node, queue)
    pulse.start()

    signals.worker_shutting_down.connect(lambda **_: pulse.hush(), weak=False)
    signals.worker_shutdown.connect(lambda **_: pulse.stop(), weak=False)
