"""The publisher: ids in messages of a hundred, and a broker that can never hold anybody up."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from integration.enqueue import IDS, Publisher, batches
from integration.model.events import Kind
from tests.processes import until

PATIENCE = 10.0


class Broker:
    """A stand-in that hangs while `open` is not set, refuses while `away` is, and remembers what it took."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.away = False
        self.tried = 0
        self.taken: list[tuple[str, list[int]]] = []

    def send(self, name: str, arguments: list[object]) -> None:
        """Take one message."""
        self.tried += 1
        assert self.open.wait(PATIENCE)
        if self.away:
            raise ConnectionRefusedError
        (ids,) = arguments
        assert isinstance(ids, list)
        self.taken.append((name, ids))

    @property
    def ids(self) -> list[int]:
        """Every id that was rung, in order."""
        return [one for _, ids in self.taken for one in ids]


@contextmanager
def publishing(broker: Broker, backlog: int = 1_000) -> Iterator[Publisher]:
    """Run a publisher on this broker."""
    publisher = Publisher(broker.send, backlog=backlog)
    publisher.start()
    yield publisher
    broker.open.set()
    publisher.stop(PATIENCE)


def test_a_message_names_one_task_and_at_most_a_hundred_ids() -> None:
    """Ids go out by kind, a hundred to a message, each exactly once and in order."""
    stored = [(n, Kind.COMPLETION if n % 3 else Kind.ENROLLMENT) for n in range(1_000)]
    made = batches(stored)
    assert IDS == 100
    assert max(len(ids) for _, ids in made) == 100
    assert {name for name, _ in made} == {"completion.sync", "enrollment.sync"}
    for kind in (Kind.COMPLETION, Kind.ENROLLMENT):
        sent = [one for name, ids in made if name == f"{kind}.sync" for one in ids]
        assert sent == [row_id for row_id, of in stored if of is kind]
    assert batches([]) == []


def test_suspects_are_rung_for_in_small_batches() -> None:
    """The sweeper may ask for a smaller batch, down to one row alone."""
    assert batches([(1, Kind.CONTACT), (2, Kind.CONTACT)], 1) == [("contact.sync", [1]), ("contact.sync", [2])]


def test_ringing_never_waits_for_the_broker() -> None:
    """While the broker hangs, ringing returns at once, and what gathered goes out in full messages afterwards."""
    broker = Broker()
    broker.open.clear()
    with publishing(broker) as publisher:
        publisher.ring([(0, Kind.COMPLETION)])
        until(lambda: broker.tried)
        started = time.monotonic()
        for n in range(1, 251):
            publisher.ring([(n, Kind.COMPLETION)])
        assert time.monotonic() - started < 1
        assert broker.taken == []
        broker.open.set()
        until(lambda: len(broker.ids) == 251)
    assert [len(ids) for _, ids in broker.taken] == [1, 100, 100, 50]
    assert broker.ids == list(range(251))


def test_what_does_not_fit_the_backlog_is_left_to_the_sweeper() -> None:
    """A broker that is away for hours costs a bounded amount of memory."""
    broker = Broker()
    broker.open.clear()
    with publishing(broker, backlog=5) as publisher:
        publisher.ring([(0, Kind.COMPLETION)])
        until(lambda: broker.tried)
        for n in range(1, 100):
            publisher.ring([(n, Kind.COMPLETION)])
        assert publisher._queue.qsize() == 5
    assert broker.ids == [0, 1, 2, 3, 4, 5]


def test_a_broker_that_is_away_is_tried_once_for_all_that_gathered() -> None:
    """A refusal is no error and ends the attempt; what comes later is tried anew."""
    broker = Broker()
    broker.away = True
    with publishing(broker) as publisher:
        publisher.ring([(n, Kind.COMPLETION) for n in range(500)])
        until(lambda: broker.tried == 1)
        until(publisher._queue.empty)
        broker.away = False
        publisher.ring([(500, Kind.COMPLETION)])
        until(lambda: broker.ids == [500])
    assert broker.tried == 2


def test_what_is_queued_is_published_before_the_end() -> None:
    """Told to stop, the publisher first sends what it has."""
    broker = Broker()
    publisher = Publisher(broker.send)
    for n in range(10):
        publisher.ring([(n, Kind.COMPLETION)])
    publisher.start()
    publisher.stop(PATIENCE)
    assert broker.ids == list(range(10))


def test_stopping_does_not_wait_for_a_broker_that_hangs() -> None:
    """The end of the process is not the broker's to decide."""
    broker = Broker()
    broker.open.clear()
    with publishing(broker) as publisher:
        publisher.ring([(1, Kind.COMPLETION)])
        started = time.monotonic()
        publisher.stop(0.1)
        assert time.monotonic() - started < 2


def test_nothing_to_ring_is_not_rung() -> None:
    """An insert that brought nothing new wakes nobody."""
    broker = Broker()
    with publishing(broker) as publisher:
        publisher.ring([])
    assert broker.tried == 0
