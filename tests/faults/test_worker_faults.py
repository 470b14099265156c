"""The worker killed, stopped and restarted at the worst moments; the whole history is judged after each fault."""

import signal
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from scripts.sandbox.deliveries import Delivery
from scripts.sandbox.faults import fault
from tests.faults.installation import sending
from tests.faults.wired import Wired, wired
from tests.processes import gone, until


@pytest.fixture(scope="module")
def home(master_keys: str) -> Iterator[Wired]:
    """One installation for all tests of this file."""
    with wired(master_keys) as made:
        yield made


OPEN_EVENTS = "SELECT count(*) FROM inbox WHERE status = 'received'"
CLAIMED_EVENTS = "SELECT count(*) > 0 FROM inbox WHERE status = 'claimed'"
SENDING = "SELECT count(*) > 0 FROM sync_state WHERE status = 'sending'"


def pushed(home: Wired) -> int:
    """How many messages the broker was ever given."""
    with home.broker() as broker:
        return int(broker.info("commandstats").get("cmdstat_lpush", {}).get("calls", 0))


def waiting(home: Wired) -> int:
    """How many messages the broker holds, whether anybody has taken them or not."""
    with home.broker() as broker:
        return int(sum(broker.llen(queue) for queue in ("sync", "deliver", "periodic")) + broker.hlen("unacked"))


def test_a_hint_that_dies_with_an_idle_worker_costs_nothing(home: Wired) -> None:
    """The broker hands a hint to a worker that is killed before it reads it: gone from the broker, not from us (F4)."""
    warm, *rest = home.tell(401)
    home.accept([warm])
    home.waits(OPEN_EVENTS, 0)
    beat, worker = home.children()["beat"], home.children()["worker"]
    beat.suspend()  # its ticks would be hints, too
    until(lambda: waiting(home) == 0)
    while not handed_over(home, worker, rest.pop()):
        worker.resume()
        home.waits(OPEN_EVENTS, 0)
    worker.kill()
    until(lambda: gone(worker.pid))
    assert home.ask(OPEN_EVENTS) == 1
    beat.resume()
    home.waits(OPEN_EVENTS, 0)  # before another ring takes it along
    home.accept(rest)
    home.judged()


def handed_over(home: Wired, worker: psutil.Process, one: Delivery) -> bool:
    """Stop the worker, deliver, and say whether the broker has handed it the hint: it asks anew every second."""
    before = pushed(home)
    worker.suspend()
    home.accept([one])
    until(lambda: pushed(home) > before)
    return waiting(home) == 0  # the kernel reads for a process that is stopped


def test_a_worker_killed_around_a_call_writes_nobody_twice(home: Wired) -> None:
    """Killed before the call has come in, while the CRM works on it, and after it has written (F5)."""
    before = len(home.crm.calls())
    home.to_crm.blackhole()
    home.accept(home.tell(402))
    home.waits(SENDING, True)
    assert len(home.crm.calls()) == before
    home.kill_worker()
    home.to_crm.heal()
    home.judged()

    home.crm.set_faults(script=[fault("hang", seconds=2, operations=["contacts.batch_upsert"])])
    home.accept(home.tell(403))
    until(lambda: struck(home, "hang"), 30)
    home.signal("worker")
    until(lambda: struck(home, "hang")[0]["processed"], 30)  # the caller is dead, and now the write is done
    home.judged()

    home.crm.set_faults(script=[fault("processed_then_hang", seconds=2, operations=["contacts.batch_update"])])
    home.accept(home.tell(404))
    until(lambda: struck(home, "processed_then_hang"), 30)
    home.kill_worker()
    home.judged()


def struck(home: Wired, kind: str) -> list[dict[str, Any]]:
    """Return the calls that a fault of this kind hit."""
    return [call for call in home.crm.calls() if call["injected"] == kind]


def test_a_worker_killed_inside_a_transaction_records_all_or_nothing(home: Wired) -> None:
    """Killed while it waits for a row lock, events and claims go back as they were, and are recorded once (F6)."""
    home.accept(home.tell(405))
    home.judged()
    with home.database() as db:
        db.execute("LOCK TABLE events IN EXCLUSIVE MODE")
        home.accept(home.tell(406))
        home.waits(CLAIMED_EVENTS, True)
        home.waits("SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock'", True)
        home.kill_worker()
    home.judged()


def test_a_worker_stopped_in_a_burst_finishes_what_it_holds(home: Wired) -> None:
    """Told to stop in the middle of a burst it ends by itself, holds nothing any more, and nothing is lost (F10)."""
    home.crm.configure(latency_ms=100)
    with sending(home.lms(), home.tell(407, learners=12)):
        home.waits(SENDING, True)
        pid = home.signal("worker", signal.SIGTERM)
        until(lambda: gone(pid), 30)
        assert home.ask("SELECT count(*) FROM inbox WHERE status = 'claimed'") == 0
        assert home.ask("SELECT count(*) FROM sync_state WHERE status = 'sending'") == 0
    home.crm.configure(latency_ms=0)
    home.judged()


def test_a_killed_supervisor_ends_its_roles_and_the_next_one_goes_on(home: Wired) -> None:
    """Kill -9 of `up` leaves none of its processes running; `up` again applies what was accepted before."""
    home.crm.freeze()  # so that nothing can be applied before the kill
    home.accept(home.tell(408))
    home.kill()
    home.crm.freeze(frozen=False)
    home.start()
    home.judged()
