"""PATCH is a pure function: what Entra ID and Okta send does what they mean, and what is refused changes nothing."""

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integration.scim.attributes import ENTERPRISE
from integration.scim.patch import Operation, operations_of, patched
from integration.scim.refusal import Refusal
from integration.scim.resource import Resource, resource_of

ADA: Resource = resource_of(
    {
        "userName": "ada@example.com",
        "name": {"givenName": "Ada", "familyName": "Byron"},
        "title": "Analyst",
        "active": True,
        "emails": [
            {"type": "work", "value": "ada@example.com", "primary": True},
            {"type": "home", "value": "ada@home.example"},
        ],
        ENTERPRISE: {"employeeNumber": "0042", "department": "Engines", "manager": {"value": "m-1"}},
    }
)

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)
WORK_PATHS = [f"{ENTERPRISE}:{name}" for name in ("department", "employeeNumber", "manager", "manager.value")]
CHOSEN = [
    'emails[type eq "work"].value',
    'emails[type eq "home"]',
    "emails[primary eq true].type",
    "emails",
    "emails.value",
]
PATHS = st.sampled_from(
    [
        "title",
        "active",
        "name",
        "name.givenName",
        "userName",
        "roles",
        "password",
        "meta",
        ENTERPRISE,
        *CHOSEN,
        *WORK_PATHS,
    ]
)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    TEXT,
    st.sampled_from(["True", "false", "boss@example.com"]),
    st.fixed_dictionaries(
        {"value": TEXT}, optional={"type": st.sampled_from(["work", "home"]), "primary": st.booleans()}
    ),
    st.lists(st.fixed_dictionaries({"value": TEXT, "primary": st.booleans()}), max_size=3),
    st.dictionaries(st.sampled_from(["givenName", "familyName", "department"]), TEXT, max_size=2),
)
OPERATIONS = st.builds(Operation, st.sampled_from(["add", "replace", "remove"]), PATHS, VALUES)


def after(*operations: dict[str, Any]) -> Resource:
    """Return Ada after these operations, as a client writes them."""
    return patched(ADA, operations_of({"Operations": list(operations)}))


def refused(*operations: dict[str, Any]) -> str | None:
    """Return the word under which these are refused."""
    with pytest.raises(Refusal) as raised:
        after(*operations)
    assert raised.value.status == 400
    return raised.value.scim_type


def attempt(resource: Resource, operations: list[Operation]) -> Resource | str | None:
    """Return what operations make of a user, or the word under which they are refused."""
    try:
        return patched(resource, operations)
    except Refusal as refusal:
        return refusal.scim_type


# --- what clients send


@pytest.mark.parametrize(
    ("value", "active"), [("False", False), (False, False), ("true", True), ([{"value": "False"}], False)]
)
def test_active_is_a_boolean_however_it_is_written(value: object, active: bool) -> None:
    """Entra ID writes "False" as text unless a flag in its address says otherwise."""
    assert after({"op": "Replace", "path": "active", "value": value})["active"] is active


def test_operations_and_names_count_in_any_case() -> None:
    """`Add` and `DISPLAYNAME` are what RFC 7644 calls add and displayName."""
    assert after({"OP": "Add", "PATH": "DISPLAYNAME", "VALUE": "Countess"})["displayName"] == "Countess"


def test_a_value_without_a_path_is_many_paths() -> None:
    """Okta, and Entra ID with its flag: keys are attributes, with a schema before them or not, or whole schemas."""
    value = {
        "displayName": "Countess",
        "name.givenName": "Augusta",
        f"{ENTERPRISE}:employeeNumber": "0043",
        ENTERPRISE.upper(): {"costCenter": "4130"},
        "id": "whatever",
        "schemas": [],
    }
    found = after({"op": "replace", "value": value})
    assert (found["displayName"], found["name"]) == ("Countess", {"givenName": "Augusta", "familyName": "Byron"})
    assert found[ENTERPRISE] == {**ADA[ENTERPRISE], "employeeNumber": "0043", "costCenter": "4130"}
    assert "id" not in found


