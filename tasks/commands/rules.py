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
from mappings import export, loader, store
from mappings.canonical import CANONICAL
from mappings.diff import Change, diff, said
from mappings.rules import RuleSet, Scope
from tasks.actor import actor
from tasks.assembly import Assembly, this_process
from tasks.commands import rehearsing
from tasks.commands.options import AsJson, Yes
from tasks.commands.rehearsing import Replayed
from tasks.effect import Effect, effects
from tasks.portal import Judgement, judgements
from tasks.saying import count, no, quiet, say, say_json, say_table, sentences

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
Comment = Annotated[str, typer.Option("--comment", "-m", help="Say why, for the history.")]


class Planned(NamedTuple):
    """A change of rules that was looked at: from what to what, entry by entry, and its effect in each connection."""

    old: RuleSet
    new: RuleSet
    changes: list[Change]
    effects: list[Effect]
    replayed: Replayed | None = None


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
        say_json(answer | ({"replay": replayed} if replayed else {}))
    else:
        _tell(planned, said)
        if replayed:
            rehearsing.tell(replayed)
    if replayed and replayed.differs:
        raise typer.Exit(1)


@app.command("publish")
def publish(folder: Folder = None, *, comment: Comment = "", offline: Offline = False, yes: Yes = False) -> None:
    """Make these rules the ones that count; shows the plan, and asks. Whom they concern is written behind live news."""
    quiet()
    with sentences():
        process = this_process()
        new = _load(process, folder)
        planned = _plan(process, lambda _: new)
        _tell(planned, list(judgements(process, new)) if planned.changes and not offline else [])
        _publish(process, planned, comment or count(len(planned.changes), "change"), "Publish this?", yes=yes)


@app.command("rollback")
def rollback(
    number: Annotated[
        int | None,
        typer.Argument(metavar="[NUMBER]", help="The rule set to go back to; without it, the one before.", min=1),
    ] = None,
    *,
    comment: Comment = "",
    yes: Yes = False,
) -> None:
    """Publish an earlier rule set again, as a new one; shows what that changes, and asks."""
    quiet()
    with sentences():
        process = this_process()
        planned = _plan(process, lambda db: _earlier(db, number))
        _tell(planned)
        back_to = planned.new.id
        _publish(process, planned, comment or f"back to rule set {back_to}", f"Go back to rule set {back_to}?", yes=yes)


@app.command("export")
def export_rules(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to write the files to; made where needed.")],
    number: Annotated[int | None, typer.Option("--number", help="Export this rule set instead.", min=1)] = None,
    *,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that are there.")] = False,
) -> None:
    """Write the published rules as YAML, to edit and to keep under version control."""
    quiet()
    with sentences():
        with this_process().engine.begin() as db:
            rules = _numbered(db, number) if number else _active(db)
        written = export.write(rules, folder, force=force)
        left = export.stale(folder, written)
    for path in written:
        say(f"{path}")
    for path in left:
        say(
            f"{path}: left as it is; it is no part of rule set {rules.id}, and a plan reads it. Delete it if it is old."
        )
    say(f"Rule set {rules.id}. Edit the files, then `coursewire rules plan {folder}`.")


@app.command("history")
def history(
    limit: Annotated[int, typer.Option(help="Show at most this many.", min=1, max=10_000)] = 20,
    *,
    as_json: AsJson = False,
) -> None:
    """List what was published: when, by whom, and why."""
    quiet()
    with sentences(), this_process().engine.begin() as db:
        found = store.history(db, limit=limit)
    if as_json:
        say_json({"rule_sets": found})
        return
    rows = [
        (
            v.id,
            v.status,
            v.published_at,
            v.rolled_out_at or ("on its way" if v.status == "published" else "superseded"),
            v.author,
            v.comment,
        )
        for v in found
    ]
    say_table(["rule set", "status", "published (UTC)", "rolled out (UTC)", "by", "why"], rows)


