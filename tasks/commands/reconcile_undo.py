"""`coursewire reconcile undo`: give back what a run's repairs overwrote, where nobody has touched it since."""

from math import ceil
from typing import Annotated

import typer

from integration.model.contacts import WRITE_CONTACT
from integration.reconciliation.undo import DAYS, Undo, Undone
from integration.storage import audit, comparisons, undoing
from tasks.actor import actor
from tasks.assembly import this_process
from tasks.commands.options import AsJson, Yes
from tasks.commands.reconcile_shown import properties
from tasks.commands.ring import ring
from tasks.saying import count, no, quiet, say, say_json, sentences

_SPEAK = 1_000
"""After so many contacts it says how far it is."""


def undo(
    run: Annotated[int, typer.Argument(metavar="RUN", help="The number of the run, as `reconcile list` prints it.")],
    days: Annotated[
        int, typer.Option("--days", help="Leave what is given back to the CRM for so many days.", min=1, max=3650)
    ] = DAYS,
    *,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Write back what the repairs of a run overwrote, where our value still stands; what was touched since is left.

    What is given back is not written again for --days. It may be broken off and begun again at any time.
    """
    if as_json and not yes:
        raise typer.BadParameter("--json cannot ask; add --yes.")
    quiet()
    with sentences():
        process = this_process()
        with process.engine.begin() as db:
            found, left = comparisons.get(db, run), undoing.left(db, run)
        if found is None:
            raise no(f"There is no comparison {run}. See `coursewire reconcile list`.")
        if found.status in ("running", "resting"):
            raise no(f"Comparison {run} is not over; `coursewire reconcile stop {run}` ends it first.")
        if found.connection not in process.sweeps:
            raise no(f"{found.connection} is not in the connections file, so nothing can be written there.")
        if not left.contacts:
            raise no(f"Comparison {run} has nothing to undo: it repaired nothing, or that was undone before.")
        sweep = process.sweeps[found.connection]
        if not yes:
            calls = ceil(left.contacts / sweep.store.capabilities.batch_size)
            say(
                f"Comparison {run} repaired {properties(left.fields)} of {count(left.contacts, 'contact')} in "
                f"{found.connection}. Each contact is read, and where our value still stands the old one is written "
                f"back: {count(calls, 'call')} to read, at most {calls} to write. "
                f"It then stays for {count(days, 'day')}."
            )
            typer.confirm("Undo it?", abort=True)
        with process.engine.begin() as db:
            audit.append(
                db,
                actor=actor(),
                action="reconcile.undo",
                outcome="begun",
                connection=found.connection,
                reference=f"reconciliation:{run}",
            )
        try:
            done = Undo(sweep=sweep, run=run, days=days).work(lambda so_far: _say_so_far(so_far, left.contacts))
        finally:
            ring(places=[(found.connection, WRITE_CONTACT)])
    if as_json:
        say_json({"run": run, **{name: getattr(done, name) for name in Undone.__slots__}})
    else:
        _say(done, run, days)
    if done.left or done.refused:
        raise typer.Exit(1)


def _say_so_far(done: Undone, contacts: int) -> None:
    if done.contacts % _SPEAK == 0:
        typer.echo(f"{done.contacts} of {contacts} contacts", err=True)


def _say(done: Undone, run: int, days: int) -> None:
    """Say what became of it."""
    say(
        f"Done. {properties(done.given_back)} given back in {count(done.contacts, 'contact')}, with "
        f"{count(done.calls, 'call')}; left to the CRM for {count(days, 'day')}."
    )
    if done.kept:
        say(f"{properties(done.kept)} changed since the run, and left as they are.")
    if done.gone:
        say(f"{count(done.gone, 'contact')} no longer there, or no longer the same person's: left as they are.")
    if done.refused:
        say(f"{properties(done.refused)} refused by the CRM; mend that there, then `coursewire reconcile undo {run}`.")
    if done.left:
        say(f"{count(done.left, 'contact')} being written at this moment; run it again in a minute.")
