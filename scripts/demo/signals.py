"""Ctrl-C at any moment: the first one ends the story, a second one while everything stops makes it hurry."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from tasks.signals import SAME_PRESS, listening

__all__ = ["Ears", "Stopped"]


class Stopped(KeyboardInterrupt):
    """Somebody asked us to end: as a KeyboardInterrupt, so that psycopg calls off the query that it interrupts."""

    def __init__(self, number: int) -> None:
        """`number` of the signal."""
        super().__init__(number)
        self.number = number


class Ears:
    """Hears SIGINT, SIGTERM and SIGHUP: raises Stopped in the main thread, or only counts once all is ending."""

    def __init__(self) -> None:
        self.ending = False
        self.hurry = False
        self._last = 0.0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen for as long as this lasts; a signal that is ignored, as by nohup, stays ignored."""
        with listening(self._hear):
            yield

    def _hear(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        again, self._last = now - self._last > SAME_PRESS, now
        if not again:
            return
        if self.ending:
            self.hurry = True
        else:
            raise Stopped(number)
