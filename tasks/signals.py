"""Being asked to end: the signals that say so, heard for as long as there is something to end."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

SAME_PRESS: Final = 0.5
"""Seconds within which a signal is the one before: launchers pass on the Ctrl-C that the terminal has sent already."""

_WANTED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def listening(hear: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Let `hear` take SIGINT, SIGTERM and SIGHUP while this lasts; one that is ignored, as by nohup, stays ignored.

    Only for the main thread (ValueError elsewhere).
    """
    heard = [number for number in _WANTED if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, hear) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
