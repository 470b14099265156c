"""A decision that becomes a rule: the identity rule that would have taken it, its effect, and what it lets go on.

Called by `coursewire parked resolve --always`. The rule is published in the transaction of the decision; then what is
parked for the same doubt is put back in slices, so that the rule decides it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, get_args

from sqlalchemy import Connection

from integration import decisions, identity
from integration.decisions import CannotDecide, Question
from integration.errors import Reason
from integration.identity import IN_DOUBT
from integration.model.identity import IdentityPolicy, learners
from integration.security import redact
from integration.sighting import Sighting
from integration.storage import audit, parked, replays
from integration.storage.parked import ParkedRow
from integration.storage.replays import SLICE, By, PutBack
from mappings import store
from mappings.identity import IdentityChange, differences
from mappings.rules import RuleSet
from tasks.assembly import Assembly
from tasks.identity_effect import IdentityEffect, identity_effects

Always = Literal["same_email", "domain", "id"]
WORDS: tuple[Always, ...] = get_args(Always)


@dataclass(frozen=True, slots=True)
class Freed:
    """An event that is parked and that the rule decides, and what its LMS calls the learner, as it may be shown."""

    id: int
    learner: str


@dataclass(frozen=True, slots=True)
class Precedent:
    """The rule set that would have decided, what differs in it and for whom, and which other events it decides."""

    connection: str
    old: RuleSet
    new: RuleSet
    changes: list[IdentityChange]
    effects: list[IdentityEffect]
    freed: list[Freed]
    always: Always


def propose(db: Connection, process: Assembly, question: Question, always: Always, *, person: int | None) -> Precedent:
    """Return the rule that takes this decision from now on; with same_email for a `person`, or somebody new (None).

    Raises CannotDecide where no such rule would have taken it.
    """
    row, old = question.row, store.active(db)
    before = learners(old.identity, row.connection)
    if always == "same_email":
        after = _same_email(question, before, person)
    else:
        (sighting, *_) = decisions.sightings(row, process.listeners, process.ring)
        after = _without(before, sighting, always)
    if after == before:
        raise CannotDecide(f"The rules of {row.connection} say so already; let it go on with --release.")
    new = replace(old, identity={**old.identity, row.connection: after})
    return Precedent(
        row.connection,
        old,
        new,
        differences(old.identity, new.identity),
        list(identity_effects(db, process.config, process.ring, old, new)),
        [one for one in _freed(db, process, row.connection, new, always) if one.id not in question.ids],
        always,
    )


def publish(db: Connection, precedent: Precedent, *, actor: str, comment: str) -> int:
    """Publish the rule and return its rule set; raises CannotDecide where another one is published by now."""
    try:
        made = store.publish(db, precedent.new, author=actor, comment=comment, expected=precedent.old.id)
    except LookupError as late:
        raise CannotDecide(f"{late}; nothing was changed. Decide again.") from None
    audit.append(db, actor=actor, action="rules.publish", outcome="published", reference=f"rule_set:{made}")
    return made


def put_back(process: Assembly, precedent: Precedent, made: int, *, actor: str) -> Iterator[PutBack]:
    """Put back, slice by slice, what the published rule decides; also what was parked while it was being published."""
    by, done = By(actor, decisions.ACTION, reference=f"rule_set:{made}"), set[int]()
    while True:
        with process.engine.begin() as db:
            found = _freed(db, process, precedent.connection, precedent.new, precedent.always)
            ids = [one.id for one in found if one.id not in done]
        if not ids:
            return
        for start in range(0, len(ids), SLICE):
            with process.engine.begin() as db:
                yield replays.put_back(db, "event", ids[start : start + SLICE], by, status="parked")
        done.update(ids)


def _same_email(question: Question, before: IdentityPolicy, person: int | None) -> IdentityPolicy:
    if question.row.reason != Reason.EMAIL_TAKEN:
        raise CannotDecide(
            f"Event {question.row.id} is parked for {question.row.reason}, so same_email would not have decided it."
        )
    if person is None:
        return replace(before, same_email="new_person")
    if person != question.owner:
        raise CannotDecide(
            f"A rule can only say that the learner is the person whose e-mail it is, and that is not person {person}. "
            "Decide this one without --always."
        )
    return replace(before, same_email="same_person")


def _without(before: IdentityPolicy, sighting: Sighting, always: Always) -> IdentityPolicy:
    """Return the policy that leaves out the learner of a sighting, by their e-mail's domain or by their id."""
    user_id = sighting.event.learner.lms_user_id
    if always == "id":
        if not user_id:
            raise CannotDecide("The event names its learner by e-mail alone, so there is no id to leave out.")
        if set("*?[]") & set(user_id):
            raise CannotDecide("The learner's id holds a character of patterns; write exclude_ids in the rules.")
        return replace(before, exclude_ids=tuple(dict.fromkeys((*before.exclude_ids, user_id))))
    if not sighting.email:
        raise CannotDecide("The event came without a valid e-mail, so there is no domain to leave out.")
    if before.include_domains:
        raise CannotDecide(
            f"{sighting.connection} takes the domains of include_domains alone; change that list and publish the rules."
        )
    domain = sighting.email.rpartition("@")[2]
    return replace(before, exclude_domains=tuple(dict.fromkeys((*before.exclude_domains, domain))))


def _freed(db: Connection, process: Assembly, connection: str, new: RuleSet, always: Always) -> Iterator[Freed]:
    """Return what is parked for a doubt that the new rules decide; what cannot be read stays where it is."""
    reasons = [Reason.EMAIL_TAKEN.value] if always == "same_email" else [reason.value for reason in IN_DOUBT]
    after = 0
    while rows := parked.in_doubt(db, connection, reasons, after=after, limit=SLICE):
        after = rows[-1].id
        for row in rows:
            try:
                seen = decisions.sightings(row, process.listeners, process.ring)
            except CannotDecide:
                continue
            if always == "same_email" or any(identity.excluded(one, new.identity, _reason(row)) for one in seen):
                yield Freed(row.id, _shown(seen))


def _reason(row: ParkedRow) -> Reason | None:
    return Reason(row.reason) if row.reason else None


def _shown(seen: list[Sighting]) -> str:
    ids = sorted({one.event.learner.lms_user_id or "by e-mail alone" for one in seen})
    return redact.text(", ".join(ids))
