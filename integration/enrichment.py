"""Looking up learners of whom an event says only what the LMS calls them: most LMSs tell no e-mail.

One read answers for all events of a batch. Whoever is found becomes known, and their events go the usual way.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final
from uuid import UUID

import structlog

from integration import identity
from integration.delivery.look import Look, Looked
from integration.errors import NeedsAttention, Reason
from integration.model.enrollments import RemoteUser
from integration.model.events import LearningEvent
from integration.ports import EnrollmentStore
from integration.sighting import Sighting, park_keys
from integration.storage import inbox
from integration.storage.inbox import Claimed, Settled
from integration.storage.outlook import Outlook

log = structlog.get_logger(__name__)

LOOK_UP_LEARNERS: Final = "learner.look_up"
"""The operation that looks up whom events are about."""


@dataclass(frozen=True, kw_only=True)
class Enricher(Look):
    """Looks learners of one LMS up; `rules` says who is matched with whom."""

    operation: ClassVar[str] = LOOK_UP_LEARNERS
    store: EnrollmentStore
    rules: identity.Rules

    @property
    def size(self) -> int:
        """How many events one look is for."""
        return self.store.capabilities.batch_size

    def batch(self, rows: Sequence[Claimed], lease: UUID, now: Outlook, looked: Looked) -> None:
        """Make known whom the LMS knows, and let their events go on."""
        said, settled = self.read(rows)
        events = [(row, event) for row in rows for event in said.get(row.id, ()) if isinstance(event, LearningEvent)]
        ids = sorted({event.learner.lms_user_id for _, event in events if event.learner.lms_user_id})
        users = self.store.users("id", ids) if ids else {}
        known = {user_id: found[0] for user_id, found in users.items() if found}
        sightings = [Sighting.of(row.connection, _enriched(event, known), row.received_at) for row, event in events]
        with self.engine.begin() as db:
            rules = self.rules(db)
            who = identity.identify(db, sightings, self.ring, self.keys, rules)
            parked = {
                row.id: Settled(
                    row.id,
                    "parked",
                    found.reason,
                    _why(found, sighting, known),
                    park_keys=tuple(park_keys(sighting, self.keys)),
                )
                for (row, _), sighting, found in zip(events, sightings, who.found, strict=True)
                if isinstance(found, NeedsAttention)
            }
            inbox.settle(db, lease, [*settled, *parked.values()])
            goes_on = inbox.go_on(db, lease, {row.id for row, _ in events} - parked.keys())
            goes_on += inbox.release(db, identity.opened_keys(who, self.keys))
            self.note(db, now, was_called=bool(ids))
        log.info("learners.looked_up", connection=self.connection, rows=len(rows), known=len(known))
        looked.goes_on += goes_on


def _enriched(event: LearningEvent, users: dict[str, RemoteUser]) -> LearningEvent:
    """Return an event with what the LMS says of its learner; what the event itself says counts more."""
    learner = event.learner
    user = users.get(learner.lms_user_id or "")
    if user is None:
        return event
    told = {
        "email": learner.email or user.email,
        "full_name": learner.full_name or user.full_name,
        "employee_id": learner.employee_id or user.employee_id,
    }
    return event.model_copy(update={"learner": learner.model_copy(update=told)})


def _why(found: NeedsAttention, sighting: Sighting, known: dict[str, RemoteUser]) -> str:
    if found.reason is Reason.NO_IDENTITY and sighting.link and sighting.link[1] not in known:
        return "the LMS was asked and does not know the learner"
    return found.detail
