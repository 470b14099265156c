"""Set-up of a HubSpot account: what it creates, what it only names, and that any end half-way is made good by the next.

Against the sandbox in all three versions, and answer by answer where HubSpot's form is not known for sure.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import pytest
import responses

from integration.config import ConnectionConfig
from integration.connectors.crm.hubspot import HubSpot
from integration.connectors.crm.hubspot_definitions import definition, differences, label
from integration.connectors.crm.hubspot_paths import Version
from integration.connectors.crm.hubspot_setup import Setup
from integration.ports import Step, Taken, Wanted
from scripts.sandbox.faults import fault
from scripts.sandbox.hubspot import HubSpotSandbox
from tests.defaults import DEFAULTS

VERSIONS: tuple[Version, ...] = ("2026-09", "2026-03", "legacy")
WANTED = (*DEFAULTS, Wanted("certified_alpha", "bool"), Wanted("certified_alpha_until", "date"))
NAMES = {one.name for one in WANTED}
CREATIONS = ("properties.group_create", "properties.create")
GROUP = Step("the group lms_sync")
OF_COMPANIES = (Wanted("lms_people", "number", of="account"), Wanted("lms_source", "date", of="account"))
"""The second has the name of a property of contacts, and another form."""
HOST = "https://crm.test"
LISTED = f"{HOST}/crm/properties/2026-09/contacts"
ROOM = f"{HOST}/crm/limits/2026-09/custom-properties"


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    """The token of every connection here."""
    monkeypatch.setenv("TEST_HUBSPOT_TOKEN", "sandbox-token")


@pytest.fixture
def bare() -> Iterator[HubSpotSandbox]:
    """A portal in which nobody has set anything up."""
    with HubSpotSandbox(lms_properties=False, rate=1000) as sandbox:
        sandbox.set_properties(groups=[{"name": "theirs", "label": "Theirs"}])
        yield sandbox


@pytest.fixture
def http() -> Iterator[responses.RequestsMock]:
    """Answers instead of a network."""
    with responses.RequestsMock() as mock:
        yield mock


def connection(url: str, version: Version = "2026-09") -> ConnectionConfig:
    """An account, as the connections file has it."""
    options = {"api_version": version}
    settings = {"name": "crm", "system": "hubspot", "base_url": url, "options": options}
    return ConnectionConfig.model_validate({**settings, "credentials": {"token": {"env": "TEST_HUBSPOT_TOKEN"}}})


def setup(url: str = HOST, version: Version = "2026-09") -> Setup:
    """The set-up of an account."""
    return Setup(connection(url, version))


def doctor(url: str) -> HubSpot:
    """The account, asked how it is."""
    return HubSpot(connection(url))


def apply(one: Setup, wanted: Sequence[Wanted] = WANTED) -> list[Taken]:
    """Plan and install."""
    return [*one.install(one.plan(wanted).steps)]


def is_whole(sandbox: HubSpotSandbox) -> bool:
    """Whether everything is there as the reference wants it, read from the portal itself."""
    found = sandbox.properties()
    forms = {name: (one["type"], one["fieldType"], one["groupName"]) for name, one in found.items() if name in NAMES}
    return (
        forms
        == {
            "lms_source": ("string", "text", "lms_sync"),
            "lms_user_id": ("string", "text", "lms_sync"),
            "last_course_completed": ("string", "text", "lms_sync"),
            "courses_completed_count": ("number", "number", "lms_sync"),
            "recent_course_completion_date": ("date", "date", "lms_sync"),
            "onboarding_pathway": ("string", "text", "lms_sync"),
            "onboarding_due_date": ("date", "date", "lms_sync"),
            "onboarding_status": ("string", "text", "lms_sync"),
            "readiness": ("number", "number", "lms_sync"),
            "lms_sync_status": ("string", "text", "lms_sync"),
            "lms_last_synced_at": ("datetime", "date", "lms_sync"),
            "certified_alpha": ("bool", "booleancheckbox", "lms_sync"),
            "certified_alpha_until": ("date", "date", "lms_sync"),
        }
        and {name for name, one in found.items() if one["hasUniqueValue"]} == {"lms_user_id"}
        and [one["value"] for one in found["certified_alpha"]["options"]] == ["true", "false"]
    )


# --- against the sandbox


@pytest.mark.parametrize("version", VERSIONS)
def test_a_bare_portal_is_set_up_once(bare: HubSpotSandbox, version: Version) -> None:
    """Group and properties come into being; the second time nothing is left to do, and planning changed nothing."""
    crm = setup(bare.url, version)
    before = bare.properties()
    plan = crm.plan(WANTED)
    assert [step.wanted for step in plan.steps] == [None, *WANTED]
    assert bare.properties() == before
    taken = [*crm.install(plan.steps)]
    assert all(one.created and one.finding.ok for one in taken)
    assert is_whole(bare)
    again = crm.plan(WANTED)
    assert (again.steps, again.there) == ((), frozenset(WANTED))
    assert all(one.ok for one in again.findings)


@pytest.mark.parametrize("kind", ["drop", "processed_then_drop", "error"])
def test_an_end_after_any_creation_is_made_good(bare: HubSpotSandbox, kind: str) -> None:
    """Wherever set-up ends, whether the last call was applied or not, the next one completes it and makes no double."""
    for done in range(len(WANTED) + 1):
        bare.set_properties(remove=NAMES)
        bare.set_faults(fault(kind, operations=CREATIONS, after=done, times=1))
        first = apply(setup(bare.url))
        bare.set_faults()
        second = apply(setup(bare.url))
        assert all(one.finding.ok for one in second), done
        assert is_whole(bare)
        assert len([one for one in (*first, *second) if one.created]) <= len(WANTED) + 1


def test_a_creation_whose_answer_was_lost_is_looked_for(bare: HubSpotSandbox) -> None:
    """A property that was created although nobody heard of it is found, and set-up goes on; else it ends there."""
    bare.set_faults(fault("drop", operations=("properties.create",), after=2, times=1))
    first = apply(setup(bare.url))
    assert [one.finding.ok for one in first] == [True, True, True, False]
    bare.set_faults(fault("processed_then_drop", operations=("properties.create",), times=1))
    second = apply(setup(bare.url))
    assert all(one.finding.ok for one in second)
    assert is_whole(bare)


def test_set_up_twice_at_once(bare: HubSpotSandbox) -> None:
    """Two who planned the same and create it at once both succeed, and each thing was created by one of them."""
    bare.configure(latency_ms=5)
    both = [setup(bare.url), setup(bare.url)]
    plans = [one.plan(WANTED) for one in both]
    with ThreadPoolExecutor(2) as pool:
        runs = [*pool.map(lambda one, plan: [*one.install(plan.steps)], both, plans)]
    assert is_whole(bare)
    assert all(taken.finding.ok for run in runs for taken in run)
    assert sum(taken.created for run in runs for taken in run) == len(WANTED) + 1


def test_what_is_the_customers_is_never_changed(bare: HubSpotSandbox) -> None:
    """Properties of the same name with another definition are named, stay as they are, and the others are created."""
    body = {"groupName": "theirs", "label": "Ours", "fieldType": "text", "type": "string"}
    theirs: list[dict[str, Any]] = [
        {**body, "name": "courses_completed_count"},
        {**body, "name": "lms_user_id"},
        {**body, "name": "last_course_completed", "fieldType": "file"},
        {**body, "name": "lms_source", "hasUniqueValue": True},
    ]
    bare.set_properties(add=theirs)
    before = bare.properties()
    crm = setup(bare.url)
    plan = crm.plan(WANTED)
    said = " / ".join(one.what for one in plan.findings if not one.ok)
    for words in (
        "courses_completed_count is string, not number",
        "lms_user_id does not hold unique values",
        "last_course_completed is a file field",
        "lms_source holds unique values",
    ):
        assert words in said
    assert all(one.finding.ok for one in crm.install(plan.steps))
    after = bare.properties()
    assert {name: one for name, one in after.items() if name in before} == before
    assert after.keys() >= NAMES
    assert {one["operation"] for one in bare.calls()} <= {*CREATIONS, "properties.list", "limits.custom_properties"}


def test_a_wrong_property_that_appears_meanwhile_is_named(bare: HubSpotSandbox) -> None:
    """A name taken between planning and creating is looked at: fine where it is what we want, named where it is not."""
    crm = setup(bare.url)
    steps = crm.plan(WANTED).steps
    body = {"groupName": "theirs", "label": "Theirs", "type": "string", "fieldType": "text"}
    bare.set_properties(add=[{**body, "name": "lms_source"}, {**body, "name": "courses_completed_count"}])
    taken = {step.what: one for step, one in zip(steps, crm.install(steps), strict=True)}
    assert taken["lms_source (string)"] == (False, taken["lms_source (string)"].finding)
    (bad,) = [one.finding for one in taken.values() if not one.finding.ok]
    assert "courses_completed_count is string, not number" in bad.what


def test_a_name_in_the_bin_is_said_to_be_there(bare: HubSpotSandbox) -> None:
    """HubSpot neither lists an archived property nor lets its name be used: the sentence says so."""
    apply(setup(bare.url))
    bare.set_properties(archive=["lms_source"])
    (taken,) = apply(setup(bare.url))
    assert not taken.finding.ok
    assert "by a property that is archived" in taken.finding.what
    assert "restore it" in taken.finding.advice


@pytest.mark.parametrize("missing", [1, len(WANTED)])
def test_without_room_nothing_is_created(bare: HubSpotSandbox, missing: int) -> None:
    """Too few custom properties left: said before anything is created, which is then all or nothing."""
    bare.configure(custom_properties=len(WANTED) - missing)
    plan = setup(bare.url).plan(WANTED)
    assert plan.steps == ()
    assert f"room for {len(WANTED) - missing} more" in plan.findings[-1].what
    bare.configure(custom_properties=len(WANTED))
    assert len(setup(bare.url).plan(WANTED).steps) == len(WANTED) + 1


def test_a_limit_that_hubspot_does_not_tell_is_found_by_trying(bare: HubSpotSandbox) -> None:
    """Without the endpoint each property that no longer fits is refused by name, and what fits is there."""
    bare.configure(custom_properties=4, tells_limits=False)
    taken = apply(setup(bare.url))
    assert sum(one.created for one in taken) == 1 + 4
    assert all("refuses to create" in one.finding.what for one in taken[5:])


def test_ten_unique_properties_are_the_most(bare: HubSpotSandbox) -> None:
    """With ten of the customer's there is no room for lms_user_id, and that is said before anything is created."""
    body = {"groupName": "theirs", "label": "U", "type": "string", "fieldType": "text"}
    bare.set_properties(add=[{**body, "name": f"theirs_{n}", "hasUniqueValue": True} for n in range(10)])
    plan = setup(bare.url).plan(WANTED)
    assert plan.steps == ()
    assert "no room for lms_user_id" in plan.findings[-1].what


