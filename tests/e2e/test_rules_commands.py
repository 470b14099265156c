"""`coursewire rules` as an admin uses it: export, edit, plan, publish, explain, take back."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Engine
from typer.testing import Result

from mappings import store
from scripts.sandbox.hubspot import HubSpotSandbox
from tasks.assembly import this_process
from tests.db.conftest import event
from tests.db.test_pipeline import rows
from tests.e2e.conftest import ADA, Take, audited
from tests.e2e.test_dead_commands import cli

__all__ = ["cli"]  # a fixture

Cli = Callable[..., Result]

FIRST_NAME = "  first_name: {from: full_name, property: firstname, type: string, transform: [{split_name: first}]%s}\n"


@pytest.fixture
def rules(cli: Cli, tmp_path: Path) -> Path:
    """The published rules as a folder of files."""
    folder = tmp_path / "rules"
    done = cli("rules", "export", str(folder))
    assert done.exit_code == 0, done.output
    assert "Edit the files, then `coursewire rules plan" in done.output
    return folder


def add(folder: Path, line: str) -> None:
    """Add an entry to the file of HubSpot's contacts."""
    with (folder / "hubspot.yaml").open("a") as file:
        file.write(line)


def test_what_was_exported_changes_nothing(cli: Cli, rules: Path) -> None:
    """A round trip is no change, and files are not overwritten unasked."""
    assert "Nothing changes: these are the rules of set 1." in cli("rules", "plan", str(rules)).stdout
    again = cli("rules", "export", str(rules))
    assert (again.exit_code, "there already" in again.output) == (2, True)
    assert cli("rules", "export", str(rules), "--force").exit_code == 0


def test_files_of_rules_that_are_gone_are_named(cli: Cli, rules: Path) -> None:
    """They would be published again with the next plan; whether they are old or new work only a person can say."""
    own = rules / "connection-crm.yaml"
    own.write_text("connection: crm\ncontact:\n  email: {property: work_email, type: string}\n")
    done = cli("rules", "export", str(rules), "--force")
    assert f"{own}: left as it is; it is no part of rule set 1" in done.stdout.replace("\n", " ")
    assert own.exists()


def test_a_rule_is_planned_published_and_taken_back(
    cli: Cli, rules: Path, take: Take, engine: Engine, portal: HubSpotSandbox
) -> None:
    """The plan says what and for whom; publish does it; rollback is a version of its own; all of it is audited."""
    take([event(email=ADA[0], name=ADA[1])])
    flusher = this_process().flushers["crm", "contact.upsert"]
    flusher.flush()
    add(rules, FIRST_NAME % "")
    planned = cli("rules", "plan", str(rules))
    assert planned.exit_code == 0, planned.output
    assert "+ system hubspot, contact.first_name: firstname from full_name" in planned.stdout
    assert "crm: at most 1 of 1 person change" in planned.stdout
    assert "calls: 1 to write, 1 to read before" in planned.stdout
    assert rows(engine, "SELECT count(*) FROM rule_sets") == [(1,)]
    assert cli("rules", "publish", str(rules), typed="n\n").exit_code == 1
    done = cli("rules", "publish", str(rules), "-m", "the rep wants it", typed="y\n")
    assert "Rule set 2 is published." in done.stdout
    assert "on its way" in cli("rules", "history").stdout
    for _ in range(2):
        with engine.begin() as db:
            store.roll_out(db, limit=10)
        flusher.flush()
    contact = portal.contact(ADA[0])
    assert contact is not None
    assert contact["properties"]["firstname"] == "Ada"
    assert "rule set 2" in cli("person", "show", ADA[0]).stdout
    back = cli("rules", "rollback", typed="y\n")
    assert "- system hubspot, contact.first_name" in back.stdout
    assert "firstname: not written any more; what it holds stays" in back.stdout
    (newest, middle, _) = json.loads(cli("rules", "history", "--json").stdout)["rule_sets"]
    assert (newest["id"], newest["origin_id"], middle["comment"]) == (3, 1, "the rep wants it")
    assert [action for _, action in audited(engine)] == ["rules.publish"] * 2


