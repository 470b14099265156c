"""`coursewire inventory`: what talks to what, from the live configuration and the published rules."""

import shutil
import sys
from enum import StrEnum
from typing import Annotated

import typer

from tasks.commands.options import AsJson
from tasks.saying import plain, quiet, say, say_json, say_table, sentences

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_ROOM = 160
"""Characters that the widest tables need; on a narrower screen some of their columns are left out."""


class Format(StrEnum):
    """How it is shown."""

    TABLE = "table"
    MARKDOWN = "markdown"
    MERMAID = "mermaid"


@app.command("inventory")
def inventory(
    *,
    form: Annotated[
        Format, typer.Option("--format", help="Tables, a Markdown page with the diagram, or the diagram alone.")
    ] = Format.TABLE,
    offline: Annotated[
        bool, typer.Option("--offline", help="Do not ask the database: connections file and rule files alone.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what talks to what: systems, doors, routes, every field with its source and its owner; nothing personal."""
    # The rules' readers take half a second, which no other command needs to wait.
    from tasks.assembly import this_process  # noqa: PLC0415
    from tasks.inventory import markdown, mermaid, stock  # noqa: PLC0415
    from tasks.inventory.sections import Section, basis, sections  # noqa: PLC0415

    if as_json and form is not Format.TABLE:
        raise typer.BadParameter("--json is a format of its own; leave out --format.")
    quiet()
    with sentences():
        found = stock.take(this_process(), offline=offline)
    if as_json:
        say_json(found)
    elif form is Format.MARKDOWN:
        typer.echo(markdown.render(found), nl=False)
    elif form is Format.MERMAID:
        typer.echo(mermaid.render(found), nl=False)
    else:
        say(basis(found.basis))
        for section in map(Section.narrow, sections(found)) if _is_narrow() else sections(found):
            typer.echo(f"\n{typer.style(plain(section.title), bold=True)}")
            if section.intro:
                say(f"  {section.intro}")
            say_table(section.heads, section.rows, indent=2)


def _is_narrow() -> bool:
    return sys.stdout.isatty() and shutil.get_terminal_size().columns < _ROOM
