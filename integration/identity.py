"""Who an event is about (architecture section 6).

Known link, then normalised e-mail. A known link always wins: an e-mail that belongs to somebody else parks only the
e-mail change, never the completion. Within one LMS an e-mail that already belongs to another id parks the event with
its evidence; a decision releases everything that was parked behind it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Self

from sqlalchemy import Connection

from integration.errors import Ignored, NeedsAttention, Reason, RetryLater
from integration.model.events import LearningEvent, believable
from integration.model.people import LEARNER, Profile, normalise_email
from integration.security import redact
from integration.security.seal import IndexKeys, KeyRing
from integration.storage import people, tombstones
from integration.storage.people import Person
from integration.storage.tombstones import Name, email_name


@dataclass(frozen=True, slots=True)
class Sighting:
    """An event, and where its learner was seen.

    `link` is what the LMS calls the learner; `email` their address as it is compared, None where it is none.
    """

    connection: str
    event: LearningEvent
    at: datetime
    link: tuple[str, str] | None
    email: str | None

    @classmethod
    def of(cls, connection: str, event: LearningEvent, received_at: datetime) -> Self:
        """Return the sighting of an event's learner; what is dated in the future counts from its arrival (rule 6)."""
        user_id = event.learner.lms_user_id
        link = (connection, user_id) if user_id else None
        at = believable(event.occurred_at, received_at)
        return cls(connection, event, at, link, normalise_email(event.learner.email))


@dataclass(slots=True)
class Identified:
    """What one batch found out: a person or the reason why not per sighting, and what that changed."""

    people: dict[int, Person] = field(default_factory=dict)
    found: list[int | NeedsAttention | Ignored] = field(default_factory=list)
    new_links: dict[tuple[str, str], int] = field(default_factory=dict)
    email_conflicts: set[int] = field(default_factory=set)
    readdressed: set[int] = field(default_factory=set)
    freed_emails: set[str] = field(default_factory=set)


def learner_key(sighting: Sighting, keys: IndexKeys) -> str:
    """Return the learner's part of a fact key: the LMS's id, else a keyed hash of the e-mail."""
    user_id = sighting.event.learner.lms_user_id
    return user_id or f"email:{keys.newest('email', sighting.email or '').hex()}"


def park_keys(sighting: Sighting, keys: IndexKeys) -> list[bytes]:
    """Return what a parked event waits behind: its learner becoming known, or its e-mail becoming free."""
    waits = [link_key(sighting.link)] if sighting.link else []
    return [*waits, keys.newest("park", sighting.email)] if sighting.email else waits


def link_key(link: tuple[str, str]) -> bytes:
    """Return what an event is parked behind until this learner (connection, user id) becomes known."""
    return sha256("\0".join(("park", *link)).encode()).digest()


def identify(db: Connection, sightings: Sequence[Sighting], ring: KeyRing, keys: IndexKeys) -> Identified:
    """Find or create the person of each sighting and save what was learned about them.

    Holds the people concerned until the transaction ends, in an order that cannot deadlock. A sighting that cannot be
    decided yields NeedsAttention in its place and changes nothing; so does Ignored for somebody who was erased. Raises
    RetryLater where somebody became another one while we came to hold them.
    """
    people.serialise(db, {name for s in sightings for name in people.lock_names(s.link, s.email)})
    decision = _Decision.load(db, sightings, ring, keys)
    for sighting in sightings:
        try:
            decision.result.found.append(decision.decide(sighting))
        except (NeedsAttention, Ignored) as undecided:
            decision.result.found.append(undecided)
    result = decision.result
    people.save(db, result.people.values(), ring, keys)
    people.link(db, LEARNER, result.new_links)
    return result


