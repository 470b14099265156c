"""Asking an LMS what happened, page by page: what no webhook told enters the inbox, and what is known stays outside.

Live events go first: pages are read in the backfill lane, and what they say is backfill wherever it leads to.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from threading import BoundedSemaphore
from typing import NamedTuple
from uuid import UUID, uuid4

import structlog
from sqlalchemy import Connection, Engine

from integration.delivery import trouble
from integration.delivery.budget import Budget
from integration.errors import BatchRejected, ConnectionBroken, CoursewireError, Reason, Rejected
from integration.model.events import Kind, LearningEvent
from integration.model.results import POLL_RESULTS, POLLED, is_news
from integration.ports import ResultLister, ResultPage, Scope
from integration.reconciliation.patience import TURN_SECONDS, wait_for_call
from integration.security.seal import IndexKeys, KeyRing
from integration.sighting import Sighting, learner_key
from integration.storage import breakers, calls, connections, inbox, outlook, polls, rings, words
from integration.storage.base import AWAY, single
from integration.storage.calls import Call
from integration.storage.outlook import Outlook
from integration.storage.polls import Held, PollTaken
from integration.storage.sync_state import BACKFILL
from integration.told import Told

log = structlog.get_logger(__name__)

MOST_PAGES = 100_000
"""A list with more pages has no end; what was read of it stays."""

Rows = tuple[tuple[int, Kind], ...]
"""Rows of the inbox, each with the task that takes it."""


class Said(NamedTuple):
    """An event of a page: its fact, what it says of it, and when that happened."""

    key: bytes
    content: bytes
    at: datetime
    event: LearningEvent

    @property
    def external_id(self) -> str:
        """Its id in the inbox: the same whenever the same is said of the same fact."""
        return f"poll:{self.key.hex()}:{self.content.hex()}"


class Polled(NamedTuple):
    """What a turn led to: whether there is more to do at once, and rows of the inbox to ring for."""

    is_more: bool = False
    told: Rows = ()


@dataclass(frozen=True, kw_only=True)
class Poller:
    """Polls one LMS; built once per process by the composition root. `courses` are those that anything here names."""

    engine: Engine
    connection: str
    lister: ResultLister
    ring: KeyRing
    keys: IndexKeys
    budget: Budget
    take_calls: Callable[[], list[Call]]
    courses: Callable[[Connection, str], Sequence[str]]
    place: BoundedSemaphore = field(default_factory=lambda: BoundedSemaphore(1))

    def run(self) -> Polled:
        """Work on an open poll until it ends, the LMS may not be called, or time is up."""
        if not self.place.acquire(blocking=False):
            return Polled()
        try:
            with single(self.engine) as db:
                rings.heard(db, self.connection, POLL_RESULTS)
                now = outlook.look(db, self.connection, POLL_RESULTS)
                lease = uuid4()
                held = polls.claim(db, self.connection, lease) if now.may_call else None
            return self._turn(held, lease, now, time.monotonic() + TURN_SECONDS) if held else Polled()
        finally:
            self.place.release()

    def _turn(self, held: Held, lease: UUID, now: Outlook, ends: float) -> Polled:
        told: Rows = ()
        if held.attempts > polls.DEATHS:
            self._fail(held, lease, Reason.CRASH_LOOP, "its page ended every worker that read it")
            return Polled()
        try:
            while True:
                page = self._page(held, lease)
                held, new = self._settle(held, lease, now, page)
                told += new
                if page.position is None:
                    return Polled(told=told)
                if time.monotonic() >= ends:
                    break
        except (PollTaken, *AWAY):
            return Polled(told=told)  # whoever finds the poll abandoned goes on with it
        except CoursewireError as error:
            self._note(held, lease, error)
            return Polled(told=told)
        finally:
            self.budget.give_back()
        with suppress(*AWAY), single(self.engine) as db:
            polls.leave(db, held, lease)
        return Polled(is_more=True, told=told)

    def _page(self, held: Held, lease: UUID) -> ResultPage:
        self.take_calls()
        wait_for_call(self.budget, self.connection, partial(self._still_ours, held, lease))
        with single(self.engine) as db:
            courses = tuple(self.courses(db, self.connection))
        with self.budget.lane(BACKFILL):
            return self.lister.page(held.position, Scope(held.since, courses, self._untold))

    def _still_ours(self, held: Held, lease: UUID) -> None:
        with single(self.engine) as db:
            if not polls.hold(db, held, lease):
                raise PollTaken

    def _untold(self, events: Sequence[LearningEvent]) -> Sequence[LearningEvent]:
        """Return the events whose fact is not known; read between two calls, and so in no transaction."""
        keyed = [(self._key(event, Sighting.of(self.connection, event, event.occurred_at)), event) for event in events]
        with single(self.engine) as db:
            known = words.known(db, (key for key, _ in keyed))
        return [event for key, event in keyed if key not in known]

    def _settle(self, held: Held, lease: UUID, now: Outlook, page: ResultPage) -> tuple[Held, Rows]:
        """Store what is news of a page, what was counted, and where the next one begins. Raises PollTaken."""
        with self.engine.begin() as db:
            counted = polls.counts(db, held, lease)
            said = self._said(page.events, held.started_at)
            known = words.known(db, (one.key for one in said))
            fresh = [one for one in said if _is_new(one, known.get(one.key))]
            told = self._tell(db, held, fresh)
            made = self.take_calls()
            added = {
                "seen": len(page.events),
                "known": len(page.events) - len(fresh),
                "new": len(told),
                "told_before": len(fresh) - len(told),
                "unread": page.unread,
                "calls": len(made),
                "pages": 1,
            }
            total = {name: counted.get(name, 0) + number for name, number in added.items()}
            held = polls.settle(db, held, lease, page.position, total)
            if page.position is not None and total["pages"] >= MOST_PAGES:
                polls.finish(db, held, lease, "failed", Reason.MALFORMED_ANSWER.value, "the list has no end")
            calls.add(db, self.connection, made)
            if made and not now.is_clear:
                connections.heal(db, self.connection)
                breakers.succeed(db, self.connection, POLL_RESULTS)
        log.info("poll.page", connection=self.connection, run=held.id, counts=added)
        return held, told

    def _said(self, events: Iterable[LearningEvent], at: datetime) -> list[Said]:
        """Return the latest word of a page on each fact; times in the future count from when the poll began."""
        latest: dict[bytes, Said] = {}
        for event in events:
            sighting = Sighting.of(self.connection, event, at)
            one = Said(self._key(event, sighting), event.content_hash(), sighting.at, event)
            if one.key not in latest or latest[one.key].at <= one.at:
                latest[one.key] = one
        return [latest[key] for key in sorted(latest)]

    def _key(self, event: LearningEvent, sighting: Sighting) -> bytes:
        return event.fact_key(self.connection, learner_key(sighting, self.keys))

    def _tell(self, db: Connection, held: Held, fresh: Sequence[Said]) -> Rows:
        told: list[tuple[int, Kind]] = []
        for kind in (Kind.ENROLLMENT, Kind.COMPLETION):
            these = [Told(event=one.event).received(one.external_id) for one in fresh if one.event.type.kind is kind]
            ids = inbox.tell(db, self.connection, POLLED, these, self.ring, f"poll:{held.id}")
            told += [(row_id, kind) for row_id in ids]
        return tuple(told)

    def _note(self, held: Held, lease: UUID, error: CoursewireError) -> None:
        """Wait where that helps; end the poll where it can never be answered, and leave enrolments alone then."""
        is_lacking = isinstance(error, ConnectionBroken) and error.reason is Reason.SCOPE_MISSING
        if is_lacking or isinstance(error, Rejected | BatchRejected):
            self._fail(held, lease, error.reason, error.detail)
            return
        with suppress(*AWAY), self.engine.begin() as db:
            trouble.note(db, self.connection, POLL_RESULTS, error)
            calls.add(db, self.connection, self.take_calls())
            polls.leave(db, held, lease)

    def _fail(self, held: Held, lease: UUID, reason: Reason, detail: str) -> None:
        with suppress(*AWAY), self.engine.begin() as db:
            calls.add(db, self.connection, self.take_calls())
            polls.finish(db, held, lease, "failed", reason.value, detail)
        log.error("poll.failed", connection=self.connection, run=held.id, reason=reason.value)


def _is_new(said: Said, known: words.Known | None) -> bool:
    return known is None or (said.content not in known.contents and is_news(said.event, said.at, known.word))
