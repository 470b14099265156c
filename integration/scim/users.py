"""The users of one connection: each change is one transaction of row, and of what it tells of the employee.

Everything here asks the database, so it runs in a thread. Who changes a user holds its row first, then the names that
it is known by, as those who erase people do.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple
from uuid import UUID, uuid4

import orjson
from sqlalchemy import Connection, Engine

from integration.errors import CoursewireError
from integration.model.employees import Employment
from integration.model.events import Kind
from integration.model.people import normalise_email, normalise_employee_id
from integration.scim import employment
from integration.scim.attributes import ENTERPRISE
from integration.scim.patch import Operation, patched
from integration.scim.paths import Term, matches
from integration.scim.refusal import Refusal, invalid
from integration.scim.resource import Resource
from integration.security.seal import IndexKeys, KeyRing
from integration.storage import inbox, people, scim_users, tombstones
from integration.storage.base import AWAY, single
from integration.storage.scim_users import Change, Fresh, Kept, Known
from integration.told import Told

Tell = Callable[[list[tuple[int, Kind]]], None]

_NOBODY = "there is no user of this id"
_MOST_BYTES = 64 * 1024


class User(NamedTuple):
    """A user as it is kept: what was said, and what the server knows about it."""

    id: UUID
    version: int
    created_at: datetime
    modified_at: datetime
    resource: Resource


@dataclass(frozen=True, slots=True)
class Users:
    """Reads and changes users. `on_told` gets ids of the inbox after each commit and must not block.

    Every method raises Refusal for what cannot be, with 503 where the database is away.
    """

    connection: str
    engine: Engine
    ring: KeyRing
    keys: Callable[[], IndexKeys]
    on_told: Tell
    inactive: employment.Inactive = "left"
    new_id: Callable[[], UUID] = field(default=uuid4)

    def create(self, resource: Resource, request_id: str, user_id: UUID | None = None) -> User:
        """Keep a new user. Raises Refusal (409) where the userName is another's."""
        made = {"active": True, **resource}
        who = user_id or self.new_id()
        with self._transaction() as (db, told):
            self._admit(db, made)
            change = scim_users.insert(db, self.connection, who, self._fresh(who, made), self.keys())
            if change is None:
                raise _taken()
            said = employment.employment(None, made, change.at, self.inactive)
            told.extend(self._tell(db, who, change.version, said, request_id))
        return _user(who, change, made)

    def replace(self, user_id: UUID, resource: Resource, request_id: str, version: str | None = None) -> User:
        """Let a user be this. Whether they work there stays where it is not said: nobody leaves by silence."""
        return self._change(user_id, lambda held: {"active": held["active"], **resource}, request_id, version)

    def patch(
        self, user_id: UUID, operations: Sequence[Operation], request_id: str, version: str | None = None
    ) -> User:
        """Change a user by operations, all of them or none."""

        def become(held: Resource) -> Resource:
            return {"active": held["active"], **patched(held, operations)}

        return self._change(user_id, become, request_id, version)

    def delete(self, user_id: UUID, request_id: str, version: str | None = None) -> None:
        """Remove a user; the employee whom it was has left."""
        with self._transaction() as (db, told):
            held = self._held(db, user_id, version)
            at = scim_users.remove(db, self.connection, user_id)
            said = employment.farewell(held.resource, at)
            told.extend(self._tell(db, user_id, held.version + 1, said, request_id))

    def read(self, user_id: UUID) -> User:
        """Return a user. Raises Refusal (404)."""
        with self._reading() as db:
            found = scim_users.read(db, self.connection, user_id)
            if found is None:
                raise Refusal(404, _NOBODY)
            return self._opened(found)

    def page(self, start: int, limit: int) -> tuple[int, list[User]]:
        """Return how many users there are, and those from the `start`-th on, counted from 1."""
        with self._reading() as db:
            total = scim_users.count(db, self.connection)
            found = scim_users.page(db, self.connection, offset=start - 1, limit=limit) if limit else []
            return total, [self._opened(one) for one in found]

    def find(self, terms: Sequence[Term]) -> list[User]:
        """Return the users for which all terms hold. Raises Refusal (400) where none of them is kept in an index."""
        with self._reading() as db:
            found = [self._opened(one) for one in self._candidates(db, terms)]
        return [one for one in found if matches({**one.resource, "id": str(one.id)}, terms)]

    def _candidates(self, db: Connection, terms: Sequence[Term]) -> list[Kept]:
        for term in terms:
            if term.path.attribute is not None and term.path.attribute.name == "id" and isinstance(term.value, str):
                return _by_id(db, self.connection, term.value)
            if known := _known(term):
                return scim_users.find(db, self.connection, known, self.keys())
        names = "userName, externalId, id, emails.value or employeeNumber"
        raise invalid("invalidFilter", f"one condition of a filter must be that {names} equals something")

    def _change(
        self, user_id: UUID, become: Callable[[Resource], Resource], request_id: str, version: str | None
    ) -> User:
        with self._transaction() as (db, told):
            held = self._held(db, user_id, version)
            fresh = become(held.resource)
            if fresh == held.resource:
                return held
            self._admit(db, fresh)
            change = scim_users.change(db, self.connection, user_id, self._fresh(user_id, fresh), self.keys())
            if change is None:
                raise _taken()
            before = employment.employment(None, held.resource, change.at, self.inactive)
            said = employment.employment(held.resource, fresh, change.at, self.inactive)
            if said != before:
                told.extend(self._tell(db, user_id, change.version, said, request_id))
        return _user(user_id, change, fresh)

    def _held(self, db: Connection, user_id: UUID, version: str | None) -> User:
        kept = scim_users.hold(db, self.connection, user_id)
        if kept is None:
            raise Refusal(404, _NOBODY)
        if version is not None and not is_version(version, kept.version):
            raise Refusal(412, "the user has changed since; read it again")
        return self._opened(kept)

    def _admit(self, db: Connection, resource: Resource) -> None:
        """Hold the names of a user, and let nobody in who was erased. Raises Refusal (403)."""
        emails, number = employment.emails_of(resource), normalise_employee_id(employment.employee_id_of(resource))
        locks = {name for email in emails for name in people.lock_names(None, email)}
        people.serialise(db, locks | people.lock_names(None, None, number))
        names = [tombstones.email_name(email) for email in sorted(emails)]
        names += [tombstones.employee_name(number)] if number else []
        if tombstones.buried(db, names, self.keys()):
            raise Refusal(403, "this person was erased here and is not taken again; leave them out of provisioning")

    def _fresh(self, user_id: UUID, resource: Resource) -> Fresh:
        content = orjson.dumps(resource)
        if len(content) > _MOST_BYTES:
            raise invalid("tooMany", f"a user may have {_MOST_BYTES} bytes")
        sealed = self.ring.seal(content, scim_users.context(user_id))
        return Fresh(resource["userName"].strip().casefold(), _known_by(resource), sealed)

    def _opened(self, kept: Kept) -> User:
        content = self.ring.open(bytes(kept.sealed), scim_users.context(kept.id))
        return User(kept.id, kept.version, kept.created_at, kept.modified_at, orjson.loads(content))

    def _tell(
        self, db: Connection, user_id: UUID, version: int, said: Employment, request_id: str
    ) -> list[tuple[int, Kind]]:
        named = self._with_manager(db, said)
        received = Told(employment=named).received(f"scim:{user_id}:{version}")
        ids = inbox.tell(db, self.connection, "live", [received], self.ring, request_id)
        return [(one, Kind.EMPLOYEE) for one in ids]

    def _with_manager(self, db: Connection, said: Employment) -> Employment:
        """Say the manager by their employee id, where a client said the id of one of our users (as Entra ID does)."""
        for kept in _by_id(db, self.connection, said.manager_id or ""):
            number = employment.employee_id_of(self._opened(kept).resource)
            return said.model_copy(update={"manager_id": number}) if number else said
        return said

    @contextmanager
    def _transaction(self) -> Iterator[tuple[Connection, list[tuple[int, Kind]]]]:
        told: list[tuple[int, Kind]] = []
        with _refusing(), self.engine.begin() as db:
            yield db, told
        if told:
            self.on_told(told)

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with _refusing(), single(self.engine) as db:
            yield db


