"""Rules from a folder of YAML files, or every mistake in them at once: file, line, and a plain sentence."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from importlib.resources.abc import Traversable
from pathlib import Path

from pydantic import ValidationError

from integration.errors import ConfigError
from integration.yaml_document import YamlDocument
from mappings.rules import FieldRule, RuleSet, Scope
from mappings.schema import OBJECTS, FieldEntry, Heading

_LARGEST = 1_048_576
_MOST_FILES = 500

IsKnown = Callable[[Scope], str | None]
"""Return why there is nobody whom rules for this scope would be for, None where there is."""


def load(folder: Path | Traversable, is_known: IsKnown = lambda _: None) -> RuleSet:
    """Return the rules of every `*.yaml` and `*.yml` file under `folder`.

    Raises ConfigError with one line for each mistake; nothing is loaded by halves.
    """
    found: dict[tuple[Scope, str], list[tuple[FieldRule, str]]] = {}
    mistakes: list[str] = []
    for path in _files(folder):
        try:
            document = YamlDocument(Path(str(path)), _text(path))
        except ConfigError as error:
            mistakes.append(str(error))
            continue
        mistakes += _read(document, found, is_known)
    mistakes += _twice(found)
    if mistakes:
        raise ConfigError("\n".join(mistakes))
    fields: dict[Scope, dict[str, tuple[FieldRule, ...]]] = {}
    for (scope, object_type), rules in sorted(found.items()):
        ordered = sorted((rule for rule, _ in rules), key=lambda rule: rule.name)
        fields.setdefault(scope, {})[object_type] = tuple(ordered)
    where = {(*place, rule.name): line for place, rules in found.items() for rule, line in rules}
    return RuleSet(0, datetime.now(UTC), fields, where=where)


def _files(folder: Path | Traversable) -> list[Path | Traversable]:
    try:
        paths = sorted(_below(folder), key=str)
    except OSError as error:
        raise ConfigError(f"{folder}: {error.strerror}. Name the folder that holds the rule files.") from None
    if not paths:
        raise ConfigError(
            f"{folder}: there is no .yaml file in it. `coursewire rules export` writes some to begin with."
        )
    if len(paths) > _MOST_FILES:
        raise ConfigError(f"{folder}: {len(paths)} files are more than rules need ({_MOST_FILES}); name their folder.")
    return paths


def files(folder: Path) -> list[Path]:
    """Return the files under `folder` that `load` would read."""
    return [path for path in _files(folder) if isinstance(path, Path)]


def _text(path: Path | Traversable) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(_LARGEST + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    if len(raw) > _LARGEST:
        raise ConfigError(f"{path}: the file is larger than 1 MiB; rules are not.")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: this is not text in UTF-8; save it as UTF-8.") from None


def _below(folder: Path | Traversable) -> Iterable[Path | Traversable]:
    for entry in folder.iterdir():
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            if not (isinstance(entry, Path) and entry.is_symlink()):  # which may lead back here
                yield from _below(entry)
        elif entry.name.endswith((".yaml", ".yml")) and entry.is_file():
            yield entry


def _read(
    document: YamlDocument, found: dict[tuple[Scope, str], list[tuple[FieldRule, str]]], is_known: IsKnown
) -> list[str]:
    """Add the rules of one file to `found`; return its mistakes."""
    if not isinstance(document.data, dict):
        return [document.sentence((), "expected system: or connection:, and below it what is filled")]
    try:
        heading = Heading.model_validate(document.data)
    except ValidationError as error:
        return document.sentences(error)
    scope = Scope(heading.system or "", heading.connection or "")
    mistakes = []
    unknown = is_known(scope)
    if unknown:
        mistakes.append(document.sentence(("connection" if scope.connection else "system",), unknown))
    for object_type, entries in (heading.model_extra or {}).items():
        if object_type not in OBJECTS:
            mistakes.append(
                document.sentence((object_type,), f"no object is called so; there is: {', '.join(OBJECTS)}")
            )
        elif not isinstance(entries, dict | None):
            mistakes.append(document.sentence((object_type,), "expected one entry for each field"))
        else:
            for name, given in (entries or {}).items():
                rule = _rule(document, (object_type, str(name)), given, mistakes)
                if rule is not None:
                    where = f"{document.path}:{document.line_of((object_type, str(name)))}"
                    found.setdefault((scope, object_type), []).append((rule, where))
    return mistakes


def _rule(document: YamlDocument, place: tuple[str, str], given: object, mistakes: list[str]) -> FieldRule | None:
    """Return the rule of one entry, or add its mistakes and return None."""
    try:
        return FieldEntry.model_validate(given).rule_called(place[1])
    except ValidationError as error:
        mistakes += document.sentences(error, place)
    except ValueError as error:
        mistakes.append(document.sentence(place, str(error)))
    return None


def _twice(found: dict[tuple[Scope, str], list[tuple[FieldRule, str]]]) -> list[str]:
    """Return a sentence for each name or property that two rules of one scope claim."""
    mistakes = []
    for (scope, object_type), rules in found.items():
        names: dict[str, str] = {}
        properties: dict[str, str] = {}
        for rule, where in rules:
            if rule.name in names:
                first = names[rule.name]
                mistakes.append(f"{where}: {object_type}.{rule.name}: {scope} has this rule already, at {first}")
            elif rule.property in properties:
                first = properties[rule.property]
                mistakes.append(f"{where}: {object_type}.{rule.name}: {rule.property} is filled already, at {first}")
            names.setdefault(rule.name, where)
            properties.setdefault(rule.property, where)
    return mistakes
