"""What a connector must be able to do: the seam between our pipeline and every outside system."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Protocol
from uuid import UUID

from pydantic import SecretStr

from integration.model.accounts import ACCOUNT
from integration.model.activities import Activity, ActivityKind
from integration.model.contacts import CONTACT, Answer, ContactWrite, Failed, RemoteContact
from integration.model.deals import DealHint, RemoteDeal
from integration.model.employees import Employment
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


Lists = Literal["nothing", "changes", "everything"]
"""What a system lists of what happened: what changed since a moment, or only all that there is."""


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
    `account_property` of a contact holds the id of its account, where the system has accounts that can be written.
    `media_types` are what its webhooks may be called, beside JSON. `lists_results`: what it can be asked for at night.
    `takes_users`: an identity provider pushes its users to it.
    """

    receives_webhooks: bool = False
    holds_contacts: bool = False
    enrolls: bool = False
    due_dates: DueDates = "none"
    batch_size: int = 100
    rates: Mapping[str, Rate] = MappingProxyType({})
    name_properties: tuple[str, ...] = ()
    account_property: str | None = None
    media_types: tuple[str, ...] = ()
    lists_results: Lists = "nothing"
    takes_users: bool = False


class Received(NamedTuple):
    """One event as it came in: the sender's id for it, the task it is for, its raw bytes."""

    external_id: str
    kind: Kind
    payload: bytes


Said = LearningEvent | Employment | ContactHint | DealHint
"""What one payload can say: what somebody learned, what HR says of them, or where in a CRM to look."""


class Translator(Protocol):
    """Who understands what is in the inbox of a connection."""

    def translate(self, payload: bytes) -> Sequence[Said]:
        """Return the canonical events of one payload; raises Ignored or Rejected, never anything else.

        An LMS tells what somebody learned, HR who works there, a CRM where to look.
        """


class Inbound(Translator, Protocol):
    """A system that sends webhooks. Both methods before the commit are pure and quick."""

    def verify(self, method: str, url: str, headers: Mapping[str, str], raw: bytes) -> None:
        """Prove that `raw` came from the system, or raise Refused (401). Header names are lower case."""

    def split(self, headers: Mapping[str, str], raw: bytes) -> list[Received]:
        """Return the events in a request, or raise Refused (400) where it is no request at all."""


class ContactPage(NamedTuple):
    """A page of all contacts, and where the next one begins; None = this was the last one."""

    contacts: tuple[RemoteContact, ...]
    after: str | None


class RecordStore(Protocol):
    """Records of one kind in a CRM. Each method is one request for at most `capabilities.batch_size` of them.

    Raises RetryLater, UnknownOutcome, BatchRejected, ConnectionBroken or Rejected for the whole batch.
    """

    capabilities: Capabilities

    def read(self, by: str | None, values: Sequence[str], fields: Sequence[str]) -> dict[str, RemoteContact]:
        """Return the records found, by the value asked for; `by` is a unique property, None the CRM's id."""

    def update(self, writes: Sequence[ContactWrite]) -> dict[str, Answer]:
        """Write to known ids; the answer is keyed by trace. A write with no answer was not written."""


class ContactStore(RecordStore, Protocol):
    """The contacts of a CRM."""

    def page(self, after: str | None, fields: Sequence[str]) -> ContactPage:
        """Return the next `batch_size` of all contacts that are not archived; `after` None begins anew."""

    def upsert(self, by: str, writes: Sequence[ContactWrite]) -> dict[str, Answer]:
        """Create or update by the unique property `by`; keyed by trace like `update`."""


class DealStore(Protocol):
    """The deals of a CRM. What is asked for may take several requests. Raises what a ContactStore does."""

    batch_size: int

    def read(self, ids: Sequence[str]) -> dict[str, RemoteDeal]:
        """Return the deals found, by the id asked for, with everywhere that they were and their contacts."""

    def check(self) -> list["Finding"]:
        """Return whether deals and their contacts can be read, and what must be subscribed to; never raises."""


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


class Scope(NamedTuple):
    """What a poll asks for: what happened since a moment, where a system lists by course in these courses alone.

    `untold` returns those of some events whose fact nobody has told of yet, so that nothing is asked for the others.
    """

    since: datetime
    courses: tuple[str, ...]
    untold: Callable[[Sequence[LearningEvent]], Sequence[LearningEvent]]


