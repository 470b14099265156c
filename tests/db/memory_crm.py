"""A CRM in memory behind the ContactStore port: as strict and as moody as a real one, and a thousand times as fast.

It knows which learner a contact is about by the addresses in it, and takes down what must never happen. What happens to
contacts is `said`, as webhooks would; who hears it is for the story to decide.
"""

import re
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from typing import Any, NamedTuple

from integration.errors import BatchRejected, ConnectionBroken, Reason, RetryLater, UnknownOutcome
from integration.model.contacts import Answer, ContactWrite, Failed, RemoteContact, Written
from integration.ports import ANY_CALL, Capabilities, Rate

TAMPERED = "reviewed"
"""What a workflow of the CRM's own puts where `lms_sync_status` is written, while it runs."""
_WHO = re.compile(r"(?:p|old)(\d+)(?:\.new)?@")

# What becomes of one call. Done or not, told or not: the four corners, and a batch of which one record is not told.
DONE_AND_LOST = ("lost", "server_error_after")
OUTCOMES = (
    "refused",
    "hung",
    *DONE_AND_LOST,
    "server_error",
    "untold",
    "slow_down",
    "daily_limit",
    "bad_token",
)


TOLD = ("jobtitle", "last_course_completed")
"""Properties whose changes are said: one of the customer's own, and one that both sides write."""


class Said(NamedTuple):
    """A hint, and which learner it is about; `by_hand`: the property that a person changed."""

    hint: dict[str, Any]
    who: int
    by_hand: str | None = None


@dataclass(slots=True)
class Contact:
    """One record; `who` is the learner it is about, of several who became one the first."""

    id: str
    who: int
    fields: dict[str, str]
    others: set[str] = field(default_factory=set)

    @property
    def emails(self) -> set[str]:
        """Every address it answers to."""
        return self.others | {self.fields["email"]}


