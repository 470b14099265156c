"""A company shows how many of its people are certified: in any order, at the minute of an expiry, never by halves."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from integration.delivery import policy
from integration.model.accounts import WRITE_ACCOUNT
from integration.storage import people
from mappings import loader, store
from scripts.sandbox.academy import Academy
from scripts.sandbox.hubspot import HubSpotSandbox
from tasks import periodic
from tests.db.conftest import event
from tests.db.firm import Firm, Ground, found, ground
from tests.db.test_pipeline import rows

__all__ = ["ground"]

RULES: dict[str, Any] = {
    "certified_people": {
        "count": "certified",
        "of": "partner-basics",
        "property": "certified_partner_people",
        "type": "number",
    },
    "certified_share": {
        "percent": "certified",
        "of": "partner-basics",
        "property": "certified_partner_share",
        "type": "number",
    },
    "partner_status": {
        "any": "certified",
        "of": "partner-basics",
        "property": "partner_status",
        "type": "enumeration",
        "transform": [{"bool_text": {"true": "Certified", "false": "Lapsed"}}],
    },
}

PROPERTIES = (
    ("certified_partner_people", "number", "number", ()),
    ("certified_partner_share", "number", "number", ()),
    ("partner_status", "enumeration", "select", ("Certified", "Lapsed", "Prospect")),
)


@pytest.fixture(scope="module")
def portal() -> Iterator[HubSpotSandbox]:
    """One CRM for all tests of this file, whose companies have the properties."""
    with HubSpotSandbox(token="t0ken", rate=100_000, products="partner_basics") as sandbox:
        define(sandbox)
        yield sandbox


def define(sandbox: HubSpotSandbox) -> None:
    """Let an admin create the properties of companies."""
    sandbox.change_companies(
        groups=[{"name": "lms_sync", "label": "LMS sync"}],
        properties=[
            {
                "groupName": "lms_sync",
                "name": name,
                "label": name,
                "type": kind,
                "fieldType": form,
                "options": [{"label": one, "value": one} for one in options],
            }
            for name, kind, form, options in PROPERTIES
        ],
    )


@pytest.fixture
def firm(ground: Ground, portal: HubSpotSandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Firm]:
    """An installation whose rules fill companies, in which nobody is known."""
    monkeypatch.setattr(policy, "SHORT_PAUSE", 0.1)
    portal.reset()
    with Academy(courses=["a"]) as academy:
        made = found(ground, portal, academy)
        publish(made, RULES)
        yield made


def publish(firm: Firm, account: dict[str, Any]) -> int:
    """Publish these rules of accounts beside those of contacts that are there."""
    folder: Path = firm.folder / "account_rules"
    folder.mkdir(exist_ok=True)
    (folder / "crm.yaml").write_text(yaml.safe_dump({"system": "hubspot", "account": account}), encoding="utf-8")
    new = loader.load(folder)
    with firm.engine.begin() as db:
        old = store.active(db)
        (scope,) = old.fields
        objects = {"contact": old.fields[scope]["contact"], **new.fields.get(scope, {})}
        return store.publish(db, replace(old, id=0, fields={scope: objects}), author="user:test", comment="accounts")


def employ(firm: Firm, company: str, *names: str) -> None:
    """Let the CRM know people under a company."""
    firm.hire([email(name) for name in names], associatedcompanyid=company)


def email(name: str) -> str:
    """Return the address of somebody."""
    return f"{name}@example.com"


def certify(firm: Firm, *names: str, until: datetime | None = None, kind: str = "certification.issued") -> None:
    """Let the LMS say that people were certified, or not any more."""
    bodies = []
    for name in names:
        certificate = {"id": f"cert-{name}", "name": "Partner Basics", "product": "partner-basics"}
        certificate |= {"expires_at": until.isoformat()} if until else {}
        body = event(kind, user=f"u-{name}", email=email(name), course=None, certification=certificate)
        bodies.append({**body, "timestamp": datetime.now(UTC).isoformat()})
    ids = firm.put(bodies)
    for start in range(0, len(ids), 50):
        firm.process.pipeline.sync("completion", ids[start : start + 50])


def enrolled(firm: Firm, *names: str) -> None:
    """Let the LMS speak of people who hold no certificate."""
    for name in names:
        body = event(user=f"u-{name}", email=email(name), course="a")
        firm.process.pipeline.sync("completion", firm.put([body]))


def company(firm: Firm, number: str) -> dict[str, str]:
    """Return what a company shows of ours."""
    shown = firm.crm.companies()[number]["properties"]
    return {name: shown[name] for name, *_ in PROPERTIES if name in shown}


def found_new(firm: Firm, *names: str) -> list[str]:
    """Let the CRM know companies; return their ids."""
    return firm.crm.change_companies(add=[{"name": name} for name in names])


def calls(firm: Firm, part: str) -> int:
    """Return how many calls were made whose name holds `part`."""
    return sum(part in one["operation"] for one in firm.crm.calls())


def test_a_company_shows_how_many_of_its_people_are_certified(firm: Firm) -> None:
    """One of two: counted, as a share, and as a status; a second certificate changes count and share alone."""
    (acme,) = found_new(firm, "Acme")
    employ(firm, acme, "ada", "bob")
    enrolled(firm, "ada", "bob")
    certify(firm, "ada")
    firm.settle()
    assert company(firm, acme) == {
        "certified_partner_people": "1",
        "certified_partner_share": "50",
        "partner_status": "Certified",
    }
    certify(firm, "bob")
    firm.settle()
    assert company(firm, acme) == {
        "certified_partner_people": "2",
        "certified_partner_share": "100",
        "partner_status": "Certified",
    }


def test_nobody_s_company_is_touched_where_nobody_was_ever_certified(firm: Firm) -> None:
    """A customer that is no partner gets no Lapsed; what somebody wrote there stays."""
    (acme,) = found_new(firm, "Acme")
    firm.crm.change_companies(edit={acme: {"partner_status": "Prospect"}})
    employ(firm, acme, "ada")
    enrolled(firm, "ada")
    firm.settle()
    assert company(firm, acme) == {"partner_status": "Prospect"}
    assert firm.crm.companies()[acme]["writes"] == 0


def test_an_expiry_closes_the_status_at_its_minute_with_no_read_of_a_contact(firm: Firm) -> None:
    """The clock alone makes the company due; of its contacts nothing is read."""
    (acme,) = found_new(firm, "Acme")
    employ(firm, acme, "ada")
    certify(firm, "ada", until=datetime.now(UTC) + timedelta(hours=1))
    firm.settle()
    assert company(firm, acme)["partner_status"] == "Certified"
    before = calls(firm, "contacts.batch_read")
    with firm.engine.begin() as db:  # an hour later
        db.exec_driver_sql("UPDATE events SET expires_at = expires_at - interval '1 hour' WHERE expires_at IS NOT NULL")
        db.exec_driver_sql("UPDATE people SET next_transition_at = now()")
    with firm.engine.begin() as db:
        periodic._wake(db, people.due_transitions(db, limit=10))
    firm.settle()
    assert company(firm, acme) == {
        "certified_partner_people": "0",
        "certified_partner_share": "0",
        "partner_status": "Lapsed",
    }
    assert calls(firm, "contacts.batch_read") == before


def test_nothing_is_written_where_nothing_differs(firm: Firm) -> None:
    """Another course of somebody who is certified makes nobody's company another one."""
    (acme,) = found_new(firm, "Acme")
    employ(firm, acme, "ada")
    certify(firm, "ada")
    firm.settle()
    before = calls(firm, "companies.")
    enrolled(firm, "ada")
    firm.settle()
    assert calls(firm, "companies.") == before


