"""From HR's word to the contact, the role and the courses: one way, by the published rules, and once."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from integration import config as connections_file
from integration.delivery import policy
from integration.erasure import Eraser
from integration.model.employees import Employment
from integration.storage.dead import Chosen
from integration.storage.replays import advance, start
from mappings import loader, overrides, store
from scripts.sandbox.academy import TOKEN, Academy
from scripts.sandbox.hubspot import HubSpotSandbox
from tasks.pathway_effect import pathway_effect
from tests.db.firm import ROLE, Firm, Ground, found, ground
from tests.db.staff import ROUTES, Staff, employee
from tests.db.test_pipeline import rows

__all__ = ["ground"]

ADA = "ada@example.com"
PEOPLE: dict[str, Any] = {
    "pathways": {
        "selling": {"buckets": {"demo": {"required": ["academy:a"]}}},
        "safety": {"buckets": {"work": {"required": ["academy:b"]}}},
    },
    "roles": {
        "ae": {"role": "AE", "pathway": "selling", "on_leave": "conclude", "leavers": "withdraw"},
        "everyone": {"role": ["AE", "SE"], "pathway": "safety", "on_leave": "conclude"},
    },
}
FIELDS: dict[str, dict[str, Any]] = {
    "role": {
        "from": "job_title",
        "property": ROLE,
        "type": "string",
        "transform": [{"lookup": {"Account Executive": "AE", "Sales Engineer": "SE"}}],
        "rule": "never_clear",
    },
    "job": {"from": "job_title", "property": "hs_job", "type": "string"},
    "status": {"from": "employment_status", "property": "hs_work", "type": "string"},
    "since": {"from": "hired_on", "property": "hs_since", "type": "date"},
    "boss": {"from": "manager_email", "property": "hs_boss", "type": "string"},
    "boss_name": {"from": "manager_name", "property": "hs_boss_name", "type": "string"},
    "team": {"from": "department", "property": "hs_team", "type": "string"},
    "dock": {"from": "location", "property": "hs_place", "type": "string", "owner": "crm"},
}
"""The CRM owns where people work."""


HELD = "SELECT count(*) FROM sync_state WHERE status = 'parked' AND reason = 'storm_guard'"
WITHDRAW = {"leavers": "withdraw"}


@pytest.fixture
def firm(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> Iterator[Firm]:
    """An installation in which HR says who is what, and the CRM's role is made of it."""
    monkeypatch.setenv("TEST_TOKEN", "t0ken")
    monkeypatch.setenv("ACADEMY_TOKEN", TOKEN)
    monkeypatch.setenv("TEST_SECRET", "whsec_" + "QUJD" * 8)
    monkeypatch.setattr(policy, "SHORT_PAUSE", 0.1)
    with (
        HubSpotSandbox(token="t0ken", rate=100_000, products="basics") as portal,
        Academy(courses=["a", "b"]) as academy,
    ):
        _define(portal)
        made = found(ground, portal, academy)
        _with_hr(made, ground)
        made.publish(PEOPLE)
        _fill(made)
        yield made


def _define(portal: HubSpotSandbox) -> None:
    for one in FIELDS.values():
        name, kind = one["property"], one["type"]
        if name != ROLE:
            definition = {"name": name, "label": name, "type": kind, "groupName": "contactinformation"}
            definition["fieldType"] = "date" if kind == "date" else "text"
            reply = requests.post(
                f"{portal.url}/crm/properties/2026-09/contacts",
                json=definition,
                headers={"Authorization": "Bearer t0ken"},
                timeout=10,
            )
            assert reply.status_code == 201, reply.text


def _with_hr(firm: Firm, ground: Ground) -> None:
    path = ground.folder / "coursewire.yaml"
    config = yaml.safe_load(path.read_text("utf-8"))
    for name in ("hr", "payroll"):
        config["connections"][name] = {"system": "standard", "webhook": {"secrets": [{"env": "TEST_SECRET"}]}}
    config["routes"] += [{**route, "unknown_person": "hold"} for route in ROUTES]
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    vars(firm.process)["config"] = connections_file.load(path)


