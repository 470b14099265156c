"""`coursewire check`: is everything there that this installation needs?"""

from typing import Annotated

import typer

from tasks.saying import plain, quiet, say, say_json

app = typer.Typer(rich_markup_mode=None)

_MARKS = {"ok": ("ok", "green"), "warning": ("note", "yellow"), "failed": ("FAIL", "red"), "skipped": ("-", "white")}


@app.command("check")
def check(
    *, as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of lines.")] = False
) -> None:
    """Check configuration, keys, database, broker and each connection; exit with 1 if something is not well."""
    from tasks.checks import installation  # noqa: PLC0415 - the broker's client, which no other command needs

    quiet()
    lines = []
    for line in installation.run():
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
