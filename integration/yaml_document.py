"""A YAML file that an administrator writes: its content, and where in it a mistake stands."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from integration.errors import ConfigError

Place = Sequence[int | str]
"""The keys and list positions that lead to a value."""

_LARGEST = 200_000
"""The most values that a file may stand for: more than it can hold written out."""

_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError)
"""What PyYAML raises for values that look like a date or a number, and are none."""

_PLAIN = {
    "extra_forbidden": "this key is not known",
    "missing": "is missing",
    "model_type": "expected keys and values here",
    "dict_type": "expected keys and values here",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "string_too_short": "must not be empty",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "tuple_type": "expected a list",
}


class _UniqueKeys(yaml.SafeLoader):
    """YAML without silent losses: a key that is there twice is a mistake, not its last value."""


def _mapping(loader: _UniqueKeys, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
    seen = set()
    for key, _ in node.value:
        name = (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else key
        if name in seen:
            raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is there twice", key.start_mark)
        seen.add(name)
    return yaml.SafeLoader.construct_mapping(loader, node, deep)


_UniqueKeys.add_constructor(
    yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG,
    lambda loader, node: _mapping(loader, node, deep=True),  # type: ignore[arg-type]
)


def _too_large(root: yaml.Node) -> yaml.Node | None:
    """Return the first node that stands for too many once every alias is written out, or that holds itself.

    Counted before anything is made of them: a few lines of aliases can stand for more than any memory holds.
    """
    sizes: dict[int, int] = {}
    under_way: set[int] = set()
    waiting = [root]
    while waiting:
        node = waiting[-1]
        if id(node) in sizes:
            waiting.pop()
            continue
        parts = _parts(node)
        unknown = {id(part): part for part in parts if id(part) not in sizes}
        if not under_way.isdisjoint(unknown) or id(node) in unknown:
            return node
        if unknown:
            under_way.add(id(node))
            waiting += unknown.values()
            continue
        under_way.discard(id(node))
        sizes[id(node)] = 1 + sum(sizes[id(part)] for part in parts)
        if sizes[id(node)] > _LARGEST:
            return node
    return None


def _parts(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


class YamlDocument:
    """A file as read once: `data`, and sentences about places in it."""

    def __init__(self, path: Path, text: str) -> None:
        """Raises ConfigError with file, line and reason where this is not YAML, or no mapping."""
        self.path = path
        try:
            self._node = yaml.compose(text, Loader=yaml.SafeLoader)
            if self._node and (large := _too_large(self._node)):
                line = large.start_mark.line + 1
                raise ConfigError(f"{path}:{line}: this stands for far too much; write it without aliases (&, *, <<)")
            self.data: Any = yaml.load(text, Loader=_UniqueKeys)  # noqa: S506 - a SafeLoader
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = f":{mark.line + 1}" if mark else ""
            raise ConfigError(f"{path}{line}: this is not YAML: {getattr(error, 'problem', None) or error}") from None
        except _UNREADABLE:
            place = self._unreadable_line(self._node)
            raise ConfigError(f"{path}:{place}: a value is not what its form says; write text in quotes") from None
        except RecursionError:
            raise ConfigError(f"{path}: this is not YAML that can be read: it is nested too deep") from None

    def _unreadable_line(self, node: yaml.Node | None) -> int:
        """Return the line of the first value that cannot be made."""
        waiting = [node] if node else []
        while waiting:
            one = waiting.pop()
            if isinstance(one, yaml.ScalarNode):
                try:
                    yaml.SafeLoader("").construct_object(one)
                except (*_UNREADABLE, yaml.YAMLError):
                    return int(one.start_mark.line) + 1
            elif isinstance(one, yaml.MappingNode):
                waiting += [part for pair in reversed(one.value) for part in reversed(pair)]
            elif isinstance(one, yaml.SequenceNode):
                waiting += reversed(one.value)
        return 1

    def line_of(self, place: Place) -> int:
        """Return the 1-based line of the deepest YAML node that `place` leads to."""
        node: yaml.Node | None = self._node
        line = node.start_mark.line + 1 if node else 1
        for part in place:
            if isinstance(node, yaml.MappingNode):
                found = next(((k, v) for k, v in node.value if k.value == str(part)), None)
                if found is None:
                    return line
                line, node = found[0].start_mark.line + 1, found[1]
            elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
                node = node.value[part]
                line = node.start_mark.line + 1
        return line

    def sentence(self, place: Place, text: str) -> str:
        """Return a mistake as people read it: file, line, place and what is wrong."""
        named = ".".join(str(part) for part in place if part != "[key]")
        shown = "".join(c if c.isprintable() else "?" for c in f"{named or 'file'}: {text}")
        return f"{self.path}:{self.line_of(place)}: {shown}"

    def sentences(self, error: ValidationError, under: Place = ()) -> list[str]:
        """Return one sentence for each mistake that pydantic found in what stands at `under`."""
        return [
            self.sentence([*under, *mistake["loc"]], plainly(mistake))
            for mistake in error.errors(include_input=False, include_url=False)
        ]


def plainly(mistake: Mapping[str, Any]) -> str:
    """Return what pydantic found wrong, in words for whoever wrote it."""
    message: str = mistake["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    return _PLAIN.get(mistake["type"], message)
