"""Work done ahead in a thread: a chunk is read while the one before it is recorded."""

from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def ahead(items: Iterable[T]) -> Generator[T, None, None]:
    """Return items in their order, one of them made before it is asked for. What making them raises is raised here."""
    making = iter(items)
    with ThreadPoolExecutor(1, "ahead") as thread:
        following = thread.submit(lambda: next(making, None))
        while (item := following.result()) is not None:
            following = thread.submit(lambda: next(making, None))
            yield item
