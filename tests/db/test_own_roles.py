"""A certificate that sets the role itself: acted on once, whether or not the CRM tells us of our own write."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml

from integration.delivery import policy
from mappings import loader, store
from scripts.sandbox.academy import Academy
from scripts.sandbox.hubspot import HubSpotSandbox
from tests.db.conftest import event
from tests.db.firm import ROLE, Firm, Ground, found, ground

__all__ = ["ground"]

RULES: dict[str, Any] = {
    "pathways": {
        "basics": {"buckets": {"demo": {"required": ["academy:a"]}}},
        "selling": {"buckets": {"demo": {"required": ["academy:b"]}}},
    },
    "roles": {
        "partner": {"role": "Partner", "pathway": "basics", "on_leave": "remove"},
        "certified": {"role": "Certified Partner", "pathway": "selling", "on_leave": "remove"},
    },
}
FIELD = {
    "from": "certified",
    "of": "basics",
    "property": ROLE,
    "type": "string",
    "transform": [{"bool_text": {True: "Certified Partner", False: "Partner"}}],
}


@pytest.fixture
def firm(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> Iterator[Firm]:
    """An installation in which a certificate makes a partner a certified one."""
    monkeypatch.setattr(policy, "SHORT_PAUSE", 0.1)
    with (
        HubSpotSandbox(token="t0ken", rate=100_000, products="basics") as portal,
        Academy(courses=["a", "b"]) as academy,
    ):
        made = found(ground, portal, academy)
        made.publish(RULES)
        _fill_the_role(made)
        yield made


def _fill_the_role(firm: Firm) -> None:
    folder = firm.folder / "fields"
    folder.mkdir()
    (folder / "crm.yaml").write_text(yaml.safe_dump({"system": "hubspot", "contact": {"role": FIELD}}), "utf-8")
    new = loader.load(folder)
    with firm.engine.begin() as db:
        old = store.active(db)
        (scope,) = old.fields
        fields = {scope: {"contact": (*old.fields[scope]["contact"], *new.fields[scope]["contact"])}}
        store.publish(db, replace(old, id=0, fields=fields), author="user:test", comment="the role")


def certify(firm: Firm, kind: str = "certification.issued") -> None:
    """Let the LMS say that somebody was certified, or is not any more."""
    certificate = {"id": "c-1", "name": "Basics", "product": "basics"}
    body = event(kind, user=None, email="ada@example.com", course=None, certification=certificate)
    firm.process.pipeline.sync("completion", firm.put([{**body, "timestamp": datetime.now(UTC).isoformat()}]))


def test_the_role_that_we_write_is_acted_on_once(firm: Firm) -> None:
    """No word of the CRM is needed; its word of our own write changes nothing, and no course is written twice."""
    firm.hire(["ada@example.com"])
    firm.change("ada@example.com", "Partner")
    firm.settle()
    assert firm.academy.enrolled() == {"ada@example.com": {"a"}}
    certify(firm)
    firm.settle()
    assert (firm.crm.contact("ada@example.com") or {})["properties"][ROLE] == "Certified Partner"
    assert firm.assigned() == {"ada@example.com": {"selling"}}
    before = list(firm.academy.writes), firm.reads()
    firm.say(firm.hint("ada@example.com", value="Certified Partner"))
    firm.settle()
    assert (firm.academy.writes, firm.reads()) == before
    certify(firm, "certification.revoked")
    firm.settle()
    assert firm.assigned() == {"ada@example.com": {"basics"}}