def _fill(firm: Firm) -> None:
    folder: Path = firm.folder / "fields"
    folder.mkdir()
    (folder / "crm.yaml").write_text(yaml.safe_dump({"system": "hubspot", "contact": FIELDS}), "utf-8")
    new = loader.load(folder)
    with firm.engine.begin() as db:
        old = store.active(db)
        (scope,) = old.fields
        fields = {scope: {"contact": (*old.fields[scope]["contact"], *new.fields[scope]["contact"])}}
        store.publish(db, replace(old, id=0, fields=fields), author="user:test", comment="what HR says")


def say(firm: Firm, *said: Employment, connection: str = "hr") -> None:
    """Let HR say this, and everything come of it."""
    Staff(firm.engine, firm.process.pipeline).say(*said, connection=connection)
    firm.settle()


def contact(firm: Firm, email: str = ADA) -> dict[str, str]:
    """Return what the CRM shows of somebody."""
    return dict((firm.crm.contact(email) or {})["properties"])


def writes(firm: Firm) -> int:
    """Return how many calls have written to the CRM."""
    return sum(one["operation"].endswith(("update", "upsert", "create")) for one in firm.crm.calls())


def test_what_hr_says_is_shown_and_what_the_crm_owns_is_not(firm: Firm) -> None:
    """Of what was never said nothing is written; what HR says is empty is emptied."""
    firm.hire([ADA], hs_place="Berlin", hs_boss="x@example.com", hs_team="Verse")
    say(firm, employee(job_title="Poet", status="active", hired_on="2024-02-01", location="Bath"))
    shown = contact(firm)
    assert (shown["hs_job"], shown["hs_work"], shown["hs_since"]) == ("Poet", "active", "2024-02-01")
    assert (shown["hs_place"], shown["hs_boss"], shown["hs_team"]) == ("Berlin", "x@example.com", "Verse")
    say(firm, employee(at=1, job_title="", manager_id="M-1"))
    shown = contact(firm)
    assert (shown.get("hs_job") or "", shown.get("hs_boss") or "", shown["hs_work"]) == ("", "", "active")


def test_a_manager_is_shown_by_address_and_name(firm: Firm) -> None:
    """As soon as they are known, and as they are called now; erased, nobody shows them any more."""
    firm.hire([ADA, "grace@example.com"])
    say(firm, employee(manager_id="m-1"))
    say(firm, employee("M-1", "grace@example.com", name="Grace"))
    assert (contact(firm)["hs_boss"], contact(firm)["hs_boss_name"]) == ("grace@example.com", "Grace")
    say(firm, employee("M-1", "grace@example.com", at=1, name="Grace Hopper"))
    assert contact(firm)["hs_boss_name"] == "Grace Hopper"
    [(who,)] = rows(firm.engine, "SELECT person_id FROM employments WHERE manager_key IS NULL")
    process = firm.process
    Eraser(firm.engine, process.ring, process.keys, process.listeners).erase(int(who), actor="test")
    firm.settle()
    assert (contact(firm).get("hs_boss") or "", contact(firm).get("hs_boss_name") or "") == ("", "")


def test_a_title_is_a_role_that_is_acted_on_once(firm: Firm) -> None:
    """HR's word is written, read once it has settled, and enrols; the word again writes and enrols nothing."""
    firm.hire([ADA])
    say(firm, employee(job_title="Account Executive", status="active"))
    assert contact(firm)[ROLE] == "AE"
    assert firm.assigned() == {ADA: {"selling", "safety"}}
    assert firm.academy.enrolled() == {ADA: {"a", "b"}}
    before = writes(firm), list(firm.academy.writes), firm.reads()
    say(firm, employee(job_title="Account Executive", status="active", at=60))
    assert (writes(firm), list(firm.academy.writes), firm.reads()) == before
    say(firm, employee(job_title="Sales Engineer", at=61))
    assert firm.assigned() == {ADA: {"safety"}}
    assert firm.academy.enrolled() == {ADA: {"b"}}
    say(firm, employee(job_title="Account Executive", at=30), connection="payroll")
    assert firm.assigned() == {ADA: {"safety"}}


