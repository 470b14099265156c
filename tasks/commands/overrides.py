"""`coursewire overrides`: what somebody decides for one person, whatever the rules say: a pathway more, or later."""

from collections.abc import Collection
from datetime import UTC, date, datetime, timedelta
from difflib import get_close_matches
from typing import Annotated, NamedTuple
from zoneinfo import ZoneInfo

import typer
from sqlalchemy import Connection

from integration.config import Config
from integration.security import redact
from integration.storage import assignments, audit, people, roles
from mappings import overrides, store
from mappings.overrides import Decision
from mappings.pathways import OverrideKind, midnight
from mappings.rules import RuleSet
from tasks.actor import actor
from tasks.assembly import Assembly, this_process
from tasks.commands.options import AsJson
from tasks.commands.ring import ring
from tasks.commands.whom import Whom, find
from tasks.reconsideration import Reconsidered
from tasks.saying import no, quiet, say, say_json, say_table, sentences, shown
from tasks.story import Teller

app = typer.Typer(
    help="Decide for one person, whatever the rules say: another pathway, none, or another deadline.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

SAID: dict[str, str] = {"add": "has", "exempt": "is exempt from", "deadline": "has another deadline for"}
"""What an override does, by kind."""

_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)


def _day(value: str | None) -> str | None:
    try:
        date.fromisoformat(value or "2000-01-01")
    except ValueError:
        raise typer.BadParameter(f"{value!r} is no day; write it as 2026-12-31.") from None
    return value


def _why(value: str) -> str:
    if not value.strip():
        raise typer.BadParameter("Say why, so that whoever reads it next year understands it.")
    return value.strip()


class Said(NamedTuple):
    """What was asked for on the command line: days as text, or None."""

    pathway: str
    kind: OverrideKind
    due: str | None
    until: str | None
    comment: str


class Made(NamedTuple):
    """An override that was made for a person; `has_it`: they have the pathway now."""

    id: int
    person: int
    due_at: datetime | None
    until: datetime | None
    has_it: bool
    again: Reconsidered


@app.command("add")
def add(
    who: Whom,
    pathway: Annotated[str, typer.Option("--pathway", help="The pathway, by the name that the rules call it.")],
    comment: Annotated[
        str, typer.Option("--comment", help="Why; it is shown wherever the override counts.", callback=_why)
    ],
    due: Annotated[
        str | None,
        typer.Option(
            "--due",
            metavar="YYYY-MM-DD",
            help="Let the pathway be due on this day, whatever gives it; with --add, give it with this deadline.",
            callback=_day,
        ),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(
            "--until",
            metavar="YYYY-MM-DD",
            help="The last day on which the override counts; without it, until it is ended.",
            callback=_day,
        ),
    ] = None,
    *,
    exempt: Annotated[bool, typer.Option("--exempt", help="Take the pathway away, whatever role they have.")] = False,
    give: Annotated[bool, typer.Option("--add", help="Give the pathway, whatever role they have.")] = False,
) -> None:
    """Let one person have a pathway, be exempt from it, or have another deadline; it counts at once.

    Later overrides win over earlier ones, and all of them over the rules. Days are those of the CRM's time zone.
    """
    quiet()
    if (exempt and (give or due)) or not (exempt or give or due):
        raise typer.BadParameter("Say one of --exempt, --add (also with --due) and --due.")
    kind: OverrideKind = "exempt" if exempt else "add" if give else "deadline"
    with sentences():
        process = this_process()
        with process.engine.begin() as db:
            made = decide(db, process, who, Said(pathway, kind, due, until, comment))
        ring(places=made.again.places)
    ends = f" until {shown(made.until)} UTC" if made.until else ""
    due_on = f", due {shown(made.due_at)} UTC" if made.due_at else ""
    say(f"Override {made.id}: person #{made.person} {SAID[kind]} {pathway}{due_on}{ends}.")
    if kind == "deadline" and not made.has_it:
        say(f"They do not have {pathway} now; the deadline counts when they get it.")
    _say_again(made.again, made.person)