class ResultPage(NamedTuple):
    """Some of what happened, and where the next page begins, as JSON can hold it; None = this was the last one.

    `unread` counts the entries, or courses, that could not be read: they are counted and left out.
    """

    events: tuple[LearningEvent, ...]
    position: Mapping[str, Any] | None
    unread: int = 0


class ResultLister(Protocol):
    """An LMS that can be asked what happened, for what its webhooks never told.

    An event has the fact key that its own webhook gives it, and never a later time: what is asked for knows less.
    Raises RetryLater, ConnectionBroken, or Rejected and BatchRejected where it can never be asked like this.
    """

    capabilities: Capabilities

    def page(self, position: Mapping[str, Any] | None, scope: Scope) -> ResultPage:
        """Return the page that begins at `position`, None for the first one; a few requests, each asked for."""


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


class RemoteFile(NamedTuple):
    """A file as its server lists it: bytes, and when it was written, in whole seconds since 1970."""

    name: str
    size: int
    modified: int


class Folder(Protocol):
    """An open folder of a file server. Raises RetryLater where the server goes away, Rejected where it refuses."""

    def files(self) -> list[RemoteFile]:
        """Return the files in it, in the order of their names; folders, links and odd names are left out."""

    def fetch(self, name: str, into: Path, still: Callable[[], None]) -> bytes:
        """Write a file's content to `into` and return its SHA-256; `still` is called now and then on the way."""

    def put(self, folder: str, name: str, content: Path) -> bool:
        """Write a file into a folder beside the files, which is made where it lacks; False where that is forbidden."""

    def move(self, name: str, folder: str, other_name: str) -> bool:
        """Move a file there, as `other_name` where its own is taken; False where that is forbidden."""


class FileServer(Protocol):
    """A server on which another system leaves files for us."""

    def open(self) -> AbstractContextManager[Folder]:
        """Connect, prove who the server is and who we are, and yield the folder.

        Raises ConnectionBroken where the server has another key or refuses ours, RetryLater where it is away.
        """


class Doctor(Protocol):
    """A system that can be asked whether our credentials and permissions suffice."""

    def check(self, wanted: "WhatIsWanted | None" = None) -> list["Finding"]:
        """Return what is right and what is not, without changing anything; never raises for a bad answer.

        `wanted` says what our rules write, given the names that the system knows; None where nobody knows the rules.
        """


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `coursewire check`; `about` names the property that it is about, if any, `of` whose that is."""

    ok: bool
    what: str
    advice: str = ""
    about: str = ""
    of: str = CONTACT


class Wanted(NamedTuple):
    """A property that our rules write, as the other side should define it; `of` is CONTACT or ACCOUNT.

    `kind` is the form its values have; `unique`: contacts are looked up by it, so no two may share a value. `values`
    are all that it can ever get, where that is known; `is_list`: several of them at once.
    """

    name: str
    kind: Literal["string", "number", "date", "datetime", "bool", "enumeration"]
    unique: bool = False
    values: frozenset[str] | None = None
    is_list: bool = False
    of: str = CONTACT


WhatIsWanted = Callable[[Iterable[str]], Sequence[Wanted]]
"""Say what our rules write, given the names that the system knows of contacts: they fill the patterns in the rules."""


def of_accounts(wanted: WhatIsWanted | None) -> list[Wanted]:
    """Return what is wanted of accounts, whose rules have no patterns; empty where no rule fills any."""
    return [one for one in (wanted(()) if wanted else ()) if one.of == ACCOUNT]


class Step(NamedTuple):
    """One thing that set-up would create: `what` for people, the property, or None for what properties stand in.

    `event`: the kind of activity whose event is to be defined. `of`: whose property, or what the properties are of.
    """

    what: str
    wanted: Wanted | None = None
    event: ActivityKind | None = None
    of: str = CONTACT


class Plan(NamedTuple):
    """What set-up would create, in this order, and what was found on the way; nothing was changed for it.

    `there`: the properties that are as they should be already.
    """

    steps: tuple[Step, ...]
    findings: tuple[Finding, ...]
    there: frozenset[Wanted] = frozenset()


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
