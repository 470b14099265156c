"""Pathways and roles in files: what they can say, and what is said of every mistake."""

import re
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from integration.config import Config
from integration.errors import ConfigError
from integration.model.enrollments import CourseRef
from mappings import export, loader, store
from mappings.deals import DealCondition
from mappings.pathway_schema import PathwayEntry, RoleEntry
from mappings.pathway_text import differences
from mappings.pathways import (
    Enroll,
    InProgress,
    Leavers,
    OnLeave,
    OverrideKind,
    Pathway,
    PathwayCourse,
    PathwayRules,
    RoleRule,
)
from mappings.progress import Stage
from mappings.rules import RuleSet
from tasks.commands.rules import side_of
from tests.db.conftest import CONFIG
from tests.unit.test_rule_files import HEAD, is_known

PATH = 'pathways:\n  ae:\n    buckets:\n      demo: {required: ["academy:demo-101"]}\n'
ROLE = PATH + "roles:\n  ae:\n    pathway: ae\n    role: AE\n"
BUCKET = "pathways:\n  ae:\n    buckets:\n      demo:\n"

WRONG = [
    ("a list of pathways", "pathways: [ae]\n", 1, "pathways: expected one entry for each of the pathways"),
    ("a pathway that is text", "pathways:\n  ae: demo-101\n", 2, "pathways.ae: expected keys and values here"),
    ("a pathway without courses", "pathways:\n  ae: {title: AE}\n", 2, "buckets: is missing"),
    ("a pathway without buckets", "pathways:\n  ae: {buckets: {}}\n", 2, "no course is required"),
    ("a bucket that is a list", BUCKET[:-1] + " [academy:x]\n", 4, "expected keys and values here"),
    ("an empty bucket", BUCKET[:-1] + " {}\n", 4, "there is no course in this bucket"),
    ("an empty list", BUCKET + "        required: []\n", 5, "this list is empty"),
    ("nothing required", BUCKET + '        optional: ["academy:x"]\n', 2, "so nobody could complete this"),
    ("a course that is no list", BUCKET + "        required: academy:x\n", 5, "expected a list"),
    ("a course without an LMS", BUCKET + "        required:\n          - a:b\n          - demo\n", 7, "'demo' is no"),
    ("a course that is a mapping", BUCKET + "        required: [academy: x]\n", 5, "must be text"),
    ("a course without an id", BUCKET + "        required: ['academy:']\n", 5, "'academy:' is no course"),
    (
        "a course of nobody",
        BUCKET + "        required:\n          - academy:x\n          - acad:x\n",
        7,
        "no connection is called 'acad'",
    ),
    ("a course of a CRM", BUCKET + "        required: ['crm:x']\n", 5, "is a CRM, which has no courses"),
    ("a course twice", BUCKET + "        required: ['academy:x', 'academy:x']\n", 5, "'academy:x' is there twice"),
    (
        "a course both ways",
        BUCKET + "        required: ['academy:x']\n        optional: ['academy:x']\n",
        4,
        "academy:x is both required and optional here",
    ),
    ("a bucket with a blank", PATH.replace("demo:", "Deal Room:"), 2, "a bucket is called by lower-case letters"),
    ("an unknown key of a pathway", PATH + "    enrol: all\n", 5, "enrol: this key is not known"),
    ("an unknown enroll", PATH + "    enroll: some\n", 5, "must be 'required' or 'all'"),
    ("a blank title", PATH + "    title: ' '\n", 5, "title: must not be empty"),
    ("a name with a blank", PATH.replace("ae:", "a e:"), 2, "called by letters, digits, _ and -"),
    ("a name that is no text", PATH.replace("ae:", "no:"), 1, "put it in quotes"),
    ("a pathway nobody knows", ROLE.replace("pathway: ae", "pathway: aee"), 7, "'aee'; did you mean ae?"),
    ("no pathway at all", "roles:\n  ae: {role: AE, pathway: ae}\n", 2, "no pathway is called 'ae'; there are: none"),
    ("a role rule without a pathway", "roles:\n  ae: {role: AE}\n", 2, "pathway: is missing"),
    ("nobody in particular", PATH + "roles:\n  ae: {pathway: ae}\n", 6, "this is for everybody"),
    ("a role that everybody has", ROLE.replace("AE", "'*'"), 8, "a pattern that everybody meets"),
    ("a blank role", ROLE.replace("AE", "''"), 8, "a pattern that everybody meets"),
    ("a role that is no text", ROLE.replace("AE", "no"), 8, "must be text; put it in quotes"),
    ("no role", ROLE.replace("AE", "[]"), 8, "this list is empty"),
    ("a role twice", ROLE.replace("AE", "[AE, ae]"), 8, "differ in nothing but capitals"),
    ("a choice of letters", ROLE.replace("AE", "'[AS]E'"), 8, "and no [ ]"),
    ("too many stars", ROLE.replace("AE", "'a*b*c*d*e*f'"), 8, "at most 4 stars"),
    ("no conditions", ROLE + "    where: {}\n", 9, "expected a property and what it must be"),
    ("a strange property", ROLE + "    where: {my field: x}\n", 9, "'my field' is no name of a property"),
    ("a condition that is no text", ROLE + "    where: {a: x, b: yes}\n", 9, "where: b: must be text"),
    ("a condition that all meet", ROLE + "    where: {a: '*'}\n", 9, "write ?* for any value"),
    ("a deal in no stage", ROLE + "    deal: {pipeline: default}\n", 9, "deal.stage: is missing"),
    ("a deal in any stage", ROLE + "    deal: {stage: '*'}\n", 9, "a pattern that everybody meets"),
    ("a deal by another word", ROLE + "    deal: {stage: won, name: x}\n", 9, "deal.name: this key is not known"),
    ("a CRM nobody knows", ROLE + "    connection: crm2\n", 9, "no connection is called 'crm2'"),
    ("a CRM that is none", ROLE + "    connection: academy\n", 9, "holds no contacts"),
    ("a priority that is none", ROLE + "    priority: high\n", 9, "priority: must be a whole number"),
    ("too many days", ROLE + "    onboarding_days: 3651\n", 9, "must be less than or equal to 3650"),
    ("fewer than no days", ROLE + "    onboarding_days: -1\n", 9, "must be greater than or equal to 0"),
    ("a settle of more than a day", ROLE + "    settle: 86401\n", 9, "must be less than or equal to 86400"),
    ("half a second", ROLE + "    settle: 0.5\n", 9, "settle: must be a whole number"),
    ("a day that is none", ROLE + "    from: 2026-02-30\n", 9, "write text in quotes"),
    ("a day of another form", ROLE + "    from: 1.2.2026\n", 9, "'1.2.2026' is no day; write it as 2026-01-31"),
    ("a moment", ROLE + "    until: 2026-01-31 12:00:00\n", 9, "must be a day without a time"),
    ("the end of time", ROLE + "    until: 9999-12-31\n", 9, "9999 is no year that rules are made for"),
    ("an end before the beginning", ROLE + "    from: 2026-02-01\n    until: 2026-01-31\n", 6, "it ends on 2026-01-31"),
    ("an unknown way to leave", ROLE + "    on_leave: expel\n", 9, "must be 'keep', 'conclude' or 'remove'"),
    ("an unknown way for the begun", ROLE + "    in_progress: remove\n", 9, "must be 'keep' or 'same'"),
    ("a way that nobody takes", ROLE + "    in_progress: same\n", 6, "on_leave keeps everybody"),
    ("somebody it is for", "system: hubspot\n" + PATH, 1, "give them their own file"),
]


