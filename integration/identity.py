"""Who an event, or a word of HR, is about (architecture section 6).

Known link, then what the identity rules of the connection look up: employee id, normalised e-mail; the first that
finds somebody decides. HR has no link, and its employee id counts first. A known link always wins: an e-mail that
belongs to somebody else parks only the e-mail change, never the completion. Within one LMS an e-mail that already
belongs to another id parks the event with its evidence, unless a rule decides; a decision releases everything that was
parked behind it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection

from integration.errors import Ignored, NeedsAttention, Reason, RetryLater
from integration.model.employees import Employment
from integration.model.identity import NONE, Identity
from integration.model.people import LEARNER, Profile, normalise_email
from integration.security import redact
from integration.security.seal import IndexKeys, KeyRing
from integration.sighting import Sighting, link_key
from integration.storage import employments, people, tombstones
from integration.storage.people import Owner, Person
from integration.storage.tombstones import Name, email_name, employee_name

IN_DOUBT = frozenset({Reason.EMAIL_TAKEN, Reason.NO_IDENTITY, Reason.INVALID_EMAIL})
"""Why an event waits for somebody to say whose it is; of a learner who is left out nobody is asked."""

Rules = Callable[[Connection], Identity]
"""Say who is matched with whom, as the transaction sees it that decides by it."""


@dataclass(slots=True)
class Identified:
    """What one batch found out: a person or the reason why not per sighting, and what that changed.

    `people` are all who are held: beside those whom it is about, the reports of those of whom HR said something.
    `renamed` are shown otherwise than before, by e-mail, name or employee id, with every employee id of theirs.
    """

    people: dict[int, Person] = field(default_factory=dict)
    found: list[int | NeedsAttention | Ignored] = field(default_factory=list)
    new_links: dict[tuple[str, str], int] = field(default_factory=dict)
    email_conflicts: set[int] = field(default_factory=set)
    readdressed: set[int] = field(default_factory=set)
    freed_emails: set[str] = field(default_factory=set)
    renamed: dict[int, set[str]] = field(default_factory=dict)


def identify(
    db: Connection, sightings: Sequence[Sighting], ring: KeyRing, keys: IndexKeys, rules: Identity = NONE
) -> Identified:
    """Find or create the person of each sighting, by the identity rules, and save what was learned about them.

    Holds the people concerned until the transaction ends, in an order that cannot deadlock. A sighting that cannot be
    decided yields NeedsAttention in its place and changes nothing; Ignored where the person was erased, or where a rule
    leaves the learner out anyway. Raises RetryLater where somebody became another one while we came to hold them.
    """
    sightings = [_own(sighting, rules) for sighting in sightings]
    people.serialise(
        db,
        {name for s in sightings for name in people.lock_names(s.link, s.email, s.employee_id)}
        # Who says whose manager somebody is, and who says what the manager is called, must see each other.
        | {name for s in sightings if s.manager_id for name in people.lock_names(None, None, s.manager_id)},
    )
    decision = _Decision.load(db, sightings, ring, keys, rules)
    before = {who: person.profile for who, person in decision.result.people.items()}
    for sighting in sightings:
        try:
            decision.result.found.append(decision.decide(sighting))
        except NeedsAttention as undecided:
            decision.result.found.append(excluded(sighting, rules, undecided.reason) or undecided)
        except Ignored as erased:
            decision.result.found.append(erased)
    result = decision.result
    result.renamed = _renamed(before, result.people)
    people.save(db, result.people.values(), ring, keys)
    people.link(db, LEARNER, result.new_links)
    return result


def _own(sighting: Sighting, rules: Identity) -> Sighting:
    """Return a sighting without an e-mail that is nobody's own."""
    is_shared = sighting.email is not None and sighting.policy(rules).is_nobodys(sighting.email)
    return sighting._replace(email=None) if is_shared else sighting


def excluded(sighting: Sighting, rules: Identity, reason: Reason | None) -> Ignored | None:
    """Return that an event in doubt need not be decided about, where a rule leaves its learner out."""
    learner, policy = sighting.event.learner, sighting.policy(rules)
    ids = [learner.lms_user_id] if learner.lms_user_id else []
    by = policy.excluded_by(normalise_email(learner.email), ids) if reason in IN_DOUBT else None
    return Ignored(Reason.EXCLUDED, f"{by}; it would have been parked: {reason}") if by else None