def test_a_leaver_loses_what_a_rule_says_and_gets_it_again(firm: Firm) -> None:
    """Not on leave, only by the rules that say so, and never what a person decided."""
    firm.hire([ADA])
    say(firm, employee(job_title="Account Executive"))
    say(firm, employee(status="leave", at=1))
    assert firm.assigned() == {ADA: {"selling", "safety"}}
    say(firm, employee(status="left", at=2))
    assert firm.assigned() == {ADA: {"safety"}}
    assert firm.academy.enrolled() == {ADA: {"b"}}
    say(firm, employee(status="active", at=3))
    assert firm.assigned() == {ADA: {"selling", "safety"}}
    assert firm.academy.enrolled() == {ADA: {"a", "b"}}
    [(who,)] = rows(firm.engine, "SELECT person_id FROM employments")
    with firm.engine.begin() as db:
        overrides.add(db, int(who), "add", "selling", actor="user:test", comment="stays on")
    say(firm, employee(status="left", at=4))
    assert firm.assigned() == {ADA: {"selling", "safety"}}


def selling(firm: Firm) -> set[str]:
    """Return who is assigned what leavers lose."""
    return {email for email, pathways in firm.assigned().items() if "selling" in pathways}


def test_everybody_deactivated_by_mistake_is_a_storm(firm: Firm) -> None:
    """Up to the number they leave, the others keep what they have and wait for a word, or for HR to mend it."""
    names = {f"p{n}@example.com": f"E-{n}" for n in range(5)}
    firm.hire(names)
    say(firm, *(employee(number, email, job_title="Account Executive") for email, number in names.items()))
    firm.process.config.guard.__dict__["per_hour"] = 2
    say(firm, *(employee(number, email, status="left", at=1) for email, number in names.items()))
    waiting = selling(firm)
    assert len(waiting) == 3
    assert sum("a" in courses for courses in firm.academy.enrolled().values()) == 3
    assert rows(firm.engine, HELD) == [(3,)]
    back, *_ = sorted(waiting)
    say(firm, employee(names[back], back, status="active", at=2))
    with firm.engine.begin() as db:
        replay = start(db, "person", Chosen("parked", reason="storm_guard"), actor="user:test")
        assert replay is not None
        advance(db, replay.id)
    firm.settle()
    assert selling(firm) == {back}
    assert rows(firm.engine, HELD) == [(0,)]


def test_what_a_publish_takes_from_leavers_is_no_storm(firm: Firm) -> None:
    """It has an approval of its own."""
    names = {f"p{n}@example.com": f"E-{n}" for n in range(4)}
    firm.hire(names)
    said = {"job_title": "Account Executive", "status": "left"}
    say(firm, *(employee(number, email, **said) for email, number in names.items()))
    assert {pathway for of_one in firm.assigned().values() for pathway in of_one} == {"safety"}
    firm.process.config.guard.__dict__["per_hour"] = 2
    firm.publish({**PEOPLE, "roles": {**PEOPLE["roles"], "everyone": {**PEOPLE["roles"]["everyone"], **WITHDRAW}}})
    with firm.engine.begin() as db:
        store.roll_out(db, limit=100)
    firm.settle()
    assert firm.assigned() == {}
    assert rows(firm.engine, HELD) == [(0,)]


def test_a_plan_shows_what_leavers_lose(firm: Firm) -> None:
    """Of everybody who has left, before it is published; nobody else is counted."""
    firm.hire([ADA, "bob@example.com"])
    say(firm, employee(job_title="Account Executive", status="left"))
    say(firm, employee("E-8", "bob@example.com", job_title="Account Executive"))
    new = {**PEOPLE, "roles": {**PEOPLE["roles"], "everyone": {**PEOPLE["roles"]["everyone"], "leavers": "withdraw"}}}
    files = firm.folder / "planned"
    files.mkdir()
    (files / "people.yaml").write_text(yaml.safe_dump(new), encoding="utf-8")
    with firm.engine.begin() as db:
        old = store.active(db)
        planned = replace(old, pathways=loader.load(files).pathways)
        effect = pathway_effect(db, firm.process.curriculum, old, planned)
    assert (effect.people, effect.withdrawn, effect.pathways["safety", "ends"]) == (2, 1, 1)
    assert firm.assigned() == {ADA: {"safety"}, "bob@example.com": {"selling", "safety"}}
    firm.publish(new)
    firm.settle()
