"""The set-up of connected systems: what the rules write and is missing there, shown first and then created."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from integration.connectors import registry
from integration.errors import ConfigError
from integration.model.accounts import ACCOUNT, WRITE_ACCOUNT
from integration.model.contacts import CONTACT, WRITE_CONTACT
from integration.ports import Finding, Installer, Plan, Taken
from integration.storage import audit, quarantine
from integration.storage.quarantine import Hurried
from mappings import store
from tasks.actor import actor
from tasks.assembly import Assembly, this_process
from tasks.checks.answers import Line
from tasks.checks.wanted import Named, of_connection
from tasks.commands.ring import ring
from tasks.saying import count

OPERATIONS = {CONTACT: WRITE_CONTACT, ACCOUNT: WRITE_ACCOUNT}
"""What is written -> who writes it."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What set-up would do in one connection."""

    connection: str
    title: str
    installer: Installer
    plan: Plan
    patterns: tuple[str, ...]


def prepare() -> tuple[list[Prepared], list[Line]]:
    """Return what set-up would do, and why it cannot; what is wrong with the installation `check` itself says."""
    try:
        process = this_process()
        configs = process.config.connections
        named = _named(process)
    except (ConfigError, ValidationError):
        return [], []
    except (LookupError, SQLAlchemyError):
        what = "nothing was set up, because the published rules cannot be read"
        return [], [Line("failed", "set-up", what, "See what is said of the database, then run it again.")]
    prepared, lines = [], []
    for name, (properties, patterns) in named.items():
        try:
            installer = registry.installer(configs[name], process.grants)
        except ConfigError as error:
            lines.append(Line("failed", name, str(error), "Correct the connections file."))
            continue
        assert installer  # noqa: S101 - only systems that have one are named
        title = registry.system_of(configs[name]).title
        prepared.append(Prepared(name, title, installer, installer.plan(properties), patterns))
    return prepared, lines


def carry_out(prepared: Sequence[Prepared]) -> Iterator[Line]:
    """Create what is missing and yield what became of it; who did it is on record before anything is created."""
    process = this_process()
    for one in prepared:
        yield from (_line(one.connection, finding) for finding in one.plan.findings)
        if one.plan.steps:
            _audit(process, one.connection, "begun")
        taken: list[Taken] = []
        for step in one.installer.install(one.plan.steps):
            taken.append(step)
            yield _line(one.connection, step.finding)
        yield from _afterwards(process, one, taken)
        if one.patterns:
            what = f"{', '.join(one.patterns)}: created once a product, or a further LMS, is known and was refused"
            yield Line("skipped", one.connection, what, "Run `coursewire check --apply` again then.")


def _afterwards(process: Assembly, one: Prepared, taken: Sequence[Taken]) -> Iterator[Line]:
    """Try again at once what was left out and is there now, and note what was done."""
    there = one.plan.there | {
        step.wanted for step, done in zip(one.plan.steps, taken, strict=False) if step.wanted and done.finding.ok
    }
    hurried = Hurried([], 0)
    with process.engine.begin() as db:
        left_out = quarantine.known(db, one.connection, *OPERATIONS)
        if any(each.name in left_out[each.of].held for each in there):
            hurried = quarantine.hurry(db, one.connection)
    if one.plan.steps or hurried.fields:
        refused = sum(not done.finding.ok for done in taken)
        outcome = f"created {sum(done.created for done in taken)}" + (f", refused {refused}" if refused else "")
        _audit(process, one.connection, outcome)
    if hurried.fields:
        ring(places=[(one.connection, by) for of, by in OPERATIONS.items() if left_out[of].held])
        people = count(hurried.people, "person", "people")
        yield Line("ok", one.connection, f"tried again for {people}: {', '.join(hurried.fields)}")


def _named(process: Assembly) -> dict[str, Named]:
    """Return the properties that the rules write, per connection whose system can be set up."""
    found = {}
    systems = {name: registry.system_of(one) for name, one in process.config.connections.items()}
    with process.engine.begin() as db:
        rules = store.active(db)
        for name, system in systems.items():
            if system.installer:
                refused = quarantine.known(db, name, CONTACT)[CONTACT]
                found[name] = of_connection(rules, name, system.name, refused.held | refused.retried)
    return found


def _line(connection: str, finding: Finding) -> Line:
    return Line("ok" if finding.ok else "failed", connection, finding.what, finding.advice)


def _audit(process: Assembly, connection: str, outcome: str) -> None:
    with process.engine.begin() as db:
        audit.append(db, actor=actor(), action="connection.setup", outcome=outcome, connection=connection)
