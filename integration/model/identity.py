"""Whose an event is, and whose learning a CRM gets: the published identity rules of one connection, as values.

Read from the rule set by the composition root and handed in, so that nothing here knows where rules are kept.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from integration.config import UnknownPerson
from integration.model.patterns import compiled

LookUp = Literal["link", "employee_id", "email"]
SameEmail = Literal["park", "same_person", "new_person"]
DeletedContact = Literal["hold", "recreate"]


@dataclass(frozen=True, slots=True)
class IdentityPolicy:
    """How the learners of one LMS are matched with people, and which of them a CRM never hears of.

    `look_up`: what a person is found by, in this order; a known link is always the first. `never_match`: patterns of
    e-mails that are nobody's own. `same_email`: what becomes of a learner whose e-mail is that of a person whom this
    LMS calls otherwise. The last four say whose learning is not taken to any CRM.
    """

    look_up: tuple[LookUp, ...] = ("link", "email")
    never_match: tuple[str, ...] = ()
    same_email: SameEmail = "park"
    include_domains: tuple[str, ...] = ()
    exclude_domains: tuple[str, ...] = ()
    exclude_emails: tuple[str, ...] = ()
    exclude_ids: tuple[str, ...] = ()

    def is_nobodys(self, email: str) -> bool:
        """Return whether a normalised e-mail is one that says nothing about who somebody is."""
        return _first(self.never_match, [email.lower()]) is not None

    @property
    def excludes(self) -> bool:
        """Return whether anybody is left out at all."""
        return bool(self.include_domains or self.exclude_domains or self.exclude_emails or self.exclude_ids)

    def excluded_by(self, email: str | None, ids: Iterable[str]) -> str | None:
        """Return which rule leaves out somebody with this e-mail, whom the LMS calls `ids`; None where none does.

        By their ids only where every one is meant: who has a test account and a real one is a real learner. The
        answer names nobody: of a pattern, which may be an address, it says the place.
        """
        if not self.excludes:
            return None
        domain = email.rpartition("@")[2].lower() if email else None
        if domain in self.exclude_domains:
            return f"exclude_domains: {domain}"
        if self.include_domains and domain not in self.include_domains:
            return "include_domains, which theirs is not among" if domain else "include_domains, with no e-mail"
        if email and (place := _first(self.exclude_emails, [email.lower()])):
            return f"exclude_emails, pattern {place}"
        if place := _first(self.exclude_ids, ids):
            return f"exclude_ids, pattern {place}"
        return None


@dataclass(frozen=True, slots=True)
class ContactPolicy:
    """How people are matched with the contacts of one CRM.

    `look_up`: the canonical fields that a contact is found by, in this order. `unknown_person`: what becomes of
    somebody the CRM does not know, None = as the route says. `deleted_contact`: what follows when somebody deletes one.
    """

    look_up: tuple[str, ...] = ("lms_user_id", "email")
    unknown_person: UnknownPerson | None = None
    deleted_contact: DeletedContact = "hold"


Identity = Mapping[str, IdentityPolicy | ContactPolicy]
"""Connection -> its identity rules; one that is not in it has those that go without saying."""

NONE: Identity = MappingProxyType({})
AS_EVER = IdentityPolicy()
BY_EMPLOYEE_ID: tuple[LookUp, ...] = ("employee_id", "email")
"""What an employee is found by where no rule says more: HR has no link, and its own id is the surest."""


def learners(identity: Identity, connection: str) -> IdentityPolicy:
    """Return how the learners of an LMS are matched."""
    found = identity.get(connection)
    return found if isinstance(found, IdentityPolicy) else AS_EVER


def employees(identity: Identity, connection: str) -> IdentityPolicy:
    """Return how the employees of an HR system are matched: always by employee id first."""
    policy = learners(identity, connection)
    by_email = policy is AS_EVER or "email" in policy.look_up
    return replace(policy, look_up=BY_EMPLOYEE_ID if by_email else BY_EMPLOYEE_ID[:1])


def contacts(identity: Identity, connection: str) -> ContactPolicy:
    """Return how the contacts of a CRM are matched."""
    found = identity.get(connection)
    return found if isinstance(found, ContactPolicy) else ContactPolicy()


def _first(patterns: tuple[str, ...], values: Iterable[str]) -> int | None:
    """Return the place, from 1, of the first pattern that one value meets, where each value meets some pattern."""
    if not patterns:
        return None
    met = [
        next((place for place, pattern in enumerate(patterns, 1) if compiled(pattern).fullmatch(value)), None)
        for value in values
    ]
    places = [place for place in met if place is not None]
    return min(places) if places and len(places) == len(met) else None
