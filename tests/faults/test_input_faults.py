"""Events that come reversed, shuffled and fifty times over, all the way to the CRM; the whole history is judged."""

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from scripts.sandbox.deliveries import Delivery
from tests.faults.wired import Wired, wired
from tests.processes import signed

COPIES = 50


@pytest.fixture(scope="module")
def home(master_keys: str) -> Iterator[Wired]:
    """One installation for all tests of this file."""
    with wired(master_keys) as made:
        yield made


def distinct(deliveries: list[Delivery]) -> list[Delivery]:
    """Return each event once, the oldest first."""
    return sorted({one.webhook_id: one for one in deliveries}.values(), key=lambda one: one.occurred_at)


def test_a_story_told_backwards_ends_the_same(home: Wired) -> None:
    """Every learner's events in the opposite order, each twice: the contacts show what an orderly story says (F37)."""
    told = distinct(home.tell(701, learners=6))
    home.accept([one for one in reversed(told) for _ in range(2)], concurrency=1)
    home.judged()


def test_a_shuffled_story_ends_the_same(home: Wired) -> None:
    """Any order over eight connections, with what was told before mixed in again (F37)."""
    told = home.tell(702, learners=6) * 2
    random.Random(702).shuffle(told)
    home.accept(told, concurrency=8)
    home.judged()


def test_fifty_copies_at_once_are_one_event(home: Wired) -> None:
    """Each event of a learner fifty times at once: one is accepted, written once, and the rest are duplicates (F37)."""
    first, *others = distinct(home.tell(703))

    def deliver(_: int) -> dict[str, int]:
        answer = requests.post(
            f"{home.url}/webhooks/academy", data=first.body, headers=signed(first.body, first.webhook_id), timeout=20
        )
        assert answer.status_code == 202
        counts: dict[str, int] = answer.json()
        return counts

    with ThreadPoolExecutor(COPIES) as pool:
        answers = list(pool.map(deliver, range(COPIES)))
    assert sum(one["accepted"] for one in answers) == 1
    assert sum(one["duplicates"] for one in answers) == COPIES - 1
    home.accept(others)
    home.judged()
