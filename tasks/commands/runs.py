"""`coursewire runs`: what ran by the clock and what came of it, and a run by hand."""

from typing import Annotated

import typer

from integration.storage import runs
from integration.storage.runs import Run
from tasks.assembly import this_process
from tasks.saying import no, quiet, say, say_json, say_table, sentences
from tasks.schedule import JOBS

app = typer.Typer(help="Show scheduled runs, or start one by hand.", no_args_is_help=True, rich_markup_mode=None)


def _job(value: str | None) -> str | None:
    if value is not None and value not in JOBS:
        raise typer.BadParameter(f"{value!r} is no job; there are: {', '.join(JOBS)}.")
    return value


@app.command("list")
def show_list(
    job: Annotated[str | None, typer.Option(help="Show only the runs of this job.", callback=_job)] = None,
    limit: Annotated[int, typer.Option(help="Show at most this many runs.", min=1, max=10_000)] = 20,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of a table.")] = False,
) -> None:
    """List the newest runs: when each was due, when it began and ended, and what it did."""
    quiet()
    with sentences(), this_process().engine.begin() as db:
        found = runs.latest(db, job, limit=limit)
    if as_json:
        say_json({"runs": found})
        return
    heads = ["job", "due (UTC)", "started (UTC)", "finished (UTC)", "outcome", "done"]
    say_table(heads, [(r.job, r.scheduled_for, r.started_at, r.finished_at, _outcome(r), _done(r)) for r in found])
    if not found:
        say("Nothing has run yet.")


@app.command("start")
def start(
    job: Annotated[str, typer.Argument(help="The job, as `runs list` prints it.", callback=_job)],
) -> None:
    """Start a job now; a worker takes it up within half a minute, unless an earlier run of it goes on."""
    quiet()
    with sentences(), this_process().engine.begin() as db:
        now = runs.clock(db)
        if not runs.start(db, job, now, now):
            raise no(f"A run of {job} lies in the future: the clock of Postgres was set back. Try again later.")
    say(f"A run of {job} was asked for; see `coursewire runs list --job {job}`.")


def _outcome(run: Run) -> str:
    return run.outcome or ("under way" if run.started_at else "waits")


def _done(run: Run) -> str:
    return ", ".join(f"{number} {name}" for name, number in (run.counts or {}).items())
