"""Following a merge of the other side: its ids repoint, and two of our people behind one record become one (rule 17).

Idempotent, so that the same merge may be said by a webhook, said again, and found by a read.
"""

from collections.abc import Iterable

import structlog
from sqlalchemy import Connection, Engine

from integration.errors import Reason, RetryLater
from integration.model.contacts import CONTACT, WRITE_CONTACT
from integration.model.employees import Work
from integration.model.people import LEARNER
from integration.security.seal import IndexKeys, KeyRing
from integration.storage import accounts, audit, deliveries, employments, merges, people, roles, sync_state
from integration.storage.sync_state import Want

log = structlog.get_logger(__name__)

_TOLD_SECONDS = 10.0
"""When the account that somebody leaves by a merge is counted: by then the one who goes on was read, and is counted."""

NAMES = (CONTACT, LEARNER)
"""What a person is linked by."""


def follow(
    engine: Engine, connection: str, new_id: str, old_ids: Iterable[str], ring: KeyRing, keys: IndexKeys
) -> int | None:
    """Let `new_id` of a connection stand for everybody whom it or one of `old_ids` stood for; return them.

    None where nobody of ours was behind any of these contacts. Whoever was linked first goes on.
    """
    ids = sorted({new_id, *old_ids})
    names = [(connection, one) for one in ids]
    while True:
        with engine.begin() as db:
            behind = sorted(set(people.by_link(db, CONTACT, names).values()))
            if not behind:
                return None
            survivor, *losers = behind
            # One pair in a transaction, because their names are held before any row of people is.
            for loser in losers[:1]:
                become_one(db, survivor, loser, ring, keys)
            people.load(db, [survivor], ring, lock=True)
            people.link(db, CONTACT, {(connection, new_id): survivor})
            gone = [one for one in ids if one != new_id]
            merges.repoint(db, connection, CONTACT, dict.fromkeys(gone, new_id))
            merges.readdress(db, connection, survivor, gone, new_id)
            deliveries.wake(db, [survivor])
            is_followed = set(people.by_link(db, CONTACT, names).values()) == {survivor}
        for loser in losers[:1]:
            log.info("people.merged", connection=connection, person=survivor, merged=loser)
        if is_followed:
            return survivor


def become_one(db: Connection, survivor: int, loser: int, ring: KeyRing, keys: IndexKeys) -> None:
    """Make two people one: facts, links and what waits are the survivor's from now on.

    Raises RetryLater where they changed while we came to hold them.
    """
    known = merges.names(db, (survivor, loser), [LEARNER])
    before = people.load(db, (survivor, loser), ring)
    links = {(name.connection, name.external_id) for name in known}
    called = {(person.profile.email, person.profile.employee_id) for person in before.values()}
    people.serialise(
        db,
        {name for link in links for name in people.lock_names(link)}
        | {name for email, employee_id in called for name in people.lock_names(None, email, employee_id)},
    )
    held = people.load(db, (survivor, loser), ring, lock=True)
    now_called = {(person.profile.email, person.profile.employee_id) for person in held.values()}
    if now_called != called or merges.names(db, (survivor, loser), [LEARNER]) != known:
        raise RetryLater(Reason.CONFLICT, "the two people changed at this moment")
    if any(person.is_gone for person in held.values()):
        raise RetryLater(Reason.CONFLICT, "one of the two was merged or erased at this moment")
    _learn(db, held[survivor], held[loser], ring, keys)
    _join_work(db, survivor, loser, ring, keys)
    version = max(person.version for person in held.values()) + 1
    merges.move(db, survivor, loser, version, NAMES)
    people.bump(db, (survivor, loser), at_least=version)
    rows = merges.hold(db, survivor, loser)
    of_roles = roles.left_by(db, loser, survivor)
    merges.end(db, loser)
    wants = [Want(row.connection, survivor, row.lane) for row in rows]
    sync_state.want(db, CONTACT, WRITE_CONTACT, wants)
    roles.hear(db, of_roles)
    merges.go_on(db, survivor, rows)
    accounts.leave(db, [loser], after=_TOLD_SECONDS)
    roles.again(db, [survivor])  # what was decided for the other alone, by a person, counts for them now
    audit.append(
        db,
        actor="coursewire",
        action="person.merge",
        outcome="merged",
        subject=("person", survivor),
        reference=f"person:{loser}",
    )


def _join_work(db: Connection, survivor: int, loser: int, ring: KeyRing, keys: IndexKeys) -> None:
    """Keep of each field of what HR says of the two the latest word. Raises RetryLater where one cannot be opened."""
    works = employments.load(db, (survivor, loser), ring)
    if loser not in works:
        return
    ours, theirs = works.get(survivor, Work()), works[loser]
    if ours is None or theirs is None:
        raise RetryLater(Reason.SEAL_KEY_MISSING, "what HR says of one of the two cannot be opened")
    employments.save(db, {survivor: ours.joined(theirs)}, ring, keys)
    employments.forget(db, [loser])


def _learn(db: Connection, survivor: people.Person, loser: people.Person, ring: KeyRing, keys: IndexKeys) -> None:
    """Keep of the other's profile what the survivor's lacks; the other address and employee id stay aliases."""
    if survivor.is_unreadable or loser.is_unreadable:
        return
    ours, theirs = survivor.profile, loser.profile
    if ours.email is None and theirs.email is not None:
        ours = ours._replace(email=theirs.email, email_at=theirs.email_at)
        loser.profile = loser.profile._replace(email=None, email_at=None)
    if ours.employee_id is None and theirs.employee_id is not None:
        ours = ours._replace(employee_id=theirs.employee_id, employee_id_at=theirs.employee_id_at)
        loser.profile = loser.profile._replace(employee_id=None, employee_id_at=None)
    if ours.full_name is None:
        ours = ours._replace(full_name=theirs.full_name, full_name_at=theirs.full_name_at)
    if ours is not survivor.profile:
        survivor.profile, survivor.is_changed, loser.is_changed = ours, True, True
        people.save(db, [loser], ring, keys)
        people.save(db, [survivor], ring, keys)
