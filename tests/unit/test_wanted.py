"""Which properties set-up asks for: those the rules name, and of patterns those that were refused already."""

from integration.connectors.crm.hubspot_definitions import DEFAULTS
from integration.ports import Wanted
from mappings.rules import FieldMap
from mappings.store import default_field_maps
from tasks.checks.wanted import wanted

MAPS = {
    str(row["field"]): FieldMap(str(row["property"]), row["type"])  # type: ignore[arg-type]
    for row in default_field_maps()
    if row["system"] == "hubspot"
}


def test_the_defaults_of_check_are_those_of_the_rules() -> None:
    """What `check` looks for is what the default rules write, with the same forms."""
    assert {*wanted(MAPS, ()).wanted} == {*DEFAULTS}


def test_only_what_contacts_are_looked_up_by_is_unique() -> None:
    """The canonical field decides, whatever its property is called."""
    found = wanted({"lms_user_id": FieldMap("learner", "string"), "lms_source": FieldMap("src", "string")}, ())
    assert found.wanted == (Wanted("learner", "string", unique=True), Wanted("src", "string"))


def test_patterns_are_said_and_filled_by_what_was_refused() -> None:
    """A refused name is taken with the form of the pattern that fits it best; what fits none is left alone."""
    refused = ["certified_alpha", "certified_alpha_until", "lms_user_id_moodle", "jobtitle", "certified_", "lms_source"]
    found = wanted(MAPS, refused)
    assert found.patterns == ("certified_{key}", "certified_{key}_until", "lms_user_id_{key}")
    assert {*found.wanted} - {*DEFAULTS} == {
        Wanted("certified_alpha", "bool"),
        Wanted("certified_alpha_until", "date"),
        Wanted("lms_user_id_moodle", "string"),
    }
