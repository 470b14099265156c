"""Erasing a person: at once, everywhere, and for good (rule 19).

What names them is removed from every table, payloads of parked and dead events included. Tombstones, keyed hashes of
what they were known by, keep late events out. The audit log says that it happened, and holds nothing that names them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import structlog
from sqlalchemy import Connection, Engine

from integration.errors import CoursewireError, Reason, RetryLater
from integration.model.contacts import CONTACT, WRITE_CONTACT
from integration.model.deals import DealHint
from integration.model.hints import ContactHint
from integration.model.people import LEARNER, normalise_email, normalise_employee_id
from integration.ports import Translator
from integration.security.mentions import mentions
from integration.security.seal import IndexKeys, KeyRing
from integration.storage import (
    accounts,
    audit,
    employments,
    erasure,
    inbox,
    merges,
    people,
    scim_users,
    story,
    sync_state,
    tombstones,
)
from integration.storage.base import single
from integration.storage.erasure import Nobodys
from integration.storage.sync_state import Want
from integration.storage.tombstones import Name, email_name, employee_name

log = structlog.get_logger(__name__)

_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Certificate:
    """What was removed of a person, by table; `elsewhere` is what other systems still call them."""

    person_id: int
    erased_at: datetime
    removed: Mapping[str, int]
    tombstones: int
    elsewhere: tuple[Name, ...]


@dataclass(frozen=True, slots=True)
class Eraser:
    """Erases people; `inbound` reads what is parked, to see whom it is about."""

    engine: Engine
    ring: KeyRing
    keys: IndexKeys
    inbound: Mapping[str, Translator]

    def erase(self, person_id: int, *, actor: str) -> Certificate:
        """Erase a person and all who became one with them. Doing it again removes what has come since.

        Raises RetryLater where they changed at this moment.
        """
        with single(self.engine) as db:
            ids = erasure.everybody(db, [person_id])
            names = self._names(db, ids)
        # Before, because the names are gone afterwards; what comes in between meets the tombstones.
        about = self._nobodys(names)
        with self.engine.begin() as db:
            # First, as whoever changes one of these users holds its row before these names.
            scim_users.hold_known(db, _users(names), self.keys)
            people.serialise(db, {lock for name in names for lock in _locks(name)})
            reports = employments.reports(db, ids, (), self.keys)
            people.load(db, reports.union(ids), self.ring, lock=True)
            if set(self._names(db, ids)) != set(names) or erasure.everybody(db, [person_id]) != ids:
                raise RetryLater(Reason.CONFLICT, "the person changed at this moment")
            erasure.hold(db, sorted(reports.union(ids)))
            buried = tombstones.bury(db, names, self.keys, person_id)
            shredded = erasure.shred(db, ids, about)
            removed = {"inbox": shredded, **erasure.remove(db, ids, (CONTACT, LEARNER))}
            people.bump(db, reports)  # their contacts show what their manager is called
            holders = sync_state.holders(db, sorted(reports), WRITE_CONTACT)
            sync_state.want(db, CONTACT, WRITE_CONTACT, [Want(crm, who) for crm, who in holders])
            removed["account_people"] = accounts.leave(db, ids)
            removed["scim_users"] = scim_users.forget(db, _users(names), self.keys)
            audit.append(db, actor=actor, action="person.erase", outcome="erased", subject=("person", person_id))
            row = story.person(db, person_id)
        log.info("person.erased", person=person_id, removed=removed)
        assert row is not None and row.erased_at is not None  # noqa: PT018, S101 - erased just now
        elsewhere = tuple(name for name in names if name[1])
        return Certificate(person_id, row.erased_at, removed, buried, elsewhere)

    def _names(self, db: Connection, ids: list[int]) -> list[Name]:
        """Return everything these people are known by: ids of other systems, and addresses."""
        found: list[Name] = [
            (one.object_type, one.connection, one.external_id) for one in merges.names(db, ids, (CONTACT, LEARNER))
        ]
        for person in people.load(db, ids, self.ring).values():
            email, employee_id = person.profile.email, person.profile.employee_id
            found += [email_name(email)] if email else []
            found += [employee_name(employee_id)] if employee_id else []
        return found

    def _nobodys(self, names: list[Name]) -> list[int]:
        """Return the kept events of nobody's that name these; each one is opened for it."""
        found: list[int] = []
        after = 0
        while True:
            with single(self.engine) as db:
                rows = erasure.nobodys(db, after=after, limit=_AT_ONCE)
            if not rows:
                return found
            found += [row.id for row in rows if self._is_about(row, names)]
            after = rows[-1].id

    def _is_about(self, row: Nobodys, names: list[Name]) -> bool:
        context = inbox.payload_context(row.connection, row.request_id)
        known = {value for kind, connection, value in names if connection in ("", row.connection)}
        for sealed in filter(None, (row.payload, row.original_payload)):
            try:
                body = self.ring.open(bytes(sealed), context)
            except CoursewireError:
                continue  # nobody can read it, we as little as a thief
            said = self._said(row.connection, body)
            if mentions(body, known) if said is None else not said.isdisjoint(names):
                return True
        return False

    def _said(self, connection: str, body: bytes) -> set[Name] | None:
        """Return whom a payload names, None where nobody can make sense of it."""
        system = self.inbound.get(connection)
        if system is None:
            return None
        try:
            events = system.translate(body)
        except CoursewireError:
            return None
        found: set[Name] = set()
        for event in events:
            if isinstance(event, ContactHint):
                found |= {(CONTACT, connection, one) for one in (event.contact_id, *event.merged_ids)}
                continue
            if isinstance(event, DealHint):
                continue  # it names no person
            found |= {(LEARNER, connection, event.learner.lms_user_id or "")}
            email = normalise_email(event.learner.email)
            found |= {email_name(email)} if email else set()
            employee_id = normalise_employee_id(event.learner.employee_id)
            found |= {employee_name(employee_id)} if employee_id else set()
        return found


def _users(names: list[Name]) -> list[scim_users.Known]:
    """Return by what an identity provider's users are these people: addresses and employee ids."""
    addresses: list[scim_users.Known] = [("email", value) for kind, _, value in names if kind == "email"]
    return [*addresses, *(("employee_id", value) for kind, _, value in names if kind == "employee_id")]


def _locks(name: Name) -> set[str]:
    kind, connection, value = name
    if kind == LEARNER:
        return people.lock_names((connection, value))
    return people.lock_names(None, value) if kind == "email" else people.lock_names(None, None, value)
