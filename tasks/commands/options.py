"""Options that several commands share, each checked in one place."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer

from integration.errors import Reason
from integration.storage.dead import KINDS, Kind
from tasks.saying import span

ALWAYS = "all"

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of text.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do it without asking.")]


def reason_code(value: str | None) -> str | None:
    """Check that a reason is one."""
    if value is not None and value not in set(Reason):
        raise typer.BadParameter(f"{value!r} is no reason; docs/reasons.md lists them.")
    return value


def time_span(value: str | None) -> str | None:
    """Check that a time span is one, or `all`."""
    if value not in (None, ALWAYS):
        span(str(value))
    return value


def kind_of_work(value: str | None) -> str | None:
    """Check that a kind is one."""
    if value is not None and value not in KINDS:
        raise typer.BadParameter(f"{value!r} is no kind; there are: {', '.join(KINDS)}.")
    return value


ByConnection = Annotated[str | None, typer.Option(help="Take only what belongs to this connection.")]
ByReason = Annotated[str | None, typer.Option(help="Take only what has this reason.", callback=reason_code)]
ByKind = Annotated[
    str | None, typer.Option(help="Take only one kind: event, person, activity or enrollment.", callback=kind_of_work)
]


def back_to(since: str | None) -> datetime | None:
    """Return the moment a time span goes back to; None for `all` and for none."""
    return None if since in (None, ALWAYS) else datetime.now(UTC) - span(str(since))


def kinds(kind: str | None) -> Sequence[Kind]:
    """Return the kinds that are meant."""
    return [one for one in KINDS if kind in (None, one)]