@pytest.mark.parametrize("op", ["Add", "replace"])
def test_an_e_mail_that_is_chosen_is_changed_and_one_that_is_not_there_comes_to_be(op: str) -> None:
    """Entra ID adds and replaces `emails[type eq "work"].value` without knowing whether there is one."""
    changed = after({"op": op, "path": 'emails[type eq "work"].value', "value": "new@example.com"})
    assert changed["emails"][0] == {"type": "work", "value": "new@example.com", "primary": True}
    made = after({"op": op, "path": 'emails[type eq "other"].value', "value": "third@example.com"})
    assert made["emails"][2] == {"type": "other", "value": "third@example.com"}


@pytest.mark.parametrize(
    "value", ["m-2", {"value": "m-2"}, [{"value": "m-2"}], {"$ref": "../Users/m-2", "value": "m-2"}]
)
@pytest.mark.parametrize(
    "path", [f"{ENTERPRISE}:manager", f"{ENTERPRISE}:manager.value", f"{ENTERPRISE.lower()}.manager"]
)
def test_a_manager_is_text_or_an_object(path: str, value: object) -> None:
    """Entra ID writes plain text where the schema has an object; either leads to the same."""
    assert after({"op": "Add", "path": path, "value": value})[ENTERPRISE]["manager"] == {"value": "m-2"}


@pytest.mark.parametrize("value", [None, "", {"value": ""}, {"value": None}])
def test_a_manager_is_taken_away(value: object) -> None:
    """By null, by nothing in it, or by a removal; what else is said of the work stays."""
    left = {"employeeNumber": "0042", "department": "Engines"}
    assert after({"op": "replace", "path": f"{ENTERPRISE}:manager", "value": value})[ENTERPRISE] == left
    assert after({"op": "remove", "path": f"{ENTERPRISE}:manager"})[ENTERPRISE] == left


def test_a_new_primary_value_is_the_only_one() -> None:
    """Whoever else was primary is no more."""
    added = after({"op": "add", "path": "emails", "value": [{"value": "x@example.com", "primary": "True"}]})
    assert [one.get("primary") for one in added["emails"]] == [False, None, True]
    named = after({"op": "replace", "path": 'emails[type eq "home"].primary', "value": True})
    assert [one.get("primary") for one in named["emails"]] == [False, True]


def test_values_are_removed_by_choice_by_name_or_all() -> None:
    """With a filter, with a value as Entra ID does it for lists, or without either."""
    home = [ADA["emails"][1]]
    assert after({"op": "Remove", "path": 'emails[type eq "work"]'})["emails"] == home
    assert after({"op": "Remove", "path": 'emails[type eq "work"].value'})["emails"] == home
    assert after({"op": "Remove", "path": "emails", "value": [{"value": "ada@example.com"}]})["emails"] == home
    assert "emails" not in after({"op": "Remove", "path": "emails"})
    assert after({"op": "remove", "path": 'emails[type eq "none"]'}) == ADA


def test_what_we_do_not_keep_is_passed_over() -> None:
    """A password or a picture is no error, and is nowhere afterwards."""
    assert after({"op": "replace", "path": "password", "value": "secret"}) == ADA
    assert after({"op": "add", "path": 'photos[type eq "photo"].value', "value": "https://example.com/x"}) == ADA


def test_attributes_of_other_schemas_are_kept() -> None:
    """A customer's own extension: by path, and as a whole."""
    own = "urn:ietf:params:scim:schemas:extension:custom:2.0:User"
    assert after({"op": "add", "path": f"{own}:worksiteId", "value": "180"})[own] == {"worksiteId": "180"}
    assert after({"op": "add", "value": {own: {"worksiteId": "180"}}})[own] == {"worksiteId": "180"}
    assert own not in after({"op": "add", "value": {own: {"x": "1"}}}, {"op": "remove", "path": own})


