"""`coursewire check --apply` as an administrator runs it: from a bare portal to a check without a fault."""

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Engine

from integration.errors import Reason
from integration.storage import quarantine
from scripts.sandbox.faults import fault
from scripts.sandbox.hubspot import HubSpotSandbox
from tests.defaults import DEFAULTS
from tests.e2e.conftest import Run, audited
from tests.processes import until

NAMES = {one.name for one in DEFAULTS}
LEFT_OUT = ["certified_alpha", "certified_alpha_until"]


@pytest.fixture
def portal() -> Iterator[HubSpotSandbox]:
    """A sandbox CRM as it was sold, in the place of the one that is set up."""
    with HubSpotSandbox(token="sandbox-token", lms_properties=False, rate=1000) as sandbox:
        yield sandbox


@pytest.fixture
def bare(portal: HubSpotSandbox) -> HubSpotSandbox:
    """The same, for its reader."""
    return portal


def created(portal: HubSpotSandbox) -> list[str]:
    """The operations that created something, as often as they did."""
    return [one["operation"] for one in portal.calls() if one["operation"].endswith("create") and one["status"] == 201]


def outcomes(engine: Engine) -> list[str]:
    """What the audit log says of set-up."""
    with engine.begin() as db:
        rows = db.exec_driver_sql("SELECT outcome FROM audit WHERE action = 'connection.setup' ORDER BY id")
        return [row.outcome for row in rows]


def test_from_a_bare_portal_to_a_check_without_a_fault(run: Run, bare: HubSpotSandbox, engine: Engine) -> None:
    """Check names what is missing and changes nothing; with --apply it shows, asks, creates, and is content."""
    before = bare.properties()
    plain = run("check")
    assert plain.returncode == 1
    assert "the contact property lms_user_id does not exist" in plain.stdout
    assert "coursewire check --apply" in plain.stdout

    declined = run("check", "--apply", typed="n\n")
    assert declined.returncode == 1
    assert "To be created in crm (HubSpot):\n  the group lms_sync\n  courses_completed_count" in declined.stdout
    assert "lms_user_id (string, unique values)" in declined.stdout
    assert bare.properties() == before
    assert created(bare) == []
    assert audited(engine) == []

    done = run("check", "--apply", typed="y\n")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "crm: created lms_user_id (string, unique values)." in done.stdout
    assert "certified_{key}" in done.stdout
    assert bare.properties().keys() >= NAMES
    assert outcomes(engine) == ["begun", "created 12"]
    assert all(actor.startswith("user:") for actor, _ in audited(engine))
    assert run("check").returncode == 0

    bare.reset(calls=True)
    again = run("check", "--apply", "--json", "--yes")
    assert json.loads(again.stdout)["ok"]
    assert (created(bare), len(outcomes(engine))) == ([], 2)


def test_check_wants_unique_values_wherever_set_up_makes_them(run: Run, bare: HubSpotSandbox, tmp_path: Path) -> None:
    """A property that the identity rules look up by: what --apply made is right, and one without them is named."""
    rules = tmp_path / "rules"
    assert run("rules", "export", str(rules)).returncode == 0
    with (rules / "hubspot.yaml").open("a", encoding="utf-8") as fields:
        fields.write("  employee_id: {property: employee_number, type: string}\n")
    looked_up = "connection: crm\nidentity: {look_up: [employee_id, lms_user_id, email]}\n"
    (rules / "crm.yaml").write_text(looked_up, "utf-8")
    assert run("rules", "publish", str(rules), "--offline", "--yes").returncode == 0
    made = run("check", "--apply", "--yes")
    assert "crm: created employee_number (string, unique values)." in made.stdout
    assert made.returncode == 0, made.stdout
    assert run("check").returncode == 0

    bare.set_properties(remove=["employee_number"])
    plainly = {"name": "employee_number", "label": "No", "type": "string", "fieldType": "text", "groupName": "lms_sync"}
    bare.set_properties(add=[plainly])
    plain = run("check")
    assert "employee_number does not hold unique values, so contacts cannot be looked up by it" in plain.stdout
    assert plain.returncode == 1


ACCOUNT_RULES = """account:
  people: {count: certified, of: basics, property: certified_people, type: number}
  status: {any: certified, of: basics, property: partner_status, type: enumeration,
           transform: [{bool_text: {true: Certified, false: Lapsed}}]}
"""


def test_companies_that_rules_fill_are_set_up_too(
    run: Run, bare: HubSpotSandbox, engine: Engine, tmp_path: Path
) -> None:
    """Planned with file and line, named by check, created by --apply; the choice is the customer's to make."""
    assert run("check", "--apply", "--yes").returncode == 0
    rules = tmp_path / "rules"
    assert run("rules", "export", str(rules)).returncode == 0
    with (rules / "hubspot.yaml").open("a", encoding="utf-8") as fields:
        fields.write(ACCOUNT_RULES)
    planned = run("rules", "plan", str(rules)).stdout
    line = (rules / "hubspot.yaml").read_text("utf-8").splitlines().index(ACCOUNT_RULES.splitlines()[1]) + 1
    assert f"hubspot.yaml:{line}: company property certified_people (number)" in " ".join(planned.split())
    assert run("rules", "publish", str(rules), "--offline", "--yes").returncode == 0
    plain = run("check")
    assert "the company property certified_people does not exist" in plain.stdout
    assert "certified_people" not in bare.company_properties()

    declined = run("check", "--apply", typed="n\n")
    assert "  the group lms_sync of companies\n  company property certified_people (number)" in declined.stdout
    assert "certified_people" not in bare.company_properties()
    with engine.begin() as db:
        db.exec_driver_sql("INSERT INTO connections (name, system) VALUES ('crm', 'hubspot') ON CONFLICT DO NOTHING")
        quarantine.add(db, "crm", "account", ["certified_people"], Reason.UNKNOWN_PROPERTY)
    done = run("check", "--apply", "--yes")
    assert "crm: created company property certified_people (number)." in done.stdout
    assert "tried again for 0 people: certified_people" in done.stdout
    assert "as a dropdown with the options Certified, Lapsed" in " ".join(done.stdout.split())
    assert bare.company_properties()["certified_people"]["groupName"] == "lms_sync"
    assert done.returncode == 1

    choice = [{"label": one, "value": one} for one in ("Certified", "Lapsed")]
    form = {"groupName": "lms_sync", "label": "Status", "type": "enumeration", "fieldType": "select"}
    bare.change_companies(properties=[{**form, "name": "partner_status", "options": choice}])
    assert run("check").returncode == 0


