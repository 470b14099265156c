"""Stored facts once more, by two rule sets: the writes that each would have made, and where they differ. Reads only.

What is walked through is what was recorded, in the order in which it was. A person's name, e-mail and attention have no
history and are taken as they are today; nobody is thought to have edited a contact meanwhile.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import ceil
from operator import attrgetter
from typing import Literal, NamedTuple

from sqlalchemy import Connection

from integration.config import Config
from integration.connectors import registry
from integration.delivery import ownership
from integration.model.contacts import WRITE_CONTACT
from integration.model.identity import Identity
from integration.model.people import LEARNER
from integration.security.seal import KeyRing
from integration.storage import crowd, events, people
from integration.storage.events import Standing
from integration.storage.people import Person
from integration.storage.shares import Share, divide
from mappings.fields import Canonical, Template, canonical
from mappings.rules import RuleSet
from tasks.contrast import Contrast
from tasks.effect import contrasts, subject, uncollected
from tasks.workforce import Workforce, workforce

EXAMPLES = 5
"""How many people are named for each property."""

Link = tuple[str, str, datetime]
"""A name in an LMS: the connection, what it calls the person, and since when."""

Moment = tuple[datetime, Canonical]
"""What was known of a person from a moment on."""


class Example(NamedTuple):
    """One write that differs: of whom, when, and the values where they may be shown; None = it is not made."""

    person: int
    at: datetime
    kind: Literal["only published", "only proposed", "another value"]
    was: str | None = None
    becomes: str | None = None


@dataclass(slots=True)
class Tally:
    """The writes of one property: by the published rules, by the proposed ones, and how many are not the same."""

    was: int = 0
    becomes: int = 0
    differ: int = 0
    examples: list[Example] = field(default_factory=list)

    def __add__(self, other: "Tally") -> "Tally":
        """Return the writes of both, with as many examples as one of them shows."""
        examples = sorted([*self.examples, *other.examples], key=attrgetter("person"))[:EXAMPLES]
        return Tally(self.was + other.was, self.becomes + other.becomes, self.differ + other.differ, examples)


@dataclass(slots=True)
class Rehearsal:
    """What a time span comes to in one connection, for `people` to whom something happened.

    `properties` are those whose rules differ. `writes_was` and `writes_becomes` count contacts written, with all their
    properties; `calls_*` are those in full batches, the least that they can take.
    """

    connection: str
    people: int = 0
    properties: dict[str, Tally] = field(default_factory=dict)
    writes_was: int = 0
    writes_becomes: int = 0
    calls_was: int = 0
    calls_becomes: int = 0

    @property
    def differs(self) -> bool:
        """Whether any write would be another one."""
        return any(tally.differ for tally in self.properties.values())

    def __add__(self, other: "Rehearsal") -> "Rehearsal":
        """Return this rehearsal with the other's people too; calls are not counted yet."""
        both = self.properties.keys() | other.properties.keys()
        return Rehearsal(
            self.connection,
            self.people + other.people,
            {name: self.properties.get(name, Tally()) + other.properties.get(name, Tally()) for name in both},
            self.writes_was + other.writes_was,
            self.writes_becomes + other.writes_becomes,
        )

    def walk(self, person: int, moments: Iterable[Moment], contrast: Contrast, *, is_new: bool, reveal: bool) -> None:
        """Count what either rule set writes from moment to moment; the first one is what was there, unless `is_new`."""
        shared, was, becomes = (Writer(one) for one in (contrast.shared, contrast.was, contrast.becomes))
        self.people += 1
        for place, (at, values) in enumerate(moments):
            if place == 0 and not is_new:
                for writer in (shared, was, becomes):
                    writer.begin(values)
                continue
            anyhow, old, new = shared.write(values), was.write(values), becomes.write(values)
            self.writes_was += bool(anyhow or old)
            self.writes_becomes += bool(anyhow or new)
            for name in old.keys() | new.keys():
                self._compare(name, Example(person, at, "another value", old.get(name), new.get(name)), reveal=reveal)

    def _compare(self, name: str, one: Example, *, reveal: bool) -> None:
        tally = self.properties.setdefault(name, Tally())
        tally.was += one.was is not None
        tally.becomes += one.becomes is not None
        if one.was == one.becomes:
            return
        tally.differ += 1
        if len(tally.examples) < EXAMPLES and all(one.person != other.person for other in tally.examples):
            kind = one.kind
            if one.was is None or one.becomes is None:
                kind = "only proposed" if one.was is None else "only published"
            shown = (one.was, one.becomes) if reveal else (None, None)
            tally.examples.append(Example(one.person, one.at, kind, *shown))


