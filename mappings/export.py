"""Rule sets as YAML files, which `loader` reads back to the same rules."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import indent
from typing import Any

import yaml

from integration.errors import ConfigError
from integration.model.identity import ContactPolicy, IdentityPolicy
from mappings import loader, pathway_text, transforms
from mappings.identity import spoken
from mappings.loader import IDENTITY
from mappings.rules import FieldRule, FieldRules, RuleSet, Scope

_HEAD = """\
# Which property is filled from what. Written by `coursewire rules export`; edit, then `coursewire rules plan DIR`.
# What can be said here, with examples: docs/rules.md.
"""

_IDENTITY_HEAD = """\
# Who is matched with whom. Written by `coursewire rules export`; edit, then `coursewire rules plan DIR`.
# What can be said here, with examples: docs/identity.md.
"""


def write(rules: RuleSet, folder: Path, *, force: bool = False) -> list[Path]:
    """Write one file for each scope, for each connection with identity rules, for pathways and roles; return them.

    Raises ConfigError where a file is there already, unless `force`, or cannot be written.
    """
    files = {folder / _file(scope): text(scope, of) for scope, of in rules.fields.items()}
    files |= {
        folder / IDENTITY / f"{connection}.yaml": identity_text(connection, policy)
        for connection, policy in rules.identity.items()
        if spoken(policy)
    }
    files |= {folder / f"{name}.yaml": content for name, content in pathway_text.texts(rules.pathways).items()}
    there = [str(path) for path in files if path.exists()]
    if there and not force:
        raise ConfigError(f"{', '.join(there)}: there already; nothing was written. Use --force to overwrite.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, content in files.items():
            path.parent.mkdir(exist_ok=True)
            path.write_text(content, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{folder}: {error.strerror}. Name a folder that can be written to.") from None
    return list(files)


def stale(folder: Path, written: Sequence[Path]) -> list[Path]:
    """Return the rule files in a folder that were not among those just written: `plan` reads them as well.

    They may be of a scope that is gone, or somebody's work that is not published yet, so they are not removed.
    """
    return sorted(path for path in loader.files(folder) if path not in written)


def text(scope: Scope, objects: Mapping[str, FieldRules]) -> str:
    """Return the rules of one scope as a file's text."""
    heading = {"connection": scope.connection} if scope.connection else {"system": scope.system}
    parts = [_HEAD, yaml.safe_dump(heading)]
    for object_type, rules in objects.items():
        parts.append(f"{object_type}:\n")
        for rule in rules:
            entry = yaml.safe_dump(
                _entry(rule), default_flow_style=True, sort_keys=False, width=10_000, allow_unicode=True
            )
            name = yaml.safe_dump(rule.name, default_flow_style=True).splitlines()[0]
            parts.append(f"  {name}: {entry.strip()}\n")
    return "".join(parts)


def identity_text(connection: str, policy: IdentityPolicy | ContactPolicy) -> str:
    """Return the identity rules of one connection as a file's text."""
    said = yaml.safe_dump(spoken(policy), default_flow_style=None, sort_keys=False, width=10_000, allow_unicode=True)
    return f"{_IDENTITY_HEAD}{yaml.safe_dump({'connection': connection})}{IDENTITY}:\n{indent(said, '  ')}"


def _file(scope: Scope) -> str:
    return f"connection-{scope.connection}.yaml" if scope.connection else f"{scope.system}.yaml"


def _entry(rule: FieldRule) -> dict[str, Any]:
    """Return a rule as a file says it, without what goes without saying."""
    entry: dict[str, Any] = {"property": rule.property, "type": rule.type}
    if rule.aggregate:
        entry = {rule.aggregate: rule.source, **entry}
    elif rule.source != rule.name:
        entry["from"] = rule.source
    if rule.counted:
        entry["is"] = list(rule.counted)
    if rule.of:
        entry["of"] = rule.of
    if rule.transform:
        entry["transform"] = transforms.to_data(rule.transform)
    if rule.owner != "lms":
        entry["owner"] = rule.owner
    if rule.rule != "always":
        entry["rule"] = rule.rule
    return entry | {name: True for name in ("required", "passive") if getattr(rule, name)}
