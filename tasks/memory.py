"""How a process that runs for months keeps its memory: few heaps, and a collector that leaves the program alone."""

import ctypes
import gc
import os

HEAPS = 2
"""glibc gives each thread a heap of its own, up to eight a core, and none ever shrinks: 24 MB in 90,000 events."""
_M_ARENA_MAX = -8


def bound() -> None:
    """Share few heaps between all threads to come, where there is glibc; MALLOC_ARENA_MAX decides where it is set."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None and "MALLOC_ARENA_MAX" not in os.environ:
        mallopt(_M_ARENA_MAX, HEAPS)


def settle() -> None:
    """Take what is there now for permanent, so that the collector only walks what events leave behind.

    The imported program is 130,000 objects. With them, a full collection takes 90 ms in which no thread runs, and comes
    so rarely that garbage scatters over the heap.
    """
    gc.collect()
    gc.freeze()