@pytest.mark.parametrize("done", [0, 1, 5])
def test_killed_half_way_it_completes_the_next_time(
    run: Run, ours: dict[str, str], bare: HubSpotSandbox, engine: Engine, done: int
) -> None:
    """Killed while a creation is on its way, applied or not: the next run creates the rest, and it is on record who."""
    creations = ("properties.group_create", "properties.create")
    bare.set_faults(fault("processed_then_hang", operations=creations, after=done, times=1, seconds=60))
    command = [sys.executable, "-m", "tasks.cli", "check", "--apply", "--yes"]
    process = subprocess.Popen(command, env=ours, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: len([one for one in bare.calls() if one["operation"] in creations]) > done)
    process.kill()
    process.wait()
    bare.set_faults()
    assert outcomes(engine) == ["begun"]
    completed = run("check", "--apply", "--yes")
    assert completed.returncode == 0, completed.stdout
    assert bare.properties().keys() >= NAMES


def test_two_at_once(run: Run, bare: HubSpotSandbox) -> None:
    """Two administrators at the same moment: both end well, and nothing was created twice."""
    with ThreadPoolExecutor(2) as pool:
        both = [*pool.map(lambda _: run("check", "--apply", "--yes"), range(2))]
    wrong = [line for one in both for line in (one.stdout + one.stderr).splitlines() if not line.startswith("ok")]
    assert [one.returncode for one in both] == [0, 0], "\n".join(wrong)
    assert created(bare).count("properties.create") == len(NAMES)


def test_what_was_left_out_is_created_and_tried_again_at_once(run: Run, bare: HubSpotSandbox, engine: Engine) -> None:
    """Properties of a pattern that HubSpot refused are created by their names, and their rest is over."""
    with engine.begin() as db:
        db.exec_driver_sql("INSERT INTO connections (name, system) VALUES ('crm', 'hubspot')")
        quarantine.add(db, "crm", "contact", [*LEFT_OUT, "lms_source"], Reason.UNKNOWN_PROPERTY)
    done = run("check", "--apply", "--yes")
    assert done.returncode == 0, done.stdout
    assert "tried again for 0 people: certified_alpha, certified_alpha_until, lms_source" in done.stdout
    assert bare.properties()["certified_alpha"]["type"] == "bool"
    with engine.begin() as db:
        assert quarantine.known(db, "crm", "contact")["contact"].held == frozenset()


def test_a_kill_between_creating_and_trying_again_is_made_good(run: Run, bare: HubSpotSandbox, engine: Engine) -> None:
    """What is there already but still left out is tried again, although nothing had to be created."""
    assert run("check", "--apply", "--yes").returncode == 0
    with engine.begin() as db:
        db.exec_driver_sql("INSERT INTO connections (name, system) VALUES ('crm', 'hubspot') ON CONFLICT DO NOTHING")
        quarantine.add(db, "crm", "contact", ["lms_source"], Reason.UNKNOWN_PROPERTY)
    assert "tried again for 0 people: lms_source" in run("check", "--apply").stdout
    assert outcomes(engine)[-1] == "created 0"


def test_wrong_definitions_and_missing_scopes_are_named(run: Run, bare: HubSpotSandbox) -> None:
    """Each in a sentence with what stops, exit code 1, and what the customer made stays as it is."""
    theirs = {"name": "courses_completed_count", "label": "Theirs", "type": "string", "fieldType": "text"}
    bare.set_properties(add=[{**theirs, "groupName": "contactinformation"}])
    before = bare.properties()["courses_completed_count"]
    done = run("check", "--apply", "--yes")
    assert done.returncode == 1
    assert done.stdout.count("courses_completed_count is string, not number") == 1
    assert bare.properties()["courses_completed_count"] == before
    assert bare.properties().keys() >= NAMES

    bare.set_properties(remove=["lms_source"])
    bare.configure(missing_scopes=["crm.schemas.contacts.write", "crm.objects.contacts.write"])
    lacking = run("check", "--apply", "--yes")
    assert lacking.returncode == 1
    assert "the token lacks crm.schemas.contacts.write: set-up cannot create groups and properties" in lacking.stdout
    assert "the token lacks crm.objects.contacts.write: nothing is written to HubSpot" in lacking.stdout
    assert "lacks crm.objects.contacts.read" not in lacking.stdout


def test_without_a_database_nothing_is_created(run: Run, bare: HubSpotSandbox) -> None:
    """The rules stand in the database: without it set-up says so, the check goes on, and the portal stays bare."""
    done = run("check", "--apply", "--yes", database_url="postgresql://u:p@127.0.0.1:9/x")
    assert done.returncode == 1
    assert "nothing was set up" in done.stdout
    assert created(bare) == []
    assert run("check", "--apply", "--json").returncode == 2, "programs cannot be asked"
