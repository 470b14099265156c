"""`coursewire check`: is everything there that this installation needs? With `--apply`, create what is missing."""

from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, Annotated

import typer

from tasks.commands.options import AsJson, Yes
from tasks.saying import plain, quiet, say, say_json

if TYPE_CHECKING:
    from tasks.checks.answers import Line

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_MARKS = {"ok": ("ok", "green"), "warning": ("note", "yellow"), "failed": ("FAIL", "red"), "skipped": ("-", "white")}


@app.command("check")
def check(
    *,
    apply: Annotated[
        bool, typer.Option("--apply", help="First create the properties that the rules write and a system lacks.")
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Check configuration, keys, database, broker and each connection; exit with 1 if something is not well.

    With --apply it first creates in each system what the rules write and is missing there, having shown it and asked.
    Nothing that is there is changed or deleted.
    """
    from tasks.checks import installation  # noqa: PLC0415 - the broker's client, which no other command needs

    if apply and as_json and not yes:
        raise typer.BadParameter("--json cannot ask; add --yes.")
    quiet()
    lines: list[Line] = []
    for line in chain(_set_up(yes=yes) if apply else (), installation.run()):
        if line in lines:
            continue  # set-up has said it
        lines.append(line)
        if not as_json:
            mark, colour = _MARKS[line.level]
            said = f"{line.about}: {line.what.rstrip('.')}."
            typer.echo(f"{typer.style(f'{mark:<4}', fg=colour)}  {plain(said)}")
            if line.advice:
                say(f"      {line.advice}")
    failed = sum(line.level == "failed" for line in lines)
    noted = sum(line.level == "warning" for line in lines)
    if as_json:
        say_json({"ok": not failed, "checks": lines})
    else:
        say(f"\n{failed or 'Nothing'} failed" + (f", {noted} to note." if noted else "."))
    raise typer.Exit(1 if failed else 0)


def _set_up(*, yes: bool) -> Iterator["Line"]:
    """Show what is missing, ask, and create it."""
    from tasks.checks import setup  # noqa: PLC0415 - as above

    prepared, lines = setup.prepare()
    yield from lines
    if not yes and any(one.plan.steps for one in prepared):
        for one in prepared:
            if one.plan.steps:
                say(f"To be created in {one.connection} ({one.title}):")
                for step in one.plan.steps:
                    say(f"  {step.what}")
        typer.confirm("Create this? What is there already is not touched.", abort=True)
    yield from setup.carry_out(prepared)
