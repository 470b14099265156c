"""Rules from a folder of YAML files, or every mistake in them at once: file, line, and a plain sentence."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from importlib.resources.abc import Traversable
from pathlib import Path

from pydantic import ValidationError

from integration.errors import ConfigError
from integration.model.accounts import ACCOUNT
from integration.model.contacts import CONTACT
from integration.model.identity import ContactPolicy, IdentityPolicy
from integration.yaml_document import YamlDocument
from mappings.account_schema import AccountEntry
from mappings.identity import ENTRIES, Side
from mappings.pathway_files import KEYS, PathwayReader
from mappings.rules import FieldRule, RuleSet, Scope
from mappings.schema import OBJECTS, FieldEntry, Heading

_LARGEST = 1_048_576
_MOST_FILES = 500

IsKnown = Callable[[Scope], str | None]
"""Return why there is nobody whom rules for this scope would be for, None where there is."""

SideOf = Callable[[str], Side]
"""Return whose identity a connection's rules are about; raises ValueError with a sentence where it can be nobody's."""

IDENTITY = "identity"
"""The key of a file under which identity rules stand."""

_Found = dict[tuple[Scope, str], list[tuple[FieldRule, str]]]
_Identities = dict[str, tuple[IdentityPolicy | ContactPolicy, str]]


def load(
    folder: Path | Traversable, is_known: IsKnown = lambda _: None, side_of: SideOf = lambda _: "learners"
) -> RuleSet:
    """Return the rules of every `*.yaml` and `*.yml` file under `folder`.

    Raises ConfigError with one line for each mistake; nothing is loaded by halves.
    """
    found: _Found = {}
    identities: _Identities = {}
    pathways = PathwayReader(lambda crm: is_known(Scope(connection=crm)), lambda lms: _no_courses(lms, side_of))
    mistakes: list[str] = []
    for path in _files(folder):
        try:
            document = YamlDocument(Path(str(path)), _text(path))
        except ConfigError as error:
            mistakes.append(str(error))
            continue
        own = {key: document.data[key] for key in KEYS if isinstance(document.data, dict) and key in document.data}
        if own:
            mistakes += _strangers(document) + pathways.read(document, own)
        else:
            mistakes += _read(document, found, identities, is_known, side_of)
    mistakes += _twice(found)
    mistakes += _unfilled(identities, found)
    mistakes += pathways.unknown()
    if mistakes:
        raise ConfigError("\n".join(mistakes))
    fields: dict[Scope, dict[str, tuple[FieldRule, ...]]] = {}
    for (scope, object_type), rules in sorted(found.items()):
        ordered = sorted((rule for rule, _ in rules), key=lambda rule: rule.name)
        fields.setdefault(scope, {})[object_type] = tuple(ordered)
    where = {(*place, rule.name): line for place, rules in found.items() for rule, line in rules}
    matching = {name: policy for name, (policy, _) in sorted(identities.items())}
    return RuleSet(0, datetime.now(UTC), fields, matching, pathways.rules(), where)


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
    document: YamlDocument, found: _Found, identities: _Identities, is_known: IsKnown, side_of: SideOf
) -> list[str]:
    """Add the rules of one file to `found` and `identities`; return its mistakes."""
    if not isinstance(document.data, dict):
        return [document.sentence((), "expected system: or connection:, and below it what is filled")]
    try:
        heading = Heading.model_validate(document.data)
    except ValidationError as error:
        return document.sentences(error)
    scope = Scope(heading.system or "", heading.connection or "")
    mistakes = []
    below = dict(heading.model_extra or {})
    has_identity = IDENTITY in below
    if has_identity:
        mistakes += _identity(document, scope.connection, below.pop(IDENTITY), identities, side_of)
    unknown = is_known(scope) if below or not has_identity else None
    if unknown:
        mistakes.append(document.sentence(("connection" if scope.connection else "system",), unknown))
    for object_type, entries in below.items():
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


def _no_courses(connection: str, side_of: SideOf) -> str | None:
    """Return why a connection has no courses, None where it may have some."""
    try:
        side = side_of(connection)
    except ValueError as nobody:
        return str(nobody)
    return None if side == "learners" else f"connection {connection} is a CRM, which has no courses"


def _strangers(document: YamlDocument) -> list[str]:
    """Return a sentence for each key that has no place beside pathways and roles."""
    return [
        document.sentence((str(key),), "pathways: and roles: are for no system or connection; give them their own file")
        for key in document.data
        if key not in KEYS
    ]


def _identity(
    document: YamlDocument, connection: str, given: object, identities: _Identities, side_of: SideOf
) -> list[str]:
    """Add the identity rules of one file; return its mistakes."""
    if not connection:
        return [document.sentence((IDENTITY,), "identity rules are for one connection: write connection: NAME above")]
    try:
        side = side_of(connection)
    except ValueError as nobody:
        return [document.sentence(("connection",), str(nobody))]
    try:
        policy = ENTRIES[side].model_validate(given if given is not None else {}).policy()
    except ValidationError as error:
        return [*_of_the_other_side(document, given, side), *document.sentences(error, (IDENTITY,))]
    if connection in identities:
        first = identities[connection][1]
        return [document.sentence((IDENTITY,), f"{connection} has identity rules already, at {first}")]
    identities[connection] = (policy, f"{document.path}:{document.line_of((IDENTITY,))}")
    return []


def _of_the_other_side(document: YamlDocument, given: object, side: Side) -> list[str]:
    """Return a sentence where keys are known, but not of a connection like this one."""
    other: Side = "contacts" if side == "learners" else "learners"
    foreign = ENTRIES[other].model_fields.keys() - ENTRIES[side].model_fields.keys()
    is_meant = [key for key in given if key in foreign] if isinstance(given, dict) else []
    whose = "a CRM" if other == "contacts" else "a learning system"
    return [document.sentence((IDENTITY, key), f"this is a rule of {whose}, and this is none") for key in is_meant[:1]]


def _unfilled(identities: _Identities, found: _Found) -> list[str]:
    """Return a sentence for each field that contacts are looked up by and that no rule brings to them."""
    mistakes = []
    for connection, (policy, where) in identities.items():
        own = {Scope(connection=connection)} & {scope for scope, _ in found}
        filled = {
            rule.source
            for (scope, object_type), rules in found.items()
            for rule, _ in rules
            if object_type == CONTACT and rule.owner == "lms" and (scope in own if own else scope.system)
        }
        chosen = isinstance(policy, ContactPolicy) and policy.look_up != ContactPolicy().look_up
        names = policy.look_up if chosen else ()
        mistakes += [
            f"{where}: {IDENTITY}.look_up: no rule fills a property from {name}, so no contact could be found by it; "
            "add one under contact:"
            for name in names
            if name not in {*filled, "email"}
        ]
    return mistakes


def _rule(document: YamlDocument, place: tuple[str, str], given: object, mistakes: list[str]) -> FieldRule | None:
    """Return the rule of one entry, or add its mistakes and return None."""
    try:
        entry = AccountEntry if place[0] == ACCOUNT else FieldEntry
        return entry.model_validate(given).rule_called(place[1])
    except ValidationError as error:
        mistakes += document.sentences(error, place)
    except ValueError as error:
        mistakes.append(document.sentence(place, str(error)))
    return None


def _twice(found: _Found) -> list[str]:
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
