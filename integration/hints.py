"""What is done about a CRM's word of its contacts (architecture, "What a CRM says").

A hint is never applied as it stands: it puts what we believe of a contact in doubt, and the next batch reads before it
skips anything. Only what cannot be read any more is taken at its word: that contacts were merged, and that a person is
to be erased.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, NamedTuple

import structlog
from sqlalchemy import Connection, Engine

from integration import merging
from integration.delivery.belief import Belief
from integration.delivery.ownership import same_value
from integration.erasure import Eraser
from integration.errors import Reason, RetryLater
from integration.model.contacts import CONTACT
from integration.model.hints import ContactHint, HintType
from integration.role_news import RoleNews
from integration.security.seal import IndexKeys, KeyRing
from integration.storage import doubts, people, tombstones
from integration.storage.base import AWAY
from integration.storage.doubts import Believed
from integration.storage.inbox import Settled
from integration.storage.roles import Watching
from integration.storage.tombstones import Name

log = structlog.get_logger(__name__)

CLOCKS: Final = timedelta(minutes=1)
"""How far the CRM's clock may be behind ours; what it dates earlier than our last look was there when we looked."""

APPEARS = (HintType.CREATED, HintType.RESTORED, HintType.CHANGED)
"""What may bring the contact that somebody waits for. A change may be one of the address."""


class Said(NamedTuple):
    """A hint, the row of the inbox it came in, and the connection whose contact it is about."""

    row_id: int
    connection: str
    hint: ContactHint

    @property
    def contact(self) -> tuple[str, str]:
        """The contact as a link names it."""
        return self.connection, self.hint.contact_id

    @property
    def names(self) -> set[Name]:
        """All contacts that the hint names, as tombstones know them."""
        return {(CONTACT, self.connection, one) for one in (self.hint.contact_id, *self.hint.merged_ids)}


