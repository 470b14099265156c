"""`coursewire rules plan --replay`: the writes of a past time span that two rule sets would not share."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import NamedTuple

import typer
from sqlalchemy import Connection

from integration.model.contacts import WRITE_CONTACT
from integration.storage import audit, crowd
from mappings.rules import RuleSet
from tasks.actor import actor
from tasks.assembly import Assembly
from tasks.effect import contrasts
from tasks.rehearsal import Asked, Rehearsal, rehearsals
from tasks.saying import count, say, say_table, shown, span


class Replayed(NamedTuple):
    """The stored facts of a time span, walked through by two rule sets."""

    since: datetime
    until: datetime
    connections: list[Rehearsal]

    @property
    def differs(self) -> bool:
        """Whether any write would be another one."""
        return any(one.differs for one in self.connections)


def time_span(value: str | None) -> str | None:
    """Check that a time span is one."""
    if value is not None:
        span(value)
    return value


def replay(db: Connection, process: Assembly, old: RuleSet, new: RuleSet, back: str, *, reveal: bool) -> Replayed:
    """Walk through what was recorded since `back`, with a progress bar where somebody watches."""
    since, until = old.read_at - span(back), old.read_at
    total = sum(crowd.size(db, one.name, WRITE_CONTACT) for one, _ in contrasts(process.config, old, new))
    with _progress(total) as bar:
        asked = Asked(since, reveal, lambda _, people: bar.update(people))
        found = list(rehearsals(db, process.config, process.ring, old, new, asked))
    return Replayed(since, until, found)


def note(process: Assembly, replayed: Replayed) -> None:
    """Put on record whose values are about to be shown."""
    shown_of = {
        one.person for found in replayed.connections for tally in found.properties.values() for one in tally.examples
    }
    with process.engine.begin() as db:
        for person in sorted(shown_of):
            audit.append(db, actor=actor(), action="person.read", outcome="shown", subject=("person", person))


def tell(replayed: Replayed) -> None:
    """Say what would differ, for people."""
    say(f"\nReplayed: what was recorded from {shown(replayed.since)} to {shown(replayed.until)} UTC")
    for found in replayed.connections:
        say(f"\n{found.connection}: {count(found.people, 'person', 'people')} with news")
        rows = [
            (name, one.was, one.becomes, one.differ, ", ".join(f"#{example.person}" for example in one.examples))
            for name, one in found.properties.items()
        ]
        say_table(["property", "writes, published", "writes, proposed", "differ", "for example"], rows, indent=2)
        for name, one in found.properties.items():
            for example in one.examples:
                if example.was is not None or example.becomes is not None:
                    values = " -> ".join(_value(value) for value in (example.was, example.becomes))
                    say(f"  {name}, person #{example.person}, {shown(example.at)}: {values}")
        say(f"  contacts written: {found.writes_was} published, {found.writes_becomes} proposed")
        say(f"  calls, at the least: {found.calls_was} published, {found.calls_becomes} proposed")
    if not replayed.differs:
        say("\nNo write would differ.")


def _value(value: str | None) -> str:
    if value is None:
        return "(not written)"
    return value or "(empty)"


class _NoBar:
    def update(self, _: int) -> None:
        """Nobody watches."""


@contextmanager
def _progress(total: int) -> "Iterator[_NoBar]":
    if not sys.stderr.isatty():
        yield _NoBar()
        return
    with typer.progressbar(length=total, label="Replaying", file=sys.stderr) as bar:
        yield bar  # type: ignore[misc]
