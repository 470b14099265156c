"""Which properties set-up asks for: those the rules name, and of patterns those that were refused already."""

import pytest

from integration.ports import Wanted
from mappings import store, transforms
from mappings.rules import FieldRule
from tasks.checks.wanted import filling, of_accounts, wanted
from tests.defaults import DEFAULTS

RULES = store.defaults().field_rules("crm", "hubspot", "contact")


def test_what_the_first_rules_write() -> None:
    """Their names and forms, which docs/hubspot.md lists."""
    assert {(one.name, one.kind, one.unique) for one in DEFAULTS} == {
        ("lms_source", "string", False),
        ("lms_user_id", "string", True),
        ("last_course_completed", "string", False),
        ("courses_completed_count", "number", False),
        ("recent_course_completion_date", "date", False),
        ("onboarding_pathway", "string", False),
        ("onboarding_due_date", "date", False),
        ("onboarding_status", "string", False),
        ("readiness", "number", False),
        ("lms_sync_status", "string", False),
        ("lms_last_synced_at", "datetime", False),
    }


def test_only_what_contacts_are_looked_up_by_is_unique() -> None:
    """The canonical field decides, whatever its property is called."""
    rules = [FieldRule("id", "lms_user_id", "learner", "string"), FieldRule("a", "lms_source", "src", "string")]
    found = wanted(rules, ())
    assert found.wanted == (Wanted("learner", "string", unique=True), Wanted("src", "string"))


def test_what_the_identity_rules_look_up_by_is_unique_too() -> None:
    """But for the e-mail: the CRM's own is unique already, and another property filled from it need not be."""
    rules = [FieldRule("no", "employee_id", "staff_no", "string"), FieldRule("b", "email", "lms_mail", "string")]
    found = wanted(rules, (), ("employee_id", "email"))
    assert found.wanted == (Wanted("staff_no", "string", unique=True), Wanted("lms_mail", "string"))


def test_patterns_are_said_and_filled_by_what_was_refused() -> None:
    """A refused name is taken with the form of the pattern that fits it best; what fits none is left alone."""
    refused = ["certified_alpha", "certified_alpha_until", "lms_user_id_moodle", "jobtitle", "certified_", "lms_source"]
    found = wanted(RULES, refused)
    assert found.patterns == ("certified_{key}", "certified_{key}_until", "competency_{key}", "lms_user_id_{key}")
    assert {*found.wanted} - {*DEFAULTS} == {
        Wanted("certified_alpha", "bool"),
        Wanted("certified_alpha_until", "date"),
        Wanted("lms_user_id_moodle", "string"),
    }


def test_what_the_crm_owns_is_not_wanted() -> None:
    """Whatever it has refused."""
    theirs = FieldRule("a", "email", "their_mail", "string", owner="crm")
    assert wanted([theirs], ["their_mail"]).wanted == ()


@pytest.mark.parametrize(
    ("source", "chain", "values"),
    [
        ("last_course_completed", [{"lookup": {"a": "Bronze", "b": "Gold"}}], {"Bronze", "Gold"}),
        ("last_course_completed", [{"lookup": {"a": "Bronze"}}, "upper"], {"BRONZE"}),
        ("last_course_completed", [{"lookup": {"a": "Bronze"}}, {"default": "None yet"}], {"Bronze", "None yet"}),
        ("certified", [], {"true", "false"}),
        ("certified", ["bool_text"], {"true", "false"}),
        ("last_course_completed", ["upper"], None),
        ("last_course_completed", [], None),
    ],
)
def test_the_values_of_a_choice_are_known_where_they_can_be(
    source: str, chain: list[object], values: set[str] | None
) -> None:
    """So that they can be compared with the options before anything is written."""
    rule = FieldRule("b", source, "level", "enumeration", transforms.parse(chain))
    [one] = wanted([rule], ()).wanted
    assert (one.kind, one.values) == ("enumeration", values)


def test_a_property_belongs_to_its_own_rule_before_a_pattern() -> None:
    """Of two patterns the one with more letters of its own."""
    own = FieldRule("own", "full_name", "certified_alpha", "string")
    for name, rule in (
        ("certified_alpha", "own"),
        ("certified_b_until", "certified_until"),
        ("certified_b", "certified"),
    ):
        found = filling([*RULES, own], name)
        assert found is not None
        assert found.name == rule
    assert filling(RULES, "jobtitle") is None


def test_of_accounts_what_is_ours_with_the_values_it_can_get() -> None:
    """Nothing is looked up by them, so nothing is unique, whatever field it counts."""
    text = transforms.parse([{"bool_text": {"true": "Certified", "false": "Lapsed"}}])
    rules = [
        FieldRule("n", "certified", "people", "number", of="basics", aggregate="count"),
        FieldRule("s", "certified", "status", "enumeration", text, of="basics", aggregate="any"),
        FieldRule("t", "certified", "theirs", "number", of="basics", aggregate="count", owner="crm"),
    ]
    assert of_accounts(rules) == (
        Wanted("people", "number", of="account"),
        Wanted("status", "enumeration", values=frozenset(("Certified", "Lapsed")), of="account"),
    )