def test_a_replay_says_which_writes_would_differ(cli: Cli, rules: Path, take: Take, engine: Engine) -> None:
    """By number and not by name, unless somebody wants to see, which is on record; the exit code is for CI."""
    take([event(email=ADA[0], name=ADA[1])])
    same = cli("rules", "plan", str(rules), "--replay", "30d", "--offline")
    assert (same.exit_code, "No write would differ." in same.stdout) == (0, True), same.output
    add(rules, FIRST_NAME % "")
    [(person,)] = rows(engine, "SELECT id FROM people")
    told = cli("rules", "plan", str(rules), "--replay", "30d", "--offline")
    assert told.exit_code == 1
    assert "Replayed: what was recorded from 20" in told.stdout
    assert f"#{person}" in told.stdout
    assert "contacts written: 1 published, 1 proposed" in told.stdout
    assert "Ada" not in told.stdout
    assert audited(engine) == []
    shown = cli("rules", "plan", str(rules), "--replay", "2w", "--offline", "--reveal")
    assert f"firstname, person #{person}" in shown.stdout
    assert "(not written) -> Ada" in shown.stdout
    assert [action for _, action in audited(engine)] == ["person.read"]
    answer = cli("rules", "plan", str(rules), "--replay", "12h", "--offline", "--json")
    assert answer.exit_code == 1
    [found] = json.loads(answer.stdout)["replay"]["connections"]
    assert found["properties"]["firstname"]["differ"] == 1
    assert found["properties"]["firstname"]["examples"][0]["becomes"] is None
    assert cli("rules", "plan", str(rules), "--replay", "soon").exit_code == 2
    assert cli("rules", "plan", str(rules), "--reveal").exit_code == 2


def test_the_portal_is_asked_before_anything_is_published(cli: Cli, rules: Path, portal: HubSpotSandbox) -> None:
    """What is missing there, and what has another type, is said; without asking when nobody wants it."""
    add(rules, "  first: {from: full_name, property: no_such_one, type: string}\n")
    add(rules, "  second: {from: courses_completed_count, property: hs_object_id, type: number}\n")
    add(rules, "  third: {from: recent_course_completion_date, property: company, type: date}\n")
    told = cli("rules", "plan", str(rules)).stdout
    assert "no_such_one (string) is missing; it is left out until `coursewire check --apply` creates it" in told
    assert "the contact property hs_object_id is read-only" in told
    assert "the contact property company is string, not date" in told
    assert "no_such_one (string) is missing" not in cli("rules", "plan", str(rules), "--offline").stdout


def test_each_fault_of_the_portal_stands_with_its_file_and_line(cli: Cli, rules: Path, portal: HubSpotSandbox) -> None:
    """Also an option that a lookup gives and the portal has not, and a choice that is missing."""
    file = rules / "hubspot.yaml"
    first = len(file.read_text().splitlines()) + 1
    add(rules, "  a: {from: full_name, property: no_such_one, type: string}\n")
    add(rules, "  b: {from: courses_completed_count, property: hs_object_id, type: number}\n")
    add(rules, "  c: {from: recent_course_completion_date, property: company, type: date}\n")
    stages = "{from: last_course_completed, property: %s, type: enumeration, transform: {lookup: {A: lead, B: won}}}\n"
    add(rules, "  d: " + stages % "lifecyclestage")
    add(rules, "  e: " + stages % "no_such_choice")
    told = cli("rules", "plan", str(rules)).stdout
    for line, said in enumerate(
        (
            "no_such_one (string) is missing",
            "the contact property hs_object_id is read-only",
            "the contact property company is string, not date",
            "the contact property lifecyclestage has not the option won",
            "the contact property no_such_choice does not exist and will not be written: create it in HubSpot",
        ),
        first,
    ):
        assert f"{file}:{line}: {said}" in told, told
    assert "options lead, won" in told


def test_a_mistake_publishes_nothing(cli: Cli, rules: Path, engine: Engine) -> None:
    """File, line, sentence, exit code 2; the other, right file is not published either."""
    add(rules, FIRST_NAME % ", onwer: crm")
    for command in ("plan", "publish"):
        done = cli("rules", command, str(rules), typed="y\n")
        assert done.exit_code == 2
        assert "contact.first_name.onwer: this key is not known" in done.output.replace("\n", " ")
    assert rows(engine, "SELECT count(*) FROM rule_sets") == [(1,)]