def load(folder: Path) -> RuleSet:
    """Load a folder as the command does."""
    config = Config.model_validate(CONFIG)
    return loader.load(folder, is_known, lambda connection: side_of(config, connection))


def said_of(folder: Path) -> list[str]:
    """Return every mistake of a folder."""
    with pytest.raises(ConfigError) as raised:
        load(folder)
    return str(raised.value).splitlines()


@pytest.mark.parametrize(("text", "line", "said"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_a_mistake_is_said_with_its_line(tmp_path: Path, text: str, line: int, said: str) -> None:
    """A sentence that starts with file and line; and nothing is loaded."""
    file = tmp_path / "roles.yaml"
    file.write_text(text, encoding="utf-8")
    sentences = said_of(tmp_path)
    found = [one for one in sentences if one.startswith(f"{file}:{line}: ") and said in one]
    assert found, sentences
    assert all("pydantic" not in one for one in sentences)


def test_all_mistakes_of_all_files_are_said_at_once(tmp_path: Path) -> None:
    """Of fields, pathways and roles; a name stands once, in whichever file, and a broken pathway is still known."""
    (tmp_path / "a.yaml").write_text(HEAD + "  lms_source: {property: 1a, type: string}\n")
    (tmp_path / "b.yaml").write_text(ROLE.replace("demo-101", ""))
    (tmp_path / "c.yaml").write_text(ROLE + "  sdr: {role: '*', pathway: sdr}\n")
    sentences = said_of(tmp_path)
    assert len(sentences) == 6
    assert [one for one in sentences if "ae is there already, at" in one and "b.yaml" in one] == sentences[2:4]


def test_everything_that_can_be_said(tmp_path: Path) -> None:
    """Pathways in one file and roles in another; buckets are sorted by name, and the order of their courses stays."""
    (tmp_path / "p.yaml").write_text(
        "pathways:\n  ae:\n    title: Account Executive\n    enroll: all\n    buckets:\n"
        "      talk: {optional: [' academy:t:1 ']}\n      demo: {required: ['campus:d', 'academy:d']}\n"
    )
    (tmp_path / "r.yaml").write_text(
        "roles:\n  ae:\n    role: [' AE ', 'Account Exec*']\n    connection: crm\n"
        "    where: {segment: enterprise, left_on: '', size: ['?*']}\n    pathway: ae\n    priority: 10\n"
        "    onboarding_days: 30\n    settle: 0\n    from: 2026-01-01\n    until: '2026-12-31'\n"
        "    on_leave: remove\n    in_progress: same\n    leavers: withdraw\n"
    )
    courses = (
        PathwayCourse(CourseRef("campus", "d"), "demo", required=True),
        PathwayCourse(CourseRef("academy", "d"), "demo", required=True),
        PathwayCourse(CourseRef("academy", "t:1"), "talk", required=False),
    )
    rule = RoleRule(
        "ae",
        ("AE", "Account Exec*"),
        "ae",
        connection="crm",
        where={"segment": ("enterprise",), "left_on": ("",), "size": ("?*",)},
        priority=10,
        onboarding_days=30,
        settle=0,
        starts=date(2026, 1, 1),
        ends=date(2026, 12, 31),
        on_leave="remove",
        in_progress="same",
        leavers="withdraw",
    )
    ae = Pathway("ae", "Account Executive", courses, "all")
    assert load(tmp_path).pathways == PathwayRules({"ae": ae}, (rule,))


NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9_-]{0,20}", fullmatch=True) | st.sampled_from(["no", "on", "null", "y", "e1"])
TEXT = st.text(
    st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp", "Cn"], exclude_characters="*?[]"), min_size=1, max_size=12
)
WORDS = TEXT.map(str.strip).filter(lambda text: bool(text.strip("*?@. ")))
PATTERNS = WORDS | WORDS.map("{}*".format) | WORDS.map("?{}".format)
LISTS = st.lists(PATTERNS, min_size=1, max_size=3, unique_by=str.casefold).map(tuple)
DAYS = st.dates(date(2000, 1, 1), date(2999, 12, 31))
COURSES = st.builds(CourseRef, st.sampled_from(["academy", "campus"]), WORDS)


@st.composite
def pathways(draw: st.DrawFn) -> Pathway:
    """Return a pathway that a file may hold: by bucket, the required courses first."""
    found: list[PathwayCourse] = []
    buckets = draw(
        st.lists(st.from_regex(r"[a-z0-9]{1,5}(_[a-z0-9]{1,3})?", fullmatch=True), min_size=1, max_size=4, unique=True)
    )
    for bucket in sorted(buckets):
        courses = draw(st.lists(COURSES, min_size=1, max_size=4, unique=True))
        required = draw(st.integers(1 if bucket == min(buckets) else 0, len(courses)))
        found += [PathwayCourse(course, bucket, place < required) for place, course in enumerate(courses)]
    return Pathway(draw(NAMES), draw(WORDS), tuple(found), draw(st.sampled_from(["required", "all"])))


@st.composite
def role_rules(draw: st.DrawFn, names: Sequence[str]) -> RoleRule:
    """Return a role rule that a file may hold."""
    conditions = st.dictionaries(
        st.from_regex(r"[a-z]{1,9}", fullmatch=True), LISTS | st.just(("",)), min_size=1, max_size=2
    )
    roles = draw(LISTS | st.just(()))
    deal = draw(st.none() | st.builds(DealCondition, LISTS, LISTS | st.just(())))
    starts, ends = sorted([draw(DAYS), draw(DAYS)])
    on_leave: OnLeave = draw(st.sampled_from(get_args(OnLeave)))
    return RoleRule(
        name=draw(NAMES),
        roles=roles,
        pathway=draw(st.sampled_from(names)),
        connection=draw(st.sampled_from(["", "crm"])),
        where=draw(st.just({}) | conditions if roles or deal else conditions),
        deal=deal,
        priority=draw(st.integers(-9, 9)),
        onboarding_days=draw(st.none() | st.integers(0, 3650)),
        settle=draw(st.integers(0, 86400)),
        starts=draw(st.sampled_from([None, starts])),
        ends=draw(st.sampled_from([None, ends])),
        on_leave=on_leave,
        in_progress="keep" if on_leave == "keep" else draw(st.sampled_from(["keep", "same"])),
        leavers=draw(st.sampled_from(get_args(Leavers))),
    )


@st.composite
def policies(draw: st.DrawFn) -> PathwayRules:
    """Return pathways and roles that files may hold, by name."""
    found = draw(st.lists(pathways(), max_size=3, unique_by=lambda one: one.name))
    by_name = {one.name: one for one in sorted(found, key=lambda one: one.name)}
    rules = draw(st.lists(role_rules([*by_name]), max_size=3, unique_by=lambda one: one.name)) if by_name else []
    return PathwayRules(by_name, tuple(sorted(rules, key=lambda rule: rule.name)))


@settings(deadline=None)
@given(policy=policies())
def test_what_is_exported_loads_as_it_was(tmp_path_factory: pytest.TempPathFactory, policy: PathwayRules) -> None:
    """YAML and back is the same policy, whatever pathways, courses and roles are called."""
    folder = tmp_path_factory.mktemp("rules")
    defaults = store.defaults()
    export.write(RuleSet(0, defaults.read_at, defaults.fields, {}, policy), folder)
    loaded = load(folder).pathways
    assert loaded == policy
    assert differences(policy, loaded) == []


@given(was=policies(), becomes=policies())
def test_whatever_differs_is_said(was: PathwayRules, becomes: PathwayRules) -> None:
    """No change is silent, and every one names at least one part."""
    changes = differences(was, becomes)
    assert bool(changes) == (was != becomes)
    assert all(change.parts for change in changes)


def test_a_change_is_said_part_by_part() -> None:
    """With what it was and what it becomes."""
    demo, talk = (PathwayCourse(CourseRef("academy", name), name, required=True) for name in ("demo", "talk"))
    old = PathwayRules({"ae": Pathway("ae", "AE", (demo,))}, (RoleRule("ae", ("AE",), "ae", settle=5),))
    new = PathwayRules({"ae": Pathway("ae", "AE", (demo, talk))}, (RoleRule("ae", ("AE", "AM"), "ae"),))
    said = [(c.kind, c.key, c.name, part) for c in differences(old, new) for part in c.parts]
    assert said == [
        ("changed", "pathways", "ae", ("buckets.talk.required", "unsaid", "academy:talk")),
        ("changed", "roles", "ae", ("role", "AE", "AE, AM")),
        ("changed", "roles", "ae", ("settle", "5", "unsaid")),
    ]
    assert {change.kind for change in differences(PathwayRules(), new)} == {"added"}
    assert {change.kind for change in differences(new, PathwayRules())} == {"removed"}


def test_what_the_page_shows_loads(tmp_path: Path) -> None:
    """Each block of rules of docs/pathways.md, as a file of one folder; every key and answer is explained there."""
    text = (Path(__file__).resolve().parents[2] / "docs" / "pathways.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```yaml\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    for place, block in enumerate(one for one in blocks if re.match("pathways:|roles:|system:", one)):
        (tmp_path / f"{place}.yaml").write_text(block, encoding="utf-8")
    loaded = load(tmp_path)
    assert loaded.pathways.pathways
    assert loaded.pathways.roles
    keys = [one.alias or name for entry in (PathwayEntry, RoleEntry) for name, one in entry.model_fields.items()]
    answers = [
        *get_args(Enroll),
        *get_args(OnLeave),
        *get_args(InProgress),
        *get_args(Leavers),
        *get_args(OverrideKind),
        *get_args(Stage),
    ]
    assert [word for word in (*keys, *answers) if f"`{word}`" not in text] == []