@app.command("list")
def show_list(
    who: Annotated[
        str | None,
        typer.Argument(
            metavar="[EMAIL_OR_ID]",
            help="Show everything that was ever decided for this person; without it, what counts for anybody now.",
        ),
    ] = None,
    limit: Annotated[int, typer.Option(help="Show at most this many.", min=1, max=10_000)] = 100,
    *,
    as_json: AsJson = False,
) -> None:
    """List overrides, the latest first: for whom, what, until when, by whom and why."""
    quiet()
    now = datetime.now(UTC)
    with sentences():
        process = this_process()
        with process.engine.begin() as db:
            if who is None:
                found = overrides.counting(db, limit=limit)
            else:
                row, _ = find(_teller(db, process), who)
                found = [(row.id, one) for one in overrides.of(db, row.id)[:limit]]
    found = [(person, one._replace(comment=redact.text(one.comment))) for person, one in found]
    if as_json:
        say_json({"overrides": [{"person": p, **one._asdict(), "counts": one.counts_at(now)} for p, one in found]})
        return
    heads = ["id", "person", "what", "pathway", "due (UTC)", "until (UTC)", "state", "by", "made (UTC)", "why"]
    rows = [
        (o.id, f"#{p}", SAID.get(o.kind, o.kind), o.pathway, o.due_at, o.until, _state(o, now), o.actor, o.created_at,
         o.comment)
        for p, o in found
    ]  # fmt: skip
    say_table(heads, rows)
    if not rows:
        say("No override counts now." if who is None else "Nothing was ever decided for this person.")


@app.command("end")
def end(
    override: Annotated[int, typer.Argument(metavar="ID", help="Its number, as `overrides list` prints it.")],
) -> None:
    """End an override now; the person gets what the rules and their other overrides say."""
    quiet()
    with sentences():
        process = this_process()
        with process.engine.begin() as db:
            try:
                person = overrides.end(db, override)
            except LookupError as error:
                raise no(f"{error}: `coursewire overrides list` shows what counts.") from None
            by = f"override:{override}"
            audit.append(
                db, actor=actor(), action="override.end", outcome="ended", subject=("person", person), reference=by
            )
            again = process.reconsideration.of_person(db, person)
        ring(places=again.places)
    say(f"Override {override} of person #{person} has ended.")
    _say_again(again, person)


def decide(db: Connection, process: Assembly, who: str, said: Said) -> Made:
    """Make an override as it was asked for, in this transaction; ends the command where that cannot be."""
    rules = store.active(db)
    _known(said.pathway, rules.pathways.pathways, rules)
    row, _ = find(_teller(db, process), who)
    if people.load(db, [row.id], process.ring, lock=True)[row.id].is_gone:
        raise no(f"Person #{row.id} was erased, so nothing can be decided for them.")
    zone = _zone(db, process.config, row.id)
    due_at = _after(said.due, zone, "--due") - _SECOND if said.due else None
    until = _after(said.until, zone, "--until") if said.until else None
    made = overrides.add(
        db,
        row.id,
        said.kind,
        said.pathway,
        due_at=due_at,
        until=until,
        actor=actor(),
        comment=said.comment,
    )
    by = f"override:{made}"
    audit.append(db, actor=actor(), action="override.add", outcome=said.kind, subject=("person", row.id), reference=by)
    has_it = any(one.pathway == said.pathway for one in assignments.live(db, [row.id]).get(row.id, ()))
    return Made(made, row.id, due_at, until, has_it, process.reconsideration.of_person(db, row.id))


def _known(pathway: str, known: Collection[str], rules: RuleSet) -> None:
    if pathway in known:
        return
    near = get_close_matches(pathway, known, n=1)
    meant = f" Do you mean {near[0]}?" if near else ""
    there = f" There are: {', '.join(sorted(known))}." if known else " It has none."
    raise no(f"Rule set {rules.id}, which is published, has no pathway {pathway}.{meant}{there}")


def _after(day: str, zone: ZoneInfo, option: str) -> datetime:
    """Return the moment when a day is over in a zone; ends the command where that has been."""
    over = midnight(date.fromisoformat(day) + _DAY, zone)
    if over <= datetime.now(UTC):
        raise no(f"{day} is over ({option}); name today or a day to come.")
    return over


def _zone(db: Connection, config: Config, person: int) -> ZoneInfo:
    """Return the time zone in which days are meant for a person: that of the CRM whose role is read."""
    named = [one.connection for one in roles.known(db, [person]) if one.connection in config.connections]
    read = [name for name, one in config.connections.items() if one.options.role_property]
    return ZoneInfo(next((config.connections[name].options.timezone for name in (*named, *read)), "UTC"))


def _teller(db: Connection, process: Assembly) -> Teller:
    return Teller(db, process.config, process.ring, process.keys)


def _state(one: Decision, now: datetime) -> str:
    if one.ended_at is not None:
        return f"ended {shown(one.ended_at)}"
    return "counts" if one.counts_at(now) else "over"


def _say_again(again: Reconsidered, person: int) -> None:
    if again.missing:
        say(again.missing)
    else:
        say(f"It is decided at once; what becomes of it: `coursewire person show {person}`.")