def test_without_a_rule_nothing_is_read_or_kept(firm: Firm) -> None:
    """No company is asked for, and nobody's is known."""
    publish(firm, {})
    (acme,) = found_new(firm, "Acme")
    employ(firm, acme, "ada")
    certify(firm, "ada")
    firm.settle()
    assert calls(firm, "companies.") == 0
    assert rows(firm.engine, "SELECT count(*) FROM account_people") == [(0,)]
    assert rows(firm.engine, "SELECT FROM sync_state WHERE operation = %(is)s", **{"is": WRITE_ACCOUNT}) == []


def hint(firm: Firm, kind: str, name: str, **more: Any) -> None:
    """Let the CRM say that something happened to somebody's contact."""
    said = {
        "type": f"contact.{kind}",
        "contact_id": firm.ids[email(name)],
        "occurred_at": datetime.now(UTC).isoformat(),
        **more,
    }
    firm.process.pipeline.sync("contact", firm.put([said], connection="crm", kind="contact"))


def move(firm: Firm, name: str, to: str) -> None:
    """Let a contact change its company, and the CRM say so."""
    firm.edit(email(name), associatedcompanyid=to)
    hint(firm, "changed", name, property="associatedcompanyid", value=to)


def shares(firm: Firm) -> dict[str, str]:
    """Return how many certified people each company shows."""
    shown = firm.crm.companies()
    return {one: shown[one]["properties"].get("certified_partner_people", "") for one in shown}


