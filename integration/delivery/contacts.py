"""Bringing a batch of contacts in step, one request per step: known ids skip the reads.

    known values     compare; nothing changed = no call
    known id         read by id, compare
    unknown          read by each key in turn; a hit is compared, a miss is created, held or ignored
    then             ONE update for all ids, ONE upsert for all who are to be created

Every row ends with one `Settled`. No transaction is open here (rule 14).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import structlog

from integration.delivery import policy
from integration.delivery.comparison import Comparison
from integration.errors import (
    BatchRejected,
    ConnectionBroken,
    CoursewireError,
    NeedsAttention,
    Reason,
    Rejected,
    RetryLater,
    UnknownOutcome,
)
from integration.model.contacts import Answer, ContactWrite, Failed, Fields, RemoteContact, Written
from integration.ports import RecordStore
from integration.storage.sync_state import Claimed, Settled

log = structlog.get_logger(__name__)

Upsert = Callable[[str, Sequence[ContactWrite]], Mapping[str, Answer]]
"""Create or update by a unique property, as `ContactStore.upsert` does."""

Owners = Callable[[Sequence[str]], Mapping[str, int]]
"""Ask which of our people these CRM ids are linked to."""


@dataclass(slots=True, kw_only=True)
class Batch(Comparison):
    """One claimed batch on its way; each step moves rows from open to `settled`.

    `retried` are properties that were left out until now, `dead_keys` ones that contacts cannot be found by. `moved`
    are ids that turned out to lead to another contact, `accounts` by row what `along` was seen to say ('' = nothing:
    they have none, or there is no contact), `rewritten` properties that somebody had put back since we
    wrote them. Without `upsert` nothing is ever created. Before each call `hold` is asked whether the rows are still
    ours.
    """

    store: RecordStore
    owners: Owners
    retried: frozenset[str] = frozenset()
    dead_keys: frozenset[str] = frozenset()
    unreadable: frozenset[int] = frozenset()
    rule_set: int | None = None
    links: dict[str, int] = field(default_factory=dict)
    refused_fields: set[str] = field(default_factory=set)
    accepted_fields: set[str] = field(default_factory=set)
    refused_keys: set[str] = field(default_factory=set)
    moved: dict[str, str] = field(default_factory=dict)
    accounts: dict[int, str] = field(default_factory=dict)
    rewritten: list[tuple[int, str]] = field(default_factory=list)
    calls: int = 0
    upsert: Upsert | None = None
    hold: Callable[[], bool] = lambda: True

    def run(self, rows: Sequence[Claimed]) -> None:
        """Settle every row; the first trouble with the whole connection ends the calls and gives the rest back."""
        open_rows = [row for row in rows if self._has_target(row)]
        changes: dict[int, tuple[Claimed, str, Fields, Fields]] = {}
        strangers = []
        for row in open_rows:
            known = self._known_values(row)
            if row.remote_id is None or known is None or self._must_look(row, known):
                strangers.append(row)
            else:
                self.believed.add(row.id)
                self._compare(row, row.remote_id, known, changes)
        missing = self._find(strangers, changes)
        if self.along:
            self.accounts |= {row.id: "" for row in missing}
        self._update(list(changes.values()))
        self._create([row for row in missing if self._is_wanted(row)])
        self.give_back(rows)

    def _has_target(self, row: Claimed) -> bool:
        if (target := self.targets.get(row.person_id)) is not None:
            return target.excluded is None or self._leave_out(row, target.excluded)
        if row.person_id in self.unreadable:
            self._park(row, Reason.SEAL_KEY_MISSING, "the person's profile cannot be opened with the master keys")
            return False
        self._settle(row, Settled(row.id, "in_step", Reason.UNCHANGED, written=row.wanted), was_sent=False)
        return False

    def _compare(
        self,
        row: Claimed,
        remote_id: str,
        known: Fields,
        changes: dict[int, tuple[Claimed, str, Fields, Fields]],
        *,
        seen: bool = False,
    ) -> None:
        """Note what must be written to a contact, or settle the row where nothing differs."""
        if self.links.setdefault(remote_id, row.person_id) != row.person_id:
            self._park_shared(row, self.links[remote_id])
            return
        if seen and self.along:
            self.accounts[row.id] = known.get(self.along, "").strip()
        different = self._changes(row, known)
        if different:
            changes[row.id] = (row, remote_id, different, known)
        else:
            same = Settled(
                row.id,
                "in_step",
                Reason.UNCHANGED,
                written=self._version(row),
                remote_id=remote_id,
                remote_values=self._sealed(row, known) if seen else None,
                remote_origin="seen" if seen else None,
                after=self._until_complete(row),
            )
            self._settle(row, same, was_sent=False)

    def _find(self, rows: Sequence[Claimed], changes: dict[int, tuple[Claimed, str, Fields, Fields]]) -> list[Claimed]:
        """Look contacts up, by id where one is known, else key by key; return the rows nobody was found for."""
        found: dict[int, RemoteContact] = {}
        self._read(None, {row.remote_id: row for row in rows if row.remote_id}, found)
        self._ask_singly([row for row in rows if row.remote_id and row.id not in found], found)
        for by in dict.fromkeys(name for row in rows for name, _ in self.targets[row.person_id].keys):
            asked = {
                value: row
                for row in rows
                if row.id not in found and row.id not in self.settled
                for name, value in self._keys(row)
                if name == by
            }
            self._read(by, asked, found)
        if self.trouble:
            return []
        asked_ids = [row.remote_id for row in rows if row.remote_id and row.remote_id in self.moved]
        taken = self.owners([*(contact.id for contact in found.values()), *asked_ids]) if found else {}
        for row in rows:
            if row.id not in found:
                continue
            contact = found[row.id]
            holder = self.links.get(contact.id, taken.get(contact.id, row.person_id))
            is_moved = row.remote_id is not None and row.remote_id in self.moved
            if is_moved and (before := taken.get(row.remote_id or "", row.person_id)) != row.person_id:
                self._park_shared(row, before)  # it was another's before it was merged, and is no word of who is one
            elif holder != row.person_id and is_moved:
                # The two were merged over there: they become one here, and are written once (rule 17).
                later = Settled(row.id, "due", Reason.CONTACT_MERGED, after=1.0, attempt_counts=False)
                self._settle(row, later, was_sent=False)
            elif holder != row.person_id:
                self._park_shared(row, holder)
            else:
                self._compare(row, contact.id, contact.fields, changes, seen=True)
        return [row for row in rows if row.id not in found and row.id not in self.settled]

    def _ask_singly(self, missing: Sequence[Claimed], found: dict[int, RemoteContact]) -> None:
        """Ask for each id that a batch did not know by itself: only so a CRM follows merges; else a twin is created.

        A few at a time, because each is a call; the rest comes again.
        """
        for row in missing[: policy.SINGLE_READS]:
            if row.remote_id:
                self._read(None, {row.remote_id: row}, found)
        for row in missing[policy.SINGLE_READS :]:
            later = Settled(row.id, "due", Reason.CONTACT_MERGED, after=0.0, attempt_counts=False)
            self._settle(row, later, was_sent=False)

    def _park_shared(self, row: Claimed, holder: int) -> None:
        """Leave to a person that a contact is another's, who is named by our number: that outlives an erasure."""
        self.accounts[row.id] = ""
        self._park(row, Reason.CONTACT_SHARED, f"the contact found stands for person {holder} already")

    def _keys(self, row: Claimed) -> list[tuple[str, str]]:
        useless = self.left_out | self.dead_keys | self.refused_keys
        return [key for key in self.targets[row.person_id].keys if key[0] not in useless]

    def _read(self, by: str | None, asked: Mapping[str, Claimed], found: dict[int, RemoteContact]) -> None:
        """Add the contacts found by one key. A key the CRM cannot look up by is left out; the next one serves."""
        if not asked or not self._may_call():
            return
        wanted = {f for target in self.targets.values() for f in target.wanted} - self.left_out
        fields = sorted(wanted | {*filter(None, [self.along])})
        try:
            for value, contact in self.store.read(by, list(asked), fields).items():
                found[asked[value].id] = contact
                if by is None and contact.id != value:
                    self.moved[value] = contact.id
        except (BatchRejected, Rejected) as error:
            others = any(key[0] != by for row in asked.values() for key in self._keys(row))
            if isinstance(error, Rejected) and by is not None and others:
                self.refused_keys.add(by)
                return
            for row in asked.values():
                self._halve(row, len(asked), (), error)
        except CoursewireError as error:
            self.trouble = error
            if error.reason in policy.BLAMED:
                for row in asked.values():
                    self._blame(row, len(asked), (), error)

    def _may_call(self) -> bool:
        """Say whether one more call may be made, and count it; nobody else may have taken the rows meanwhile."""
        if self.trouble is None and not self.hold():
            self.trouble = RetryLater(Reason.LEASE_EXPIRED, "another worker has taken the rows", after=0.0)
        if self.trouble is None:
            self.calls += 1
        return self.trouble is None

    def _is_wanted(self, row: Claimed) -> bool:
        """Settle a person the CRM does not know by the route's policy; say whether to create them."""
        target = self.targets[row.person_id]
        if row.remote_id and row.remote_id not in self.moved and target.deleted_contact == "hold":
            self._park(row, Reason.CONTACT_DELETED, f"contact {row.remote_id} was deleted")
        elif target.unknown_person == "ignore":
            ignored = Settled(row.id, "in_step", Reason.PERSON_IGNORED, written=target.version, forget=True)
            self._settle(row, ignored, was_sent=False)
        elif target.unknown_person == "hold":
            self._park(row, Reason.UNKNOWN_PERSON, "the CRM does not know this person")
        elif target.create_by is None:
            self._park(row, Reason.NO_EMAIL, "no e-mail is known to create the contact by")
        else:
            return True
        return False

    def _update(self, changes: list[tuple[Claimed, str, Fields, Fields]]) -> None:
        writes = [
            ContactWrite(self._trace(row), {**different, **self._passive(row)}, id=remote_id)
            for row, remote_id, different, _ in changes
        ]
        answers = self._call(self.store.update, writes, [row for row, *_ in changes])
        if answers is None:
            return
        for (row, remote_id, _, known), write in zip(changes, writes, strict=True):
            answer = answers.get(write.trace)
            if answer is None:
                # Merged away: a batch drops such an id without a word. Believe nothing and read it anew.
                gone = Settled(row.id, "waiting", Reason.CONTACT_MERGED, forget=True, remote_id=remote_id)
                self._retry(row, gone, write.fields)
            else:
                self._take(row, write, answer, known, remote_id)

    def _create(self, rows: list[Claimed]) -> None:
        for by in sorted({target.create_by[0] for r in rows if (target := self.targets[r.person_id]).create_by}):
            chosen = [(r, k[1]) for r in rows if (k := self.targets[r.person_id].create_by) and k[0] == by]
            writes = [
                ContactWrite(
                    self._trace(row),
                    {**self._unconditional(row), **self._passive(row), by: key},
                    key=key,
                )
                for row, key in chosen
            ]
            answers = self._call(partial(self.upsert, by), writes, [row for row, _ in chosen]) if self.upsert else None
            for (row, _), write in zip(chosen, writes, strict=True):
                if answers is None:
                    continue
                answer = answers.get(write.trace)
                if answer is None:
                    self._retry(row, Settled(row.id, "waiting", Reason.UNKNOWN_OUTCOME, forget=True), write.fields)
                else:
                    self._take(row, write, answer, {}, None)

    def _call(
        self,
        send: Callable[[Sequence[ContactWrite]], Mapping[str, Answer]],
        writes: list[ContactWrite],
        rows: list[Claimed],
    ) -> Mapping[str, Answer] | None:
        """Send one batch; None where it failed as a whole, with its rows settled."""
        if not writes or not self._may_call():
            return None
        try:
            return send(writes)
        except (BatchRejected, Rejected) as error:
            for row, write in zip(rows, writes, strict=True):
                self._halve(row, len(rows), write.fields, error)
        except (RetryLater, ConnectionBroken, NeedsAttention) as error:
            self.trouble = error
            if isinstance(error, UnknownOutcome) or error.reason in policy.BLAMED:
                for row, write in zip(rows, writes, strict=True):
                    self._blame(row, len(rows), write.fields, error)
        return None

    def _take(self, row: Claimed, write: ContactWrite, answer: Answer, known: Fields, remote_id: str | None) -> None:
        if isinstance(answer, Written):
            self.accepted_fields.update(write.fields)
            self.rewritten += [(row.person_id, name) for name in self._put_back(row, write.fields, known)]
            if self.links.setdefault(answer.id, row.person_id) != row.person_id:
                self._park_shared(row, self.links[answer.id])
                return
            blank = dict.fromkeys(self._wanted(row), "") if answer.created else {}
            answered = {f: v for f, v in answer.fields.items() if f in write.fields}
            now_there = {**blank, **known, **write.fields, **answered}
            has_more = write.key is not None and self._must_look(row, now_there)
            is_unseen = self.along is not None and self.along not in now_there
            done = Settled(
                row.id,
                "due" if has_more or is_unseen else "in_step",
                Reason.WRITTEN,
                written=self._version(row),
                remote_id=answer.id,
                remote_values=self._sealed(row, now_there),
                remote_origin="sent",
                believed=row.id in self.believed,
                forget=True,
                after=0.0 if has_more else policy.JOINED_SECONDS if is_unseen else self._until_complete(row),
            )
            self._settle(row, done, write.fields)
        else:
            self._fail(row, write, answer, remote_id)

    def _fail(self, row: Claimed, write: ContactWrite, answer: Failed, remote_id: str | None) -> None:
        refused = (set(answer.properties) & set(write.fields)) - self.left_out
        detail = answer.detail or None
        if answer.reason is Reason.UNKNOWN_PROPERTY and refused:
            # No try of this record's: the next one goes without these fields, so there is an end to it.
            self.refused_fields |= refused
            without = Settled(row.id, "due", answer.reason, detail, after=0.0, attempt_counts=False)
            self._settle(row, without, write.fields)
        elif answer.reason is Reason.CONTACT_GONE:
            gone = Settled(row.id, "waiting", answer.reason, detail, after=0.0, forget=True, remote_id=remote_id)
            self._retry(row, gone, write.fields)
        elif answer.reason is Reason.CONFLICT and remote_id is None:
            # Somebody created it between our look-up and our write: adopt theirs.
            theirs = Settled(row.id, "waiting", answer.reason, detail, forget=True, remote_id=answer.existing_id)
            self._retry(row, theirs, write.fields)
        elif answer.reason is Reason.CONFLICT:
            self._park(row, answer.reason, detail or "a unique value belongs to another contact")
        else:
            self._settle(row, Settled(row.id, "dead", answer.reason, detail), write.fields)