@pytest.mark.parametrize(
    ("operation", "word"),
    [
        ({"op": "replace", "path": "shoeSize", "value": 1}, "invalidPath"),
        ({"op": "replace", "path": "name.nose", "value": "x"}, "invalidPath"),
        ({"op": "replace", "path": 'title[type eq "x"]', "value": "x"}, "invalidPath"),
        ({"op": "replace", "path": 'emails[type co "x"].value', "value": "x"}, "invalidFilter"),
        ({"op": "replace", "path": "emails[display pr].value", "value": "x"}, "noTarget"),
        ({"op": "remove"}, "noTarget"),
        ({"op": "remove", "path": "userName"}, "invalidValue"),
        ({"op": "replace", "path": "active", "value": "maybe"}, "invalidValue"),
        ({"op": "replace", "value": "x"}, "invalidValue"),
        ({"op": "move", "path": "title"}, "invalidSyntax"),
    ],
)
def test_what_cannot_be_is_refused_with_its_word_and_number(operation: dict[str, Any], word: str) -> None:
    """The first operation alone would do; the second one is named, and neither is done."""
    fine = {"op": "replace", "path": "title", "value": "Engineer"}
    before = deepcopy(ADA)
    with pytest.raises(Refusal, match=r"(?i)operation 2|userName is needed") as raised:
        after(fine, operation)
    assert raised.value.scim_type == word
    assert before == ADA


def test_a_body_without_operations_is_refused() -> None:
    """A user where operations are expected changes nothing."""
    bodies: list[Any] = [{}, {"Operations": []}, [], {"Operations": ["x"]}, {"Operations": [{"op": "add"}] * 501}]
    for body in bodies:
        with pytest.raises(Refusal):
            operations_of(body)
    assert refused({"op": "add", "path": 5}) == "invalidPath"


# --- whatever is sent


@given(st.lists(OPERATIONS, max_size=6))
def test_what_comes_out_is_a_user_in_its_proper_form(operations: list[Operation]) -> None:
    """Read again it is the same, at most one value is primary, and what was given is untouched."""
    before = deepcopy(ADA)
    found = attempt(ADA, operations)
    assert before == ADA
    if isinstance(found, dict):
        assert resource_of(found) == found
        assert sum(bool(one.get("primary")) for one in found.get("emails", ())) <= 1
        assert found["userName"]


@given(st.lists(OPERATIONS, max_size=3), OPERATIONS)
def test_the_same_operation_again_changes_nothing(earlier: list[Operation], last: Operation) -> None:
    """A client that did not hear our answer sends it once more."""
    once = attempt(ADA, [*earlier, last])
    if isinstance(once, dict):
        twice = attempt(once, [last])
        assert twice == once


@given(st.lists(OPERATIONS, max_size=5))
def test_the_case_of_names_never_matters(operations: list[Operation]) -> None:
    """In capitals and in small letters the same comes out; what is in quotes compares without case as well."""
    shouted = [one._replace(path=one.path.upper() if one.path else None) for one in operations]
    quiet = [one._replace(path=one.path.lower() if one.path else None) for one in operations]
    loud, soft = attempt(ADA, shouted), attempt(ADA, quiet)
    if isinstance(loud, dict) and isinstance(soft, dict):
        assert str(loud).casefold() == str(soft).casefold()
    else:
        assert loud == soft


@given(st.dictionaries(PATHS, VALUES, max_size=4), st.sampled_from(["add", "replace"]))
def test_keys_without_a_path_are_paths(value: dict[str, Any], op: Any) -> None:
    """One operation with an object is as many operations with paths."""
    each = [Operation(op, path, one) for path, one in value.items()]
    assert attempt(ADA, [Operation(op, None, value)]) == attempt(ADA, each)
