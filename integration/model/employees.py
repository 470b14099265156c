"""What HR says of an employee: the canonical form that files and SCIM lead to, and what is kept of a person's work.

HR's word goes one way, to the CRM. Each field counts by the time at which it was said, never by arrival.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Final, Literal, NamedTuple, Self

import orjson
from pydantic import AwareDatetime

from integration.model.events import Frozen, Learner


class EmploymentStatus(StrEnum):
    """Whether somebody works there. Leave is not leaving, and whom a file does not name has not left."""

    ACTIVE = "active"
    LEAVE = "leave"
    LEFT = "left"


class Employment(Frozen):
    """What HR said of one employee at one time; None = not said, '' = said that there is none.

    `learner` says who it is: employee id, e-mail, name. `manager_id` is the employee id of the manager, who need not be
    known. Personal: kept sealed, never logged.
    """

    version: Literal[1] = 1
    occurred_at: AwareDatetime
    learner: Learner
    job_title: str | None = None
    job_code: str | None = None
    department: str | None = None
    division: str | None = None
    cost_centre: str | None = None
    company: str | None = None
    location: str | None = None
    country: str | None = None
    worker_type: str | None = None
    manager_id: str | None = None
    status: EmploymentStatus | None = None
    hired_on: date | Literal[""] | None = None
    left_on: date | Literal[""] | None = None


SAID: Final = tuple(name for name in Employment.model_fields if name not in ("version", "occurred_at", "learner"))
"""What HR can say of somebody's work."""


class Word(NamedTuple):
    """What was said of one field, when, and by which connection; '' = that there is none. The greatest one counts."""

    at: datetime
    value: str
    connection: str


@dataclass(frozen=True, slots=True)
class Work:
    """What is known of one person's work: the word that counts of each field, and who has said anything at all.

    Joining is commutative, associative and idempotent: neither order nor repetition of what is said matters.
    """

    words: Mapping[str, Word] = field(default_factory=dict)
    connections: frozenset[str] = frozenset()

    @classmethod
    def said(cls, connection: str, employment: Employment, at: datetime) -> Self:
        """Return what HR said once, as it counts from `at`."""
        given = employment.model_dump(mode="json", include=set(SAID), exclude_none=True)
        words = {name: Word(at.astimezone(UTC), value, connection) for name, value in given.items()}
        return cls(words, frozenset({connection}))

    @classmethod
    def parse(cls, sealed_content: bytes, connections: frozenset[str]) -> Self:
        """Read what `dump` wrote."""
        stored = orjson.loads(sealed_content)
        return cls(
            {name: Word(datetime.fromisoformat(at), value, by) for name, (at, value, by) in stored.items()}, connections
        )

    def dump(self) -> bytes:
        """Return the words as bytes to seal."""
        return orjson.dumps({name: list(word) for name, word in sorted(self.words.items())})

    def joined(self, other: "Work") -> "Work":
        """Return what is known by both."""
        words = {
            name: max(word for word in (self.words.get(name), other.words.get(name)) if word is not None)
            for name in self.words.keys() | other.words.keys()
        }
        return Work(words, self.connections | other.connections)

    def get(self, name: str) -> str | None:
        """Return the value of a field; None where nobody ever said it, '' where there is none."""
        word = self.words.get(name)
        return word.value if word else None

    def each(self) -> Iterator[tuple[str, str]]:
        """Yield each field that was ever said, with its value."""
        yield from ((name, self.words[name].value) for name in SAID if name in self.words)

    def says_as(self, other: "Work") -> bool:
        """Return whether a reader of the two could tell no difference, though one may be newer."""
        return dict(self.each()) == dict(other.each()) and self.connections == other.connections
