"""What a change of identity rules would do: who is left out or taken, and what is parked and may go on. Reads only."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil

from sqlalchemy import Connection

from integration.config import Config
from integration.connectors import registry
from integration.errors import Reason
from integration.model.contacts import WRITE_CONTACT
from integration.model.identity import Identity
from integration.model.people import LEARNER
from integration.security.seal import KeyRing
from integration.storage import events, people
from integration.storage.crowd import SLICE
from integration.storage.statement import execute
from mappings.identity import IdentityChange, differences
from mappings.inclusion import take
from mappings.rules import RuleSet
from tasks.saying import count, say
from tasks.workforce import workforce

_HELD = """
SELECT subject_id, remote_id IS NOT NULL AS is_there, status, reason FROM sync_state
WHERE connection = %(connection)s AND operation = %(operation)s AND subject_id > %(after)s
ORDER BY subject_id LIMIT %(limit)s
"""

_PARKED = """
SELECT count(*) FROM inbox WHERE status = 'parked' AND connection = %(connection)s AND reason = %(reason)s
"""


@dataclass(slots=True)
class IdentityEffect:
    """What a change does to one connection.

    Of a CRM: of `people` there, `left_out` are not written any more, `with_contact` of whom have a contact that stays
    as it is; `taken` are written again, `different` are told less or more of; `looked_at` are parked and looked at once
    more, which takes at least `reads` calls. Of an LMS: `in_doubt` events wait for the answer whose they are.
    """

    connection: str
    people: int = 0
    left_out: int = 0
    with_contact: int = 0
    taken: int = 0
    different: int = 0
    looked_at: int = 0
    reads: int = 0
    in_doubt: int = 0


def identity_effects(
    db: Connection, config: Config, ring: KeyRing, old: RuleSet, new: RuleSet
) -> Iterator[IdentityEffect]:
    """Return what going from `old` to `new` does in each connection that is concerned."""
    changed = {change.connection: change for change in differences(old.identity, new.identity)}
    if not changed:
        return
    whose = any(_is_of_inclusion(change) for change in changed.values())
    for name, connection in config.connections.items():
        capabilities = registry.system_of(connection).capabilities
        if capabilities.holds_contacts:
            yield _contacts(db, name, ring, (old.identity, new.identity) if whose else None, capabilities.batch_size)
        elif name in changed:
            values = {"connection": name, "reason": Reason.EMAIL_TAKEN.value}
            parked = execute(db, _PARKED, values).scalar_one()
            yield IdentityEffect(name, in_doubt=parked)


def _is_of_inclusion(change: IdentityChange) -> bool:
    return any(part.part.startswith(("include_", "exclude_")) for part in change.parts)


def _contacts(
    db: Connection, connection: str, ring: KeyRing, rules: tuple[Identity, Identity] | None, size: int
) -> IdentityEffect:
    """Look at everybody whom a CRM is to hold, slice by slice; at who they are only where that may differ."""
    found, after = IdentityEffect(connection), 0
    while True:
        values = {"connection": connection, "operation": WRITE_CONTACT, "after": after, "limit": SLICE}
        held = execute(db, _HELD, values).all()
        if not held:
            break
        after = held[-1].subject_id
        found.people += len(held)
        found.looked_at += sum(row.status == "parked" for row in held)
        if rules is not None:
            there = {row.subject_id for row in held if row.is_there}
            _count(db, [row.subject_id for row in held], there, ring, rules, found)
    found.reads = ceil((found.looked_at + found.taken) / size)
    return found


def _count(
    db: Connection,
    ids: Sequence[int],
    there: set[int],
    ring: KeyRing,
    rules: tuple[Identity, Identity],
    found: IdentityEffect,
) -> None:
    names, standings, staff = people.linked(db, ids, [LEARNER]), events.standings(db, ids), workforce(db, ids, ring)
    for person in people.load(db, ids, ring).values():
        if person.is_gone or person.is_unreadable:
            continue
        links = [(source, external_id) for source, external_id, _ in names.get(person.id, [])]
        told, employers = standings.get(person.id, []), staff.employers(person.id)
        was, becomes = (take(one, links, told, person.profile, employers=employers) for one in rules)
        if was.excluded is None and becomes.excluded is not None:
            found.left_out += 1
            found.with_contact += person.id in there
        elif was.excluded is not None and becomes.excluded is None:
            found.taken += 1
        elif was.subject != becomes.subject:
            found.different += 1


def tell_identity(changes: Sequence[IdentityChange], found: Sequence[IdentityEffect]) -> None:
    """Say what differs, and for whom."""
    for change in changes:
        say(f"~ connection {change.connection}, identity")
        for part in change.parts:
            say(f"    {part.part}: {part.was} -> {part.becomes}")
    for effect in found:
        for sentence in _sentences(effect):
            say(f"  {effect.connection}: {sentence}")


def _sentences(effect: IdentityEffect) -> Iterator[str]:
    if effect.left_out:
        yield f"{effect.left_out} of {count(effect.people, 'person', 'people')} left out"
    if effect.with_contact:
        yield f"a contact of {effect.with_contact} of them stays as it is"
    if effect.taken:
        yield f"{count(effect.taken, 'person', 'people')} left out until now, and taken from then"
    if effect.different:
        yield f"{count(effect.different, 'person', 'people')} shown by what other systems say of them"
    if effect.looked_at:
        yield f"{count(effect.looked_at, 'parked person', 'parked people')} looked for again"
    if effect.reads:
        yield f"calls: {effect.reads} to read"
    if effect.in_doubt:
        yield (
            f"{count(effect.in_doubt, 'parked event waits', 'parked events wait')} until released: "
            f"`coursewire parked release --reason {Reason.EMAIL_TAKEN} --connection {effect.connection}`"
        )