def left_out(sightings: Sequence[Sighting], who: Identified, rules: Identity) -> set[tuple[str, int]]:
    """Return (connection, person) of the learners whose learning no CRM is told of."""
    found = set()
    for sighting, person_id in zip(sightings, who.found, strict=True):
        policy = sighting.policy(rules)
        if not policy.excludes or not isinstance(person_id, int):
            continue
        ids = [sighting.link[1]] if sighting.link else []
        if policy.excluded_by(who.people[person_id].profile.email, ids):
            found.add((sighting.connection, person_id))
    return found


@dataclass(slots=True)
class _Decision:
    """Everything known about a batch's learners, so that deciding needs no further query."""

    rules: Identity
    links: dict[tuple[str, str], int]
    owners: dict[str, int]
    aliases: set[str]
    buried: set[Name]
    employees: dict[str, int]
    ids_at: dict[tuple[int, str], set[str]]
    spare_ids: list[int]
    result: Identified

    @classmethod
    def load(
        cls, db: Connection, sightings: Sequence[Sighting], ring: KeyRing, keys: IndexKeys, rules: Identity
    ) -> "_Decision":
        links = people.by_link(db, LEARNER, sorted({s.link for s in sightings if s.link}))
        by_email = people.owners(db, "email", sorted({s.email for s in sightings if s.email}), keys)
        by_id = people.owners(db, "employee_id", sorted({s.employee_id for s in sightings if s.employee_id}), keys)
        known = {*links.values(), *(owner.person_id for owner in (*by_email.values(), *by_id.values()))}
        strangers = {s.link or (s.email, s.employee_id) for s in sightings if s.link not in links}
        # Whoever is found by the LMS's own id need not be told apart from others of the same e-mail.
        named = people.linked(db, known if strangers else (), [LEARNER])
        ids_at: dict[tuple[int, str], set[str]] = {}
        for person_id, names in named.items():
            for connection, external_id, _ in names:
                ids_at.setdefault((person_id, connection), set()).add(external_id)
        of_hr = [s for s in sightings if isinstance(s.event, Employment)]
        beside = employments.reports(db, known, {s.employee_id or "" for s in of_hr}, keys) if of_hr else set()
        loaded = people.load(db, known | beside, ring, lock=True)
        if any(person.is_gone for person in loaded.values()):
            raise RetryLater(Reason.CONFLICT, "somebody was merged or erased at this moment")
        owners = _still(by_email, loaded, lambda profile: profile.email)
        employees = _still(by_id, loaded, lambda profile: profile.employee_id)
        return cls(
            rules=rules,
            links=links,
            owners=owners,
            aliases={value for found in (by_email, by_id) for value, owner in found.items() if owner.is_alias},
            buried=_buried(db, sightings, links, owners, employees, keys),
            employees=employees,
            ids_at=ids_at,
            spare_ids=people.new_ids(db, len(strangers)),
            result=Identified(people=loaded),
        )

    def decide(self, sighting: Sighting) -> int:
        person_id = self.links.get(sighting.link) if sighting.link else None
        if person_id is None and not self.buried.isdisjoint(_names(sighting)):
            raise Ignored(Reason.ERASED)
        if person_id is None:
            person_id = self._look_up(sighting)
            if sighting.link:
                self.links[sighting.link] = self.result.new_links[sighting.link] = person_id
                self.ids_at.setdefault((person_id, sighting.connection), set()).add(sighting.link[1])
        person = self.result.people[person_id]
        if person.is_unreadable:
            raise NeedsAttention(Reason.SEAL_KEY_MISSING, f"the profile of person {person_id} cannot be opened")
        self._learn_name(person, sighting)
        self._learn_email(person, sighting)
        self._learn_employee_id(person, sighting)
        return person_id

    def _look_up(self, sighting: Sighting) -> int:
        """Return whom the look-ups of the connection find, the first one first, or somebody new."""
        policy = sighting.policy(self.rules)
        for by in policy.look_up:
            if by == "employee_id" and sighting.employee_id in self.employees:
                return self.employees[sighting.employee_id]
            if by == "email" and sighting.email in self.owners:
                owner = self.owners[sighting.email]
                evidence = self._is_somebody_else(owner, sighting)
                if evidence is None or policy.same_email == "same_person":
                    return owner
                if policy.same_email == "park":
                    raise NeedsAttention(Reason.EMAIL_TAKEN, f"the e-mail belongs to person {owner}, {evidence}")
                return self._create()
        self._must_be_found_again(sighting)
        return self._create()

    def _is_somebody_else(self, owner: int, sighting: Sighting) -> str | None:
        """Return what speaks against the owner of an e-mail being the learner, None where nothing does."""
        others = self.ids_at.get((owner, sighting.connection), set())
        if sighting.link and others - {sighting.link[1]}:
            return f"whom this LMS calls {redact.text(', '.join(sorted(others)[:3]))}"
        look_up = sighting.policy(self.rules).look_up
        counts_more = "employee_id" in look_up[: look_up.index("email")]
        known = self.result.people[owner].profile.employee_id
        if counts_more and sighting.employee_id and known not in (None, sighting.employee_id):
            return "who has another employee id"
        return None

    def _must_be_found_again(self, sighting: Sighting) -> None:
        """Raise NeedsAttention where the next event of a person who is created now would not find them."""
        policy, said = sighting.policy(self.rules), sighting.event.learner
        if (sighting.email and "email" in policy.look_up) or (sighting.employee_id and "employee_id" in policy.look_up):
            return
        is_shared = sighting.email is None and normalise_email(said.email) is not None
        if sighting.link and (is_shared or "email" not in policy.look_up):
            return
        if is_shared:
            raise NeedsAttention(Reason.NO_IDENTITY, "the learner is not linked and came with an e-mail of many")
        if said.email and not sighting.email:
            raise NeedsAttention(Reason.INVALID_EMAIL, "the learner is not linked and the e-mail is not valid")
        came = "with nothing that is looked up" if said.email else "without an e-mail"
        raise NeedsAttention(Reason.NO_IDENTITY, f"the learner is not linked and came {came}")

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
            if person.attention == Reason.EMAIL_TAKEN:
                self._mark(person, None)
        self._replace(person, learned)

    def _learn_employee_id(self, person: Person, sighting: Sighting) -> None:
        """Take over the newest word; that of somebody else is left, and said where employee ids are looked up."""
        employee_id = sighting.employee_id
        if employee_id is None or (employee_id in self.aliases and self.employees.get(employee_id) == person.id):
            return
        learned = person.profile.with_employee_id(employee_id, sighting.at)
        if learned.employee_id != employee_id:
            return
        if self.employees.get(employee_id, person.id) != person.id:
            if "employee_id" in sighting.policy(self.rules).look_up and person.attention is None:
                self._mark(person, Reason.EMPLOYEE_ID_TAKEN.value)
            return
        if person.profile.employee_id not in (None, employee_id):
            self.employees.pop(person.profile.employee_id, None)
        if person.profile.employee_id != employee_id:
            self.result.readdressed.add(person.id)
        self.employees[employee_id] = person.id
        if person.attention == Reason.EMPLOYEE_ID_TAKEN:
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


