"""The inventory says what the connections file and the rule files say, each thing once, and nothing that is secret."""

import copy
from collections import Counter
from pathlib import Path
from typing import Any, get_args

import orjson
import pytest
import yaml

from integration import config as connections_file
from integration.config import (
    Config,
    ConnectionConfig,
)
from integration.connectors import registry
from integration.errors import ConfigError
from mappings import loader, store
from mappings.rules import RuleSet, WriteRule
from scripts.demo.place import Place
from tasks.embedded.folder import DataFolder
from tasks.inventory import basis, markdown, mermaid
from tasks.inventory.build import build
from tasks.inventory.fields import CONFLICTS
from tasks.inventory.model import OURS, Basis, Inventory
from tasks.inventory.sections import sections

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    """The demo's folder with its connections file and its rules."""
    folder = DataFolder(tmp_path / "demo")
    place = Place.prepare(folder)
    folder.release()
    place.write_connections("http://127.0.0.1:9001", "http://127.0.0.1:9002")
    place.write_rules()
    return place.path


@pytest.fixture
def said(demo: Path) -> dict[str, Any]:
    """What the demo's connections file says, read by nothing of ours."""
    found: dict[str, Any] = yaml.safe_load((demo / "coursewire.yaml").read_text("utf-8"))
    return found


def taken(config: Config, rules: RuleSet | None = None) -> Inventory:
    """Take stock without a database."""
    return build(config, *basis.of_files(config)) if rules is None else build(config, rules, Basis("files"), {})


def of(said: dict[str, Any]) -> Inventory:
    """Take stock of what a file would say."""
    return taken(Config.model_validate(copy.deepcopy(said)))


def texts(inventory: Inventory) -> tuple[str, str]:
    """Return the inventory for programs and for people."""
    return orjson.dumps(inventory, default=list).decode(), markdown.render(inventory)


def test_the_systems_of_the_demo_are_its_connections(demo: Path, said: dict[str, Any]) -> None:
    """Each connection is there once, with its address, the places of its secrets, its options and its door."""
    inventory = taken(connections_file.load(demo / "coursewire.yaml"))
    assert [one.name for one in inventory.systems] == list(said["connections"])
    for one in inventory.systems:
        given = said["connections"][one.name]
        assert one.api is not None
        assert one.door is not None
        assert (one.system, one.api.address) == (given["system"], given["base_url"])
        assert one.api.credentials == {name: f"env {place['env']}" for name, place in given["credentials"].items()}
        assert one.door.secrets == tuple(f"env {place['env']}" for place in given["webhook"]["secrets"])
        assert one.door.public_url == given["webhook"].get("public_url")
        assert one.door.path == f"/webhooks/{one.name}"
        assert one.options == given.get("options", {})
    assert inventory.asking is None
    assert inventory.remarks == ()


def test_the_routes_of_the_demo_are_its_routes(demo: Path, said: dict[str, Any]) -> None:
    """Each flow of each route is there once, with its pace and its word on unknown people, and none else."""
    inventory = taken(connections_file.load(demo / "coursewire.yaml"))
    given = [
        (number, route["from"], route["to"], flow, pace, None if flow == "role_change" else route["unknown_person"])
        for number, route in enumerate(said["routes"], 1)
        for flow, pace in route["flows"].items()
    ]
    found = [(r.route, r.source, r.target, r.flow, r.pace, r.unknown_person) for r in inventory.routes]
    assert found == given
    written = {r.flow: r.written for r in inventory.routes}
    assert written["progress"] == "every day at 02:00 Europe/Berlin"
    assert written["role_change"] == "once the role was left alone for 1 s"
    gathered = [one for one in inventory.clock if one.job == "gathered flow"]
    assert [one.about for one in gathered] == ["progress, academy to crm"]


def test_the_field_map_of_the_demo_is_its_rule_files(demo: Path) -> None:
    """Each rule of a field is there once, with its line; nothing goes to the CRM that no rule says."""
    inventory = taken(connections_file.load(demo / "coursewire.yaml"))
    text = (demo / "rules" / "hubspot.yaml").read_text("utf-8")
    given = yaml.safe_load(text)["contact"]
    found = [one for one in inventory.fields if one.target == "crm"]
    assert Counter(one.rule for one in found) == Counter([*given])
    for one in found:
        rule = given[one.rule]
        assert (one.source, one.record, one.field, one.type) == (OURS, "contact", rule["property"], rule["type"])
        assert one.made_of.startswith(rule.get("from", one.rule))
        assert bool(one.transform) == ("transform" in rule)
        file, _, line = one.place.rpartition(":")
        assert file == "hubspot.yaml"
        assert text.splitlines()[int(line) - 1].strip().startswith(f"{one.rule}:")
    words = {one.rule: one for one in found}
    assert words["first_name"].authority == "crm"
    assert words["certified"].authority == OURS
    assert words["partner_status"].made_of == "certified of partner-basics"
    assert {one.rule for one in found if one.identifies} == {"lms_user_id", "other_lms_user_id", "first_name"}


