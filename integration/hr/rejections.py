"""The rows of a file that cannot be taken: their lines and why, to be sent back; nothing of what they say."""

import csv
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from integration.errors import Reason

HEADS = ("line", "reason", "sentence")


class Rejections:
    """Writes them, and counts them by their reason."""

    def __init__(self, path: Path, writer: Any) -> None:
        self.path, self._writer = path, writer
        self.reasons: Counter[Reason] = Counter()
        writer.writerow(HEADS)

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator["Rejections"]:
        """Write into a file of our own, readable by nobody else."""
        path.touch(0o600)
        with path.open("w", encoding="utf-8", newline="") as out:
            yield cls(path, csv.writer(out))

    def add(self, line: int, reason: Reason, sentence: str) -> None:
        """Write one row. A sentence of ours begins with no character that a spreadsheet would take for a formula."""
        self.reasons[reason] += 1
        self._writer.writerow((line, reason.value, sentence))
