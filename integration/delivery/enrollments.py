"""The drain of enrolments: users are found or made, and each person is in the courses that their pathways want."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar
from uuid import UUID

import structlog
from sqlalchemy import Connection

from integration.delivery.drain import Claim, Drain, Turn
from integration.delivery.lease import Lease
from integration.delivery.placement import Placement
from integration.model.enrollments import WRITE_ENROLLMENT
from integration.model.people import LEARNER
from integration.ports import EnrollmentStore
from integration.security.seal import KeyRing
from integration.storage import attempts, enrollments, outlook, people
from integration.storage.base import AWAY, single
from integration.storage.enrollments import Claimed, Settled

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Enroller(Drain[Claimed, Placement]):
    """Enrols people in the courses of one LMS; `may_create`: users it does not know may be made."""

    operation: ClassVar[str] = WRITE_ENROLLMENT
    queue: ClassVar[outlook.Queue] = "enrollments"
    store: EnrollmentStore
    ring: KeyRing
    may_create: bool = False

    @property
    def size(self) -> int:
        """How many enrolments one batch takes."""
        return self.store.capabilities.batch_size

    def claim(self, db: Connection, lease: UUID, *, limit: int, first: int, suspects: int | None) -> Claim[Claimed]:
        """Claim what is due."""
        return Claim(enrollments.claim(db, self.connection, lease, limit=limit, first=first, suspects=suspects))

    def work(self, rows: Sequence[Claimed], turn: Turn) -> Placement:
        """Bring the enrolments to what is wanted."""
        held = Lease(self.engine, turn.lease, [row.id for row in rows], enrollments.renew)
        placement = Placement(store=self.store, profiles={}, users={}, owners=self._owners)
        try:
            placement = self._prepared(rows)
            placement.hold, placement.succeeded_at = held.hold, turn.now.succeeded_at
            placement.run(rows)
        except AWAY:
            placement.give_back(rows)  # only asked for before anything is written; no row is to blame
        except Exception as error:  # a row that breaks us must be found, and its neighbours not held for a lease
            log.exception("enrollments.failed", connection=self.connection, rows=len(rows))
            placement.abandon(rows, error)
        return placement

    def _prepared(self, rows: Sequence[Claimed]) -> Placement:
        """Return the batch with who its people are, and what the LMS calls them."""
        with single(self.engine) as db:
            ids = {row.person_id for row in rows}
            known = people.load(db, ids, self.ring)
            names = people.linked(db, ids, [LEARNER])
        users: dict[int, str] = {}
        for person_id, links in names.items():
            of_this = [external_id for connection, external_id, _ in links if connection == self.connection]
            users |= {person_id: of_this[-1]} if of_this else {}
        return Placement(
            store=self.store,
            profiles={person.id: person.profile for person in known.values()},
            users=users,
            owners=self._owners,
            may_create=self.may_create,
        )

    def _owners(self, user_ids: Sequence[str]) -> Mapping[str, int]:
        with single(self.engine) as db:
            known = people.by_link(db, LEARNER, [(self.connection, user_id) for user_id in user_ids])
        return {user_id: person_id for (_, user_id), person_id in known.items()}

    def settle(self, done: Placement, rows: Sequence[Claimed], turn: Turn) -> Sequence[Settled]:
        """Write the outcomes, what the LMS calls people, the tries and the calls."""
        outcomes = list(done.settled.values())
        with self.engine.begin() as db:
            # People are held before rows of work, as everywhere.
            people.link(db, LEARNER, {(self.connection, name): who for name, who in done.links.items()})
            kept = enrollments.settle(db, turn.lease, outcomes)
            attempts.append(
                db,
                done.attempts,
                connection=self.connection,
                operation=WRITE_ENROLLMENT,
                batch=turn.lease,
                started_at=turn.started,
                rule_set=None,
                subject_type="enrollment",
                action=WRITE_ENROLLMENT,
            )
            self.note(db, turn, done.trouble, was_called=bool(done.calls))
        log.info("enrollments.settled", **self.told(done, rows, kept, outcomes))
        return outcomes
