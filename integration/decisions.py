"""A person's decision about a parked event: whose it is, that it may go on, or that it is not to be applied.

Called by `coursewire parked resolve`, as is the decision to look for a parked person again now. A decision takes the
locks in the order that the pipeline takes them (learner, person, inbox rows), so the two cannot wait for each other;
what it releases is rung for by the caller.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection

from integration.errors import CoursewireError, Reason
from integration.model.employees import Employment
from integration.model.events import LearningEvent
from integration.model.people import LEARNER, Profile
from integration.ports import Translator
from integration.security.seal import IndexKeys, KeyRing
from integration.sighting import Sighting, link_key, park_keys
from integration.storage import audit, inbox, parked, people, received, replays, story
from integration.storage.parked import ParkedRow
from integration.storage.people import Person
from integration.storage.received import Event
from integration.storage.replays import By, PutBack

ACTION = "parked.resolve"
SHOWN = 20
"""How many of the events behind a decision are shown before it is taken."""


class CannotDecide(Exception):
    """Why the decision asked for cannot be taken; the text says what can be done instead."""


@dataclass(frozen=True, slots=True)
class Question:
    """A parked event, its learner (connection, user id), and what the decision releases: how many, and the oldest.

    `owner` is the person to whom the learner's e-mail belongs, where there is one, and `ids` all that is released.
    """

    row: ParkedRow
    link: tuple[str, str] | None
    number: int
    oldest: list[Event]
    owner: int | None = None
    ids: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Decided:
    """What a decision did: the person it named, if any, and (id, kind) of the events to ring for."""

    person_id: int | None
    released: list[tuple[int, str]]


def about_event(db: Connection, inbox_id: int) -> Question:
    """Return the question whether this one event may go on. Raises CannotDecide where it is not parked."""
    row = parked.row(db, inbox_id)
    if row is None:
        raise CannotDecide(f"There is no event {inbox_id}. See `coursewire parked list`.")
    if row.status != "parked":
        raise CannotDecide(f"Event {inbox_id} is not parked: it is {row.status}.")
    return Question(row, None, 1, received.by_id(db, [inbox_id]), ids=frozenset([inbox_id]))


def about_learner(
    db: Connection, inbox_id: int, inbound: Mapping[str, Translator], ring: KeyRing, keys: IndexKeys
) -> Question:
    """Return the question who this event's learner is, with everything that waits for the same answer.

    Raises CannotDecide where it is not parked, cannot be read, or names nobody who could be linked.
    """
    question = about_event(db, inbox_id)
    link, emails = _learner(question.row, inbound, ring, keys)
    ids = sorted({inbox_id, *parked.behind(db, link_key(link))})
    owner = next(iter(people.by_email(db, emails, keys).values()), None)
    return Question(question.row, link, len(ids), received.by_id(db, ids[:SHOWN])[::-1], owner, frozenset(ids))


def still_taken(db: Connection, question: Question) -> None:
    """Raise CannotDecide where an event, let go on as it is, would be parked again for the e-mail of somebody else."""
    link, owner = question.link, question.owner
    if (
        question.row.reason != Reason.EMAIL_TAKEN
        or owner is None
        or link in people.by_link(db, LEARNER, [link or ("", "")])
    ):
        return
    raise CannotDecide(
        f"Event {question.row.id} would be parked again at once: its e-mail still belongs to person {owner}. "
        f"Decide with --person {owner}, where the two are one human, or else with --new-person."
    )


def candidate(db: Connection, person_id: int) -> None:
    """Raise CannotDecide where a learner cannot be this person: they are not there, merged away or erased."""
    row = story.person(db, person_id)
    if row is None:
        raise CannotDecide(f"There is no person {person_id}. Look for them with `coursewire person show EMAIL`.")
    if row.merged_into is not None:
        raise CannotDecide(f"Person {person_id} was merged into person {row.merged_into}; name that one.")
    if row.erased_at is not None:
        raise CannotDecide(f"Person {person_id} was erased; use --new-person, or --ignore.")


def link_to(db: Connection, question: Question, person_id: int, *, actor: str, ring: KeyRing) -> Decided:
    """Decide that the learner is this person. Raises CannotDecide where that cannot be."""
    link = _hold(db, question)
    candidate(db, person_id)
    people.load(db, [person_id], ring, lock=True)
    known = people.by_link(db, LEARNER, [link]).get(link)
    if known not in (None, person_id):
        raise CannotDecide(f"The learner is person {known} already; use --release to have the event applied to them.")
    people.link(db, LEARNER, {link: person_id})
    return _release(db, question, "linked", person_id, actor)


def link_to_new_person(db: Connection, question: Question, *, actor: str, ring: KeyRing, keys: IndexKeys) -> Decided:
    """Decide that the learner is somebody not known yet, who starts without the e-mail that is in dispute.

    Raises CannotDecide where the learner is known by now.
    """
    link = _hold(db, question)
    known = people.by_link(db, LEARNER, [link]).get(link)
    if known is not None:
        raise CannotDecide(f"The learner is person {known} already; use --release to have the event applied to them.")
    (person_id,) = people.new_ids(db, 1)
    person = Person(person_id, version=0, profile=Profile(), is_new=True, is_changed=True)
    people.save(db, [person], ring, keys)
    people.link(db, LEARNER, {link: person_id})
    return _release(db, question, "new_person", person_id, actor)


def release(db: Connection, question: Question, *, actor: str) -> Decided:
    """Decide that the event may go on as it is. Raises CannotDecide where somebody was faster."""
    return _release(db, question, "released", None, actor)


def ignore(db: Connection, question: Question, *, actor: str) -> Decided:
    """Decide that this one event is not to be applied. Raises CannotDecide where somebody was faster."""
    if not parked.ignore(db, question.row.id):
        raise _too_late(question)
    _audit(db, question, "ignored", None, actor)
    return Decided(None, [])


def look_again(db: Connection, person_id: int, connection: str, *, actor: str) -> PutBack:
    """Decide that a parked person is looked at again now. Raises CannotDecide where they are not parked there."""
    rows = [row for row in story.sync_rows(db, person_id) if (row.connection, row.status) == (connection, "parked")]
    done = replays.put_back(db, "person", [row.id for row in rows], By(actor, ACTION), status="parked")
    if not done.number:
        raise CannotDecide(f"Person {person_id} is not parked for {connection} (any more); nothing was changed.")
    return done


def _learner(
    row: ParkedRow, inbound: Mapping[str, Translator], ring: KeyRing, keys: IndexKeys
) -> tuple[tuple[str, str], list[str]]:
    """Return the learner asked about, and the e-mails they came with."""
    seen = sightings(row, inbound, ring)
    # A payload may hold several learners: the question is about the one that the event waits behind.
    waits = {bytes(key) for key in row.park_keys or ()}
    asked = [s for s in seen if waits & set(park_keys(s, keys))] or seen
    links = {s.link for s in asked}
    if len(links) != 1:
        raise CannotDecide(f"Event {row.id} names {len(links)} learners. Use --release or --ignore.")
    link = links.pop()
    if link is None:
        raise CannotDecide(
            f"Event {row.id} names its learner by e-mail alone or by an employee id, so there is no LMS id to "
            f"link. Correct that in {row.connection} and have it sent again, and --ignore this one."
        )
    return link, sorted({s.email for s in asked if s.email})


def sightings(row: ParkedRow, inbound: Mapping[str, Translator], ring: KeyRing) -> list[Sighting]:
    """Return where a parked event has seen learners. Raises CannotDecide where it cannot be read."""
    system = inbound.get(row.connection)
    if system is None:
        raise CannotDecide(
            f"Event {row.id} cannot be read, because {row.connection} is not in the connections file. "
            "Add it again, or use --ignore."
        )
    if row.payload is None:
        raise CannotDecide(f"Event {row.id} cannot be read, because its payload was purged. Use --ignore.")
    try:
        payload = ring.open(row.payload, inbox.payload_context(row.connection, row.request_id))
        return [
            Sighting.of(row.connection, event, row.received_at)
            for event in system.translate(payload)
            if isinstance(event, LearningEvent | Employment)
        ]
    except CoursewireError as error:
        raise CannotDecide(f"Event {row.id} cannot be read ({error}). Mend that, or use --ignore.") from None


def _hold(db: Connection, question: Question) -> tuple[str, str]:
    """Let nobody else decide about this learner until the transaction ends."""
    if question.link is None:
        raise CannotDecide(f"Event {question.row.id} names no learner that could be linked.")
    people.serialise(db, people.lock_names(question.link, None))
    return question.link


def _release(db: Connection, question: Question, outcome: str, person_id: int | None, actor: str) -> Decided:
    released = inbox.release(db, [link_key(question.link)]) if question.link else []
    if question.row.id not in {row_id for row_id, _ in released}:
        alone = parked.release(db, question.row.id)
        if not alone and not released:
            raise _too_late(question)
        released += alone
    _audit(db, question, outcome, person_id, actor)
    return Decided(person_id, sorted(released))


def _too_late(question: Question) -> CannotDecide:
    return CannotDecide(f"Event {question.row.id} is not parked any more; nothing was changed.")


def _audit(db: Connection, question: Question, outcome: str, person_id: int | None, actor: str) -> None:
    audit.append(
        db,
        actor=actor,
        action=ACTION,
        outcome=outcome,
        connection=question.row.connection,
        subject=("person", person_id) if person_id is not None else ("inbox", question.row.id),
        reference=f"inbox:{question.row.id}",
    )