def is_version(said: str, version: int) -> bool:
    """Say whether an ETag, or a list of them as If-Match holds, names this version."""
    tags = {one.strip().removeprefix("W/").strip('"') for one in said.split(",")}
    return "*" in tags or str(version) in tags


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except AWAY:
        raise Refusal(503, "the database did not confirm; send it again") from None
    except CoursewireError as error:
        raise Refusal(503, f"what is kept cannot be read now ({error.reason}); run coursewire check") from None


def _by_id(db: Connection, connection: str, text: str) -> list[Kept]:
    try:
        found = scim_users.read(db, connection, UUID(text))
    except ValueError:
        return []
    return [found] if found else []


def _user(user_id: UUID, change: Change, resource: Resource) -> User:
    return User(user_id, change.version, change.created_at, change.modified_at, resource)


def _taken() -> Refusal:
    return Refusal(409, "another user has this userName; look it up and change that one", "uniqueness")


def _known_by(resource: Resource) -> list[Known]:
    number = normalise_employee_id(employment.employee_id_of(resource))
    found: list[Known] = [("user_name", resource["userName"].strip().casefold())]
    found += [("email", one) for one in sorted(employment.emails_of(resource))]
    found += [("employee_id", number)] if number else []
    return [*found, ("external_id", resource["externalId"])] if "externalId" in resource else found


def _known(term: Term) -> Known | None:
    """Return what a condition looks a user up by, None where no index has it."""
    attribute, value = term.path.attribute, term.value
    name = attribute.name if attribute else ""
    if name == "emails":
        value = _address(term)
    if not isinstance(value, str):
        return None
    found: dict[str, Known] = {
        "emails": ("email", normalise_email(value) or value.casefold()),
        "employeeNumber": ("employee_id", normalise_employee_id(value) or ""),
        "userName": ("user_name", value.strip().casefold()),
        "externalId": ("external_id", value),
    }
    return found.get(name) if term.path.extension in (None, ENTERPRISE) else None


def _address(term: Term) -> str | bool | None:
    """Return the address that a condition about e-mails asks for, wherever in it that stands."""
    if term.value is not None:
        return term.value if term.path.sub is None or term.path.sub.name == "value" else None
    return next((one.value for one in term.path.where if one.path.sub and one.path.sub.name == "value"), None)
