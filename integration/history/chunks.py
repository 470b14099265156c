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
"""Each learner is held by up to three locks, of which Postgres has 6,400 in all by default. Two chunks are recorded at
once."""

Name = tuple[str | None, ...]


class Said(NamedTuple):
    """An event, the line that says it, and its hash: made here, while the chunk before is recorded."""

    line: int
    event: LearningEvent
    content: bytes


@dataclass(slots=True)
class Chunk:
    """Rows that follow each other: what they say, how many they are, and the marks before and behind them.

    `silent` rows say nothing, `rejected` ones cannot be taken.
    """

    before: Mark
    said: list[Said] = field(default_factory=list)
    rows: int = 0
    silent: int = 0
    rejected: int = 0
    after: Mark = BEGINNING


def chunks(reader: Reader, translation: Translation, after: Mark = BEGINNING) -> Iterator[Chunk]:
    """Return what follows a mark, in chunks whose ends depend on the file alone. Raises what the reader raises.

    A chunk that is full ends where a row is about somebody else: in a file that is sorted by people each of them is in
    one chunk, and no chunk waits for the one before.
    """
    chunk, learners = Chunk(after), set[Name]()
    for row in reader.rows(after):
        events: Events = ()
        silent = rejected = 0
        try:
            if isinstance(row, Row):
                events = translation.events(row.values)
                silent = not events
            else:
                rejected = 1
        except Rejected:
            rejected = 1
        named = {(who.lms_user_id, who.email, who.employee_id) for event in events for who in (event.learner,)}
        is_full = chunk.rows >= ROWS or len(learners) >= LEARNERS
        if is_full and (chunk.rows >= 2 * ROWS or not named <= learners):
            yield chunk
            chunk, learners = Chunk(chunk.after), set()
        learners |= named
        chunk.said += [Said(row.line, event, event.content_hash()) for event in events]
        chunk.silent += silent
        chunk.rejected += rejected
        chunk.rows += 1
        chunk.after = row.after
    if chunk.rows:
        yield chunk
