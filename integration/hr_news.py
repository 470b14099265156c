"""What is done about HR's words of employees: of each field the latest one is kept, and who shows it is due.

What is kept is the join of all that was said, so neither order nor repetition matters. A manager is shown with their
reports, so these are due when their manager is called otherwise.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from integration.errors import NeedsAttention, Reason
from integration.identity import Identified
from integration.model.employees import Employment, EmploymentStatus, Work
from integration.security.seal import IndexKeys, KeyRing
from integration.sighting import Sighting
from integration.storage import employments


@dataclass(frozen=True, slots=True)
class Heard:
    """What one batch changed: people shown otherwise, the reports of such, and who has left or come back."""

    changed: frozenset[int] = frozenset()
    reports: frozenset[int] = frozenset()
    turned: frozenset[int] = frozenset()


def hear(
    db: Connection, said: Sequence[tuple[Sighting, int]], who: Identified, ring: KeyRing, keys: IndexKeys
) -> Heard:
    """Keep what HR said of these people, who are held; what else was said of them is left to others.

    Raises NeedsAttention where what was kept before cannot be opened.
    """
    told = [(one, one.event, person_id) for one, person_id in said if isinstance(one.event, Employment)]
    if not told:
        return Heard()
    before = employments.load(db, {person_id for *_, person_id in told}, ring)
    if sealed := sorted(person_id for person_id, work in before.items() if work is None):
        raise NeedsAttention(Reason.SEAL_KEY_MISSING, f"what HR says of person {sealed[0]} cannot be opened")
    known = {person_id: before.get(person_id) or Work() for *_, person_id in told}
    now = dict(known)
    for one, employment, person_id in told:
        now[person_id] = now[person_id].joined(Work.said(one.connection, employment, one.at))
    employments.save(
        db,
        {person_id: now[person_id] for person_id in sorted(now) if now[person_id] != before.get(person_id)},
        ring,
        keys,
    )
    renamed = {person_id: ids for person_id, ids in who.renamed.items() if person_id in now}
    return Heard(
        frozenset(person_id for person_id in now if not now[person_id].says_as(known[person_id])) | renamed.keys(),
        _reports(db, renamed, who, keys),
        frozenset(person_id for person_id in now if _has_left(now[person_id]) != _has_left(known[person_id])),
    )


def _reports(db: Connection, renamed: dict[int, set[str]], who: Identified, keys: IndexKeys) -> frozenset[int]:
    """Return whose manager is called otherwise now, of those who are held."""
    if not renamed:
        return frozenset()
    named = {employee_id for ids in renamed.values() for employee_id in ids}
    return frozenset(employments.reports(db, renamed, named, keys) & who.people.keys())


def _has_left(work: Work) -> bool:
    return work.get("status") == EmploymentStatus.LEFT
