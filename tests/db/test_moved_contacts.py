"""Contacts that were merged or made anew while webhooks were off, and somebody left out: whose they are at night."""

from dataclasses import replace

import pytest

from integration.model.identity import IdentityPolicy
from mappings import store
from tests.db.conftest import event
from tests.db.firm import Firm, ground
from tests.db.test_pipeline import rows
from tests.db.test_reconciliation import field, findings, firm, reconcile

__all__ = ["firm", "ground"]

COUNT = "courses_completed_count"


def held(firm: Firm, contact_id: str, name: str) -> str:
    """Return what the contact of this id holds."""
    found = {one["id"]: one["properties"] for one in firm.crm.contacts()}
    return found[contact_id].get(name) or ""


def later(firm: Firm) -> None:
    """Do everything that is due, and what waits: two people who become one are written after a moment."""
    for _ in range(3):
        firm.settle()
        with firm.engine.begin() as db:
            db.exec_driver_sql("UPDATE sync_state SET not_before = now() WHERE not_before > now()")
    firm.settle()


def linked(firm: Firm) -> set[str]:
    """Return the contacts that are written for somebody."""
    known = "SELECT remote_id FROM sync_state WHERE operation = 'contact.upsert' AND remote_id IS NOT NULL"
    return {remote_id for (remote_id,) in rows(firm.engine, known)}


@pytest.mark.parametrize("other", ["p1@example.com", "stranger@example.com"])
def test_a_contact_that_was_merged_is_no_duplicate(firm: Firm, other: str) -> None:
    """One is left, under a new id, whoever it was merged with: the old id leads there, and two people become one."""
    firm.hire(["stranger@example.com"])
    made = firm.crm.merge(firm.ids["p0@example.com"], firm.ids[other])
    firm.crm.edit("p0@example.com", {COUNT: "7"})
    reconcile(firm)
    assert "duplicate" not in findings(firm)
    later(firm)
    assert made in linked(firm)
    assert held(firm, made, COUNT) == "1"
    reconcile(firm)
    assert findings(firm) == {}


def test_a_contact_that_was_merged_into_a_stranger_s_is_filled_again(firm: Firm) -> None:
    """It has the stranger's address, and our unique value did not survive: only the old id leads there."""
    firm.hire(["stranger@example.com"])
    made = firm.crm.merge(firm.ids["stranger@example.com"], firm.ids["p0@example.com"])
    assert not held(firm, made, "lms_user_id")
    reconcile(firm)
    assert "orphan" not in findings(firm)
    later(firm)
    assert held(firm, made, "lms_user_id") == "academy:u-0"
    reconcile(firm)
    assert findings(firm) == {}


def test_a_contact_that_was_made_anew_by_hand_is_no_duplicate(firm: Firm) -> None:
    """The old one is gone, so there is nothing that it doubles: it is found by its address, and filled."""
    firm.crm.archive(firm.ids["p0@example.com"])
    firm.hire(["p0@example.com"])
    reconcile(firm)
    assert "duplicate" not in findings(firm)
    firm.settle()
    assert field(firm, "p0@example.com", COUNT) == "1"
    reconcile(firm)
    assert findings(firm) == {}


def test_somebody_left_out_is_not_looked_for(firm: Firm) -> None:
    """Nothing will be written of them, so they are neither unlinked nor due, night after night."""
    with firm.engine.begin() as db:
        staff = {"academy": IdentityPolicy(exclude_domains=("staff.example",))}
        store.publish(db, replace(store.active(db), id=0, identity=staff), author="user:test", comment="staff")
    with firm.engine.begin() as db:
        store.roll_out(db, limit=1_000)
    firm.hire(["ada@staff.example"])
    firm.process.pipeline.sync("completion", firm.put([event(user="u-ada", email="ada@staff.example")]))
    firm.settle()
    counts = reconcile(firm)
    assert findings(firm) == {}
    assert "repaired" not in counts


def test_a_twin_that_took_our_id_is_tried_once_and_left_to_a_person(firm: Firm) -> None:
    """The CRM takes an id once: what the twin has cannot be written again, and nobody tries each night."""
    firm.edit("p0@example.com", lms_user_id="")
    firm.hire(["twin@example.com"], lms_user_id="academy:u-0")
    reconcile(firm)
    assert findings(firm) == {"drifted": {"p0@example.com"}, "duplicate": {"twin@example.com"}}
    firm.settle()
    parked = "SELECT status, reason FROM sync_state WHERE operation = 'contact.upsert' AND status <> 'in_step'"
    assert rows(firm.engine, parked) == [("parked", "conflict")]
    assert "repaired" not in reconcile(firm)
    assert findings(firm) == {"duplicate": {"twin@example.com"}}
    assert field(firm, "twin@example.com", "lms_user_id") == "academy:u-0"
