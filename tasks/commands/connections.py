"""`coursewire connections`: the state of each connection, what waits there, and a person's pause."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

import typer
from sqlalchemy import Connection

from integration.connectors import registry
from integration.delivery import forecast
from integration.delivery.forecast import Forecast
from integration.model.accounts import WRITE_ACCOUNT
from integration.model.activities import WRITE_ACTIVITY
from integration.model.contacts import WRITE_CONTACT
from integration.model.enrollments import WRITE_ENROLLMENT
from integration.model.roles import READ_ROLE
from integration.observability.reasons import words
from integration.storage import audit, backlog, breakers, connections, limits, quarantine, story, streams
from integration.storage.backlog import Backlog
from integration.storage.breakers import Breaker
from integration.storage.connections import Overview
from integration.storage.limits import Learned
from integration.storage.statement import execute
from integration.storage.story import LeftOut
from integration.storage.streams import Stream
from tasks.actor import actor
from tasks.assembly import Assembly, this_process
from tasks.commands.options import AsJson, Yes
from tasks.commands.ring import ring
from tasks.saying import count, no, quiet, say, say_json, say_table, sentences, shown, span

app = typer.Typer(
    help="Show connections and what waits there, pause and resume them.", no_args_is_help=True, rich_markup_mode=None
)

Name = Annotated[str, typer.Argument(metavar="CONNECTION", help="The connection, as the connections file names it.")]


@dataclass(frozen=True, slots=True)
class Told:
    """Everything known of one connection; `status` says `resting` where it only waits for its time."""

    connection: str
    system: str
    status: str
    reason: str | None
    until: datetime | None
    backlog: Backlog
    breakers: list[Breaker]
    left_out: list[LeftOut]
    limits: Learned | None
    forecast: Forecast | None
    heard: list[Stream]


@app.command("list")
def show_list(*, as_json: AsJson = False) -> None:
    """List the connections: whether they may be called, what is due, and what was set aside."""
    quiet()
    with sentences():
        found = _all(this_process())
    if as_json:
        say_json({"connections": [_for_programs(one) for one in found]})
        return
    rows = [(c.connection, c.system, c.status, c.reason, c.until, *(c.backlog[:4]), c.backlog.oldest) for c in found]
    heads = ["connection", "system", "status", "reason", "until (UTC)", "due", "waiting", "parked", "dead"]
    say_table([*heads, "oldest due (UTC)"], rows)
    for one in found:
        if one.forecast:
            say(f"{one.connection}: {one.forecast.words}.")


@app.command("show")
def show(name: Name, *, as_json: AsJson = False) -> None:
    """Show one connection: its state and why, its backlog, its breakers, and the limits it taught us."""
    quiet()
    with sentences():
        found = _one(this_process(), name)
    if as_json:
        say_json({"connection": _for_programs(found)})
        return
    say(f"{found.connection} ({found.system}): {found.status}{f' ({found.reason})' if found.reason else ''}")
    known = words(found.reason)
    if found.until:
        say(f"  until {shown(found.until)} UTC")
    if known:
        say(f"  {known.happened} {known.next.replace('CONNECTION', name)}")
    if found.status == "paused":
        say(f"  A person paused it. Take it up again with `coursewire connections resume {found.connection}`.")
    say("\nBacklog")
    work = found.backlog
    say(f"  due      {work.due}{f', the oldest since {shown(work.oldest)} UTC' if work.oldest else ''}")
    say(f"  waiting  {work.waiting}  (the night, or a next try)")
    say(f"  parked   {work.parked}{'  (`coursewire parked list`)' if work.parked else ''}")
    say(f"  dead     {work.dead}{f'  (`coursewire dead list --connection {name}`)' if work.dead else ''}")
    if found.breakers:
        say("\nBreakers")
        lines = [(b.operation, b.state, b.failures, b.open_until, b.reason) for b in found.breakers]
        say_table(["operation", "state", "failures in a row", "open until (UTC)", "reason"], lines, indent=2)
    if found.left_out:
        say("\nProperties left out")
        say_table(["property", "reason", "tried again (UTC)"], [one[2:] for one in found.left_out], indent=2)
        say(f"  Create them there, then `coursewire connections resume {name}` writes them at once to everybody.")
    _say_heard(found.heard)
    if found.limits and found.limits.rates:
        say("\nLimits")
        rates = [(kind, f"{rate.calls} calls in {rate.seconds:g} s") for kind, rate in found.limits.rates.items()]
        say_table(["calls", "limit"], rates, indent=2)
    if found.forecast:
        say(f"\n{found.forecast.words}.")


@app.command("pause")
def pause(
    name: Name,
    period: Annotated[
        str | None, typer.Option("--for", help="Take it up again by itself after this time: 30m, 2h, 1d.")
    ] = None,
    *,
    yes: Yes = False,
) -> None:
    """Let nobody call a system: events still come in and what is due is kept; a call under way is finished."""
    quiet()
    seconds = span(period).total_seconds() if period else None
    with sentences():
        process = this_process()
        found = _one(process, name)
        if not _operations(process, name):
            raise no(f"{name} is never called, so there is nothing to pause; what it sends is always accepted.")
        if not yes:
            how_long = f"for {period}" if period else "until somebody resumes it"
            typer.confirm(f"Pause {name} {how_long}? What is due there: {found.backlog.due}.", abort=True)
        with process.engine.begin() as db:
            connections.halt(db, name, seconds)
            _audit(db, "connection.pause", name, "paused")
        until = _one(process, name).until
    ends = f" until {shown(until)} UTC" if until else ""
    say(f"{name} is paused{ends}. `coursewire connections resume {name}` ends it.")


@app.command("resume")
def resume(name: Name) -> None:
    """Take a connection up again at once: ends a pause, a rest, a broken state and an open breaker early.

    Properties that were left out because the system did not know them are tried again as well.
    """
    quiet()
    with sentences():
        process = this_process()
        before = _one(process, name).status
        with process.engine.begin() as db:
            was = connections.resume(db, name)
            hurried = quarantine.hurry(db, name)
            due = backlog.by_connection(db).get(name, Backlog()).due
            _audit(db, "connection.resume", name, was or "unknown")
        ring(places=[(name, operation) for operation in _operations(process, name)])
    say(f"{name} goes on; it was {before}. What is due there: {due}.")
    if hurried.fields:
        say(
            f"Tried again for {count(hurried.people, 'person', 'people')}: {', '.join(hurried.fields)}. Where {name} "
            f"takes it, everybody is looked at; where not, it is left out again: `coursewire connections show {name}`."
        )


def _all(process: Assembly) -> list[Told]:
    """Return every connection that the file names or the database knows."""
    named = {name: one.system for name, one in process.config.connections.items()}
    with process.engine.begin() as db:
        connections.register(db, named)
        rows = connections.overview(db)
        work, tripped = backlog.by_connection(db), breakers.overview(db)
        learned, left_out = limits.learned(db, [row.name for row in rows]), story.left_out(db)
        told = streams.known(db)
        now: datetime = execute(db, "SELECT now()").scalar_one()
        found = []
        for row in rows:
            own = [one for one in tripped if one.connection == row.name]
            rests = [until for until in (row.paused_until, *(b.open_until for b in own)) if until and until > now]
            found.append(
                Told(
                    connection=row.name,
                    system=row.system,
                    status=_status(row, own, now) if row.name in named else "not in the file",
                    reason=row.reason or next((b.reason for b in own if b.failures), None),
                    until=max(rests, default=None),
                    backlog=work.get(row.name, Backlog()),
                    breakers=own,
                    left_out=[one for one in left_out if one.connection == row.name],
                    limits=learned.get(row.name),
                    forecast=_forecast(db, process, row.name, now),
                    heard=[one for one in told if one.connection == row.name],
                )
            )
    return found


def _say_heard(heard: Sequence[Stream]) -> None:
    if heard:
        say("\nWebhooks")
        rows = [(one.what, one.last_heard_at or "never", one.state.replace("_", " ")) for one in heard]
        say_table(["of", "last heard (UTC)", "that is"], rows, indent=2)
    for one in heard:
        if one.state in ("silent", "all_quiet"):
            say(f"  {one.words}.")


def _one(process: Assembly, name: str) -> Told:
    found = {one.connection: one for one in _all(process)}
    if name not in found:
        raise no(f"There is no connection {name}; there are: {', '.join(found) or 'none'}.")
    return found[name]


def _status(row: Overview, tripped: Sequence[Breaker], now: datetime) -> str:
    if row.status != "active":
        return row.status
    opened = {breaker.operation for breaker in tripped if breaker.state == "open"}
    if opened:
        return "activities rest" if opened == {WRITE_ACTIVITY} else "breaker open"
    return "resting" if row.paused_until and row.paused_until > now else "active"


def _operations(process: Assembly, name: str) -> list[str]:
    """Return what is done at a connection and may be due now; activities follow their contacts."""
    known = process.config.connections.get(name)
    if known is None:
        return []
    able = registry.system_of(known).capabilities
    of_contacts = [WRITE_CONTACT, READ_ROLE, WRITE_ACCOUNT] if able.holds_contacts else []
    return of_contacts + ([WRITE_ENROLLMENT] if registry.enrolls(known) else [])


def _forecast(db: Connection, process: Assembly, name: str, now: datetime) -> Forecast | None:
    known = process.config.connections.get(name)
    return forecast.daily(db, name, known.options.timezone, now) if known else None


def _for_programs(one: Told) -> dict[str, object]:
    words_of = one.forecast.words if one.forecast else None
    return {**{name: getattr(one, name) for name in Told.__slots__}, "forecast_words": words_of}


def _audit(db: Connection, action: str, name: str, outcome: str) -> None:
    audit.append(db, actor=actor(), action=action, outcome=outcome, connection=name)