class Writer:
    """A CRM that one rule set writes to, and nobody else."""

    def __init__(self, template: Template) -> None:
        self._template = template
        self._there: dict[str, str] = {}

    def begin(self, values: Canonical) -> None:
        """Take for granted what these values come to."""
        self._there = dict(self._template.fill(values).wanted)

    def write(self, values: Canonical) -> Mapping[str, str]:
        """Return what is written now, as the delivery decides it."""
        made = self._template.fill(values)
        changed = ownership.changes(made.wanted, self._there, made.rules, made.types)
        self._there.update(changed)
        return changed


class Asked(NamedTuple):
    """Since when, and whether values are shown; `advance` is told the connection and how many were looked at."""

    since: datetime
    reveal: bool = False
    advance: Callable[[str, int], None] = lambda _connection, _people: None


def rehearsals(
    db: Connection, config: Config, ring: KeyRing, old: RuleSet, new: RuleSet, asked: Asked
) -> Iterator[Rehearsal]:
    """Walk through what was recorded until `old.read_at`, in each connection whose rules differ."""
    for connection, contrast in contrasts(config, old, new):
        with uncollected():
            found = _rehearsed(db, connection.name, contrast, ring, new.identity, asked, old.read_at)
        size = registry.system_of(connection).capabilities.batch_size
        found.calls_was, found.calls_becomes = ceil(found.writes_was / size), ceil(found.writes_becomes / size)
        found.properties = dict(sorted(found.properties.items()))
        yield found


def _rehearsed(
    db: Connection,
    connection: str,
    contrast: Contrast,
    ring: KeyRing,
    identity: Identity,
    asked: Asked,
    until: datetime,
) -> Rehearsal:
    def of_share(db: Connection, share: Share) -> Rehearsal:
        found = Rehearsal(connection)
        for ids in crowd.slices(db, connection, WRITE_CONTACT, share):
            for person, moments, is_new in _stories(db, ids, ring, identity, (asked.since, until)):
                found.walk(person.id, moments, contrast, is_new=is_new, reveal=asked.reveal)
            if share.number == 0:  # the others are as far, and only one may write to the terminal
                asked.advance(connection, len(ids) * share.of)
        return found

    return sum(divide(db, crowd.size(db, connection, WRITE_CONTACT), of_share), Rehearsal(connection))


def _stories(
    db: Connection, ids: Sequence[int], ring: KeyRing, identity: Identity, span: tuple[datetime, datetime]
) -> Iterator[tuple[Person, Iterator[Moment], bool]]:
    """Yield to whom something happened, what was known of them from moment to moment, and whether they are new."""
    since, until = span
    stirred = {one.person_id: one for one in events.stirred(db, ids, since, until)}
    history = events.history(db, stirred, since)
    links, staff = people.linked_since(db, stirred, LEARNER), workforce(db, stirred, ring)
    for person in people.load(db, stirred, ring).values():
        if person.is_gone or person.is_unreadable:
            continue
        told, first_at = history.get(person.id, []), stirred[person.id].first_at
        is_new = stirred[person.id].is_new and not (told and told[0][0] == since)
        expired = {one.expires_at for _, one in told if one.expires_at and since < one.expires_at <= until}
        when = expired | {at for at, _ in told} | ({first_at} if first_at else set()) | (set() if is_new else {since})
        yield person, _moments(person, told, links.get(person.id, ()), sorted(when), identity, staff), is_new


def _moments(
    person: Person,
    told: Sequence[tuple[datetime, Standing]],
    links: Sequence[Link],
    when: Iterable[datetime],
    identity: Identity,
    staff: Workforce,
) -> Iterator[Moment]:
    """Yield what was known of a person at each of these moments; a standing holds until the next of its subject.

    Of their work only what is known now is there to be seen.
    """
    standings: dict[tuple[str, str, str], Standing] = {}
    place = 0
    for at in when:
        while place < len(told) and told[place][0] <= at:
            one = told[place][1]
            standings[one.connection, one.subject_type, one.subject] = one
            place += 1
        names = [(source, name, LEARNER) for source, name, known_at in links if known_at <= at]
        seen = subject(person, names, [*standings.values()], identity, staff)
        if seen is not None:  # a rule leaves them out
            yield at, canonical(seen, at)
