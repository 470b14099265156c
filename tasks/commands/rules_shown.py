"""What the rules are and were: exported as files, listed, explained. Registered by `rules`."""

from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy import Connection

from integration.errors import ConfigError
from mappings import export, store
from mappings.canonical import CANONICAL
from mappings.diff import said
from mappings.identity import said as said_of
from mappings.identity import spoken
from mappings.rules import RuleSet, Scope
from tasks.assembly import this_process
from tasks.commands import explaining
from tasks.commands.options import AsJson
from tasks.role_owners import owners
from tasks.saying import no, quiet, say, say_json, say_table, sentences


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
            rules = numbered(db, number) if number else active(db)
        written = export.write(rules, folder, force=force)
        left = export.stale(folder, written)
    for path in written:
        say(f"{path}")
    for path in left:
        say(
            f"{path}: left as it is; it is no part of rule set {rules.id}, and a plan reads it. Delete it if it is old."
        )
    say(f"Rule set {rules.id}. Edit the files, then `coursewire rules plan {folder}`.")


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


def explain(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[FIELD]", help="A property, a field, or a connection (its identity); else all rules."),
    ] = None,
    *,
    role: Annotated[str | None, typer.Option(help="Say instead what somebody with this role deserves.")] = None,
    connection: Annotated[str | None, typer.Option(help="With --role: the CRM that says so; else every CRM.")] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="With --role: what else the contact says; may be repeated."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say how a property is filled: from what, changed how, and who owns it; or what a role deserves."""
    quiet()
    if role is not None and name is None:
        explaining.tell_role(role, connection, where or [], as_json=as_json)
        return
    if role is not None or connection is not None or where:
        raise typer.BadParameter("--connection and --where go with --role, and --role without a FIELD.")
    with sentences():
        process = this_process()
        with process.engine.begin() as db:
            rules = active(db)
    found = [
        (scope, object_type, rule)
        for scope, object_type, rule in rules.each()
        if name in (None, rule.name, rule.source, rule.property) or _is_instance(rule.property, name or "")
    ]
    matching = {one: p for one, p in rules.identity.items() if name in (None, one, *spoken(p)) and spoken(p)}
    if as_json:
        say_json({"rule_set": rules.id, "rules": [entry(*one) for one in found], "identity": matching})
        return
    if not found and not matching:
        raise no(f"No rule fills or uses {name}. `coursewire rules explain` lists them all.")
    rows = [
        (
            str(scope),
            f"{object_type}.{rule.property}",
            rule.filled_from(),
            said(rule, "transform"),
            rule.owner,
            rule.rule,
            "yes" if rule.required else None,
        )
        for scope, object_type, rule in found
    ]
    if rows:
        say_table(["for", "property", "from", "changed by", "owner", "written", "required"], rows)
    identity = [(c, key, said_of(getattr(p, key))) for c, p in sorted(matching.items()) for key in spoken(p)]
    if identity:
        say()
        say_table(["connection", "identity rule", "is"], identity)
    if name and len({rule.source for _, _, rule in found}) == 1:
        say(f"{found[0][2].source}: {CANONICAL[found[0][2].source].meaning}")
    for owner in owners(process.config, rules):
        if name in (None, owner.property):
            say(owner.sentence())
    say(f"Rule set {rules.id}.")


def active(db: Connection) -> RuleSet:
    """Return the published rules. Raises ConfigError where none are."""
    try:
        return store.active(db)
    except LookupError as missing:
        raise ConfigError(str(missing)) from None


def numbered(db: Connection, number: int) -> RuleSet:
    """Return one rule set; ends the command with a sentence where there is none."""
    try:
        return store.version(db, number)
    except LookupError as missing:
        raise no(f"{missing}.") from None


def _is_instance(template: str, name: str) -> bool:
    start, key, end = template.partition("{key}")
    return bool(key) and name.startswith(start) and name.endswith(end) and len(name) > len(start + end)


def entry(scope: Scope, object_type: str, rule: object) -> dict[str, object]:
    """Return a rule for programs."""
    return {"for": str(scope), "object": object_type, "rule": rule}
