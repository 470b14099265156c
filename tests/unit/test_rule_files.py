"""Rule files: what they can say, and what is said of every mistake - its line, and a sentence an admin understands."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from integration.config import Config
from integration.errors import ConfigError
from mappings import export, loader, store
from mappings.rules import FieldRule, RuleSet, Scope
from tasks.commands.rules import unknown
from tests.db.conftest import CONFIG

HEAD = "system: hubspot\ncontact:\n"

WRONG = [
    ("a file that is no mapping", "- a\n- b\n", 1, "expected system: or connection:"),
    ("an empty file", "", 1, "expected system: or connection:"),
    ("broken YAML", "system: hubspot\ncontact: {a: [}\n", 2, "this is not YAML"),
    ("a tab", "system: hubspot\ncontact:\n\tx: 1\n", 3, "this is not YAML"),
    (
        "a key twice",
        HEAD + "  lms_source: {property: a, type: string}\n  lms_source: {property: b, type: string}\n",
        4,
        "'lms_source' is there twice",
    ),
    ("a tag that runs code", "system: !!python/object/apply:os.getcwd []\n", 1, "this is not YAML"),
    ("nobody it is for", "contact:\n  lms_source: {property: a, type: string}\n", 1, "say whom these rules are for"),
    ("two it is for", "system: hubspot\nconnection: crm\n", 1, "say whom these rules are for"),
    (
        "an unknown system",
        "system: hubspt\ncontact: {}\n",
        1,
        "no system is called 'hubspt'; there are: canvas, hr_files, hubspot",
    ),
    ("a system without contacts", "system: standard\ncontact: {}\n", 1, "holds no contacts"),
    ("an unknown connection", "connection: crm2\ncontact: {}\n", 1, "no connection is called 'crm2'"),
    ("a system that is a list", "system: [hubspot]\n", 1, "must be text"),
    ("an unknown object", "system: hubspot\ndeal:\n  x: {property: a, type: string}\n", 2, "no object is called so"),
    ("an object that is text", "system: hubspot\ncontact: all\n", 2, "expected one entry for each field"),
    ("an entry that is text", HEAD + "  lms_source: lms_source\n", 3, "expected keys and values here"),
    ("no property", HEAD + "  lms_source:\n    type: string\n", 3, "property: is missing"),
    ("no type", HEAD + "  lms_source: {property: a}\n", 3, "type: is missing"),
    ("an unknown type", HEAD + "  lms_source:\n    property: a\n    type: text\n", 5, "must be 'string', 'number'"),
    (
        "an unknown key",
        HEAD + "  lms_source:\n    property: a\n    type: string\n    onwer: crm\n",
        6,
        "this key is not known",
    ),
    (
        "a property with a blank",
        HEAD + "  lms_source:\n    property: LMS Source\n    type: string\n",
        4,
        "is no name of a property",
    ),
    ("an unknown field", HEAD + "  lms_sorce: {property: a, type: string}\n", 3, "Did you mean lms_source?"),
    ("an unknown source", HEAD + "  mine: {from: fullname, property: a, type: string}\n", 3, "Did you mean full_name?"),
    (
        "a key that is missing",
        HEAD + "  certified: {property: certified, type: bool}\n",
        3,
        "there is one certified for each product",
    ),
    ("a key too many", HEAD + '  lms_source: {property: "lms_{key}", type: string}\n', 3, "stands for nothing"),
    (
        "an unknown owner",
        HEAD + "  lms_source:\n    property: a\n    type: string\n    owner: sales\n",
        6,
        "must be 'lms' or 'crm'",
    ),
    (
        "an unknown rule",
        HEAD + "  lms_source:\n    property: a\n    type: string\n    rule: sometimes\n",
        6,
        "must be 'always'",
    ),
    (
        "theirs, and required",
        HEAD + "  lms_source: {property: a, type: string, owner: crm, required: true}\n",
        3,
        "what the CRM owns is never written",
    ),
    (
        "the greater of two texts",
        HEAD + "  lms_source: {property: a, type: string, rule: max}\n",
        3,
        "compares numbers or dates",
    ),
    (
        "a sum of numbers",
        HEAD + "  courses_completed_count: {property: a, type: number, rule: append}\n",
        3,
        "adds to a list of texts",
    ),
    (
        "yes as text",
        HEAD + '  lms_source:\n    property: a\n    type: string\n    required: "yes"\n',
        6,
        "must be true or false",
    ),
    (
        "passive and required",
        HEAD + "  lms_source: {property: a, type: string, passive: true, required: true}\n",
        3,
        "neither required nor has a rule",
    ),
    (
        "one property twice",
        HEAD + "  lms_source: {property: a, type: string}\n  email: {property: a, type: string}\n",
        4,
        "a is filled already, at",
    ),
    (
        "one of what there is only one of",
        HEAD + "  email: {property: a, type: string, of: alpha}\n",
        3,
        "there is only one email, so of: picks nothing",
    ),
    (
        "one of them, and each",
        HEAD + '  certified: {property: "c_{key}", type: bool, of: alpha}\n',
        3,
        "so {key} stands for nothing; keep one of the two",
    ),
    (
        "one without a name",
        HEAD + "  certified:\n    property: c\n    type: bool\n    of: ' '\n",
        6,
        "expected the name of one product",
    ),
    ("an unknown transform", HEAD + "  email:\n    property: a\n    type: string\n    transform: lowr\n", 6, "lower"),
    (
        "a transform that does not fit",
        HEAD + "  email: {property: a, type: string, transform: iso_date}\n",
        3,
        "iso_date",
    ),
    (
        "a day that is none",
        HEAD + "  lms_source:\n    property: 2026-13-45\n    type: string\n",
        4,
        "write text in quotes",
    ),
    (
        "a number that is none",
        HEAD + "  lms_source:\n    property: !!int abc\n    type: string\n",
        4,
        "write text in quotes",
    ),
    (
        "aliases of aliases",
        "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
        + "".join(
            f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdefghij", "bcdefghijk", strict=True)
        ),
        6,
        "write it without aliases",
    ),
    (
        "merges of merges",
        "a: &a {k0: 1}\n"
        + "".join(
            f"{b}: &{b} {{k{n}: 1, <<: [{', '.join([f'*{a}'] * 10)}]}}\n"
            for n, (a, b) in enumerate(zip("abcdefghij", "bcdefghijk", strict=True))
        ),
        6,
        "write it without aliases",
    ),
    ("an alias of itself", "system: &a [hubspot, *a]\n", 1, "write it without aliases"),
    ("a system without a name", "system: ''\ncontact: {}\n", 1, "system"),
    (
        "a rule without a proper name",
        HEAD + '  "a\\nb": {property: a, type: string, from: email}\n',
        3,
        "letters, digits",
    ),
]


def is_known(scope: Scope) -> str | None:
    """Ask the connections of the tests."""
    return unknown(Config.model_validate(CONFIG), scope)


@pytest.mark.parametrize(("text", "line", "said"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_a_mistake_is_said_with_its_line(tmp_path: Path, text: str, line: int, said: str) -> None:
    """One sentence that starts with file and line; and nothing is loaded."""
    file = tmp_path / "rules.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as raised:
        loader.load(tmp_path, is_known)
    (sentence,) = str(raised.value).splitlines()
    assert sentence.startswith(f"{file}:{line}: "), sentence
    assert said in sentence
    assert "pydantic" not in sentence


def test_few_aliases_are_fine(tmp_path: Path) -> None:
    """What several rules share may be said once."""
    shared = "  a: &a {from: email, property: a, type: string, rule: never_clear}\n  b: {<<: *a, property: b}\n"
    (tmp_path / "a.yaml").write_text(HEAD + shared)
    rules = loader.load(tmp_path, is_known).field_rules("crm", "hubspot", "contact")
    assert {(rule.property, rule.rule) for rule in rules} == {("a", "never_clear"), ("b", "never_clear")}


def test_all_mistakes_of_all_files_are_said_at_once(tmp_path: Path) -> None:
    """Nobody mends one after the other."""
    (tmp_path / "a.yaml").write_text(
        HEAD + "  lms_source: {property: 1a, type: text}\n  x: {property: b, type: bool}\n"
    )
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.yml").write_text("contact: {}\n")
    (tmp_path / "c.yaml").write_bytes(b"system: \xff\xfe\n")
    with pytest.raises(ConfigError) as raised:
        loader.load(tmp_path, is_known)
    assert len(str(raised.value).splitlines()) == 5


@pytest.mark.parametrize("folder", ["none", "."])
def test_a_folder_without_rules_says_what_to_do(tmp_path: Path, folder: str) -> None:
    """No folder, and no file in it."""
    with pytest.raises(ConfigError, match=r"Name the folder|coursewire rules export"):
        loader.load(tmp_path / folder, is_known)


def test_one_property_may_be_filled_in_two_portals(tmp_path: Path) -> None:
    """What is twice in one scope is once in each of two."""
    (tmp_path / "a.yaml").write_text(HEAD + "  lms_source: {property: a, type: string}\n")
    (tmp_path / "b.yaml").write_text("connection: crm\ncontact:\n  email: {property: a, type: string}\n")
    rules = loader.load(tmp_path, is_known)
    assert [rule.source for rule in rules.field_rules("crm", "hubspot", "contact")] == ["email"]
    assert [rule.source for rule in rules.field_rules("other", "hubspot", "contact")] == ["lms_source"]
    assert rules.field_rules("crm", "hubspot", "deal") == ()


def test_the_defaults_load_and_name_what_is_canonical() -> None:
    """What ships is right by its own rules."""
    rules = store.defaults()
    assert rules.field_rules("crm", "hubspot", "contact")


def test_one_product_may_be_brought_to_a_property_of_its_own(tmp_path: Path) -> None:
    """It is exported as it was written, and a text may be made of it."""
    line = (
        "  partner_status: {property: partner_status, type: enumeration, from: certified, of: Partner Basics, "
        "transform: [{bool_text: {true: Certified, false: Lapsed}}]}\n"
    )
    (tmp_path / "a.yaml").write_text(HEAD + line)
    loaded = loader.load(tmp_path, is_known)
    (rule,) = loaded.field_rules("crm", "hubspot", "contact")
    assert (rule.property, rule.source, rule.of) == ("partner_status", "certified", "Partner Basics")
    export.write(loaded, tmp_path / "out")
    assert loader.load(tmp_path / "out", is_known).fields == loaded.fields


PROPERTY = st.from_regex(r"[a-z][a-z0-9_]{0,20}", fullmatch=True)
RULE = st.builds(
    FieldRule,
    name=st.from_regex(r"[A-Za-z][A-Za-z0-9_-]{0,79}", fullmatch=True)
    | st.sampled_from(["no", "on", "null", "y", "e1"]),
    source=st.sampled_from(["lms_source", "last_course_completed", "email", "full_name"]),
    property=PROPERTY,
    type=st.just("string"),
    rule=st.sampled_from(["always", "only_if_blank", "never_clear", "append"]),
    required=st.booleans(),
)


@settings(deadline=None)
@given(rules=st.lists(RULE, max_size=6, unique_by=(lambda rule: rule.name, lambda rule: rule.property)))
def test_what_is_exported_loads_as_it_was(tmp_path_factory: pytest.TempPathFactory, rules: list[FieldRule]) -> None:
    """YAML and back is the same rule set, whatever the rules are called."""
    folder = tmp_path_factory.mktemp("rules")
    ordered = tuple(sorted(rules, key=lambda rule: rule.name))
    given_set = RuleSet(0, store.defaults().read_at, {Scope("hubspot"): {"contact": ordered}})
    export.write(given_set, folder)
    loaded = loader.load(folder, is_known)
    assert loaded.field_rules("crm", "hubspot", "contact") == ordered
