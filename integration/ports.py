"""What a connector must be able to do: the seam between our pipeline and every outside system."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, NamedTuple, Protocol
from uuid import UUID

from pydantic import SecretStr

from integration.model.activities import Activity, ActivityKind
from integration.model.contacts import Answer, ContactWrite, Failed, RemoteContact
from integration.model.enrollments import (
    DueDates,
    Enrolled,
    EnrollmentWrite,
    ListedCourse,
    NewUser,
    RemoteEnrollment,
    RemoteUser,
    UserKey,
)
from integration.model.events import Kind, LearningEvent
from integration.model.hints import ContactHint
from integration.model.tokens import Grant, Held

ANY_CALL = "any"
"""The endpoint class of calls that have no limit of their own."""


class Rate(NamedTuple):
    """A limit as the other side states it: `calls` in any window of `seconds`."""

    calls: int
    seconds: float


class Seen(NamedTuple):
    """What one answer said of the limits of its endpoint class, and of the account's day; None = it did not say.

    `remaining` and `daily_remaining` count the calls of everybody who uses the account.
    """

    rate: Rate | None = None
    remaining: int | None = None
    daily_limit: int | None = None
    daily_remaining: int | None = None


class Capabilities(NamedTuple):
    """What a system can do, declared as data so that the pipeline needs no `if system ==`.

    `rates` is the limit of each endpoint class until answers teach a better one; ANY_CALL must be among them where
    the system is called at all. `name_properties` of a contact make up a person's full name, in this order.
    `media_types` are what its webhooks may be called, beside JSON.
    """

    receives_webhooks: bool = False
    holds_contacts: bool = False
    enrolls: bool = False
    due_dates: DueDates = "none"
    batch_size: int = 100
    rates: Mapping[str, Rate] = MappingProxyType({})
    name_properties: tuple[str, ...] = ()
    media_types: tuple[str, ...] = ()


class Received(NamedTuple):
    """One event as it came in: the sender's id for it, the task it is for, its raw bytes."""

    external_id: str
    kind: Kind
    payload: bytes


class Inbound(Protocol):
    """A system that sends webhooks. Both methods before the commit are pure and quick."""

    def verify(self, method: str, url: str, headers: Mapping[str, str], raw: bytes) -> None:
        """Prove that `raw` came from the system, or raise Refused (401). Header names are lower case."""

    def split(self, headers: Mapping[str, str], raw: bytes) -> list[Received]:
        """Return the events in a request, or raise Refused (400) where it is no request at all."""

    def translate(self, payload: bytes) -> list[LearningEvent] | list[ContactHint]:
        """Return the canonical events of one payload; raises Ignored or Rejected, never anything else.

        An LMS tells what somebody learned, a CRM where to look.
        """


class ContactStore(Protocol):
    """A CRM. Each method is one request for at most `capabilities.batch_size` records.

    Raises RetryLater, UnknownOutcome, BatchRejected, ConnectionBroken or Rejected for the whole batch.
    """

    capabilities: Capabilities

    def read(self, by: str | None, values: Sequence[str], fields: Sequence[str]) -> dict[str, RemoteContact]:
        """Return the contacts found, by the value asked for; `by` is a unique property, None the CRM's id."""

    def update(self, writes: Sequence[ContactWrite]) -> dict[str, Answer]:
        """Write to known ids; the answer is keyed by trace. A write with no answer was not written."""

    def upsert(self, by: str, writes: Sequence[ContactWrite]) -> dict[str, Answer]:
        """Create or update by the unique property `by`; keyed by trace like `update`."""


class ActivityStore(Protocol):
    """The timeline of a CRM's contacts. Activities are keyed by trace, and written at most `batch_size` in a call.

    `endpoint` is the class of its calls. `takes_once`: an activity sent again is known by its UUID and not doubled;
    where it is not so, what may have arrived is looked for before it is sent again. Raises what a ContactStore does.
    """

    batch_size: int
    endpoint: str
    takes_once: bool

    def write(self, activities: Sequence[Activity]) -> dict[str, Answer]:
        """Write; an activity with no answer may or may not be there."""

    def find(self, activities: Sequence[Activity]) -> dict[str, str]:
        """Return those that are there already, with the CRM's ids."""


