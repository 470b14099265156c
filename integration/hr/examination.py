"""The first look at a whole file: every row read, what says anything staged, what cannot be taken noted."""

from collections.abc import Callable
from dataclasses import dataclass

from integration.errors import Reason, Rejected
from integration.files.row import BadRow, Reader, Row
from integration.hr.rejections import Rejections
from integration.hr.translation import Translation
from integration.security.seal import IndexKeys
from integration.storage.hr_rows import Staged

ROWS = 5_000
"""Rows that are staged in one transaction."""


@dataclass(frozen=True, kw_only=True)
class Examination:
    """Reads a file to its end; `stage` is given rows by thousands, each time in a transaction of its own."""

    translation: Translation
    keys: IndexKeys
    dated: bool
    stage: Callable[[list[Staged]], None]

    def examine(self, reader: Reader, rejections: Rejections, *, ends_whole: bool) -> int:
        """Return how many rows the file has.

        Raises Rejected(FILE_CUT) where it ends within a row: as quotes say, or its last row where no line ends
        (`ends_whole` False). Raises Rejected as the reader does.
        """
        rows, staged, last = 0, list[Staged](), None
        for row in reader.rows():
            rows += 1
            last = row
            try:
                staged.append(self._staged(row))
            except Rejected as error:
                if error.reason is Reason.FILE_CUT:
                    raise Rejected(Reason.FILE_CUT, f"line {row.line}: {error.detail}") from None
                rejections.add(row.line, error.reason, error.detail)
            if len(staged) >= ROWS:
                self.stage(staged)
                staged = []
        if isinstance(last, BadRow) and not ends_whole:
            raise Rejected(Reason.FILE_CUT, f"line {last.line}: the file ends within its last row: {last.sentence}")
        if staged:
            self.stage(staged)
        return rows

    def _staged(self, row: Row | BadRow) -> Staged:
        if isinstance(row, BadRow):
            raise Rejected(row.reason, row.sentence)
        said = self.translation.said(row.values)
        content = said.content(self.keys, dated=self.dated)
        return Staged(row.line, said.key(self.keys), content, said.at, said.status)
