"""What was asked for on the command line."""

from dataclasses import dataclass
from pathlib import Path

__all__ = ["SEED", "Asked"]

SEED = 20261121


@dataclass(frozen=True, slots=True)
class Asked:
    """Which rows (comma-separated, empty: all), how large, how often, and where to write. `repeat` 0: by size."""

    only: str = ""
    quick: bool = False
    repeat: int = 0
    seed: int = SEED
    json: Path | None = None
    plot: Path | None = None
    strict: bool = False

    @property
    def repetitions(self) -> int:
        """How often each row is measured."""
        return self.repeat or (1 if self.quick else 3)