@app.command("explain")
def explain(
    name: Annotated[
        str | None, typer.Argument(metavar="[FIELD]", help="A property or a canonical field; without it, all rules.")
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Say how a property is filled: from what, changed how, and who owns it."""
    quiet()
    with sentences(), this_process().engine.begin() as db:
        rules = _active(db)
    found = [
        (scope, object_type, rule)
        for scope, object_type, rule in rules.each()
        if name in (None, rule.name, rule.source, rule.property) or _is_instance(rule.property, name or "")
    ]
    if as_json:
        say_json({"rule_set": rules.id, "rules": [_entry(*one) for one in found]})
        return
    if not found:
        raise no(f"No rule fills or uses {name}. `coursewire rules explain` lists them all.")
    rows = [
        (
            str(scope),
            f"{object_type}.{rule.property}",
            rule.source,
            said(rule, "transform"),
            rule.owner,
            rule.rule,
            "yes" if rule.required else None,
        )
        for scope, object_type, rule in found
    ]
    say_table(["for", "property", "from", "changed by", "owner", "written", "required"], rows)
    if name and len({rule.source for _, _, rule in found}) == 1:
        say(f"{found[0][2].source}: {CANONICAL[found[0][2].source].meaning}")
    say(f"Rule set {rules.id}.")


def _load(process: Assembly, folder: Path | None) -> RuleSet:
    chosen = folder or process.config.rules
    if chosen is None:
        raise ConfigError("no folder was named. Give one, or name it in the connections file: `rules: rules/`")
    return loader.load(chosen, lambda scope: unknown(process.config, scope))


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


def _active(db: Connection) -> RuleSet:
    try:
        return store.active(db)
    except LookupError as missing:
        raise ConfigError(str(missing)) from None


def _numbered(db: Connection, number: int) -> RuleSet:
    try:
        return store.version(db, number)
    except LookupError as missing:
        raise no(f"{missing}.") from None


def _earlier(db: Connection, number: int | None) -> RuleSet:
    wanted = number or store.before(db)
    if wanted is None:
        raise no("There is no rule set before this one.")
    return _numbered(db, wanted)


def _plan(
    process: Assembly, choose: Callable[[Connection], RuleSet], back: str | None = None, *, reveal: bool = False
) -> Planned:
    """Return what publishing the rules chosen would change, all of it as of one moment."""
    with process.engine.connect().execution_options(isolation_level="REPEATABLE READ") as db, db.begin():
        old, new = _active(db), choose(db)
        found = list(effects(db, process.config, process.ring, old, new))
        replayed = rehearsing.replay(db, process, old, new, back, reveal=reveal) if back else None
        return Planned(old, new, diff(old, new), found, replayed)


def _publish(process: Assembly, planned: Planned, comment: str, question: str, *, yes: bool) -> None:
    """Ask, and publish; ends the command where nothing changes, or somebody else has published meanwhile."""
    if not planned.changes:
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
    if planned.changes:
        _tell_changes(planned.old, planned.changes, planned.effects)
    else:
        say(f"Nothing changes: these are the rules of set {planned.old.id}.")
    for judgement in said:
        say(f"\n{judgement.connection}, asked for its properties")
        for what in judgement.missing:
            say(f"  {what} is missing; it is left out until `coursewire check --apply` creates it")
        for fault in judgement.faults:
            say(f"  {fault}")


def _tell_changes(old: RuleSet, changes: list[Change], found: list[Effect]) -> None:
    signs = {"added": "+", "removed": "-", "changed": "~"}
    say(f"{count(len(changes), 'change')} against rule set {old.id}\n")
    for change in changes:
        rule = change.rule
        say(
            f"{signs[change.kind]} {change.scope}, {change.object_type}.{rule.name}: {rule.property} from {rule.source}"
        )
        for part in change.parts:
            say(f"    {part.part}: {part.was} -> {part.becomes}")
    for effect in found:
        say(f"\n{effect.connection}: {effect.changed} of {count(effect.people, 'person', 'people')} change")
        rows = [(name, people) for name, people in sorted(effect.properties.items())]
        say_table(["property", "people"], rows, indent=2)
        for name, people in sorted(effect.dropped.items()):
            say(f"  {name}: {count(people, 'person has', 'people have')} no value that fits; it is left out for them")
        for name in effect.no_longer:
            say(f"  {name}: not written any more; what it holds stays")
        say(f"  calls: {effect.writes} to write" + (f", {effect.reads} to read before" if effect.reads else ""))
    if not found:
        say("\nNobody's properties change.")


def _is_instance(template: str, name: str) -> bool:
    start, key, end = template.partition("{key}")
    return bool(key) and name.startswith(start) and name.endswith(end) and len(name) > len(start + end)


def _entry(scope: Scope, object_type: str, rule: object) -> dict[str, object]:
    return {"for": str(scope), "object": object_type, "rule": rule}


def _for_programs(change: Change) -> dict[str, object]:
    return {"kind": change.kind, **_entry(change.scope, change.object_type, change.rule), "parts": change.parts}
