"""`coursewire bench`: what this machine can do, measured on whole processes, each row beside its physical limit.

Read `rows/` first: a file per row says what is measured and how. `arena.py` is where everything runs, `baseline.py`
what people write instead, `crm.py` and `load.py` the two ends.
"""

from scripts.bench.asked import Asked

__all__ = ["Asked", "run"]


def run(asked: Asked) -> int:
    """Measure, print, write files; returns the exit code. Raises ConfigError, EmbeddedUnavailable, FolderInUse."""
    # The measured processes are in this package too, and must not carry all of this along.
    from scripts.bench.show import run as measure  # noqa: PLC0415

    return measure(asked)
