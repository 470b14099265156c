"""Chunks of history become facts: in ONE transaction what they say, and where the next one begins."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog
from sqlalchemy import Connection, Engine

from integration.errors import Ignored, NeedsAttention, RetryLater
from integration.history.chunks import Chunk
from integration.model.events import LearningEvent
from integration.model.results import IMPORTED
from integration.recording import Heard, Noted, Recorder
from integration.storage import imports, inbox
from integration.storage.base import AWAY, be_patient, relax
from integration.storage.imports import Import
from integration.told import Told

log = structlog.get_logger(__name__)

TRIES = 8
"""How often a chunk is tried that somebody else's work stands in the way of; about a minute in all."""


class Overtaken(Exception):
    """Somebody else imports the same file, and has come further."""


@dataclass(frozen=True)
class Importer:
    """What takes chunks in; facts as the pipeline makes them, in the backfill lane, and on no timeline."""

    engine: Engine
    recorder: Recorder

    def take(self, held: Import, chunk: Chunk, rest_until: datetime | None) -> Import:
        """Record a chunk, and return the import as it stands then.

        Nobody is written before `rest_until` because of it. Raises Overtaken, and what the database raises when it is
        away for longer than a minute: run again, and it goes on behind the last chunk.
        """
        for tries in range(1, TRIES + 1):
            try:
                with self.engine.begin() as db:
                    relax(db)  # a crash of the server forgets facts and mark together
                    be_patient(db)
                    return self._record(db, held, chunk, rest_until)
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
        """Return the import where it stands exactly behind a chunk."""
        with self.engine.begin() as db:
            now = imports.get(db, held.id)
        return now if now and now.byte_offset == chunk.after.offset else None

    def _record(self, db: Connection, held: Import, chunk: Chunk, rest_until: datetime | None) -> Import:
        heard = [
            Heard(held.connection, event, held.started_at, IMPORTED, None, held.id, line, content)
            for line, event, content in chunk.said
        ]
        noted = self.recorder.record(db, heard, rest_until=rest_until)
        told = self._tell(db, held, heard, noted)
        inbox.release(db, noted.opened)
        left_out = sum(isinstance(one, Ignored) for one in noted.found)
        undecided = sum(isinstance(one, NeedsAttention) for one in noted.found)
        added = {
            "rows": chunk.rows,
            "rejected": chunk.rejected,
            "silent": chunk.silent,
            "events": len(heard),
            "facts": noted.facts,
            "known": len(heard) - noted.facts - left_out - undecided,
            "left_out": left_out,
            "undecided": undecided,
            "told": told,
        }
        counts = {name: held.counts.get(name, 0) + number for name, number in added.items()}
        advanced = imports.advance(db, held, chunk.after.offset, chunk.after.line, counts)
        if advanced is None:
            raise Overtaken
        return advanced

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