@dataclass(slots=True)
class _Decision:
    """Everything known about a batch's learners, so that deciding needs no further query."""

    links: dict[tuple[str, str], int]
    owners: dict[str, int]
    aliases: set[str]
    buried: set[Name]
    ids_at: dict[tuple[int, str], set[str]]
    spare_ids: list[int]
    result: Identified

    @classmethod
    def load(cls, db: Connection, sightings: Sequence[Sighting], ring: KeyRing, keys: IndexKeys) -> "_Decision":
        links = people.by_link(db, LEARNER, sorted({s.link for s in sightings if s.link}))
        owning = people.owners(db, sorted({s.email for s in sightings if s.email}), keys)
        owners = {email: owner.person_id for email, owner in owning.items()}
        aliases = {email for email, owner in owning.items() if owner.is_alias}
        known = {*links.values(), *owners.values()}
        strangers = {s.link or s.email for s in sightings if s.link not in links}
        # Whoever is found by the LMS's own id need not be told apart from others of the same e-mail.
        named = people.linked(db, known if strangers else (), [LEARNER])
        ids_at: dict[tuple[int, str], set[str]] = {}
        for person_id, names in named.items():
            for connection, external_id, _ in names:
                ids_at.setdefault((person_id, connection), set()).add(external_id)
        loaded = people.load(db, known, ring, lock=True)
        if any(person.is_gone for person in loaded.values()):
            raise RetryLater(Reason.CONFLICT, "somebody was merged or erased at this moment")
        # Now that they are held: somebody may have moved to another e-mail while we waited for them.
        owners = {
            e: who
            for e, who in owners.items()
            if e in aliases or loaded[who].is_unreadable or loaded[who].profile.email == e
        }
        return cls(
            links=links,
            owners=owners,
            aliases=aliases,
            buried=_buried(db, sightings, links, owners, keys),
            ids_at=ids_at,
            spare_ids=people.new_ids(db, len(strangers)),
            result=Identified(people=loaded),
        )

    def decide(self, sighting: Sighting) -> int:
        person_id = self.links.get(sighting.link) if sighting.link else None
        if person_id is None and not self.buried.isdisjoint(_names(sighting)):
            raise Ignored(Reason.ERASED)
        if person_id is None:
            person_id = self._by_email(sighting)
        person = self.result.people[person_id]
        if person.is_unreadable:
            raise NeedsAttention(Reason.SEAL_KEY_MISSING, f"the profile of person {person_id} cannot be opened")
        self._learn_name(person, sighting)
        self._learn_email(person, sighting)
        return person_id

    def _by_email(self, sighting: Sighting) -> int:
        email = sighting.email
        if email is None:
            if sighting.event.learner.email:
                raise NeedsAttention(Reason.INVALID_EMAIL, "the learner is not linked and the e-mail is not valid")
            raise NeedsAttention(Reason.NO_IDENTITY, "the learner is not linked and came without an e-mail")
        person_id = self.owners.get(email)
        if person_id is None:
            person_id = self._create()
        elif sighting.link and self.ids_at.get((person_id, sighting.connection), set()) - {sighting.link[1]}:
            others = redact.text(", ".join(sorted(self.ids_at[person_id, sighting.connection])[:3]))
            raise NeedsAttention(
                Reason.EMAIL_TAKEN, f"the e-mail belongs to person {person_id}, whom this LMS calls {others}"
            )
        if sighting.link:
            self.links[sighting.link] = self.result.new_links[sighting.link] = person_id
            self.ids_at.setdefault((person_id, sighting.connection), set()).add(sighting.link[1])
        return person_id

    def _create(self) -> int:
        person = Person(self.spare_ids.pop(), version=0, profile=Profile(), is_new=True, is_changed=True)
        self.result.people[person.id] = person
        return person.id

    def _learn_name(self, person: Person, sighting: Sighting) -> None:
        self._replace(person, person.profile.with_name(sighting.event.learner, sighting.at))

    def _learn_email(self, person: Person, sighting: Sighting) -> None:
        email = sighting.email
        if email is None:
            return
        owner = self.owners.get(email)
        if owner == person.id and email in self.aliases:
            return  # theirs already, of another account: the two would take turns for ever
        learned = person.profile.with_email(email, sighting.at)
        if owner not in (None, person.id) and learned.email == email:
            self.result.email_conflicts.add(person.id)
            self._mark(person, Reason.EMAIL_TAKEN.value)
            return
        if learned.email != person.profile.email:
            if person.profile.email:
                self.owners.pop(person.profile.email, None)
                self.result.freed_emails.add(person.profile.email)
            self.result.readdressed.add(person.id)
        if learned.email == email:
            self.owners[email] = person.id
            self._mark(person, None)
        self._replace(person, learned)

    def _mark(self, person: Person, attention: str | None) -> None:
        """Note what a person must look at, or that it is over; the contact's `lms_sync_status` says it."""
        if person.attention != attention:
            person.attention, person.is_changed = attention, True
            self.result.readdressed.add(person.id)

    @staticmethod
    def _replace(person: Person, profile: Profile) -> None:
        if profile is not person.profile:
            person.profile, person.is_changed = profile, True


def _names(sighting: Sighting) -> set[Name]:
    """Return what an erased person may have been known by, of this learner."""
    names = {(LEARNER, *sighting.link)} if sighting.link else set()
    return names | ({email_name(sighting.email)} if sighting.email else set())


def _buried(
    db: Connection,
    sightings: Sequence[Sighting],
    links: Mapping[tuple[str, str], int],
    owners: Mapping[str, int],
    keys: IndexKeys,
) -> set[Name]:
    """Return the names of strangers that have a tombstone; an address that is somebody's again is theirs."""
    strangers = {name for s in sightings if s.link not in links for name in _names(s)}
    return tombstones.buried(db, strangers - {email_name(email) for email in owners}, keys)


def opened_keys(result: Identified, keys: IndexKeys) -> list[bytes]:
    """Return the park keys that this batch opened: learners who became known, e-mails that became free."""
    opened = [link_key(link) for link in result.new_links]
    return opened + [key for email in result.freed_emails for key in keys.candidates("park", email)]
