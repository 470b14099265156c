"""`coursewire person`: one person's whole story, with why not."""

from typing import Annotated

import typer

from integration.model.contacts import WRITE_CONTACT
from integration.observability.reasons import words
from integration.storage import audit
from tasks.actor import actor
from tasks.assembly import this_process
from tasks.commands import erase
from tasks.commands.learning_shown import say_learning
from tasks.commands.whom import Whom, find
from tasks.holdings import Held
from tasks.saying import count, quiet, say, say_json, say_table, sentences, shown
from tasks.story import Story, Teller
from tasks.work import say_work

app = typer.Typer(
    help="Show what is known of a person, and why not; erase a person.", no_args_is_help=True, rich_markup_mode=None
)

_SHOWN = 10
LINES = 10
EMPTY = "(empty)"


@app.command("show")
def show(
    who: Whom,
    limit: Annotated[int, typer.Option(help="Show at most this many of their events.", min=1, max=10_000)] = 20,
    *,
    reveal: Annotated[
        bool, typer.Option("--reveal", help="Show e-mail, name and role in clear; who did is written to the audit log.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of text.")] = False,
) -> None:
    """Tell one person's story: who, received, decided, written, and why not."""
    quiet()
    with sentences():
        process = this_process()
        reading = process.engine.connect().execution_options(isolation_level="REPEATABLE READ")
        with reading as db, db.begin():
            teller = Teller(db, process.config, process.ring, process.keys)
            row, asked = find(teller, who)
            told = teller.tell(row, limit=limit, reveal=reveal)
            if reveal:
                audit.append(db, actor=actor(), action="person.read", outcome="shown", subject=("person", row.id))
    if as_json:
        say_json(told)
        return
    if asked != row.id:
        say(f"Person #{asked} was merged into person #{row.id}; this is their story.\n")
    _tell(told)


def _tell(told: Story) -> None:
    _who(told)
    _received(told)
    _decided(told)
    say_work(told.work)
    say("\nWritten")
    for held in told.written:
        _written(held)
    if not told.written:
        say("  No connection keeps contacts.")
    _timeline(told)
    say_learning(told.learning)
    _why_not(told)


def _who(told: Story) -> None:
    who = told.who
    say("  ".join(filter(None, (f"Person #{who.person}", who.email or "no e-mail", who.full_name))))
    say(f"  known since {shown(who.known_since)} UTC, version {who.version}")
    for one in who.links:
        say(f"  {one['as']} {one['id']} in {one['connection']}")
    for old in who.former:
        when = f" at {shown(old['merged_at'])} UTC" if old["merged_at"] else ""
        say(f"  {old['as']} {old['id']} in {old['connection']}, merged into {old['merged_into']}{when}")


def _received(told: Story) -> None:
    total = sum(one.events for one in told.counts)
    last = f", the last {len(told.received)} of them here" if total > len(told.received) else ""
    say(f"\nReceived: {count(total, 'event')}{last}" + (f"; {len(told.waiting)} may be theirs" if told.waiting else ""))
    rows = [
        (e.id, e.received_at, e.connection, e.kind, e.status, e.reason, e.detail)
        for e in [*told.waiting, *told.received]
    ]
    say_table(["id", "received (UTC)", "connection", "kind", "status", "reason", "detail"], rows, indent=2)
    if told.dead_nearby and not _has_cause(told):
        dead = count(told.dead_nearby, "dead event")
        say(f"  {dead} of the same sender may be theirs as well: `coursewire dead list --about EMAIL` looks.")
    _imported(told)
    for one in told.counts:
        known = words(one.reason)
        if one.status != "done" and known:
            say(f"  {one.events} {one.status}: {known.happened} {known.next}")


def _imported(told: Story) -> None:
    for one in told.imported:
        lines = ", ".join(str(line) for line in one.lines[:LINES]) + (", …" if len(one.lines) > LINES else "")
        when = f" of {shown(one.started_at)} UTC" if one.started_at else ""
        say(f"  {count(one.facts, 'fact')} from import {one.id}{when}, line {lines}")


def _decided(told: Story) -> None:
    say(f"\nDecided (rule set {told.rule_set})")
    heads = ["about", "id", "name", "said last", "passed", "occurred (UTC)", "expires (UTC)", "from"]
    rows = [
        (d.subject_type, d.subject, d.name, d.type, d.passed, d.occurred_at, d.expires_at, d.connection)
        for d in told.decided
    ]
    say_table(heads, rows, indent=2)
    if not rows:
        say("  Nothing that decides a field was received yet.")


def _written(held: Held) -> None:
    name = held.connection if held.operation == WRITE_CONTACT else f"{held.connection} {held.operation}"
    said = [held.status.replace("_", " ") + (f" ({held.reason})" if held.reason else "")]
    if held.wanted:
        said.append(f"version {held.written} of {held.wanted}")
    left_out = sum(f.differs for f in held.fields) if held.status == "in_step" else 0
    if left_out:
        said[0] = f"in step but for {count(left_out, 'field')}"
    if held.written_at:
        said.append(f"written {shown(held.written_at)} UTC")
    if held.remote_id:
        said.append(f"contact {held.remote_id}")
    say(f"  {name}: {', '.join(said)}")
    known_at = held.written_at if held.remote_origin == "sent" else held.remote_at
    there = f"there ({held.remote_origin} {shown(known_at)})" if known_at else "there"
    rows = [
        (f.name, "not known" if f.there is None else f.there or EMPTY, f.wanted or EMPTY, f.differs or None, f.note)
        for f in held.fields
    ]
    say_table(["field", there, "wanted now", "differs", "note"], rows, indent=4)
    tries = [(t.started_at, t.outcome, t.reason, t.version, ", ".join(t.fields), t.detail) for t in held.tries]
    if rows and tries:
        say()
    say_table(["tried (UTC)", "outcome", "reason", "version", "fields", "detail"], tries, indent=4)


def _timeline(told: Story) -> None:
    shown = told.timeline.entries
    if not shown:
        return
    last = f", {len(shown)} of them here" if told.timeline.number > len(shown) else ""
    say(f"\nOn timelines: {told.timeline.number}{last}")
    heads = ["activity", "in", "what", "of", "occurred (UTC)", "status", "reason", "written (UTC)", "there as"]
    rows = [
        (e.id, e.connection, e.what, e.name, e.occurred_at, e.status, e.reason, e.delivered_at, e.remote_id)
        for e in shown
    ]
    say_table(heads, rows, indent=2)


def _has_cause(told: Story) -> bool:
    own = told.why_not or told.timeline.why_not or told.learning.why_not
    return bool(own) or any(held.why_not for held in told.written)


def _why_not(told: Story) -> None:
    say("\nWhy not")
    for cause in [*told.why_not, *told.timeline.why_not, *told.learning.why_not]:
        say(f"  - {cause}")
    for held in told.written:
        different = {f.name for f in held.fields if f.differs}
        for cause in held.why_not:
            some = cause.fields and set(cause.fields) != different and not all(f in str(cause) for f in cause.fields)
            say(f"  - {cause}" + (f" [{', '.join(cause.fields)}]" if some else ""))
    if not _has_cause(told):
        say("  Everything is where it should be.")


app.command("erase")(erase.erase)