class EnrollmentStore(Protocol):
    """An LMS that people are enrolled in. What is asked for may take several requests, each of which spends a call.

    `user_keys` are what its users can be looked up by, beside `id`. Raises what a ContactStore does, for everything
    that has no answer: a refusal of one record is that record's answer.
    """

    capabilities: Capabilities
    user_keys: tuple[UserKey, ...]

    def users(self, by: UserKey, values: Sequence[str]) -> dict[str, tuple[RemoteUser, ...]]:
        """Return the users found, by the value asked for (compared without regard to case); several are several."""

    def create_users(self, users: Sequence[NewUser]) -> dict[str, RemoteUser | Failed]:
        """Make users known; keyed by trace. Failed(CONFLICT) where there is one with this login already."""

    def enrollments(self, pairs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], RemoteEnrollment]:
        """Return the enrolments that are there, by (user id, course id)."""

    def write(self, writes: Sequence[EnrollmentWrite]) -> dict[str, Enrolled | Failed]:
        """Enrol, conclude or remove; keyed by trace. Doing what is done already is no failure."""

    def courses(self) -> Iterator[ListedCourse]:
        """Return the catalogue, page by page."""


class GrantStore(Protocol):
    """Where OAuth tokens are kept. `origin` says what they belong to: stored under another one they are nobody's.

    Raises RetryLater where it is away, ConnectionBroken where it cannot be opened.
    """

    def read(self, connection: str, origin: SecretStr) -> Held | None:
        """Return what is stored."""

    def take(self, connection: str, lease: UUID) -> bool:
        """Become the only one who fetches, for a while; False where somebody else is."""

    def keep(self, connection: str, lease: UUID, origin: SecretStr, grant: Grant, before: Held | None) -> bool:
        """Store `grant` in the place of `before` and end the lease; False where another one was stored meanwhile."""

    def release(self, connection: str, lease: UUID) -> None:
        """End the lease without a grant."""


class Doctor(Protocol):
    """A system that can be asked whether our credentials and permissions suffice."""

    def check(self, wanted: "WhatIsWanted | None" = None) -> list["Finding"]:
        """Return what is right and what is not, without changing anything; never raises for a bad answer.

        `wanted` says what our rules write, given the names that the system knows; None where nobody knows the rules.
        """


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `coursewire check`; `about` is the property it is about, where it is about one."""

    ok: bool
    what: str
    advice: str = ""
    about: str = ""


class Wanted(NamedTuple):
    """A property of contacts that our rules write, as the other side should define it.

    `kind` is the form its values have; `unique`: contacts are looked up by it, so no two may share a value. `values`
    are all that it can ever get, where that is known; `is_list`: several of them at once.
    """

    name: str
    kind: Literal["string", "number", "date", "datetime", "bool", "enumeration"]
    unique: bool = False
    values: frozenset[str] | None = None
    is_list: bool = False


WhatIsWanted = Callable[[Iterable[str]], Sequence[Wanted]]
"""Say what our rules write, given the names that the system knows: they fill the patterns in the rules."""


class Step(NamedTuple):
    """One thing that set-up would create: `what` for people, the property, or None for what properties stand in.

    `event`: the kind of activity whose event is to be defined.
    """

    what: str
    wanted: Wanted | None = None
    event: ActivityKind | None = None


class Plan(NamedTuple):
    """What set-up would create, in this order, and what was found on the way; nothing was changed for it.

    `there`: the names of the properties that are as they should be already.
    """

    steps: tuple[Step, ...]
    findings: tuple[Finding, ...]
    there: frozenset[str] = frozenset()


class Taken(NamedTuple):
    """What became of a step: `created` by this call, or not, as the finding says."""

    created: bool
    finding: Finding


class Installer(Protocol):
    """A system in which the properties that our rules write can be created. It never changes or deletes any."""

    def plan(self, wanted: Sequence[Wanted]) -> Plan:
        """Compare what is wanted with what is there, changing nothing; never raises for a bad answer."""

    def install(self, steps: Sequence[Step]) -> Iterator[Taken]:
        """Take one step after the other, and end early where the next could only fail in the same way.

        What was created before, or by somebody else meanwhile, is found and compared. Never raises for a bad answer.
        """