@dataclass(slots=True)
class Heard:
    """What hints led to: an outcome per row, where somebody is due, and where contacts are to be looked up."""

    outcomes: list[Settled] = field(default_factory=list)
    due_at: set[str] = field(default_factory=set)
    look_up_at: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Hints:
    """Takes hints; `erase` is asked for with the first erasure."""

    engine: Engine
    ring: KeyRing
    keys: IndexKeys
    eraser: Callable[[], Eraser]
    watching: Watching = lambda _db, _connection: None

    def reshape(self, said: Sequence[Said]) -> tuple[set[int], list[Settled]]:
        """Follow merges and erase people, each in a transaction of its own.

        Return the rows that erased somebody, and what becomes of rows that broke us: they do not sink the batch. Before
        anything else of it, so that the rest meets the people as they are now. Raises RetryLater where somebody changed
        at this moment, and what the database raises when it is away; then all of it is done again.
        """
        erased, failed = set(), []
        for kind, follow in ((HintType.MERGED, self._merge), (HintType.ERASED, self._erase)):
            for one in said:
                if one.hint.type is not kind:
                    continue
                try:
                    follow(one)
                except (*AWAY, RetryLater):
                    raise
                except Exception as error:
                    log.exception("hint.failed", inbox=one.row_id, connection=one.connection)
                    sentence = f"it could not be followed: {type(error).__name__}"
                    failed.append(Settled(one.row_id, "dead", Reason.INTERNAL_ERROR, sentence))
                else:
                    erased |= {one.row_id} if kind is HintType.ERASED else set()
        return erased, failed

    def _merge(self, one: Said) -> None:
        merging.follow(self.engine, one.connection, one.hint.contact_id, one.hint.merged_ids, self.ring, self.keys)

    def _erase(self, one: Said) -> None:
        with self.engine.begin() as db:
            person_id = people.by_link(db, CONTACT, [one.contact]).get(one.contact)
            if person_id is None:
                tombstones.bury(db, [(CONTACT, *one.contact)], self.keys, None)
        if person_id is not None:
            self.eraser().erase(person_id, actor=one.connection)

    def apply(self, db: Connection, said: Sequence[Said], erased: set[int]) -> Heard:
        """Say what becomes of each hint, and put in doubt what they are about."""
        heard = Heard()
        known = doubts.believed(db, sorted({one.contact for one in said}))
        strangers = [one for one in said if one.contact not in known]
        buried = tombstones.buried(db, {name for one in strangers for name in one.names}, self.keys)
        appearing = {one.connection for one in strangers if _may_appear(one.hint)}
        waited_for = doubts.waits(db, sorted(appearing))
        people_known = sorted({one.person_id for one in known.values()})
        news = RoleNews.begin(db, self.watching, self.ring, sorted({one.connection for one in said}), people_known)
        doubted: list[int] = []
        for one in said:
            believed = known.get(one.contact)
            if one.row_id in erased or not buried.isdisjoint(one.names):
                heard.outcomes.append(Settled(one.row_id, "ignored", Reason.ERASED))
            elif believed is not None:
                heard.outcomes.append(self._known(one, believed, news, doubted, heard))
            elif news.may_introduce(one.connection, one.hint) or (
                one.connection in waited_for and _may_appear(one.hint)
            ):
                heard.look_up_at.add(one.connection)
                heard.outcomes.append(Settled(one.row_id, "enriching", Reason.UNKNOWN_CONTACT))
            else:
                heard.outcomes.append(Settled(one.row_id, "ignored", Reason.UNKNOWN_CONTACT))
        doubts.add(db, doubted)
        news.keep(db)
        return heard

    def _known(self, one: Said, believed: Believed, news: RoleNews, doubted: list[int], heard: Heard) -> Settled:
        """Take in a hint about a contact of ours: of what we write there, of its role, or of both."""
        is_of_role = news.hear(one.connection, believed.person_id, one.hint)
        reason = self._nothing_new(one.hint, believed)
        if reason is None:
            assert believed.row_id is not None  # noqa: S101 - else it was nothing new
            doubted.append(believed.row_id)
            heard.due_at.add(one.connection)
        if reason is None or is_of_role:
            return Settled(one.row_id, "done", Reason.APPLIED, person_id=believed.person_id)
        if news.concerns(one.connection, one.hint) and reason is Reason.NOT_MAPPED:
            reason = Reason.ECHO
        return Settled(one.row_id, "ignored", reason, person_id=believed.person_id)

    def _nothing_new(self, hint: ContactHint, believed: Believed) -> Reason | None:
        """Return why a hint about a contact of ours changes nothing, None where we must look."""
        merged = hint.type is HintType.MERGED
        if believed.row_id is None or not (merged or believed.remote_id in (None, hint.contact_id)):
            return Reason.NOT_MAPPED
        if merged or believed.status in ("parked", "dead") or believed.remote_values is None:
            return None
        if hint.type is HintType.CREATED:
            return Reason.ECHO
        if believed.remote_at is not None and hint.occurred_at < believed.remote_at - CLOCKS:
            return Reason.OLD_NEWS
        return self._nothing_changed(hint, believed) if hint.type is HintType.CHANGED else None

    def _nothing_changed(self, hint: ContactHint, believed: Believed) -> Reason | None:
        belief = Belief.opened(self.ring, believed.row_id or 0, believed.remote_values)
        if belief is None or hint.property is None or hint.property in belief.left_out:
            return None
        if hint.property not in belief.known:
            return Reason.NOT_MAPPED
        if believed.doubted_at is not None or believed.status == "sending":
            return None  # what is believed is about to change: the old value may be somebody's answer to our new one
        is_said = hint.value is not None and same_value(hint.value, belief.known[hint.property])
        return Reason.ECHO if is_said else None


def _may_appear(hint: ContactHint) -> bool:
    return hint.type in APPEARS and (hint.type is not HintType.CHANGED or hint.property in (None, "email"))
