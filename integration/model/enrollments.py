"""Commands to an LMS about learners and their courses, and what it answers."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple

ENROLLMENT = "enrollment"
"""The object type of one person's enrolment in one course, in links and sync state."""

WRITE_ENROLLMENT = "enrollment.write"
"""The operation that brings one enrolment in step with what is wanted of it."""

EnrollmentState = Literal["enrolled", "concluded", "removed"]
"""What an enrolment is to be: `concluded` keeps the record and ends it, `removed` leaves nothing."""

DueDates = Literal["native", "access_window", "none"]
"""What an LMS does with a deadline: shows it, locks the learner out on the day, or knows none."""

UserKey = Literal["id", "email", "employee_id"]
"""What learners are looked up by in an LMS; `id` is what the LMS itself calls them."""


class CourseRef(NamedTuple):
    """A course: the connection of the LMS, and what that calls it."""

    connection: str
    id: str

    def __str__(self) -> str:
        """Return it as a rule file says it: `academy:demo-101`."""
        return f"{self.connection}:{self.id}"


@dataclass(frozen=True, slots=True)
class RemoteUser:
    """A learner as the LMS knows them. Personal: never logged."""

    id: str
    email: str | None = None
    full_name: str | None = None
    employee_id: str | None = None
    is_active: bool = True


@dataclass(frozen=True, slots=True)
class NewUser:
    """A learner to be made known to an LMS; `trace` names this command in answers and logs. Personal."""

    trace: str
    email: str
    full_name: str | None = None
    employee_id: str | None = None


@dataclass(frozen=True, slots=True)
class RemoteEnrollment:
    """An enrolment that is there; `id` is what the LMS calls it, where it has a name of its own."""

    state: EnrollmentState
    id: str | None = None


@dataclass(frozen=True, slots=True)
class EnrollmentWrite:
    """Bring the enrolment of one user in one course to a state; `trace` names this command in answers and logs.

    `remote_id` is what the LMS called the enrolment when it was last written or read. `due_at` is passed on only by a
    system whose due dates are native.
    """

    trace: str
    user_id: str
    course_id: str
    state: EnrollmentState
    due_at: datetime | None = None
    remote_id: str | None = None


@dataclass(frozen=True, slots=True)
class Enrolled:
    """The enrolment is as it was asked for. `created`: it was not there before, so it is there by our doing."""

    id: str | None = None
    created: bool = False


@dataclass(frozen=True, slots=True)
class ListedCourse:
    """A course of the LMS's catalogue."""

    id: str
    name: str | None = None
    is_active: bool = True
