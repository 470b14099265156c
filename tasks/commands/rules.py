"""`coursewire rules`: policy as YAML against what is published - plan, publish, rollback, export, history, explain."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from sqlalchemy import Connection

from integration.config import Config
from integration.connectors import registry
from integration.errors import ConfigError
from integration.storage import audit
from mappings import loader, pathway_text, store
from mappings.diff import Change, diff
from mappings.identity import IdentityChange, Side, differences
from mappings.pathway_text import PathwayChange
from mappings.rules import RuleSet, Scope
from tasks.actor import actor
from tasks.assembly import Assembly, this_process
from tasks.commands import rehearsing, rules_shown
from tasks.commands.options import AsJson, Yes
from tasks.commands.rehearsing import Replayed
from tasks.commands.rules_shown import active, entry, numbered
from tasks.effect import Effect, effects
from tasks.identity_effect import IdentityEffect, identity_effects, tell_identity
from tasks.pathway_effect import PathwayEffect, pathway_effect
from tasks.portal import Judgement, judgements
from tasks.role_owners import circles
from tasks.saying import count, no, quiet, say, say_json, say_table, sentences, stop

app = typer.Typer(
    help="Plan, publish and roll back the rules: which field goes where, and who owns it.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Folder = Annotated[
    Path | None,
    typer.Argument(
        metavar="[DIR]", help="The folder with the rule files; without it, `rules:` of the connections file."
    ),
]
Replay = Annotated[
    str | None,
    typer.Option(
        "--replay",
        metavar="SPAN",
        help="Also run what was recorded in this time (12h, 30d, 2w) through both rule sets; "
        "exits with 1 where a write would differ.",
        callback=rehearsing.time_span,
    ),
]
Reveal = Annotated[
    bool, typer.Option("--reveal", help="Show the values of --replay's examples; whose is written to the audit log.")
]
Offline = Annotated[bool, typer.Option("--offline", help="Do not ask the connected systems for their properties.")]
Approve = Annotated[
    bool, typer.Option("--approve", help="Enrol and withdraw more people than `guard:` of the connections file allows.")
]
Comment = Annotated[str, typer.Option("--comment", "-m", help="Say why, for the history.")]


_SIGNS = {"added": "+", "removed": "-", "changed": "~"}


class Planned(NamedTuple):
    """A change of rules that was looked at: from what to what, entry by entry, and its effect in each connection."""

    old: RuleSet
    new: RuleSet
    changes: list[Change]
    effects: list[Effect]
    identity: list[IdentityChange]
    matching: list[IdentityEffect]
    pathways: list[PathwayChange]
    courses: PathwayEffect
    replayed: Replayed | None = None

    @property
    def number(self) -> int:
        """Return how many changes there are."""
        return len(self.changes) + len(self.identity) + len(self.pathways)


@app.command("plan")
def plan(
    folder: Folder = None,
    *,
    replay: Replay = None,
    reveal: Reveal = False,
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    """Show what publishing these rules would change, for how many people, and the calls that costs; changes nothing."""
    if reveal and not replay:
        raise typer.BadParameter("--reveal shows the values of --replay's examples; add --replay 30d.")
    quiet()
    with sentences():
        process = this_process()
        new = _load(process, folder)
        planned = _plan(process, lambda _: new, replay, reveal=reveal)
        said = [] if offline else list(judgements(process, new))
        if planned.replayed and reveal:
            rehearsing.note(process, planned.replayed)
    replayed = planned.replayed
    if as_json:
        listed = [_for_programs(one) for one in planned.changes]
        answer = {"against": planned.old.id, "changes": listed, "effects": planned.effects, "portals": said}
        answer |= {"identity": planned.identity, "identity_effects": planned.matching, "pathways": planned.pathways}
        answer |= {"pathway_effects": planned.courses.for_programs()}
        say_json(answer | ({"replay": replayed} if replayed else {}))
    else:
        _tell(planned, said)
        if replayed:
            rehearsing.tell(replayed)
    if replayed and replayed.differs:
        raise typer.Exit(1)


@app.command("publish")
def publish(
    folder: Folder = None,
    *,
    comment: Comment = "",
    offline: Offline = False,
    approve: Approve = False,
    yes: Yes = False,
) -> None:
    """Make these rules the ones that count; shows the plan, and asks. Whom they concern is written behind live news."""
    quiet()
    with sentences():
        process = this_process()
        new = _load(process, folder)
        planned = _plan(process, lambda _: new)
        _tell(planned, list(judgements(process, new)) if planned.number and not offline else [])
        if not approve:
            _guard(process, planned, "publish", str(folder) if folder else "")
        _publish(process, planned, comment or count(planned.number, "change"), "Publish this?", yes=yes)


@app.command("rollback")
def rollback(
    number: Annotated[
        int | None,
        typer.Argument(metavar="[NUMBER]", help="The rule set to go back to; without it, the one before.", min=1),
    ] = None,
    *,
    comment: Comment = "",
    approve: Approve = False,
    yes: Yes = False,
) -> None:
    """Publish an earlier rule set again, as a new one; shows what that changes, and asks."""
    quiet()
    with sentences():
        process = this_process()
        planned = _plan(process, lambda db: _earlier(db, number))
        _tell(planned)
        back_to = planned.new.id
        if not approve:
            _guard(process, planned, "rollback", str(back_to))
        _publish(process, planned, comment or f"back to rule set {back_to}", f"Go back to rule set {back_to}?", yes=yes)


def _load(process: Assembly, folder: Path | None) -> RuleSet:
    chosen = folder or process.config.rules
    if chosen is None:
        raise ConfigError("no folder was named. Give one, or name it in the connections file: `rules: rules/`")
    config = process.config
    new = loader.load(chosen, lambda scope: unknown(config, scope), lambda connection: side_of(config, connection))
    if mistakes := circles(config, new):
        raise ConfigError("\n".join(mistakes))
    return new


def side_of(config: Config, connection: str) -> Side:
    """Return whether identity rules for a connection are about learners or contacts. Raises ValueError for neither."""
    if connection not in config.connections:
        raise ValueError(f"no connection is called {connection!r}; there are: {', '.join(sorted(config.connections))}")
    able = registry.system_of(config.connections[connection]).capabilities
    if able.holds_contacts:
        return "contacts"
    if able.receives_webhooks:
        return "learners"
    raise ValueError(f"connection {connection} has neither learners nor contacts, so there is nobody to match")


def unknown(config: Config, scope: Scope) -> str | None:
    """Return why there is nobody whom rules for this scope would be for."""
    if scope.connection and scope.connection not in config.connections:
        return f"no connection is called {scope.connection!r}; there are: {', '.join(sorted(config.connections))}"
    if scope.system and scope.system not in registry.SYSTEMS:
        return f"no system is called {scope.system!r}; there are: {', '.join(sorted(registry.SYSTEMS))}"
    system = scope.system or config.connections[scope.connection].system
    if not registry.SYSTEMS[system].capabilities.holds_contacts:
        return f"{scope} holds no contacts, so there is nothing to fill"
    return None


def _earlier(db: Connection, number: int | None) -> RuleSet:
    wanted = number or store.before(db)
    if wanted is None:
        raise no("There is no rule set before this one.")
    return numbered(db, wanted)


def _plan(
    process: Assembly, choose: Callable[[Connection], RuleSet], back: str | None = None, *, reveal: bool = False
) -> Planned:
    """Return what publishing the rules chosen would change, all of it as of one moment."""
    with process.engine.connect().execution_options(isolation_level="REPEATABLE READ") as db, db.begin():
        old, new = active(db), choose(db)
        fields, identity = diff(old, new), differences(old.identity, new.identity)
        pathways = pathway_text.differences(old.pathways, new.pathways)
        is_change = bool(fields or identity or pathways)
        return Planned(
            old,
            new,
            fields,
            list(effects(db, process.config, process.ring, old, new)),
            identity,
            list(identity_effects(db, process.config, process.ring, old, new)),
            pathways,
            pathway_effect(db, process.curriculum, old, new) if is_change else PathwayEffect(),
            rehearsing.replay(db, process, old, new, back, reveal=reveal) if back else None,
        )


def _guard(process: Assembly, planned: Planned, verb: str, what: str) -> None:
    """End the command where a publish concerns more people than it may without approval."""
    most = process.config.guard.people
    if planned.courses.guarded() > most:
        typed = " ".join(part for part in ("coursewire rules", verb, what, "--approve") if part)
        raise stop(
            f"nothing was published: it would {planned.courses.sentence()}. That is more than {most} "
            f"(`guard: {{people: {most}}}` in the connections file). If it is meant: `{typed}`"
        )


def _publish(process: Assembly, planned: Planned, comment: str, question: str, *, yes: bool) -> None:
    """Ask, and publish; ends the command where nothing changes, or somebody else has published meanwhile."""
    if not planned.number:
        raise typer.Exit
    if not yes:
        typer.confirm(question, abort=True)
    try:
        with process.engine.begin() as db:
            made = store.publish(db, planned.new, author=actor(), comment=comment, expected=planned.old.id)
            audit.append(db, actor=actor(), action="rules.publish", outcome="published", reference=f"rule_set:{made}")
    except LookupError as late:
        raise no(f"{late}; nothing was changed. Look at the plan again.") from None
    say(f"Rule set {made} is published. `coursewire rules history` tells when everybody was looked at by it.")


def _tell(planned: Planned, said: Sequence[Judgement] = ()) -> None:
    if planned.number:
        say(f"{count(planned.number, 'change')} against rule set {planned.old.id}\n")
        if planned.changes:
            _tell_changes(planned.changes, planned.effects)
        if planned.changes and planned.identity:
            say("")
        tell_identity(planned.identity, planned.matching)
        _tell_pathways(planned.pathways)
        planned.courses.tell()
    else:
        say(f"Nothing changes: these are the rules of set {planned.old.id}.")
    for judgement in said:
        say(f"\n{judgement.connection}, asked for its properties")
        for what in judgement.missing:
            say(f"  {what} is missing; it is left out until `coursewire check --apply` creates it")
        for fault in judgement.faults:
            say(f"  {fault}")


def _tell_changes(changes: list[Change], found: list[Effect]) -> None:
    for change in changes:
        rule = change.rule
        what = f"{change.scope}, {change.object_type}.{rule.name}"
        say(f"{_SIGNS[change.kind]} {what}: {rule.property} from {rule.filled_from()}")
        for part in change.parts:
            say(f"    {part.part}: {part.was} -> {part.becomes}")
    for effect in found:
        most = "at most " if effect.reads else ""  # what is there already is seen when they are read
        say(f"\n{effect.connection}: {most}{effect.changed} of {count(effect.people, 'person', 'people')} change")
        rows = [(name, people) for name, people in sorted(effect.properties.items())]
        say_table(["property", "people"], rows, indent=2)
        for name, people in sorted(effect.dropped.items()):
            say(f"  {name}: {count(people, 'person has', 'people have')} no value that fits; it is left out for them")
        for name in effect.no_longer:
            say(f"  {name}: not written any more; what it holds stays")
        say(f"  calls: {effect.writes} to write" + (f", {effect.reads} to read before" if effect.reads else ""))
    if not found:
        say("\nNobody's properties change.")


def _tell_pathways(changes: list[PathwayChange]) -> None:
    for change in changes:
        say(f"{_SIGNS[change.kind]} {change.key}.{change.name}")
        for part in change.parts:
            say(f"    {part.part}: {part.was} -> {part.becomes}")


def _for_programs(change: Change) -> dict[str, object]:
    return {"kind": change.kind, **entry(change.scope, change.object_type, change.rule), "parts": change.parts}


app.command("export")(rules_shown.export_rules)
app.command("history")(rules_shown.history)
app.command("explain")(rules_shown.explain)
