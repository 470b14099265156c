"""The `coursewire` command (architecture section 8). Each sub-command calls one function of its room."""

import base64
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from integration.security.seal import new_key
from integration.storage import audit
from tasks import roles
from tasks.assembly import Assembly, settings, this_process
from tasks.commands.nouns import Nouns
from tasks.saying import sentences

app = typer.Typer(
    name="coursewire",
    cls=Nouns,
    help="Keeps learning systems and customer systems in step.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Once = Annotated[bool, typer.Option("--once", help="End by itself; exit with 1 if a promise of the story broke.")]


def migrate(assembly: Assembly) -> None:
    """Bring the schema to head and publish the default rules the first time; safe to run at any time."""
    from mappings.store import publish_defaults  # noqa: PLC0415 - only this command needs them
    from scripts.migrations import upgrade  # noqa: PLC0415

    assert assembly.ring  # noqa: S101 - without keys nothing is created
    with assembly.engine.begin() as db:
        upgrade(db)
        publish_defaults(db)
    assert assembly.keys  # noqa: S101 - makes the look-up keys, and proves that the master keys open them


@app.command()
def up() -> None:
    """Run everything on this machine; PostgreSQL and Valkey are embedded where no URL is set."""
    with sentences():
        raise typer.Exit(roles.everything(settings(), migrate))


def _role(name: str, start: Callable[..., None], text: str) -> None:
    def command() -> None:
        with sentences():
            start(this_process())

    command.__doc__ = text
    app.command(name)(command)


_role("web", roles.web, "Serve the webhook endpoint; one process of `up`, for containers.")
_role("worker", roles.worker, "Run a worker, which takes events from the inbox to the CRM.")
_role("beat", roles.beat, "Tick the sweeper and the nightly work.")
_role("flower", roles.flower, "Show workers and failed tasks in the browser, read-only.")
_role("migrate", migrate, "Bring the database schema to its newest version.")


@app.command("new-key")
def make_key(key_id: Annotated[str, typer.Argument(help="The id of the key, for example 2026-11.")] = "1") -> None:
    """Print a new key for COURSEWIRE_MASTER_KEYS; put it in front of the ones that are there."""
    typer.echo(f"{key_id}:{base64.b64encode(new_key()).decode()}")


@app.command("verify-audit")
def verify_audit() -> None:
    """Walk the chain of the audit log; exit with 1 and name the first entry that was changed."""
    with sentences(), this_process().engine.begin() as db:
        broken = audit.verify(db)
    if broken is not None:
        typer.echo(f"coursewire: audit entry {broken} was changed, moved, or follows one that was removed.", err=True)
        raise typer.Exit(1)
    typer.echo("The chain of the audit log is whole.")


@app.command()
def demo(*, once: Once = False) -> None:
    """Tell the whole story on embedded servers, with a sandbox CRM and LMS, and print what happened."""
    from scripts.demo import run  # noqa: PLC0415 - imports the sandbox, which nothing else needs

    with sentences():
        raise typer.Exit(run(once=once))


@app.command()
def bench(
    *,
    only: Annotated[str, typer.Option(help="Rows to measure, separated by commas; without it, all.")] = "",
    quick: Annotated[bool, typer.Option("--quick", help="Smaller sizes, once each: minutes, not an hour.")] = False,
    repeat: Annotated[int, typer.Option(min=0, help="How often each row is measured; 0: 3, or 1 with --quick.")] = 0,
    seed: Annotated[int, typer.Option(help="Seed of people, orders and kills.")] = 20261121,
    json: Annotated[Path | None, typer.Option(help="Write every figure to this file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the figures into this SVG file.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 where a bar is missed.")] = False,
) -> None:
    """Measure this machine: what is accepted, how fast it is in the CRM, and what a kill costs."""
    from scripts.bench import Asked, run  # noqa: PLC0415 - imports the sandbox, which nothing else needs

    with sentences():
        asked = Asked(only=only, quick=quick, repeat=repeat, seed=seed, json=json, plot=plot, strict=strict)
        raise typer.Exit(run(asked))


def main() -> None:
    """Run the command line."""
    try:
        app(prog_name="coursewire")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
