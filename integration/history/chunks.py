"""A file of history as chunks, each of which becomes one transaction."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from integration.errors import Rejected
from integration.files.row import BEGINNING, Mark, Reader, Row
from integration.history.translation import Events, Translation
from integration.model.events import LearningEvent

ROWS = 5_000
LEARNERS = 1_000
"""Each learner is held by up to three locks, of which Postgres has 6,400 in all by default."""


class Said(NamedTuple):
    """An event, the line that says it, and its hash: made here, while the chunk before is recorded."""

    line: int
    event: LearningEvent
    content: bytes


@dataclass(slots=True)
class Chunk:
    """Rows that follow each other: what they say, how many they are, and the mark behind the last one.

    `silent` rows say nothing, `rejected` ones cannot be taken.
    """

    said: list[Said] = field(default_factory=list)
    rows: int = 0
    silent: int = 0
    rejected: int = 0
    after: Mark = BEGINNING


def chunks(reader: Reader, translation: Translation, after: Mark = BEGINNING) -> Iterator[Chunk]:
    """Return what follows a mark, in chunks whose ends depend on the file alone. Raises what the reader raises."""
    chunk, learners = Chunk(), set[tuple[str | None, ...]]()
    for row in reader.rows(after):
        events: Events = ()
        try:
            if isinstance(row, Row):
                events = translation.events(row.values)
                chunk.silent += not events
            else:
                chunk.rejected += 1
        except Rejected:
            chunk.rejected += 1
        for event in events:
            who = event.learner
            learners.add((who.lms_user_id, who.email, who.employee_id))
            chunk.said.append(Said(row.line, event, event.content_hash()))
        chunk.rows += 1
        chunk.after = row.after
        if chunk.rows >= ROWS or len(learners) >= LEARNERS:
            yield chunk
            chunk, learners = Chunk(), set()
    if chunk.rows:
        yield chunk