def test_roles_and_courses_of_the_demo_are_its_rule_files(demo: Path) -> None:
    """Each role rule and each course of each pathway is there once."""
    inventory = taken(connections_file.load(demo / "coursewire.yaml"))
    given = yaml.safe_load((demo / "rules" / "sales.yaml").read_text("utf-8"))
    assert [(one.rule, one.pathway, one.deadline_days, one.priority, one.on_leave) for one in inventory.roles] == [
        (name, rule["pathway"], rule["onboarding_days"], rule.get("priority", 0), rule["on_leave"])
        for name, rule in sorted(given["roles"].items())
    ]
    courses = Counter(
        (name, bucket, course, kind == "required")
        for name, pathway in given["pathways"].items()
        for bucket, kinds in pathway["buckets"].items()
        for kind, listed in kinds.items()
        for course in listed
    )
    assert Counter((c.pathway, c.bucket, c.course, c.required) for c in inventory.courses) == courses
    read = {one.field: one.made_of for one in inventory.fields if one.source == "crm"}
    assert read["jobtitle"] == f"role rules: {', '.join(sorted(given['roles']))}"


def test_the_page_and_the_chart_show_all_of_it_once(demo: Path) -> None:
    """Each row of each section is a line of the page; each route is one node with one edge in and one out."""
    inventory = taken(connections_file.load(demo / "coursewire.yaml"))
    page, chart = markdown.render(inventory), mermaid.render(inventory)
    assert page.count("\n## ") == len(list(sections(inventory)))
    for route in {one.route for one in inventory.routes}:
        assert chart.count(f"        route{route}[") == 1
        assert chart.count(f"| route{route}\n") == chart.count(f"    route{route} -->|") == 1
    assert chart in page
    assert chart in (ROOT / "docs" / "inventory.md").read_text("utf-8")


def test_rules_for_nobody_are_remarked() -> None:
    """Rules for a system without a connection fill nothing, and are not in the field map."""
    config = Config.model_validate(
        {"connections": {"academy": {"system": "standard", "webhook": {"secrets": [{"env": "A"}]}}}}
    )
    inventory = taken(config, store.defaults())
    assert not [one for one in inventory.fields if one.rule]
    assert "rules for system hubspot are for no connection here" in inventory.remarks


def test_rules_of_one_connection_replace_those_of_its_system(said: dict[str, Any], demo: Path) -> None:
    """Only what is written is shown: the own rules of a connection, with their line."""
    (demo / "rules" / "own.yaml").write_text(
        "connection: crm\ncontact:\n  email: {property: work_email, type: string}\n", "utf-8"
    )
    found = [one for one in of(said).fields if one.target == "crm"]
    assert [(one.field, one.place) for one in found] == [("work_email", "own.yaml:3")]


def test_a_mistake_in_the_rule_files_is_said(said: dict[str, Any], demo: Path) -> None:
    """Without the database there is nothing else to go by."""
    (demo / "rules" / "broken.yaml").write_text("system: nowhere\ncontact: {}\n", "utf-8")
    with pytest.raises(ConfigError, match=r"broken\.yaml"):
        of(said)


def test_every_rule_of_ownership_says_who_has_the_word() -> None:
    """No way to write is without its word."""
    assert set(CONFLICTS) == set(get_args(WriteRule))


@pytest.mark.parametrize("system", registry.TABLE, ids=lambda one: one.name)
def test_every_system_states_how_it_is_talked_to(system: registry.System) -> None:
    """Its page exists, and it is called by something exactly where it has an address."""
    said: dict[str, Any] = {"name": "one", "system": system.name}
    bare = registry.interface(ConnectionConfig.model_validate(said))
    whole = registry.interface(
        ConnectionConfig.model_validate(
            {**said, "base_url": "https://x.example.com", "webhook": {"secrets": [{"env": "A"}]}}
            | {"options": {"unsigned_events": True}}
        )
    )
    for one in (bare, whole):
        assert (ROOT / "docs" / one.page).exists()
        assert (one.api is None) == (one.auth is None) == (one.address is None)
    assert bare.proof is None
    is_told = system.capabilities.receives_webhooks or system.capabilities.takes_users
    assert bool(whole.proof) == is_told
    assert whole.api or not registry.is_called(ConnectionConfig.model_validate({**said, "base_url": "https://x.de"}))


def test_the_shipped_rules_are_shown_where_no_files_are_named(said: dict[str, Any]) -> None:
    """Without `rules:` it is what ships, and says so."""
    del said["rules"]
    inventory = of(said)
    assert inventory.basis == Basis("shipped")
    assert len([one for one in inventory.fields if one.rule]) == sum(1 for _ in store.defaults().each())
    assert loader.load(ROOT / "mappings" / "defaults" / "fields").fields == store.defaults().fields