def test_a_token_that_may_not_create_is_told_once(bare: HubSpotSandbox) -> None:
    """Without the scope of schemas the first step says what stops, and the others are not tried."""
    bare.configure(missing_scopes=["crm.schemas.contacts.write"])
    (taken,) = apply(setup(bare.url))
    assert taken.finding.what == (
        "the token lacks crm.schemas.contacts.write: set-up cannot create groups and properties"
    )
    bare.configure(missing_scopes=["crm.schemas.contacts.read", "crm.objects.contacts.read"])
    plan = setup(bare.url).plan(WANTED)
    assert plan.steps == ()
    assert "lacks crm.schemas.contacts.read" in plan.findings[0].what
    bare.configure(missing_scopes=["crm.objects.contacts.read"])
    assert len(setup(bare.url).plan(WANTED).steps) == len(WANTED) + 1, "room is not told, and that is all"


# --- companies


@pytest.mark.parametrize("version", VERSIONS)
def test_companies_are_set_up_beside_contacts(bare: HubSpotSandbox, version: Version) -> None:
    """Each property where it belongs, also one whose name both have; the second time nothing is left to do."""
    crm = setup(bare.url, version)
    plan = crm.plan((*WANTED, *OF_COMPANIES))
    assert [step.what for step in plan.steps][-3:] == [
        "the group lms_sync of companies",
        "company property lms_people (number)",
        "company property lms_source (date)",
    ]
    assert all(one.created and one.finding.ok for one in crm.install(plan.steps))
    assert is_whole(bare)
    made = {name: one["type"] for name, one in bare.company_properties().items() if one["groupName"] == "lms_sync"}
    assert made == {"lms_people": "number", "lms_source": "date"}
    again = crm.plan((*WANTED, *OF_COMPANIES))
    assert (again.steps, again.there) == ((), frozenset((*WANTED, *OF_COMPANIES)))
    assert "all 2 properties of companies that the rules write are there" in [one.what for one in again.findings]


