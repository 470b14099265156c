"""What the program does with an event, in order. Read this page first.

* claim: take the rows with a lease and commit, so that nobody else works on them
* translate: each payload into canonical events; what cannot be is settled with its reason
* record, in ONE transaction: who it is about, the facts, the person's version, what is due where
* ring: whoever writes to the systems concerned
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property, partial
from uuid import UUID, uuid4

import structlog
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from integration import deal_news, identity
from integration.config import Config, Pace
from integration.deal_news import DealSaid
from integration.erasure import Eraser
from integration.errors import CoursewireError, Ignored, NeedsAttention, Reason, Rejected, RetryLater
from integration.hints import Hints, Said
from integration.model.deals import DealHint
from integration.model.employees import Employment
from integration.model.events import LearningEvent
from integration.model.hints import ContactHint
from integration.model.identity import NONE
from integration.ports import Translator
from integration.recording import Heard, Recorder
from integration.security.seal import IndexKeys, KeyRing
from integration.sighting import Sighting, park_keys
from integration.storage import erasure, inbox
from integration.storage.base import AWAY, relax, single
from integration.storage.inbox import Claimed, Settled
from integration.storage.roles import Watching

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Translated:
    """An inbox row, and what its payload holds: events of an LMS, words of HR, or the hint of a CRM."""

    row: Claimed
    events: tuple[LearningEvent | Employment, ...] = ()
    hint: ContactHint | None = None
    deal: DealHint | None = None
    has_erased: bool = False


@dataclass(frozen=True, slots=True)
class Recorded:
    """What one batch led to: outcomes per row, systems to ring, parked rows that may go on.

    `look_up_at` are systems in which contacts or learners that nobody knows are to be looked at.
    """

    outcomes: list[Settled]
    due_at: frozenset[str]
    released: list[tuple[int, str]]
    look_up_at: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Pipeline:
    """Everything a batch needs; built once per process by the composition root.

    `later` says when a flow that gathers is due next in a connection, `rules` who is matched with whom, `watching` what
    counts of a CRM's contacts, as the transaction sees it that decides by them. `knows_users` are LMSs that can be
    asked who somebody is.
    """

    engine: Engine
    config: Config
    inbound: Mapping[str, Translator]
    ring: KeyRing
    keys: IndexKeys
    later: Callable[[str, Pace], datetime]
    rules: identity.Rules = lambda _: NONE
    watching: Watching = lambda _db, _connection: None
    knows_users: frozenset[str] = frozenset()

    @cached_property
    def recorder(self) -> Recorder:
        """What makes facts of what was said."""
        return Recorder(self.config, self.ring, self.keys, self.later, self.rules, self.knows_users)

    @cached_property
    def hints(self) -> Hints:
        """What a CRM says of its contacts."""
        eraser = partial(Eraser, self.engine, self.ring, self.keys, self.inbound)
        return Hints(self.engine, self.ring, self.keys, eraser, self.watching)

    def sync(self, kind: str, ids: Sequence[int]) -> Recorded:
        """Take inbox rows of one kind all the way to what is due; return what that led to.

        Raises what the database raises when it is away; the rows are then given back or taken back by the sweeper.
        """
        lease = uuid4()
        with single(self.engine) as db:
            claimed = inbox.claim(db, kind, ids, lease)
        if not claimed:
            return Recorded([], frozenset(), [])
        try:
            return self._work(claimed, lease)
        except (*AWAY, RetryLater):
            with suppress(DBAPIError), self.engine.begin() as db:
                inbox.give_back(db, lease)
            raise

    def _work(self, claimed: list[Claimed], lease: UUID) -> Recorded:
        translated, settled = self._translate(claimed)
        if said := _said(translated):
            erased, failed = self.hints.reshape(said)
            settled += failed
            left_out = {one.id for one in failed}
            translated = [
                replace(item, has_erased=item.row.id in erased) for item in translated if item.row.id not in left_out
            ]
        recorded = self._record(translated, settled, lease)
        log.info(
            "sync.done",
            rows=len(claimed),
            requests=sorted({row.request_id for row in claimed})[:20],
            outcomes=_counts(recorded.outcomes),
            due_at=sorted(recorded.due_at),
        )
        return recorded

    def _translate(self, claimed: Iterable[Claimed]) -> tuple[list[Translated], list[Settled]]:
        translated, settled = [], []
        for row in claimed:
            try:
                translated.append(self._read(row))
            except CoursewireError as error:
                settled.append(Settled.unread(row.id, error))
            except Exception:  # a connector's bug must not sink the batch, and must be seen
                log.exception("translate.failed", inbox=row.id, connection=row.connection)
                settled.append(Settled(row.id, "dead", Reason.INTERNAL_ERROR, "the connector could not read it"))
        return translated, settled

    def _read(self, row: Claimed) -> Translated:
        system = self.inbound.get(row.connection)
        if system is None:
            raise NeedsAttention(Reason.CONNECTION_REMOVED, "the connection is not in the connections file any more")
        if row.payload is None:
            raise Rejected(Reason.INTERNAL_ERROR, "the payload was purged")
        payload = self.ring.open(row.payload, inbox.payload_context(row.connection, row.request_id))
        events: list[LearningEvent | Employment] = []
        hint, deal = None, None
        for said in system.translate(payload):
            if isinstance(said, ContactHint):
                hint = said  # a CRM's connector puts one in each row
            elif isinstance(said, DealHint):
                deal = said
            else:
                events.append(said)
        return Translated(row, tuple(events), hint, deal)

    def _record(self, translated: list[Translated], settled: list[Settled], lease: UUID) -> Recorded:
        """Record a batch in one transaction; one that the database refuses is halved until the bad row is alone."""
        try:
            with self.engine.begin() as db:
                relax(db)  # whatever follows from an event can be found again: the event itself is on the disk
                told = [item for item in translated if item.hint is None and item.deal is None]
                outcomes, due_at, opened = self._apply(db, told)
                heard = self.hints.apply(db, _said(translated), {i.row.id for i in translated if i.has_erased})
                outcomes += heard.outcomes + deal_news.hear(db, self.watching, _said_of_deals(translated))
                inbox.settle(db, lease, [*settled, *outcomes])
                if erased := [one.id for one in outcomes if one.reason is Reason.ERASED]:
                    erasure.shred(db, [], erased)
                # Only now: what waits may have been parked by this very batch.
                released = inbox.release(db, opened)
                waiting = {one.id for one in outcomes if one.status == "enriching"}
        except (*AWAY, RetryLater):
            raise  # no row is to blame
        except Exception as error:
            if not translated:
                raise
            log.warning("record.refused", rows=len(translated), error=type(error).__name__)
            if len(translated) == 1:
                return self._record([], [*settled, _unrecorded(translated[0].row, error)], lease)
            middle = len(translated) // 2
            first = self._record(translated[:middle], settled, lease)
            second = self._record(translated[middle:], [], lease)
            return _joined(first, second)
        asked = {item.row.connection for item in translated if item.hint is None and item.row.id in waiting}
        return Recorded([*settled, *outcomes], due_at | heard.due_at, released, frozenset(heard.look_up_at | asked))

    def _apply(self, db: Connection, batch: Sequence[Translated]) -> tuple[list[Settled], frozenset[str], list[bytes]]:
        """Return an outcome per row, the systems where somebody is due now, and the park keys that were opened."""
        if not batch:
            return [], frozenset(), []
        owners = [item for item in batch for _ in item.events]
        heard = [
            Heard(item.row.connection, event, item.row.received_at, item.row.origin, item.row.id)
            for item in batch
            for event in item.events
        ]
        noted = self.recorder.record(db, heard)
        return self._outcomes(batch, owners, noted.sightings, noted.found, noted.news), noted.due_at, noted.opened

    def _may_be_asked(self, sighting: Sighting, person: int | NeedsAttention | Ignored) -> bool:
        """Say whether the LMS can tell who a learner is of whom we know nothing else."""
        unnamed = isinstance(person, NeedsAttention) and person.reason is Reason.NO_IDENTITY
        said = sighting.event.learner
        return unnamed and sighting.connection in self.knows_users and sighting.link is not None and not said.email

    def _outcomes(
        self,
        batch: Sequence[Translated],
        owners: Sequence[Translated],
        sightings: Sequence[Sighting],
        found: Sequence[int | NeedsAttention | Ignored],
        news: set[int],
    ) -> list[Settled]:
        """Return one outcome per row: a row of several events is only done when none of them is parked."""
        outcomes: dict[int, Settled] = {}
        for item, sighting, person in zip(owners, sightings, found, strict=True):
            row_id = item.row.id
            if self._may_be_asked(sighting, person):
                outcomes[row_id] = Settled(row_id, "enriching", Reason.NO_IDENTITY)
            elif isinstance(person, NeedsAttention):
                waits = tuple(park_keys(sighting, self.keys))
                outcomes[row_id] = Settled(row_id, "parked", person.reason, person.detail, park_keys=waits)
            elif isinstance(person, Ignored):
                outcomes.setdefault(row_id, Settled(row_id, "ignored", person.reason, person.detail))
            elif row_id not in outcomes:
                routed = any(sighting.flow in r.flows for r in self.config.routes_from(sighting.connection))
                reason = Reason.APPLIED if person in news else Reason.DUPLICATE_FACT
                outcomes[row_id] = (
                    Settled(row_id, "done", reason, person_id=person)
                    if routed
                    else Settled(row_id, "ignored", Reason.NO_ROUTE, person_id=person)
                )
        for item in batch:
            outcomes.setdefault(item.row.id, Settled(item.row.id, "ignored", Reason.UNKNOWN_TYPE))
        return list(outcomes.values())


def _unrecorded(row: Claimed, error: Exception) -> Settled:
    """Return what becomes of a row that cannot be recorded even alone."""
    if isinstance(error, CoursewireError):
        return Settled.unread(row.id, error)
    log.error("record.failed", inbox=row.id, connection=row.connection, exc_info=error)
    sentence = f"it could not be recorded: {type(error).__name__}"
    return Settled(row.id, "dead", Reason.INTERNAL_ERROR, sentence)


def _counts(outcomes: Iterable[Settled]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for outcome in outcomes:
        key = f"{outcome.status}:{outcome.reason}"
        counts[key] = counts.get(key, 0) + 1
    return counts


def _joined(first: Recorded, second: Recorded) -> Recorded:
    return Recorded(
        first.outcomes + second.outcomes,
        first.due_at | second.due_at,
        first.released + second.released,
        first.look_up_at | second.look_up_at,
    )


def _said(batch: Iterable[Translated]) -> list[Said]:
    return [Said(item.row.id, item.row.connection, item.hint) for item in batch if item.hint is not None]


def _said_of_deals(batch: Iterable[Translated]) -> list[DealSaid]:
    return [DealSaid(item.row.id, item.row.connection, item.deal) for item in batch if item.deal is not None]