def test_a_contact_that_changes_its_company_is_counted_in_the_other_one(firm: Firm) -> None:
    """The one it left shows none, the one it came to shows one; a share counts whoever is there now."""
    acme, beta = found_new(firm, "Acme", "Beta")
    employ(firm, acme, "ada")
    employ(firm, beta, "bob")
    enrolled(firm, "bob")
    certify(firm, "ada")
    firm.settle()
    move(firm, "ada", beta)
    firm.settle()
    assert shares(firm) == {acme: "0", beta: "1"}
    assert company(firm, beta)["certified_partner_share"] == "50"
    assert company(firm, acme)["partner_status"] == "Lapsed"
    move(firm, "ada", "")
    firm.settle()
    assert shares(firm) == {acme: "0", beta: "0"}


def test_a_contact_created_by_us_is_looked_at_once_more_for_its_company(firm: Firm) -> None:
    """The CRM puts a new contact under a company by its domain a little later."""
    (acme,) = found_new(firm, "Acme")
    (route, *others) = firm.process.config.routes
    creating = route.model_copy(update={"unknown_person": "create"})
    vars(firm.process)["config"] = firm.process.config.model_copy(update={"routes": (creating, *others)})
    certify(firm, "ada")
    drained = firm.process.flushers["crm", "contact.upsert"]
    drained.flush()
    firm.edit(email("ada"), associatedcompanyid=acme)
    settle_all(firm)
    assert shares(firm) == {acme: "1"}


def test_who_is_erased_or_deleted_leaves_the_count(firm: Firm) -> None:
    """One of three is erased here, one contact is deleted there."""
    (acme,) = found_new(firm, "Acme")
    employ(firm, acme, "ada", "bob", "eve")
    for name in ("ada", "bob", "eve"):
        certify(firm, name)
    firm.settle()
    assert shares(firm) == {acme: "3"}
    ((ada,),) = rows(firm.engine, "SELECT object_id FROM links WHERE external_id = %(id)s", id=firm.ids[email("ada")])
    firm.process.pipeline.hints.eraser().erase(ada, actor="user:test")
    firm.settle()
    assert shares(firm) == {acme: "2"}
    firm.crm.archive(firm.ids[email("bob")])
    hint(firm, "deleted", "bob")
    firm.settle()
    assert shares(firm) == {acme: "1"}


def test_two_contacts_that_become_one_are_one_person(firm: Firm) -> None:
    """Of two who were counted one is left, under the company that the contact has now."""
    acme, beta = found_new(firm, "Acme", "Beta")
    employ(firm, acme, "ada")
    employ(firm, beta, "bob")
    certify(firm, "ada")
    certify(firm, "bob")
    firm.settle()
    assert shares(firm) == {acme: "1", beta: "1"}
    old = [firm.ids[email(name)] for name in ("ada", "bob")]
    new = firm.crm.merge(*old)
    hint(firm, "merged", "ada", contact_id=new, merged_ids=old)
    settle_all(firm)
    assert shares(firm) == {acme: "1", beta: "0"}


def settle_all(firm: Firm) -> None:
    """Do what is due now, and what is due a little later."""
    for _ in range(4):
        firm.process.flushers["crm", "contact.upsert"].flush()
        for drain in firm.process.drains.values():
            drain.flush()
        with firm.engine.begin() as db:
            db.exec_driver_sql(
                "UPDATE sync_state SET not_before = now() WHERE not_before > now() AND status IN ('due', 'waiting')"
            )
    firm.settle()