def test_without_rules_of_companies_nothing_is_asked_of_them(bare: HubSpotSandbox) -> None:
    """Who fills no company needs no permission for them."""
    bare.configure(missing_scopes=["crm.schemas.companies.read", "crm.objects.companies.read"])
    crm = setup(bare.url)
    assert all(one.finding.ok for one in crm.install(crm.plan(WANTED).steps))
    assert not any(one["operation"].startswith("compan") for one in bare.calls())


def test_what_companies_have_already_is_never_changed(bare: HubSpotSandbox) -> None:
    """A wrong type is named as a company's and stays; a name taken meanwhile is compared with the company's own."""
    theirs = {"groupName": "companyinformation", "label": "Theirs", "type": "string", "fieldType": "text"}
    groups = [{"name": "companyinformation", "label": "Theirs"}]
    crm = setup(bare.url)
    steps = crm.plan(OF_COMPANIES).steps
    bare.change_companies(groups=groups, properties=[{**theirs, "name": "lms_people"}])
    before = bare.company_properties()["lms_people"]
    [group, wrong, made] = crm.install(steps)
    assert (group.created, made.created, wrong.finding.ok) == (True, True, False)
    assert "the company property lms_people is string, not number" in wrong.finding.what
    plan = crm.plan(OF_COMPANIES)
    assert [(one.about, one.of) for one in plan.findings] == [("lms_people", "account")]
    assert plan.steps == ()
    assert bare.company_properties()["lms_people"] == before


