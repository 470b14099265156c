"""Where somebody was seen: an event or a word of HR, and what its sender calls whom it is about."""

from datetime import datetime
from hashlib import sha256
from typing import NamedTuple, Self

from integration.config import Flow
from integration.model.employees import Employment
from integration.model.events import LearningEvent, believable
from integration.model.identity import Identity, IdentityPolicy, employees, learners
from integration.model.people import normalise_email, normalise_employee_id
from integration.security.seal import IndexKeys


class Sighting(NamedTuple):
    """An event or a word of HR, and where its learner was seen.

    `link` is what the LMS calls the learner; `email` their address and `employee_id` their number as they are compared,
    None where it is none.
    """

    connection: str
    event: LearningEvent | Employment
    at: datetime
    link: tuple[str, str] | None
    email: str | None
    employee_id: str | None = None

    @classmethod
    def of(cls, connection: str, event: LearningEvent | Employment, received_at: datetime) -> Self:
        """Return the sighting of an event's learner; what is dated in the future counts from its arrival (rule 6)."""
        user_id = event.learner.lms_user_id if isinstance(event, LearningEvent) else None
        link = (connection, user_id) if user_id else None
        at = believable(event.occurred_at, received_at)
        learner = event.learner
        return cls(
            connection, event, at, link, normalise_email(learner.email), normalise_employee_id(learner.employee_id)
        )

    @property
    def flow(self) -> Flow:
        """The flow of a route that carries it."""
        return "employment" if isinstance(self.event, Employment) else self.event.type.flow

    @property
    def manager_id(self) -> str | None:
        """The employee id of the manager it names, as it is compared."""
        return normalise_employee_id(self.event.manager_id) if isinstance(self.event, Employment) else None

    def policy(self, rules: Identity) -> IdentityPolicy:
        """Return how whoever it is about is matched."""
        # Who is called by nothing but an employee id is called so by HR, of whose certificates it is.
        of_hr = isinstance(self.event, Employment) or not (self.link or self.email or not self.employee_id)
        return (employees if of_hr else learners)(rules, self.connection)


def learner_key(sighting: Sighting, keys: IndexKeys) -> str:
    """Return the learner's part of a fact key: the LMS's id, else a keyed hash of the e-mail, else of the number."""
    user_id = sighting.event.learner.lms_user_id
    if user_id is None and sighting.email is None and sighting.employee_id:
        return f"employee:{keys.newest('employee_id', sighting.employee_id).hex()}"
    return user_id or f"email:{keys.newest('email', sighting.email or '').hex()}"


def park_keys(sighting: Sighting, keys: IndexKeys) -> list[bytes]:
    """Return what a parked event waits behind: its learner becoming known, or its e-mail becoming free."""
    waits = [link_key(sighting.link)] if sighting.link else []
    return [*waits, keys.newest("park", sighting.email)] if sighting.email else waits


def link_key(link: tuple[str, str]) -> bytes:
    """Return what an event is parked behind until this learner (connection, user id) becomes known."""
    return sha256("\0".join(("park", *link)).encode()).digest()
