"""Pathways and role rules as a rule file says them, without what goes without saying; and what differs between two."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from mappings.deals import DealCondition
from mappings.diff import Differs
from mappings.pathway_files import PATHWAYS, ROLES
from mappings.pathways import Pathway, PathwayRules, RoleRule

_HEAD = """\
# {what} Written by `coursewire rules export`; edit, then `coursewire rules plan DIR`.
# What can be said here, with examples: docs/pathways.md.
"""
_WHAT = {PATHWAYS: "What people in a role are to learn.", ROLES: "Which role deserves which pathway."}

_UNSAID = RoleRule("", (), "")


@dataclass(frozen=True, slots=True)
class PathwayChange:
    """One pathway or role rule that is added, removed or changed."""

    kind: Literal["added", "removed", "changed"]
    key: str
    name: str
    parts: tuple[Differs, ...]


def entries(rules: PathwayRules) -> dict[str, dict[str, dict[str, Any]]]:
    """Return key of the file -> name -> entry."""
    return {
        PATHWAYS: {name: _pathway(one) for name, one in sorted(rules.pathways.items())},
        ROLES: {rule.name: _role(rule) for rule in sorted(rules.roles, key=lambda rule: rule.name)},
    }


def texts(rules: PathwayRules) -> dict[str, str]:
    """Return name of the file, without its ending -> its text; none for what there is none of."""
    return {
        key: _HEAD.format(what=_WHAT[key])
        + yaml.safe_dump({key: of}, default_flow_style=None, sort_keys=False, width=10_000, allow_unicode=True)
        for key, of in entries(rules).items()
        if of
    }


def differences(old: PathwayRules, new: PathwayRules) -> list[PathwayChange]:
    """Return what must change in `old` to be `new`: pathways first, by name."""
    was, becomes = entries(old), entries(new)
    changes = []
    for key in was:
        for name in sorted(was[key].keys() | becomes[key].keys()):
            before, after = was[key].get(name), becomes[key].get(name)
            if before != after:
                kind: Literal["added", "removed", "changed"] = (
                    "added" if before is None else "removed" if after is None else "changed"
                )
                changes.append(PathwayChange(kind, key, name, _parts(before or {}, after or {})))
    return changes


def _parts(was: Mapping[str, Any], becomes: Mapping[str, Any]) -> tuple[Differs, ...]:
    """Return the parts that differ, in the order of a file; the courses of a bucket are parts of their own."""
    before, after = dict(_flat(was)), dict(_flat(becomes))
    return tuple(
        Differs(part, _said(before.get(part)), _said(after.get(part)))
        for part in dict.fromkeys((*before, *after))
        if before.get(part) != after.get(part)
    )


def _flat(entry: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in entry.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{name}.")
        else:
            yield above + name, value


def _said(value: object) -> str:
    if value is None:
        return "unsaid"
    return ", ".join(str(one) or "blank" for one in (value if isinstance(value, list) else [value]))


def _pathway(pathway: Pathway) -> dict[str, Any]:
    buckets: dict[str, dict[str, list[str]]] = {}
    for course, bucket, required in pathway.courses:
        buckets.setdefault(bucket, {}).setdefault("required" if required else "optional", []).append(str(course))
    entry: dict[str, Any] = {"title": pathway.title}
    if pathway.enroll != "required":
        entry["enroll"] = pathway.enroll
    return entry | {"buckets": buckets}


def _role(rule: RoleRule) -> dict[str, Any]:
    said: dict[str, Any] = {
        "role": list(rule.roles) or None,
        "connection": rule.connection or None,
        "where": {name: list(patterns) for name, patterns in sorted(rule.where.items())} or None,
        "deal": _deal(rule.deal) if rule.deal else None,
        "pathway": rule.pathway,
        "from": rule.starts,
        "until": rule.ends,
    }
    for name in ("priority", "onboarding_days", "settle", "on_leave", "in_progress", "leavers"):
        value = getattr(rule, name)
        said[name] = None if value == getattr(_UNSAID, name) else value
    return {name: value for name, value in said.items() if value is not None}


def _deal(deal: DealCondition) -> dict[str, list[str]]:
    said = {"stage": list(deal.stages), "pipeline": list(deal.pipelines)}
    return {name: patterns for name, patterns in said.items() if patterns}