class MemoryCrm:
    """The records, what comes over the next calls, and the book of what went wrong (`wrongs`)."""

    capabilities = Capabilities(holds_contacts=True, batch_size=2, rates={ANY_CALL: Rate(1_000_000, 1.0)})

    def __init__(self, now: Callable[[], datetime]) -> None:
        """Empty and healthy; `now` dates what is said."""
        self.said: list[Said] = []
        self.unheard: set[tuple[int, str]] = set()
        self.became: dict[int, int] = {}
        self._now = now
        self.contacts: dict[str, Contact] = {}
        self.merged: dict[str, str] = {}
        self.outcomes: deque[str | None] = deque()
        self.refuses: set[int] = set()
        self.poison: set[int] = set()
        self.missing: set[str] = set()
        self.tampers = False
        self.edited: set[tuple[int, str]] = set()
        self.kept: dict[int, str] = {}
        self.calls = 0
        self.wrongs: list[str] = []
        self._versions: dict[int, int] = {}
        self._ids = count(101)

    # --- the port

    def read(self, by: str | None, values: Sequence[str], fields: Sequence[str]) -> dict[str, RemoteContact]:
        """Find contacts; a single id is followed through merges, those of a batch are not."""
        outcome = self._begins(writes=False)
        found: dict[str, RemoteContact] = {}
        for value in values:
            contact = self._by(by, value, follow=len(values) == 1)
            if contact:
                shown = {name: contact.fields.get(name, "") for name in fields}
                found[value] = RemoteContact(contact.id, shown)
        if outcome:
            raise RetryLater(Reason.NETWORK_ERROR, "the answer of a read was lost")
        return found

    def update(self, writes: Sequence[ContactWrite]) -> dict[str, Answer]:
        """Write by id; a merged-away id is dropped without a word."""
        return self._write(writes, lambda write: self.contacts.get(write.id or ""), by=None)

    def upsert(self, by: str, writes: Sequence[ContactWrite]) -> dict[str, Answer]:
        """Create or update by a unique property."""
        return self._write(writes, lambda write: self._by(by, write.key or ""), by=by)

    # --- what people do there

    def add(self, who: int, email: str) -> None:
        """Create a contact by hand."""
        self._create(who, {"email": email})

    def of(self, who: int) -> Contact | None:
        """Return the live contact of a learner."""
        return next((one for one in self.contacts.values() if one.who == self.one(who)), None)

    def one(self, who: int) -> int:
        """Return the learner as whom this one goes on since their contacts were merged."""
        return self.became.get(who, who)

    def is_unheard(self, who: int, what: str) -> bool:
        """Say whether a person changed this property of the contact, or its identity, and nobody was told."""
        return (who, what) in {(self.one(one), name) for one, name in self.unheard}

    def edit(self, who: int, job: str, managed: str | None) -> None:
        """Change a field of the customer's own, and one of ours where `managed` names it."""
        contact = self.of(who)
        if contact is None:
            return
        who = contact.who
        contact.fields["jobtitle"] = self.kept[who] = job
        self._say(contact, "changed", property="jobtitle", value=job)
        if managed:
            contact.fields[managed] = "by hand"
            self.edited.add((who, managed))
            self._say(contact, "changed", property=managed, value="by hand", by_hand=managed)

    def merge(self, who: int, *, ours_first: bool) -> None:
        """Merge the contact with an older one of another address; the survivor has a new id."""
        ours = self.of(who)
        if ours is None:
            return
        who = ours.who
        old = Contact(str(next(self._ids)), who, {"email": f"old{who}@example.com"})
        first, second = (ours, old) if ours_first else (old, ours)
        survivor = Contact(str(next(self._ids)), who, {**second.fields, **first.fields})
        survivor.others = ours.emails | old.emails
        self._replace((ours, old), survivor)

    def merge_two(self, who: int, other: int) -> None:
        """Merge the contacts of two learners, who are one from then on; the contact shows one of them."""
        first, second = self.of(who), self.of(other)
        if first is None or second is None or first is second:
            return
        goes_on, gone = min(first.who, second.who), max(first.who, second.who)
        self.became = {one: goes_on if self.one(one) == gone else self.one(one) for one in {*self.became, gone}}
        survivor = Contact(str(next(self._ids)), goes_on, {**second.fields, **first.fields})
        survivor.others = first.emails | second.emails
        self._versions[goes_on] = 0  # a record that nobody has written yet
        self.edited |= {(goes_on, name) for name in survivor.fields}
        self.kept = {one: job for one, job in self.kept.items() if one not in (goes_on, gone)}
        if "jobtitle" in survivor.fields:
            self.kept[goes_on] = survivor.fields["jobtitle"]
        self._replace((first, second), survivor)

    def _replace(self, merged: tuple[Contact, Contact], survivor: Contact) -> None:
        for gone in merged:
            self.contacts.pop(gone.id, None)
            self.merged[gone.id] = survivor.id
        self.contacts[survivor.id] = survivor
        self._say(survivor, "merged", merged_ids=[gone.id for gone in merged], by_hand="everything")
        for gone in merged:  # some portals say this as well, and nobody knows in which order
            self._say(Contact(gone.id, survivor.who, {}), "deleted")

    def archive(self, who: int) -> None:
        """Delete a contact."""
        contact = self.of(who)
        if contact:
            del self.contacts[contact.id]
            self._say(contact, "deleted")
            self.kept.pop(who, None)
            self.edited = {(whose, name) for whose, name in self.edited if whose != who}

    def heal(self) -> None:
        """End everything that goes wrong."""
        self.outcomes.clear()
        self.refuses.clear()
        self.poison.clear()
        self.missing.clear()
        self.tampers = False

    def whose(self, writes: Iterable[ContactWrite]) -> set[int]:
        """Return the learners some writes are about."""
        found = set()
        for write in writes:
            contact = self.contacts.get(self.followed(write.id)) if write.id else None
            who = contact.who if contact else _who(write.key or "")
            found |= set() if who is None else {self.one(who)}
        return found

    # --- inside

    def _begins(self, *, writes: bool) -> str | None:
        """Count a call, and raise where it never gets as far as the records."""
        self.calls += 1
        outcome = self.outcomes.popleft() if self.outcomes else None
        if outcome == "refused":
            raise RetryLater(Reason.NETWORK_ERROR, "nothing was sent")
        if outcome == "slow_down":
            raise RetryLater(Reason.RATE_LIMITED, "too many calls", after=7.0)
        if outcome == "daily_limit":
            raise RetryLater(Reason.DAILY_LIMIT, "the day's calls are used up", after=20_000.0)
        if outcome == "bad_token":
            raise ConnectionBroken(Reason.CREDENTIALS_REFUSED, "the token is refused")
        if writes and outcome == "hung":
            raise UnknownOutcome(Reason.UNKNOWN_OUTCOME, "no answer came")
        if writes and outcome == "server_error":
            raise UnknownOutcome(Reason.SERVER_ERROR, "a fault over there")
        return outcome

    def _write(
        self, writes: Sequence[ContactWrite], find: Callable[[ContactWrite], Contact | None], by: str | None
    ) -> dict[str, Answer]:
        outcome = self._begins(writes=True)
        if self.poison & self.whose(writes):
            raise BatchRejected(Reason.BATCH_REJECTED, "no record named")
        answers: dict[str, Answer] = {}
        for write in writes:
            answer = self._one(write, find(write), by)
            if answer:
                answers[write.trace] = answer
        if outcome == "lost":
            raise UnknownOutcome(Reason.UNKNOWN_OUTCOME, "sent, but the answer was lost")
        if outcome == "server_error_after":
            raise UnknownOutcome(Reason.SERVER_ERROR, "a fault over there")
        if outcome == "untold" and answers:
            answers.pop(next(iter(answers)))
        return answers

    def _one(self, write: ContactWrite, contact: Contact | None, by: str | None) -> Answer | None:
        if by is None and contact is None:
            gone = write.id in self.merged
            return None if gone else Failed(Reason.CONTACT_GONE, "no such contact")
        who = contact.who if contact else _who(write.key or "")
        assert who is not None
        who = self.one(who)
        if who in self.refuses:
            return Failed(Reason.INVALID_VALUE, "refused", ("email",))
        unknown = tuple(sorted(self.missing & write.fields.keys()))
        if unknown:
            return Failed(Reason.UNKNOWN_PROPERTY, "no such property", unknown)
        ours = write.fields.get("lms_user_id")
        holder = next((one for one in self.contacts.values() if ours and one.fields.get("lms_user_id") == ours), None)
        if holder and holder is not contact:
            return Failed(Reason.CONFLICT, "already has that value", ("lms_user_id",), holder.id)
        created = contact is None
        contact = contact or self._create(who, {"email": write.key or ""})
        self._put(contact, write)
        return Written(contact.id, {name: contact.fields[name] for name in write.fields}, created)

    def _put(self, contact: Contact, write: ContactWrite) -> None:
        """Keep values as a CRM does: trimmed, numbers with a fraction, and what a workflow makes of them."""
        version = int(write.trace.rpartition("-")[2])
        if version < self._versions.get(contact.who, 0):
            self.wrongs.append(f"learner {contact.who}: version {version} written after a later one")
        self._versions[contact.who] = version
        for name, value in write.fields.items():
            if name == "email" and value in contact.others:
                continue
            if name in TOLD and contact.fields.get(name, "") != value.strip():
                self._say(contact, "changed", property=name, value=value.strip())
            kept = value.strip()
            if name == "courses_completed_count":
                kept = f"{kept}.0"
            if name == "lms_sync_status" and self.tampers:
                kept = TAMPERED
            contact.fields[name] = kept
            self.edited.discard((contact.who, name))
            self.unheard.discard((contact.who, name))

    def _create(self, who: int, fields: dict[str, str]) -> Contact:
        twin = self.of(who)
        if twin:
            self.wrongs.append(f"learner {who} is in the CRM a second time")
        made = Contact(str(next(self._ids)), who, fields)
        self.contacts[made.id] = made
        self._say(made, "created")
        return made

    def _say(self, contact: Contact, what: str, *, by_hand: str | None = None, **more: Any) -> None:
        about = {"contact_id": contact.id, "occurred_at": self._now().isoformat(), **more}
        self.said.append(Said({"type": f"contact.{what}", **about}, contact.who, by_hand))

    def _by(self, by: str | None, value: str, *, follow: bool = False) -> Contact | None:
        if by is None:
            return self.contacts.get(self.followed(value) if follow else value)
        if by == "email":
            return next((one for one in self.contacts.values() if value in one.emails), None)
        return next((one for one in self.contacts.values() if one.fields.get(by) == value), None)

    def followed(self, record_id: str) -> str:
        """Return the id that a record has after every merge."""
        while record_id in self.merged:
            record_id = self.merged[record_id]
        return record_id


def _who(email: str) -> int | None:
    found = _WHO.match(email)
    return int(found[1]) if found else None