def test_a_permission_for_companies_that_is_missing_stops_no_contact(bare: HubSpotSandbox) -> None:
    """It is named, after everything of contacts was created; what cannot be listed is not planned."""
    bare.configure(missing_scopes=["crm.schemas.companies.write"])
    taken = apply(setup(bare.url), (*WANTED, *OF_COMPANIES))
    assert is_whole(bare)
    [failed] = [one.finding for one in taken if not one.finding.ok]
    assert failed.what.startswith("the token lacks crm.schemas.companies.write: ")
    bare.configure(missing_scopes=["crm.schemas.companies.read", "crm.objects.companies.read"])
    plan = setup(bare.url).plan((*WANTED, *OF_COMPANIES))
    assert plan.steps == ()
    assert plan.findings[-1].what.startswith("the token lacks crm.schemas.companies.read: ")


def test_room_is_that_of_companies(http: responses.RequestsMock) -> None:
    """Their limit is their own: a full list of contacts keeps none of them out, and a full one of theirs does."""
    http.get(LISTED, json={"results": [{"name": "email", "type": "string"}]})
    http.get(LISTED.replace("contacts", "companies"), json={"results": [{"name": "name", "type": "string"}]})
    full = {"objectTypeId": "0-2", "limit": 10, "usage": 9}
    http.get(ROOM, json={"byObjectType": [{"objectTypeId": "0-1", "limit": 10, "usage": 0}, full]})
    plan = setup().plan((Wanted("lms_people", "number"), *OF_COMPANIES))
    assert {step.of for step in plan.steps} == {"contact"}
    assert "room for 1 more custom properties of companies, and 2 are missing" in plan.findings[-1].what


@pytest.mark.parametrize(
    ("scope", "said"),
    [
        ("crm.objects.companies.read", "no company is compared"),
        ("crm.objects.companies.write", "no company is written"),
        ("crm.schemas.companies.read", "are not found early"),
    ],
)
def test_check_names_each_permission_for_companies(bare: HubSpotSandbox, scope: str, said: str) -> None:
    """Where rules fill companies, and only there; the calls that ask change nothing."""
    both = ["crm.schemas.companies.read", "crm.objects.companies.read"] if "schemas" in scope else [scope]
    bare.configure(missing_scopes=both)
    before = bare.companies()
    found = [one.what for one in doctor(bare.url).check(lambda _: OF_COMPANIES) if not one.ok]
    assert any(one.startswith(f"the token lacks {scope}: ") and said in one for one in found)
    assert not any("contacts" in one for one in found)
    assert not [one for one in doctor(bare.url).check(lambda _: ()) if "compan" in one.what]
    assert bare.companies() == before


