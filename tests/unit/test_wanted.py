"""Which properties set-up asks for: those the rules name, and of patterns those that were refused already."""

from integration.connectors.crm.hubspot_definitions import DEFAULTS
from integration.ports import Wanted
from mappings import store
from mappings.rules import FieldRule
from tasks.checks.wanted import wanted

RULES = store.defaults().field_rules("crm", "hubspot", "contact")


def test_the_defaults_of_check_are_those_of_the_rules() -> None:
    """What `check` looks for is what the default rules write, with the same forms."""
    assert {*wanted(RULES, ()).wanted} == {*DEFAULTS}


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
    assert found.patterns == ("certified_{key}", "certified_{key}_until", "lms_user_id_{key}")
    assert {*found.wanted} - {*DEFAULTS} == {
        Wanted("certified_alpha", "bool"),
        Wanted("certified_alpha_until", "date"),
        Wanted("lms_user_id_moodle", "string"),
    }


def test_what_the_crm_owns_is_not_made() -> None:
    """Nor a list of options, which only the customer knows."""
    theirs = FieldRule("a", "email", "their_mail", "string", owner="crm")
    level = FieldRule("b", "last_course_completed", "level", "enumeration")
    assert wanted([theirs, level], ["their_mail", "level"]).wanted == ()