def _renamed(before: Mapping[int, Profile], now: Mapping[int, Person]) -> dict[int, set[str]]:
    """Return who is shown otherwise than before, with every employee id of theirs."""
    found = {}
    for who, person in now.items():
        was, becomes = before.get(who, Profile()), person.profile
        if (was.email, was.full_name, was.employee_id) != (becomes.email, becomes.full_name, becomes.employee_id):
            found[who] = {one for one in (was.employee_id, becomes.employee_id) if one}
    return found


def _still(
    found: Mapping[str, Owner], loaded: Mapping[int, Person], value_of: Callable[[Profile], str | None]
) -> dict[str, int]:
    """Return whose each value is, now that they are held: its owner may have moved to another one meanwhile."""
    return {
        value: owner.person_id
        for value, owner in found.items()
        if owner.is_alias or loaded[owner.person_id].is_unreadable or value_of(loaded[owner.person_id].profile) == value
    }


def _names(sighting: Sighting) -> set[Name]:
    """Return what an erased person may have been known by, of this learner."""
    names = {(LEARNER, *sighting.link)} if sighting.link else set()
    names |= {email_name(sighting.email)} if sighting.email else set()
    return names | ({employee_name(sighting.employee_id)} if sighting.employee_id else set())


def _buried(
    db: Connection,
    sightings: Sequence[Sighting],
    links: Mapping[tuple[str, str], int],
    owners: Mapping[str, int],
    employees: Mapping[str, int],
    keys: IndexKeys,
) -> set[Name]:
    """Return the names of strangers that have a tombstone; an address that is somebody's again is theirs."""
    strangers = {name for s in sightings if s.link not in links for name in _names(s)}
    if not strangers:
        return set()
    theirs = {email_name(email) for email in owners} | {employee_name(one) for one in employees}
    return tombstones.buried(db, strangers - theirs, keys)


def opened_keys(result: Identified, keys: IndexKeys) -> list[bytes]:
    """Return the park keys that this batch opened: learners who became known, e-mails that became free."""
    opened = [link_key(link) for link in result.new_links]
    return opened + [key for email in result.freed_emails for key in keys.candidates("park", email)]
