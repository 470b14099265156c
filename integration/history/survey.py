"""A first look at a file: what its rows will become, which of them cannot, and why. Changes nothing."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from integration.errors import Reason, Rejected
from integration.files.row import Reader, Row
from integration.history.chunks import Said
from integration.history.rejected import RejectedRows
from integration.history.translation import Events, Translation

SHOWN = 5
"""How many rows are previewed, and how many examples are kept for each reason."""


class Example(NamedTuple):
    """A row that was rejected, by its line."""

    line: int
    sentence: str


class Preview(NamedTuple):
    """One of the first rows: what it becomes, or why it becomes nothing."""

    line: int
    events: Events
    reason: Reason | None = None
    sentence: str = ""


@dataclass(slots=True)
class Survey:
    """What a whole file comes to. `silent` rows say nothing; times are of the earliest and the latest event."""

    rows: int = 0
    silent: int = 0
    events: dict[str, int] = field(default_factory=dict)
    rejected: dict[Reason, int] = field(default_factory=dict)
    examples: dict[Reason, list[Example]] = field(default_factory=dict)
    preview: list[Preview] = field(default_factory=list)
    earliest: datetime | None = None
    latest: datetime | None = None

    def reject(self, line: int, reason: Reason, sentence: str) -> None:
        """Count a row that cannot be taken."""
        self.rejected[reason] = self.rejected.get(reason, 0) + 1
        if len(examples := self.examples.setdefault(reason, [])) < SHOWN:
            examples.append(Example(line, sentence))

    def see(self, events: Events) -> None:
        """Count what a row says."""
        self.silent += not events
        for event in events:
            self.events[event.type.value] = self.events.get(event.type.value, 0) + 1
            if self.earliest is None or event.occurred_at < self.earliest:
                self.earliest = event.occurred_at
            if self.latest is None or event.occurred_at > self.latest:
                self.latest = event.occurred_at


def look(
    reader: Reader,
    translation: Translation,
    rejected: RejectedRows,
    *,
    advance: Callable[[int, int], None] = lambda _rows, _offset: None,
    hear: Callable[[list[Said]], None] | None = None,
    slice_rows: int = 5_000,
) -> Survey:
    """Read a whole file; `advance` is told rows and bytes now and then, `hear` everything that is said.

    Raises Rejected where the file itself cannot be read.
    """
    found = Survey()
    said: list[Said] = []
    for row in reader.rows():
        found.rows += 1
        events: Events = ()
        reason, sentence = (None, "") if isinstance(row, Row) else (row.reason, row.sentence)
        if isinstance(row, Row):
            try:
                events = translation.events(row.values)
            except Rejected as error:
                reason, sentence = error.reason, error.detail
        if reason is None:
            found.see(events)
        else:
            found.reject(row.line, reason, sentence)
            rejected.add(row, reason, sentence)
        if len(found.preview) < SHOWN:
            found.preview.append(Preview(row.line, events, reason, sentence))
        if hear:
            said += [Said(row.line, event, event.content_hash()) for event in events]
        if found.rows % slice_rows == 0:
            advance(found.rows, row.after.offset)
            if hear:
                hear(said)
                said = []
    if hear:
        hear(said)
    return found
