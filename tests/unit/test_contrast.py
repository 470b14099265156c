"""Only what differs is projected by both rule sets: the differences found are those of two whole projections."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import example, given
from hypothesis import strategies as st

from mappings import transforms
from mappings.fields import STATUS, Canonical, Template
from mappings.rules import FieldRule
from tasks.contrast import Contrast

ZONE = ZoneInfo("Europe/Berlin")
NAME = FieldRule("name", "full_name", "name", "string")
STATE = FieldRule("state", STATUS, "state", "string")
CERTIFIED = FieldRule("certified", "certified", "certified_{key}", "bool")
UNTIL = FieldRule("until", "certified_until", "certified_{key}_until", "date")
PICKED = FieldRule("picked", "certified", "partner", "bool", of="alpha")
THEIRS = FieldRule("theirs", "full_name", "certified_alpha", "string", owner="crm")
ALPHA = FieldRule("alpha", "full_name", "certified_alpha", "string")
SYNCED = FieldRule("synced", "lms_last_synced_at", "synced", "datetime", passive=True)

VARIANTS = [
    [
        NAME,
        replace(NAME, required=True),
        replace(NAME, transform=transforms.parse(["lower"])),
        replace(NAME, rule="max"),
    ],
    [STATE, replace(STATE, transform=transforms.parse(["upper"])), replace(STATE, property="name")],
    [CERTIFIED, replace(CERTIFIED, type="enumeration"), replace(CERTIFIED, property="{key}_certified")],
    [PICKED, replace(PICKED, of="beta"), replace(PICKED, property="certified_beta")],
    [UNTIL, replace(UNTIL, property="certified_{key}")],
    [THEIRS, ALPHA, replace(ALPHA, transform=transforms.parse([{"lookup": {"Ada": "Countess"}}]))],
    [SYNCED, replace(SYNCED, passive=False)],
]


@st.composite
def rule_sets(draw: st.DrawFn) -> list[FieldRule]:
    """Return some rules, each in one of its forms, by name, as rule sets have them."""
    chosen = [draw(st.sampled_from([None, *forms])) for forms in VARIANTS]
    return sorted((rule for rule in chosen if rule), key=lambda rule: rule.name)


@st.composite
def people(draw: st.DrawFn) -> Canonical:
    """Return what is known of a person."""
    values: dict[str, Any] = {
        STATUS: [(None, draw(st.sampled_from(["ok", "attention: two"])))],
        "full_name": [(None, draw(st.sampled_from([None, "", "Ada"])))],
        "lms_last_synced_at": [(None, datetime(2026, 11, 22, tzinfo=UTC))],
    }
    if products := draw(st.sets(st.sampled_from(["alpha", "beta"]))):
        values["certified"] = [(key, draw(st.booleans())) for key in sorted(products)]
        values["certified_until"] = [(key, datetime(2027, 1, 1, tzinfo=UTC)) for key in sorted(products)]
    return values


@given(values=people(), old=rule_sets(), new=rule_sets())
@example({STATUS: [(None, "ok")], "certified": [("alpha", True)]}, [THEIRS], [THEIRS, CERTIFIED])
@example({STATUS: [(None, "ok")], "certified": [("alpha", False)]}, [CERTIFIED, THEIRS], [CERTIFIED, THEIRS, UNTIL])
@example(
    {STATUS: [(None, "ok")]}, [replace(NAME, required=True), STATE], [replace(NAME, required=True), VARIANTS[1][1]]
)
def test_the_parts_differ_where_the_whole_does(values: Canonical, old: list[FieldRule], new: list[FieldRule]) -> None:
    """Where two rules meet in a property, where the CRM owns one, and where something required is missing."""
    contrast = Contrast(old, new, ZONE)
    whole_old, whole_new = Template(old, ZONE).fill(values), Template(new, ZONE).fill(values)
    was, becomes = contrast.was.fill(values), contrast.becomes.fill(values)
    for kind in ("wanted", "passive"):
        ours, theirs = getattr(whole_old, kind), getattr(whole_new, kind)
        expected = {name: value for name, value in theirs.items() if ours.get(name) != value}
        part_was, part_becomes = getattr(was, kind), getattr(becomes, kind)
        assert {name: value for name, value in part_becomes.items() if part_was.get(name) != value} == expected
        shared = getattr(contrast.shared.fill(values), kind)
        assert {**shared, **part_was} == ours
        assert {**shared, **part_becomes} == theirs
    assert becomes.dropped.keys() - was.dropped.keys() == whole_new.dropped.keys() - whole_old.dropped.keys()
