"""How an import is told: what the rows will become, what is wrong with others, what it costs, and what it came to."""

from collections.abc import Sequence
from typing import Any

from integration.observability.reasons import words
from integration.security import redact
from integration.storage.imports import Import
from tasks.saying import count, plain, say, say_table
from tasks.taking_in import File, Found, SystemCost

_DONE = {
    "facts": ("new fact", "new facts"),
    "known": ("fact that was known", "facts that were known"),
    "undecided": ("event that waits for a decision", "events that wait for a decision"),
    "left_out": ("event of somebody who is left out or erased", "events of people who are left out or erased"),
    "silent": ("row that says nothing", "rows that say nothing"),
    "rejected": ("rejected row", "rejected rows"),
}


def say_survey(found: Found) -> None:
    """Print the first rows as what they become, and what cannot be taken."""
    survey = found.survey
    say("The first rows")
    heads = ["line", "becomes", "when (UTC)", "who", "about", "id", "name", "score", "passed"]
    rows: list[tuple[object, ...]] = []
    for one in survey.preview:
        for e in one.events:
            who = e.learner.lms_user_id or e.learner.email or ""
            rows.append(
                (one.line, e.type, e.occurred_at, redact.text(who), e.subject.type, e.subject.id,
                 " ".join((e.subject.name or "").split()), e.score, e.passed)
            )  # fmt: skip
        if not one.events:
            rows.append((one.line, one.reason or "nothing", "", "", "", "", one.sentence, "", ""))
    say_table(heads, rows, indent=2)
    say(f"\n{count(survey.rows, 'row')}, {count(sum(survey.events.values()), 'event')}")
    for kind, number in sorted(survey.events.items()):
        say(f"  {number:,} {kind}")
    if survey.earliest and survey.latest:
        say(f"  from {survey.earliest:%Y-%m-%d} to {survey.latest:%Y-%m-%d}")
    if survey.silent:
        say(f"  {count(survey.silent, 'row')} without an event")
    if not survey.rejected:
        return
    total = sum(survey.rejected.values())
    say(f"\nRejected: {count(total, 'row')}, as {found.rejected.name} beside the file has them")
    for reason, number in sorted(survey.rejected.items(), key=lambda item: -item[1]):
        known = words(reason)
        say(f"  {number:,} {reason}: {known.happened if known else ''}")
        for example in survey.examples[reason]:
            say(f"    line {example.line}: {example.sentence}")


def say_costs(found: Found, costs: Sequence[SystemCost]) -> None:
    """Print whom and what an import would add, and what it would cost at most."""
    cost = found.cost
    assert cost is not None  # noqa: S101 - it was asked for
    say(f"\n{count(cost.people, 'person', 'people')}, {cost.people - cost.known_people:,} of them new")
    say(f"{count(cost.facts, 'fact')}, {cost.facts - cost.known_facts:,} of them new")
    for one in costs:
        calls = f"{count(one.calls_to_read, 'call')} to read and {count(one.calls_to_write, 'call')} to write"
        say(f"{one.connection}: at most {count(one.contacts, 'contact')} in {calls}, behind live work.")
        if one.today:
            say(f"  {one.today}")
    if not costs:
        say("No route leads from this connection to a CRM, so nothing would be written there.")
    say("Nothing was changed.")


def taken_in(before: Import) -> str:
    """Return what became of the same file before, without a full stop."""
    if before.status == "running":
        return (
            f"Import {before.id} of this file, by the same mapping, is not at its end: it goes on at line {before.line}"
        )
    when = f"on {before.finished_at:%Y-%m-%d %H:%M} UTC" if before.finished_at else "before"
    return f"This file was taken in {when} as import {before.id}, by the same mapping"


def say_done(done: Import, file: File) -> None:
    """Print what an import came to, and what to look at."""
    say(f"Import {done.id}: {count(done.counts.get('rows', 0), 'row')} of {done.connection} are in.")
    for name, (one, many) in _DONE.items():
        if number := done.counts.get(name, 0):
            say(f"  {count(number, one, many)}")
    if done.counts.get("undecided"):
        say("Decide about what waits: `coursewire parked list`.")
    if done.counts.get("rejected"):
        name = plain(file.rejected().path.name)
        say(f"Mend the rows in {name}, and import that file as you did this one.")


def as_data(one: Import) -> dict[str, Any]:
    """Return an import for programs."""
    return {**one._asdict(), "sha256": one.sha256.hex()}


def survey_data(found: Found) -> dict[str, Any]:
    """Return a look at a file for programs; nobody is named."""
    survey = found.survey
    return {
        "rows": survey.rows,
        "silent": survey.silent,
        "events": survey.events,
        "rejected": {reason.value: number for reason, number in survey.rejected.items()},
        "examples": {reason.value: [one._asdict() for one in examples] for reason, examples in survey.examples.items()},
        "earliest": survey.earliest,
        "latest": survey.latest,
        "cost": found.cost,
    }
