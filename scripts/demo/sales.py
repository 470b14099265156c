"""What people in sales do to their contacts meanwhile, and the calls it costs: two edits by hand, and a merge.

What our own writes lead to when the CRM tells us of them is measured here as well.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from scripts.demo.cast import READS, WRITES, Cast
from scripts.demo.ledger import Ledger
from scripts.sandbox.deliveries import Delivery, Learner
from scripts.sandbox.hubspot import HubSpotSandbox
from scripts.sandbox.lms import LmsSandbox

__all__ = ["ECHO", "QUIET_SECONDS", "TYPED_NAME", "Calls", "Desk", "Echoes", "Edit", "Merge", "Sales"]

QUIET_SECONDS = 90.0
LOOK_SECONDS = 0.05
ECHO = ("ignored", "echo")
TYPED_NAME, TYPED_COUNT = "Heddy", "77"


@dataclass(frozen=True, slots=True)
class Calls:
    """Calls to the CRM; a batch of a hundred contacts is one."""

    reads: int
    writes: int

    @classmethod
    def of(cls, made: Iterable[Mapping[str, Any]]) -> "Calls":
        """Count calls as the sandbox lists them."""
        names = [one["operation"] for one in made]
        return cls(sum(name in READS for name in names), sum(name in WRITES for name in names))


@dataclass(frozen=True, slots=True)
class Echoes:
    """What came back of single writes of ours: hints told by the CRM, what became of them, calls made meanwhile."""

    completions: int
    told: int
    became: Mapping[tuple[str, str], int]
    calls: Calls

    @property
    def known(self) -> int:
        """How many were known as echoes."""
        return self.became.get(ECHO, 0)


@dataclass(frozen=True, slots=True)
class Edit:
    """A property that sales changed by hand: what it showed, shows when all is quiet, and after the person's next news.

    `seconds` from the edit to our last write, None where we wrote nothing.
    """

    property: str
    before: str
    typed: str
    shows: str
    later: str
    seconds: float | None
    calls: Calls


@dataclass(frozen=True, slots=True)
class Merge:
    """Two contacts that sales merged: what is there under either address now, and how many people we take them for."""

    learners: tuple[Learner, Learner]
    contacts: list[dict[str, Any]]
    people: int
    seconds: float | None
    calls: Calls

    @property
    def same(self) -> dict[str, str]:
        """Which LMS user id became whose, by what the contact shows: the one who was linked first goes on."""
        first, second = (one.lms_user_id for one in self.learners)
        shown = {contact["properties"].get("lms_user_id") for contact in self.contacts}
        return {first: second} if shown == {f"academy:{second}"} else {second: first}


@dataclass(frozen=True, slots=True)
class Sales:
    """All of it, and what the academy said in between."""

    kept: Edit
    righted: Edit
    merge: Merge
    deliveries: list[Delivery] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Desk:
    """The CRM's own screen, with an eye on what follows from what is done there."""

    crm: HubSpotSandbox
    ledger: Ledger
    lms: LmsSandbox

    def quiet(self) -> None:
        """Wait until no webhook of the CRM is on its way, and nothing is left to do here."""
        deadline = time.monotonic() + QUIET_SECONDS
        while time.monotonic() < deadline:
            before = self.crm.webhooks()
            # What was told before is stored by now; had our work led to more, more would have been told.
            is_idle = not before["pending"] and not self.ledger.standing().open
            if is_idle and self.crm.webhooks()["told"] == before["told"]:
                return
            time.sleep(LOOK_SECONDS)

    def seen(self) -> int:
        """The number of the last call so far."""
        return int(self.crm.stats()["total"])

    def work(self, cast: Cast) -> Sales:
        """Edit what is theirs, edit what is ours, and merge two contacts; the academy goes on meanwhile."""
        kept, first = self._edit(cast, cast.renamed, "firstname", TYPED_NAME)
        righted, second = self._edit(cast, cast.miscounted, "courses_completed_count", TYPED_COUNT)
        merge, third = self._merge(cast)
        return Sales(kept, righted, merge, [first, second, third])

    def _edit(self, cast: Cast, whose: Learner, name: str, typed: str) -> tuple[Edit, Delivery]:
        before, seen, at = self._shown(whose, name), self.seen(), time.time()
        self.crm.edit(whose.email.lower(), {name: typed})
        self.quiet()
        made, shows = self.crm.calls(seen), self._shown(whose, name)
        news = self._complete(cast, whose)
        later = self._shown(whose, name)
        return Edit(name, before, typed, shows, later, _until_written(made, at), Calls.of(made)), news

    def _merge(self, cast: Cast) -> tuple[Merge, Delivery]:
        learners = cast.one_human
        stays, goes = (str((self.crm.contact(one.email.lower()) or {})["id"]) for one in learners)
        seen, at = self.seen(), time.time()
        self.crm.merge(stays, goes)
        self.quiet()
        made = self.crm.calls(seen)
        late = self._complete(cast, learners[1])
        addresses = {one.email.lower() for one in learners}
        contacts = [one for one in self.crm.contacts() if not addresses.isdisjoint(_addresses(one))]
        people = self.ledger.people(one.lms_user_id for one in learners)
        return Merge(learners, contacts, people, _until_written(made, at), Calls.of(made)), late

    def _complete(self, cast: Cast, who: Learner) -> Delivery:
        """Let somebody complete a course, and wait until that is written."""
        news = cast.completion(0, who)
        self.lms.send([news], concurrency=1)
        self.quiet()
        return news

    def _shown(self, whose: Learner, name: str) -> str:
        contact = self.crm.contact(whose.email.lower())
        return str((contact or {"properties": {}})["properties"].get(name, ""))


def _addresses(contact: Mapping[str, Any]) -> set[str]:
    known = contact["properties"]
    return {known.get("email", ""), *known.get("hs_additional_emails", "").split(";")}


def _until_written(made: Iterable[Mapping[str, Any]], at: float) -> float | None:
    written = [one["at"] for one in made if one["operation"] in WRITES]
    return max(written) - at if written else None