def test_a_company_that_was_merged_is_followed(firm: Firm) -> None:
    """Two companies become one: its people are those of both, before any contact was read again."""
    acme, beta = found_new(firm, "Acme", "Beta")
    employ(firm, acme, "ada")
    employ(firm, beta, "bob")
    certify(firm, "ada")
    certify(firm, "bob")
    firm.settle()
    (made,) = firm.crm.change_companies(merge=[acme, beta])
    certify(firm, "ada", until=datetime.now(UTC) - timedelta(hours=1))
    certify(firm, "bob", until=datetime.now(UTC) - timedelta(hours=1))
    settle_all(firm)
    assert shares(firm) == {made: "0"}
    employ(firm, made, "eve")
    certify(firm, "eve")
    settle_all(firm)
    assert company(firm, made)["certified_partner_people"] == "1"
    assert company(firm, made)["certified_partner_share"] == "33"


def test_a_company_that_is_gone_is_left_alone(firm: Firm) -> None:
    """It is read and not found: no write, no company made, nothing waits for it."""
    (acme,) = found_new(firm, "Acme")
    employ(firm, acme, "ada")
    firm.crm.change_companies(archive=[acme])
    certify(firm, "ada")
    firm.settle()
    assert firm.crm.companies() == {}
    assert rows(
        firm.engine, "SELECT status, reason FROM sync_state WHERE operation = %(is)s", **{"is": WRITE_ACCOUNT}
    ) == [("in_step", "account_gone")]


def test_what_the_crm_owns_and_what_is_written_where_it_is_blank(firm: Firm) -> None:
    """Ownership is that of contacts: theirs is never written, and a condition is decided by a look."""
    only = {**RULES["partner_status"], "rule": "only_if_blank"}
    publish(firm, {**RULES, "certified_people": {**RULES["certified_people"], "owner": "crm"}, "partner_status": only})
    (acme, beta) = found_new(firm, "Acme", "Beta")
    firm.crm.change_companies(edit={acme: {"partner_status": "Prospect", "certified_partner_people": "7"}})
    employ(firm, acme, "ada")
    employ(firm, beta, "bob")
    certify(firm, "ada")
    certify(firm, "bob")
    firm.settle()
    assert company(firm, acme) == {
        "certified_partner_people": "7",
        "certified_partner_share": "100",
        "partner_status": "Prospect",
    }
    assert company(firm, beta) == {"certified_partner_share": "100", "partner_status": "Certified"}


def test_new_rules_write_no_company_by_halves(firm: Firm) -> None:
    """A company of 150 people is written once after a publish, with all of them, though they are read in two parts."""
    publish(firm, {})
    (acme,) = found_new(firm, "Acme")
    names = [f"p{n}" for n in range(150)]
    employ(firm, acme, *names)
    certify(firm, *names)
    firm.settle()
    publish(firm, RULES)
    for limit, written in ((100, ""), (100, "150")):
        with firm.engine.begin() as db:
            store.roll_out(db, limit=limit)
        firm.process.flushers["crm", "contact.upsert"].flush()
        firm.process.drains["crm", WRITE_ACCOUNT].flush()
        assert shares(firm) == {acme: written}
    assert firm.crm.companies()[acme]["writes"] == 1


def test_a_missing_permission_holds_up_the_companies_alone(firm: Firm) -> None:
    """Contacts are written as ever; the companies are, once the permission is there."""
    (acme,) = found_new(firm, "Acme")
    employ(firm, acme, "ada")
    firm.crm.configure(missing_scopes=["crm.objects.companies.read", "crm.objects.companies.write"])
    certify(firm, "ada")
    firm.process.flushers["crm", "contact.upsert"].flush()
    firm.process.drains["crm", WRITE_ACCOUNT].flush()
    assert rows(firm.engine, "SELECT status FROM connections WHERE name = 'crm'") in ([], [("active",)])
    assert (firm.crm.contact(email("ada")) or {})["properties"]["certified_partner_basics"] == "true"
    firm.crm.configure(missing_scopes=[])
    with firm.engine.begin() as db:
        db.exec_driver_sql("UPDATE breakers SET open_until = now()")
    firm.settle()
    assert shares(firm) == {acme: "1"}
