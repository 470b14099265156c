"""Identity rules as a rule file says them: what may be said of a connection, how it is stored, and what differs."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from integration.config import UnknownPerson
from integration.model.identity import (
    ContactPolicy,
    DeletedContact,
    Identity,
    IdentityPolicy,
    LookUp,
    SameEmail,
)
from mappings.canonical import UNIQUE
from mappings.diff import Differs

Side = Literal["learners", "contacts"]
"""What a connection brings or keeps: the learners of an LMS, or the contacts of a CRM."""

_DOMAIN = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)+")
_WILD = "*?@. "
_MOST_STARS = 4


def some(values: tuple[str, ...]) -> tuple[str, ...]:
    """Return a list that says something; raises ValueError where it is empty, or says a thing twice."""
    if not values:
        raise ValueError("this list is empty; name something, or leave the key out")
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise ValueError(f"{twice[0]!r} is there twice")
    return values


def _domain(value: str) -> str:
    domain = value.strip().lower()
    if not _DOMAIN.fullmatch(domain):
        raise ValueError(f"{value!r} is no domain; write it alone, such as example.com (patterns: exclude_emails)")
    return domain


def pattern_of(value: str) -> str:
    """Return a pattern that leaves somebody out; raises ValueError with a sentence for any other."""
    if not value.strip(_WILD):
        raise ValueError(f"{value!r} is a pattern that everybody meets; write what they have in common, such as test-*")
    if "[" in value or "]" in value:
        raise ValueError(f"{value!r}: a pattern knows * for any text and ? for one character, and no [ ]")
    if value.count("*") > _MOST_STARS:
        raise ValueError(f"{value!r}: a pattern has at most {_MOST_STARS} stars; write several patterns")
    return value


def _email_pattern(value: str) -> str:
    pattern = pattern_of(value).strip().lower()
    if "@" not in pattern and "*" not in pattern:
        raise ValueError(f"{value!r} can be no e-mail; write a pattern such as info@* or *@example.com")
    return pattern


def _looked_up(names: tuple[LookUp, ...]) -> tuple[LookUp, ...]:
    if names[0] != "link":
        raise ValueError("link comes first and cannot be left out: a known link always wins")
    return names


def _unique(name: str) -> str:
    if name not in UNIQUE:
        known = ", ".join(UNIQUE)
        raise ValueError(f"contacts cannot be looked up by {name!r}: its values are not unique; known are: {known}")
    return name


_Domains = Annotated[tuple[Annotated[str, AfterValidator(_domain)], ...], AfterValidator(some)]
_Emails = Annotated[tuple[Annotated[str, AfterValidator(_email_pattern)], ...], AfterValidator(some)]
_Ids = Annotated[tuple[Annotated[str, AfterValidator(pattern_of)], ...], AfterValidator(some)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LearnersEntry(_Entry):
    """The identity rules of an LMS."""

    look_up: Annotated[tuple[LookUp, ...], AfterValidator(_looked_up), AfterValidator(some)] = ("link", "email")
    never_match: _Emails = Field(())
    same_email: SameEmail = "park"
    include_domains: _Domains = Field(())
    exclude_domains: _Domains = Field(())
    exclude_emails: _Emails = Field(())
    exclude_ids: _Ids = Field(())

    @model_validator(mode="before")
    @classmethod
    def _not_empty(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("look_up") == []:
            raise ValueError("look_up is empty; write [link] where nothing else is to be looked up")
        return given

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.include_domains and self.exclude_domains:
            raise ValueError(
                "include_domains takes these alone, so exclude_domains contradicts it or says nothing; keep one of them"
            )
        if self.same_email != "park" and "email" not in self.look_up:
            raise ValueError("same_email is asked only where e-mails are looked up: add email to look_up, or leave it")
        return self

    def policy(self) -> IdentityPolicy:
        """Return the rules as the program decides by them."""
        return IdentityPolicy(**dict(self))


class ContactsEntry(_Entry):
    """The identity rules of a CRM."""

    look_up: Annotated[tuple[Annotated[str, AfterValidator(_unique)], ...], AfterValidator(some)] = (
        "lms_user_id",
        "email",
    )
    unknown_person: UnknownPerson | None = None
    deleted_contact: DeletedContact = "hold"

    def policy(self) -> ContactPolicy:
        """Return the rules as the program decides by them."""
        return ContactPolicy(**dict(self))


ENTRIES: Mapping[Side, type[LearnersEntry] | type[ContactsEntry]] = {
    "learners": LearnersEntry,
    "contacts": ContactsEntry,
}
_POLICIES: Mapping[str, type[IdentityPolicy] | type[ContactPolicy]] = {
    "learners": IdentityPolicy,
    "contacts": ContactPolicy,
}
assert set(_POLICIES) == set(ENTRIES) == set(get_args(Side))  # noqa: S101 - a third side must be given both


@dataclass(frozen=True, slots=True)
class IdentityChange:
    """What becomes different of one connection's identity rules."""

    connection: str
    parts: tuple[Differs, ...]


def to_rows(identity: Identity) -> list[dict[str, object]]:
    """Return a row for each rule that does not go without saying."""
    return [
        {"connection": connection, "side": side_of(policy), "name": name, "value": value}
        for connection, policy in sorted(identity.items())
        for name, value in spoken(policy).items()
    ]


def from_rows(rows: list[tuple[str, str, str, Any]]) -> Identity:
    """Return what rows of (connection, side, name, value) say."""
    said: dict[tuple[str, str], dict[str, Any]] = {}
    for connection, side, name, value in rows:
        said.setdefault((connection, side), {})[name] = tuple(value) if isinstance(value, list) else value
    return {connection: _POLICIES[side](**values) for (connection, side), values in said.items()}


def spoken(policy: IdentityPolicy | ContactPolicy) -> dict[str, Any]:
    """Return the rules that do not go without saying, as a file says them."""
    as_ever = type(policy)()
    found = {one.name: getattr(policy, one.name) for one in fields(policy)}
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in found.items()
        if value != getattr(as_ever, name)
    }


def side_of(policy: IdentityPolicy | ContactPolicy) -> Side:
    """Return whether these are the rules of an LMS or of a CRM."""
    return "learners" if isinstance(policy, IdentityPolicy) else "contacts"


def differences(old: Identity, new: Identity) -> list[IdentityChange]:
    """Return what must change in `old` to be `new`, by connection."""
    changes = []
    for connection in sorted(old.keys() | new.keys()):
        known = new.get(connection) or old[connection]
        was = old.get(connection, type(known)())
        becomes = new.get(connection, type(known)())
        names = [one.name for one in fields(known)]
        parts = tuple(
            Differs(name, said(getattr(was, name, None)), said(getattr(becomes, name, None)))
            for name in names
            if getattr(was, name, None) != getattr(becomes, name, None)
        )
        if parts:
            changes.append(IdentityChange(connection, parts))
    return changes


def said(value: object) -> str:
    """Return the value of a rule as a reader sees it."""
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "nobody"
    return "as the route says" if value is None else str(value)
