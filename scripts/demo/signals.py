"""Ctrl-C at any moment: the first one ends the story, a second one while everything stops makes it hurry."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Ears", "Stopped"]

SAME_PRESS = 0.5  # seconds: launchers pass on the Ctrl-C that the terminal has sent to us already


class Stopped(BaseException):
    """Somebody asked us to end; like KeyboardInterrupt, it passes every `except Exception`."""

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
        wanted = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        heard = [number for number in wanted if signal.getsignal(number) != signal.SIG_IGN]
        before = {number: signal.signal(number, self._hear) for number in heard}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _hear(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        again, self._last = now - self._last > SAME_PRESS, now
        if not again:
            return
        if self.ending:
            self.hurry = True
        else:
            raise Stopped(number)