def test_a_rule_can_be_explained(cli: Cli, rules: Path) -> None:
    """By property, also one with a product in it; by field; and what is nobody's is said."""
    add(rules, FIRST_NAME % ", rule: only_if_blank")
    assert cli("rules", "publish", str(rules), "--yes").exit_code == 0
    told = cli("rules", "explain", "firstname").stdout
    for said in ("contact.firstname", "full_name", "split_name first", "only_if_blank", "The name that was said last."):
        assert said in told
    assert "certified_{key}" in cli("rules", "explain", "certified_alpha").stdout
    assert cli("rules", "explain", "shoe_size").exit_code == 1
    assert len(json.loads(cli("rules", "explain", "--json").stdout)["rules"]) > 5


def test_a_person_s_story_says_who_owns_what(cli: Cli, rules: Path, take: Take, portal: HubSpotSandbox) -> None:
    """What stays as somebody typed it, what the CRM owns, and what no value could be made of."""
    who = "augusta@example.com"
    portal.seed([{"email": who, "firstname": "Augusta"}])
    add(rules, FIRST_NAME % ", rule: only_if_blank")
    add(rules, "  theirs: {from: full_name, property: company, type: string, owner: crm}\n")
    add(
        rules, "  level: {from: last_course_completed, property: jobtitle, type: string, transform: {lookup: {A: B}}}\n"
    )
    assert cli("rules", "publish", str(rules), "--yes").exit_code == 0
    take([event(user="u-77", email=who, name=ADA[1])])
    this_process().flushers["crm", "contact.upsert"].flush()
    contact = portal.contact(who)
    assert contact is not None
    assert contact["properties"]["firstname"] == "Augusta"
    told = cli("person", "show", who).stdout
    for said in ("stays as it is: only_if_blank", "the CRM owns it", "lookup"):
        assert said in told, told
    assert "Everything is where it should be." in told


def test_nothing_to_go_back_to(cli: Cli) -> None:
    """The first set has none before it, and a number that never was is a sentence."""
    assert "no rule set before" in cli("rules", "rollback").output
    assert "there is no rule set 9" in cli("rules", "rollback", "9").output
    assert cli("rules", "plan").exit_code == 2


def test_pathways_and_roles_are_planned_published_and_exported(cli: Cli, rules: Path, tmp_path: Path) -> None:
    """Each change is shown, part by part; what is exported then changes nothing."""
    (rules / "roles.yaml").write_text(
        "pathways:\n  ae:\n    buckets:\n      demo: {required: ['academy:demo-101']}\n"
        "roles:\n  ae: {role: AE, pathway: ae}\n"
    )
    planned = cli("rules", "plan", str(rules), "--offline").stdout
    assert "2 changes against rule set 1" in planned
    assert "+ pathways.ae" in planned
    assert "buckets.demo.required: unsaid -> academy:demo-101" in planned
    assert cli("rules", "publish", str(rules), "--offline", "--yes").exit_code == 0
    assert "Nothing changes" in cli("rules", "plan", str(rules), "--offline").stdout
    fresh = tmp_path / "fresh"
    assert cli("rules", "export", str(fresh)).exit_code == 0
    assert {path.name for path in fresh.iterdir()} == {"hubspot.yaml", "pathways.yaml", "roles.yaml"}
    (fresh / "roles.yaml").write_text("roles:\n  ae: {role: [AE, AM], pathway: ae}\n")
    found = json.loads(cli("rules", "plan", str(fresh), "--offline", "--json").stdout)
    part = {"part": "role", "was": "AE", "becomes": "AE, AM"}
    assert found["pathways"] == [{"kind": "changed", "key": "roles", "name": "ae", "parts": [part]}]
    (fresh / "roles.yaml").unlink()
    (fresh / "pathways.yaml").unlink()
    assert "- roles.ae" in cli("rules", "plan", str(fresh), "--offline").stdout
