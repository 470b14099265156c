"""`coursewire reconcile`: compare contacts with the truth by hand, read what was found, stop a run, or undo it."""

from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy import Connection

from integration.storage import audit, comparisons, reconciliations
from integration.storage.comparisons import Comparison
from tasks import night_page
from tasks.actor import actor
from tasks.assembly import Assembly, this_process
from tasks.commands import reconcile_undo, reconciling
from tasks.commands.options import AsJson
from tasks.commands.reconcile_shown import described, percent, say_report, span
from tasks.night_report import Report, Reporter, drift
from tasks.saying import no, quiet, say, say_json, say_table, sentences, stop

app = typer.Typer(
    help="Compare the contacts of a CRM with the truth, read what was found, stop a run, or undo it.",
    rich_markup_mode=None,
)
app.command("undo")(reconcile_undo.undo)

Run = Annotated[int, typer.Argument(metavar="RUN", help="The number of the run, as `reconcile list` prints it.")]


@app.callback(invoke_without_command=True)
def reconcile(
    context: typer.Context,
    connection: Annotated[
        str | None, typer.Option("--connection", help="Compare only this CRM; without it, all that there are.")
    ] = None,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only find: nothing is written, here or there.")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Only begin; the workers do it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Compare every contact with what it should hold, and have written again what is ours and differs.

    It works here as well as in the workers, shows how far it is, and ends with the report. What is to be written the
    workers write. Ctrl-C ends the command; the run goes on where a worker runs.
    """
    if context.invoked_subcommand is not None:
        return
    quiet()
    with sentences():
        process = this_process()
        names = reconciling.chosen(process, connection)
        ids = reconciling.begin(process, names, is_dry=dry_run, tell=(lambda _: None) if as_json else say)
        with process.engine.begin() as db:
            found = [one for run in ids if (one := comparisons.get(db, run)) is not None]
        if detach:
            _say_begun(found, as_json=as_json)
            return
        reconciling.follow(process, {one.connection: one.id for one in found}, is_quiet=as_json)
        reports = [_report(process, one.id) for one in found]
    if as_json:
        say_json({"reports": reports})
    for report in [] if as_json else reports:
        say()
        say_report(report)
    if any(report.run.status != "done" for report in reports):
        raise typer.Exit(1)


@app.command("list")
def show_list(
    connection: Annotated[str | None, typer.Option("--connection", help="Show only the runs of this CRM.")] = None,
    limit: Annotated[int, typer.Option(help="Show at most this many, the newest first.", min=1, max=10_000)] = 20,
    *,
    as_json: AsJson = False,
) -> None:
    """List the comparisons: when, how many contacts, how many of them differed, and what it took."""
    quiet()
    with sentences(), this_process().engine.begin() as db:
        found = comparisons.latest(db, connection, limit=limit)
    if as_json:
        say_json({"runs": [{**one._asdict(), "drift": drift(one.counts)} for one in found]})
        return
    heads = ["run", "connection", "state", "began (UTC)", "took", "contacts", "drift", "made due", "calls", "by"]
    rows = [
        (r.id, r.connection, "dry, " * r.is_dry + r.status, r.started_at, span(r.seconds), r.counts.get("contacts", 0),
         percent(drift(r.counts)), r.counts.get("repaired", 0), r.counts.get("calls", 0), r.actor)
        for r in found
    ]  # fmt: skip
    say_table(heads, rows)
    if not found:
        say("Nothing was compared yet. `coursewire reconcile --dry-run` compares, and changes nothing.")


@app.command("report")
def report(
    run: Annotated[int | None, typer.Argument(metavar="[RUN]", help="The run; without it, the newest one.")] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write the report to this file as a page.")
    ] = None,
    *,
    reveal: Annotated[
        bool, typer.Option("--reveal", help="Show the values that differed; who did is written to the audit log.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Tell what a comparison found, class by class: how many, what it means, what to do, and examples."""
    quiet()
    with sentences():
        told = _report(this_process(), run, reveal=reveal)
        if html is not None:
            try:
                html.write_text(night_page.as_html(told), encoding="utf-8")
            except OSError as error:
                raise stop(f"{html} could not be written: {error.strerror}.") from None
    if as_json:
        say_json(told)
    elif html is not None:
        say(f"The report of comparison {told.run.id} is in {html}.")
    else:
        say_report(told)


@app.command("stop")
def stop_run(run: Run) -> None:
    """End a comparison that is under way; what it has found and made due stays so."""
    quiet()
    with sentences(), this_process().engine.begin() as db:
        found = _run(db, run)
        if not reconciliations.finish(db, run, "stopped"):
            raise no(f"Comparison {run} cannot be stopped: it is {described(found)}.")
        audit.append(
            db,
            actor=actor(),
            action="reconcile.stop",
            outcome="stopped",
            connection=found.connection,
            reference=f"reconciliation:{run}",
        )
    say(f"Comparison {run} of {found.connection} is stopped. What it has found: `coursewire reconcile report {run}`.")


def _report(process: Assembly, run: int | None, *, reveal: bool = False) -> Report:
    with process.engine.begin() as db:
        reporter = Reporter(db, process.config, process.ring)
        return reporter.of(_run(db, run), reveal=actor() if reveal else None)


def _run(db: Connection, run: int | None) -> Comparison:
    """Return a run, or the newest one. Ends the command where there is none."""
    if run is None:
        newest = comparisons.latest(db, limit=1)
        if not newest:
            raise no("Nothing was compared yet. `coursewire reconcile --dry-run` compares, and changes nothing.")
        return newest[0]
    found = comparisons.get(db, run)
    if found is None:
        raise no(f"There is no comparison {run}. See `coursewire reconcile list`.")
    return found


def _say_begun(found: list[Comparison], *, as_json: bool) -> None:
    if as_json:
        say_json({"runs": found})
        return
    say("The workers do it. `coursewire reconcile` follows it; `coursewire reconcile list` says how far it is.")
