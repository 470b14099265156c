"""The broker killed, emptied, full, frozen, half-open and fed with garbage: a doorbell, and nothing hangs on it."""

import json
import random
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis

from tests.faults.installation import sending
from tests.faults.wired import Wired, wired
from tests.processes import frozen, gone, until

PRIVATE = "hopper.private@secret.example"


@pytest.fixture(scope="module")
def home(master_keys: str) -> Iterator[Wired]:
    """One installation for all tests of this file."""
    with wired(master_keys) as made:
        yield made


def serve(home: Wired) -> None:
    """Take one more story all the way, to see that everybody is back at work."""
    home.accept(home.tell(random.randrange(10**6)))
    home.judged()


@contextmanager
def repeating(act: str, home: Wired, every: float) -> Iterator[None]:
    """Do this to the broker again and again."""
    over = threading.Event()

    def work() -> None:
        with redis.Redis(port=home.valkey.port, password=home.broker_password) as broker:
            while not over.wait(every):
                broker.execute_command(*act.split())

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_a_web_process_killed_before_it_has_rung_costs_nothing(home: Wired) -> None:
    """Killed between the commit and the ring, its events are found by the sweeper (F3)."""
    home.to_broker.deaf.set()  # what is rung is not confirmed, and nothing can be rung after it
    home.to_broker.strand()
    home.accept(home.tell(501))
    home.signal("web")
    home.to_broker.heal()
    home.judged()


def test_a_broker_killed_in_the_middle_of_a_call_comes_back_empty(home: Wired) -> None:
    """Kill -9 with a task in flight and all its files gone: what is under way is finished, and new work is taken (F12).

    The worker may end meanwhile: kombu fails where it closes a channel whose connection is gone. It is started again.
    """
    home.crm.freeze()
    home.accept(home.tell(502))
    home.waits("SELECT count(*) > 0 FROM sync_state WHERE status = 'sending'", True)
    home.valkey.process.kill()
    home.valkey.process.wait()
    shutil.rmtree(home.valkey.folder.path / "valkey" / "appendonlydir")
    home.accept(home.tell(503))  # nobody can be rung
    home.valkey.start()
    home.crm.freeze(frozen=False)
    home.judged()


def test_a_broker_that_forgets_everything_under_load_costs_nothing(home: Wired) -> None:
    """FLUSHALL every fifth of a second while events come in: everything arrives (F14)."""
    with repeating("FLUSHALL", home, 0.2), sending(home.lms(), home.tell(504, learners=8)):
        pass
    home.judged()


def test_a_broker_out_of_memory_costs_nothing(home: Wired) -> None:
    """While the broker takes nothing in, events are accepted, and afterwards they go on (F15)."""
    with redis.Redis(port=home.valkey.port, password=home.broker_password) as broker:
        before = broker.config_get("maxmemory")["maxmemory"]
        broker.config_set("maxmemory", 1)
        home.accept(home.tell(505))
        broker.config_set("maxmemory", before)
    serve(home)


def test_a_broker_that_resets_its_clients_doubles_nothing(home: Wired) -> None:
    """Every connection is cut three times a second while events come in: nobody works on a row twice (F18)."""
    with repeating("CLIENT KILL TYPE normal SKIPME yes", home, 0.3), sending(home.lms(), home.tell(506, learners=8)):
        pass
    home.judged()


def test_garbage_in_the_queues_stops_nobody(home: Wired) -> None:
    """No JSON, unknown tasks and ids, arguments of another shape: work goes on, and no log shows them (F19)."""

    def message(task: str, arguments: list[object]) -> str:
        headers = {"task": task, "id": "00000000-0000-0000-0000-000000000001", "lang": "py", "argsrepr": "()"}
        body = json.dumps([arguments, {}, {}])
        properties = {"delivery_tag": "1", "delivery_info": {"exchange": "", "routing_key": "sync"}}
        return json.dumps(
            {
                "body": body,
                "headers": headers,
                "properties": properties,
                "content-type": "application/json",
                "content-encoding": "utf-8",
            }
        )

    garbage = [
        f"no JSON at all {PRIVATE}",
        message("no.such.task", [PRIVATE]),
        message("completion.sync", [[987_654_321, -1]]),
        message("completion.sync", [{"no": "list"}]),
        message("completion.sync", [PRIVATE, PRIVATE]),
        message("delivery.flush", [PRIVATE, "contact.upsert"]),
    ]
    for rubbish in garbage:
        with redis.Redis(port=home.valkey.port, password=home.broker_password) as broker:
            broker.lpush("sync", rubbish)
            until(lambda: not broker.llen("sync"), 30)
    serve(home)
    shown = [line for line in home.output.splitlines() if PRIVATE in line]
    assert shown == []


def test_a_frozen_broker_is_missed_by_nobody(home: Wired) -> None:
    """Frozen for longer than anybody waits for it, events are accepted, and go on by themselves (F16)."""
    with frozen(home.valkey.pid):
        home.accept(home.tell(508))
        until(lambda: home.output.count('"ring.lost"') > 0, 30)
    home.judged()


def test_a_broker_that_went_half_open_is_left(home: Wired) -> None:
    """Connections that say nothing any more are given up, and the worker takes work over new ones (F17)."""
    worker = home.pid("worker")
    home.to_broker.strand()
    home.accept(home.tell(509))
    home.judged()
    assert home.pid("worker") == worker


def test_a_worker_started_without_a_broker_joins_later(home: Wired) -> None:
    """Killed and started again while there is no broker, the worker waits for it (F20)."""
    home.valkey.stop()
    home.kill_worker()
    mark = len(home.output)
    home.accept(home.tell(510))
    until(lambda: '"role.started"' in home.output[mark:], 30)
    worker = home.pid("worker")
    home.valkey.start()
    home.judged()
    assert not gone(worker)
