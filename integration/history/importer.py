"""Chunks of history become facts: in ONE transaction what they say, and that they are in.

Two are recorded side by side: while Postgres works on one, this process works on the other. The later one begins when
everybody is held whom the earlier one is about, so that of what contradicts itself the same counts as in one thread.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from threading import Event

import structlog
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from integration.errors import Ignored, NeedsAttention, RetryLater
from integration.files.row import Mark
from integration.history.chunks import Chunk
from integration.model.events import LearningEvent
from integration.model.results import IMPORTED
from integration.recording import Heard, Noted, Recorder
from integration.storage import imports, inbox
from integration.storage.base import AWAY, REFUSED, be_patient, relax
from integration.storage.imports import Import
from integration.told import Told

log = structlog.get_logger(__name__)

SIDE_BY_SIDE = 2
"""Chunks recorded at once; a third one would wait for the interpreter."""

TRIES = 8
"""How often a chunk is tried that somebody else's work stands in the way of; about a minute in all."""


Refuse = Callable[[Mark, Mapping[int, str]], None]
"""Is told of rows that the database refuses: a mark before them, and by their lines a sentence for each."""


class Overtaken(Exception):
    """Somebody else imports the same file, and has come further."""


@dataclass(frozen=True)
class Importer:
    """What takes chunks in; facts as the pipeline makes them, in the backfill lane, and on no timeline.

    `refuse` is told of rows before their chunk is in, and again where that is tried again.
    """

    engine: Engine
    recorder: Recorder
    refuse: Refuse

    def take_all(
        self, held: Import, parts: Iterable[Chunk], rest_until: Callable[[Chunk], datetime | None]
    ) -> Generator[Import]:
        """Record chunks that follow each other, but for those that are in; yield the import as it stood after each.

        Nobody is written before `rest_until` because of a chunk. Raises what `take` does, when none is under way.
        """
        under_way, newest = deque[Future[Import]](), held
        turn = Event()
        turn.set()
        with ThreadPoolExecutor(SIDE_BY_SIDE, "import") as threads:
            for chunk in parts:
                if held.has(chunk.before.offset):
                    continue
                following = Event()
                under_way.append(threads.submit(self.take, held, chunk, rest_until(chunk), turn, following))
                turn = following
                if len(under_way) < SIDE_BY_SIDE:
                    continue
                newest = max(newest, under_way.popleft().result(), key=_place)
                yield newest
            while under_way:
                newest = max(newest, under_way.popleft().result(), key=_place)
                yield newest

    def take(self, held: Import, chunk: Chunk, rest_until: datetime | None, turn: Event, following: Event) -> Import:
        """Record a chunk when it is its turn, and return the import as it stands then; `following` may begin meanwhile.

        Raises Overtaken, and what the database raises when it is away for longer than a minute: run again, and it goes
        on behind the last chunk.
        """
        turn.wait()
        try:
            return self._take(held, chunk, rest_until, following.set)
        finally:
            following.set()

    def _take(self, held: Import, chunk: Chunk, rest_until: datetime | None, holding: Callable[[], None]) -> Import:
        is_refused = False
        for tries in range(1, TRIES + 1):
            try:
                with self.engine.begin() as db:
                    relax(db)  # a crash of the server forgets facts and mark together
                    be_patient(db)
                    return self._record(db, held, chunk, rest_until, holding, in_halves=is_refused)
            except REFUSED as error:
                if is_refused or tries == TRIES:
                    raise
                is_refused = True  # in halves, the chunk behind it may be recorded before: the database decides by time
                log.warning("import.refused", run=held.id, error=type(error.orig).__name__)
            except (*AWAY, RetryLater) as error:
                log.warning("import.again", run=held.id, tries=tries, error=type(error).__name__)
                if tries == TRIES:
                    raise
                time.sleep(min(2 ** (tries - 2), 16))
            except Overtaken:
                if tries > 1 and (done := self._done(held, chunk)):
                    return done  # the answer to our own commit was lost
                raise
        raise AssertionError  # the loop returns or raises

    def _done(self, held: Import, chunk: Chunk) -> Import | None:
        """Return the import where a chunk is in."""
        with self.engine.begin() as db:
            now = imports.get(db, held.id)
        return now if now and now.has(chunk.before.offset) else None

    def _record(
        self,
        db: Connection,
        held: Import,
        chunk: Chunk,
        rest_until: datetime | None,
        holding: Callable[[], None],
        *,
        in_halves: bool,
    ) -> Import:
        heard = [
            Heard(held.connection, event, held.started_at, IMPORTED, None, held.id, line, content)
            for line, event, content in chunk.said
        ]

        def hear(some: Sequence[Heard]) -> Counter[str]:
            return self._hear(db, held, some, rest_until, holding)

        refused: dict[int, str] = {}
        heard_of = _halved(db, heard, hear, refused) if in_halves else hear(heard)
        if refused:
            self.refuse(chunk.before, refused)
        added = {"rows": chunk.rows, "rejected": chunk.rejected + len(refused), "silent": chunk.silent, **heard_of}
        done = imports.Done(chunk.after.offset, chunk.after.line, added)
        advanced = imports.advance(db, held.id, chunk.before.offset, done)
        if advanced is None:
            raise Overtaken
        return advanced

    def _hear(
        self,
        db: Connection,
        held: Import,
        heard: Sequence[Heard],
        rest_until: datetime | None,
        holding: Callable[[], None],
    ) -> Counter[str]:
        """Record some events, and return what they add to the counts."""
        noted = self.recorder.record(db, heard, rest_until=rest_until, holding=holding)
        told = self._tell(db, held, heard, noted)
        inbox.release(db, noted.opened)
        left_out = sum(isinstance(one, Ignored) for one in noted.found)
        undecided = sum(isinstance(one, NeedsAttention) for one in noted.found)
        added = {
            "events": len(heard),
            "facts": noted.facts,
            "known": len(heard) - noted.facts - left_out - undecided,
            "left_out": left_out,
            "undecided": undecided,
            "told": told,
        }
        return Counter(added)

    def _tell(self, db: Connection, held: Import, heard: Sequence[Heard], noted: Noted) -> int:
        """Put what needs a decision into the inbox, where it is parked like a webhook's; return how many were new."""
        told, requests = [], []
        for one, found in zip(heard, noted.found, strict=True):
            if isinstance(found, NeedsAttention) and isinstance(one.event, LearningEvent):
                said = one.event.learner
                who = said.lms_user_id or self.recorder.keys.newest("email", said.email or "").hex()
                key = one.event.fact_key(one.connection, who)
                external_id = f"import:{key.hex()}:{one.event.content_hash().hex()}"
                told.append(Told(event=one.event).received(external_id))
                requests.append(f"import:{held.id}:line:{one.line}")
        return len(inbox.tell(db, held.connection, IMPORTED, told, self.recorder.ring, requests))


def _place(held: Import) -> int:
    return held.byte_offset


def _halved(
    db: Connection, heard: Sequence[Heard], hear: Callable[[Sequence[Heard]], Counter[str]], refused: dict[int, str]
) -> Counter[str]:
    """Record what the database takes of some events, and return what that adds to the counts.

    What it refuses is halved until a row stands alone, and that one is left out whole: its line goes into `refused`.
    """
    try:
        with db.begin_nested():
            return hear(heard)
    except REFUSED as error:
        lines = sorted({one.line or 0 for one in heard})
        if not lines:
            raise  # it is about no row
        if len(lines) == 1:
            refused[lines[0]] = _sentence(error)
            return hear(())
        middle = lines[len(lines) // 2]
        halves = [one for one in heard if (one.line or 0) < middle], [one for one in heard if (one.line or 0) >= middle]
        first, second = (_halved(db, half, hear, refused) for half in halves)
        first.update(second)
        return first


def _sentence(error: DBAPIError) -> str:
    """Return what the database calls it; what it says besides would show values."""
    where = getattr(getattr(error.orig, "diag", None), "constraint_name", None)
    return f"the database refuses it: {type(error.orig).__name__}" + (f" ({where})" if where else "")