def test_check_names_what_companies_lack(bare: HubSpotSandbox) -> None:
    """Missing and wrong properties each in a sentence that says whose they are."""
    form = {"groupName": "lms_sync", "label": "x", "type": "string", "fieldType": "text"}
    groups = [{"name": "lms_sync", "label": "LMS sync"}]
    bare.change_companies(groups=groups, properties=[{**form, "name": "lms_source"}])
    found = [one.what for one in doctor(bare.url).check(lambda _: OF_COMPANIES) if not one.ok]
    assert found == [
        "the company property lms_people does not exist and will not be written",
        "the company property lms_source is string, not date: its values may be refused",
    ]


# --- answer by answer


def test_the_requests(http: responses.RequestsMock) -> None:
    """The bodies are those of the reference."""
    http.post(f"{LISTED}/groups", status=201, json={})
    http.post(LISTED, status=201, json={})
    unique, flag = Wanted("lms_user_id", "string", unique=True), Wanted("certified_alpha", "bool")
    [*setup().install([GROUP, Step("x", unique), Step("y", flag)])]
    group, first, second = (orjson.loads(call.request.body or b"") for call in http.calls)
    assert group == {"name": "lms_sync", "label": "LMS sync", "displayOrder": -1}
    assert first.pop("description")
    assert first == {
        "groupName": "lms_sync",
        "name": "lms_user_id",
        "label": "LMS user ID",
        "type": "string",
        "fieldType": "text",
        "formField": False,
        "hasUniqueValue": True,
    }
    assert second["options"] == [
        {"label": "Yes", "value": "true", "displayOrder": 0, "hidden": False},
        {"label": "No", "value": "false", "displayOrder": 1, "hidden": False},
    ]


@pytest.mark.parametrize("body", [None, {}, {"category": "CONFLICT"}, {"category": "OBJECT_ALREADY_EXISTS"}, []])
def test_a_conflict_is_one_whatever_its_body(http: responses.RequestsMock, body: Any) -> None:
    """The form of a 409 is not known for sure: the status alone says that the name is taken."""
    (one,) = [wanted for wanted in DEFAULTS if wanted.name == "lms_source"]
    http.post(f"{LISTED}/groups", status=409, json=body)
    http.post(LISTED, status=409, json=body)
    http.get(f"{LISTED}/lms_source", json=definition(one))
    taken = [*setup().install([GROUP, Step("lms_source (string)", one)])]
    assert [(one.created, one.finding.ok) for one in taken] == [(False, True), (False, True)]


def test_a_taken_name_that_cannot_be_read_is_not_called_archived(http: responses.RequestsMock) -> None:
    """A fault between the 409 and the look at what is there says nothing about that, and the advice is to run again."""
    http.post(LISTED, status=409, json={})
    http.get(f"{LISTED}/lms_source", status=500)
    (taken,) = setup().install([Step("lms_source (string)", Wanted("lms_source", "string"))])
    assert taken.finding.what == "lms_source (string) was not created"
    assert "--apply` again" in taken.finding.advice


@pytest.mark.parametrize("body", [None, [], {}, {"results": "x"}, {"results": [{"name": "lms_source"}]}])
def test_nothing_is_planned_on_a_list_that_is_none(http: responses.RequestsMock, body: Any) -> None:
    """An answer without the properties that every account has is no ground to create any."""
    http.get(LISTED, json=body)
    plan = setup().plan(DEFAULTS)
    assert (plan.steps, plan.there) == ((), frozenset())
    assert not plan.findings[0].ok


@pytest.mark.parametrize("body", [None, [], {}, {"byObjectType": None}, {"byObjectType": [1, {"objectTypeId": "0-1"}]}])
@pytest.mark.parametrize("status", [200, 403, 404, 500])
def test_room_that_is_not_told_stops_nobody(http: responses.RequestsMock, body: Any, status: int) -> None:
    """Whatever the endpoint of the limits answers, what is missing is planned."""
    http.get(LISTED, json={"results": [{"name": "email", "type": "string"}]})
    http.get(ROOM, json=body, status=status)
    assert len(setup().plan(DEFAULTS).steps) == len(DEFAULTS) + 1


@pytest.mark.parametrize("status", [401, 403, 429, 500, 502])
def test_what_the_next_step_would_meet_too_ends_it(http: responses.RequestsMock, status: int) -> None:
    """A refused token, a limit, a fault: one finding, and what was not created is not tried one by one."""
    http.post(f"{LISTED}/groups", status=status, json={"message": "no"})
    (taken,) = setup().install([GROUP, *(Step(one.name, one) for one in DEFAULTS)])
    assert not taken.finding.ok
    assert taken.finding.advice


