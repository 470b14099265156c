"""`coursewire polls`: what LMSs were asked for and what of it was news, and a poll by hand."""

from typing import Annotated

import typer

from integration.storage import polls, runs
from integration.storage.polls import Poll
from tasks import asking
from tasks.actor import actor
from tasks.assembly import this_process
from tasks.saying import no, quiet, say, say_json, say_table, sentences

app = typer.Typer(
    help="Show what LMSs were asked for at night, or ask one now.", no_args_is_help=True, rich_markup_mode=None
)

Connection = Annotated[str | None, typer.Argument(help="The LMS; without it, all.", show_default=False)]


@app.command("list")
def show_list(
    connection: Connection = None,
    limit: Annotated[int, typer.Option(help="Show at most this many polls.", min=1, max=10_000)] = 20,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of a table.")] = False,
) -> None:
    """List the newest polls: since when each asked, how it ended, and how much of what it heard was new."""
    quiet()
    with sentences(), this_process().engine.begin() as db:
        found = polls.latest(db, connection, limit=limit)
    if as_json:
        say_json({"polls": [one._asdict() for one in found]})
        return
    heads = ["poll", "connection", "due (UTC)", "asked since (UTC)", "finished (UTC)", "outcome", "done"]
    say_table(
        heads, [(p.id, p.connection, p.scheduled_for, p.since, p.finished_at, _outcome(p), _done(p)) for p in found]
    )
    if not found:
        say("No LMS was asked yet.")


@app.command("start")
def start(connection: Annotated[str, typer.Argument(help="The LMS to ask, as the connections file names it.")]) -> None:
    """Ask an LMS now what happened; a worker takes it up within seconds."""
    quiet()
    with sentences():
        assembly = this_process()
        if connection not in assembly.pollers:
            known = ", ".join(sorted(assembly.pollers)) or "none"
            raise no(f"{connection!r} is no LMS that can be asked what happened; those are: {known}.")
        with assembly.engine.begin() as db:
            begun = asking.begin(db, assembly.config, connection, runs.clock(db), actor=actor())
    if begun is None:
        raise no(f"{connection} is being asked already; see `coursewire polls list {connection}`.")
    say(f"Poll {begun} of {connection} was asked for; see `coursewire polls list {connection}`.")


def _outcome(poll: Poll) -> str:
    return f"{poll.status}: {poll.reason}" if poll.reason else poll.status


def _done(poll: Poll) -> str:
    counted = ", ".join(f"{number} {name}" for name, number in poll.counts.items())
    return f"{counted}; {poll.detail}" if poll.detail else counted
