"""By which rules an inventory is true: what is published, or what the files say; and where each rule stands."""

from pathlib import Path
from typing import NamedTuple

from sqlalchemy import Connection

from integration.config import Config
from integration.errors import ConfigError
from mappings import loader, pathway_text, store
from mappings.diff import diff
from mappings.identity import differences
from mappings.rules import RuleSet
from tasks.commands.rules import side_of, unknown
from tasks.inventory.fields import Places
from tasks.inventory.model import Basis


class Ground(NamedTuple):
    """The rules to go by, what they are, and where they stand."""

    rules: RuleSet
    basis: Basis
    places: Places


def of_files(config: Config) -> Ground:
    """Return the rules of the files that the connections file names, else those that ship. Raises ConfigError."""
    if config.rules is None:
        rules = store.defaults()
        return Ground(rules, Basis("shipped"), dict.fromkeys(rules.where, "as it ships"))
    rules = loaded(config, config.rules)
    return Ground(rules, Basis("files"), _places(rules, config.rules))


def of_database(db: Connection, config: Config) -> Ground:
    """Return the published rules, compared with the files. Raises ConfigError where none are published."""
    try:
        rules = store.active(db)
    except LookupError as missing:
        raise ConfigError(str(missing)) from None
    published = store.history(db, limit=1)[0].published_at
    places = {(scope, record, one.name): f"rule set {rules.id}" for scope, record, one in rules.each()}
    if config.rules is None:
        return Ground(rules, Basis("published", rules.id, published), places)
    try:
        files = loaded(config, config.rules)
    except ConfigError as fault:
        first = str(fault).partition("\n")[0]
        return Ground(rules, Basis("published", rules.id, published, unreadable=first), places)
    changes = diff(rules, files)
    stale = {(change.scope, change.object_type, change.rule.name) for change in changes}
    stand = {place: line for place, line in _places(files, config.rules).items() if place in places}
    places |= {place: line for place, line in stand.items() if place not in stale}
    other = unpublished(rules, files, config.rules)
    return Ground(rules, Basis("published", rules.id, published, len(other)), places)


def unpublished(published: RuleSet, files: RuleSet, folder: Path) -> list[str]:
    """Return for each entry that is not as published the file in which it stands, '' where none says it any more.

    Entries of identity and pathways know no file.
    """
    places = _places(files, folder)
    changed = [(one.scope, one.object_type, one.rule.name) for one in diff(published, files)]
    others = len(differences(published.identity, files.identity))
    others += len(pathway_text.differences(published.pathways, files.pathways))
    return [places.get(place, "").rpartition(":")[0] for place in changed] + [""] * others


def loaded(config: Config, folder: Path) -> RuleSet:
    """Return the rules of a folder of files. Raises ConfigError with a line for each mistake."""
    return loader.load(folder, lambda scope: unknown(config, scope), lambda name: side_of(config, name))


def _places(rules: RuleSet, folder: Path) -> Places:
    return {place: line.removeprefix(f"{folder}/") for place, line in rules.where.items()}