FOUND = {"name": "x", "type": "string", "fieldType": "text", "hasUniqueValue": False, "archived": False}


@pytest.mark.parametrize(
    ("kind", "changed", "words"),
    [
        ("string", {}, ""),
        ("string", {"type": "number", "fieldType": "number"}, "is number, not string"),
        ("string", {"type": "enumeration", "fieldType": "select"}, "is enumeration, not string"),
        ("string", {"fieldType": "file"}, "is a file field, not text"),
        ("string", {"fieldType": "textarea"}, ""),
        ("string", {"hasUniqueValue": True}, "holds unique values"),
        ("string", {"hasUniqueValue": True, "hubspotDefined": True}, ""),
        ("string", {"archived": True}, "is archived"),
        ("string", {"calculated": True}, "is read-only"),
        ("string", {"modificationMetadata": {"readOnlyValue": True}}, "is read-only"),
        ("datetime", {"type": "date", "fieldType": "date"}, "is date, not datetime"),
        ("date", {"type": "datetime", "fieldType": "date"}, "is datetime, not date"),
        ("bool", {"type": "bool", "fieldType": "booleancheckbox"}, ""),
        ("bool", {"type": "enumeration", "fieldType": "radio", "options": [{"value": "yes"}]}, "true and false"),
        ("bool", {"type": "enumeration", "fieldType": "checkbox"}, "is a checkbox field"),
    ],
)
def test_definitions_are_judged(kind: Any, changed: dict[str, Any], words: str) -> None:
    """What would refuse or change our values is named; what merely differs is not held against it."""
    bad = [one for one in differences(Wanted("x", kind), FOUND | changed) if not one.ok]
    assert [words in one.what and bool(one.advice) for one in bad] == ([True] if words else [])


def test_labels_are_for_people() -> None:
    """HubSpot shows labels, so they read well."""
    assert label("lms_user_id") == "LMS user ID"
    assert label("certified_alpha_until") == "Certified alpha until"
    assert label("lms_last_synced_at") == "LMS last synced at"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["Bronze", "Gold"], None),
        (["Bronze", "Silver", "Gold"], None),
        (["Bronze"], "has not the option Gold: a contact that gets it will be refused"),
        (["bronze", "gold"], "has not the option Bronze, Gold"),
        ([], None),  # not said
    ],
)
def test_options_are_compared_with_what_the_rules_can_give(options: list[str], said: str | None) -> None:
    """To the letter, as HubSpot does; more options than are used are fine."""
    level = Wanted("level", "enumeration", values=frozenset(("Bronze", "Gold")))
    listed = [{"value": one, "label": one} for one in options]
    found = {"name": "level", "type": "enumeration", "fieldType": "select", "options": listed}
    wrong = [one for one in differences(level, found) if not one.ok]
    assert [said in one.what for one in wrong if said] == ([True] if said else [])
    assert len(wrong) == bool(said)
    assert {one.about for one in wrong} <= {"level"}


def test_a_list_of_options_takes_what_is_appended() -> None:
    """A checkbox holds several values, and is no form for one."""
    form = {"name": "levels", "type": "enumeration", "fieldType": "checkbox"}
    assert [*differences(Wanted("levels", "enumeration", is_list=True), form)] != [
        *differences(Wanted("levels", "enumeration"), form)
    ]
    assert all(one.ok for one in differences(Wanted("levels", "enumeration", is_list=True), form))


def test_a_choice_that_is_missing_is_for_the_customer_to_make(http: responses.RequestsMock) -> None:
    """Named with the options it needs, and never created."""
    http.get(LISTED, json={"results": [{"name": "email", "type": "string"}]})
    plan = setup().plan([Wanted("level", "enumeration", values=frozenset(("Gold", "Bronze")))])
    assert plan.steps == ()
    [finding] = plan.findings
    assert finding.what == "the contact property level does not exist and will not be written"
    assert "as a dropdown with the options Bronze, Gold" in finding.advice


def test_what_is_archived_and_listed_is_not_created(http: responses.RequestsMock) -> None:
    """Its name is taken; only a person can restore it."""
    http.get(LISTED, json={"results": [{"name": "email"}, {"name": "x", "type": "string", "archived": True}]})
    plan = setup().plan([Wanted("x", "string")])
    assert (plan.steps, [one.what for one in plan.findings]) == (
        (),
        ["the contact property x is archived and will not be written"],
    )
