"""Whatever the connections file says otherwise, the inventory says otherwise; and never what is secret or personal."""

import copy
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from integration.config import (
    Api,
    Config,
    ConnectionConfig,
    Guard,
    Options,
    Poll,
    Reconcile,
    Retention,
    Route,
    WebhookConfig,
)
from tasks.inventory import mermaid
from tests.unit.test_inventory import demo, of, said, texts

__all__ = ["demo", "said"]  # fixtures

NEWS: dict[type[BaseModel], dict[str, Any]] = {
    Options: {
        "api_version": "2026-03",
        "activity": "note",
        "role_property": "persona",
        "create_users": True,
        "portal_id": 7,
        "timezone": "Asia/Tokyo",
        "reserve": 0.3,
        "daily_calls": 1000,
        "daily_reserve": 0.2,
        "account_id": "12",
        "root_account_uuid": "abc",
        "jwks_url": "https://keys.example.com/jwks",
        "unsigned_events": True,
        "role_id": 9,
        "inactive": "leave",
        "auth": "saml",
    },
    Reconcile: {"every": "week", "at": "03:15", "repairs": 5, "calls": 7},
    Poll: {"every": "hour", "at": "00:20", "overlap_minutes": 7, "look_back_days": 8},
    WebhookConfig: {
        "secrets": [{"env": "A"}, {"file": "/run/secrets/b"}],
        "public_url": "https://x.example.com/h",
        "expect": {"completion": "3d"},
    },
    ConnectionConfig: {
        "system": "canvas",
        "base_url": "https://other.example.com",
        "credentials": {"token": {"file": "/run/secrets/token"}},
        "webhook": None,
        "allow_private_hosts": True,
    },
    Route: {
        "source": None,
        "target": None,
        "flows": {"enrollment": "hourly", "completion": "realtime", "progress": "nightly"},
        "unknown_person": "ignore",
    },
    Retention: {"payload_days": 3, "failed_payload_days": 4, "history_days": 5},
    Guard: {"people": 9, "per_hour": "unlimited"},
    Api: {"tokens": [{"env": "ASKER"}]},
}
"""A new value for each setting there is. One that is not here is one that the inventory may not show."""

ELSEWHERE = {
    ConnectionConfig: {"name", "options", "reconcile", "poll", "files"},  # a key, and what has its own line above
    Route: {"source", "target"},  # tried below, with a connection more
    Config: {"connections", "routes", "retention", "guard", "api", "rules"},
}


def test_every_setting_has_a_new_value_here() -> None:
    """A setting that was added and is not tried below is one that the inventory may not show."""
    for model, news in NEWS.items():
        assert set(model.model_fields) == {*news, *ELSEWHERE.get(model, ())}, model.__name__
    assert set(Config.model_fields) == ELSEWHERE[Config]


@pytest.mark.parametrize(
    ("model", "name"),
    [(model, name) for model, news in NEWS.items() for name in news if name not in ("source", "target")],
)
def test_a_changed_setting_changes_the_inventory(said: dict[str, Any], model: type[BaseModel], name: str) -> None:
    """Whatever the file says otherwise, the inventory says otherwise, to programs and to people."""
    new = copy.deepcopy(said)
    crm, academy = new["connections"]["crm"], new["connections"]["academy"]
    place: dict[str, Any]
    if model is Poll:
        place = academy.setdefault("poll", {})
    elif model is Reconcile:
        place = crm.setdefault("reconcile", {})
    elif model is Options:
        place = crm["options"]
    elif model is WebhookConfig:
        place = crm["webhook"]
    elif model is ConnectionConfig:
        place = academy if name == "system" else crm
    elif model is Route:
        place = new["routes"][0]
    else:
        place = new.setdefault({Retention: "retention", Guard: "guard", Api: "api"}[model], {})
    before = texts(of(said))
    place[name] = NEWS[model][name]
    after = texts(of(new))
    assert after[0] != before[0]
    assert after[1] != before[1]


@pytest.mark.parametrize(
    ("name", "value"),
    [("pattern", "*.txt"), ("mode", "delta"), ("marker", ".done"), ("guard", {"leavers": 3}), ("mapping", "x.yaml")],
)
def test_a_folder_of_hr_is_there_with_its_settings(said: dict[str, Any], name: str, value: object) -> None:
    """Where it lies, how the server is known, when it is looked at, and what one file may say."""
    key = "SHA256:" + "A" * 43
    hr = {
        "system": "hr_files",
        "base_url": "sftp://us@files.example.com/out",
        "credentials": {"key": {"file": "/run/secrets/key"}},
        "files": {"host_key": key, "mapping": "hr.yaml"},
    }
    said["connections"]["hr"] = hr
    said["routes"].append({"from": "hr", "to": "crm", "flows": {"employment": "nightly"}})
    before = of(said)
    [system] = [one for one in before.systems if one.name == "hr"]
    assert system.api is not None
    assert system.api.address == "sftp://files.example.com/out"
    assert [one.record for one in system.access] == ["files"]
    assert key in texts(before)[0]
    assert {one.field for one in before.fields if one.source == "hr"} >= {"employee_id", "job_title", "status"}
    hr["files"] = {**hr["files"], name: value}  # type: ignore[dict-item]
    assert texts(of(said)) != texts(before)


def test_another_connection_route_or_flow_is_there(said: dict[str, Any]) -> None:
    """What is added is there, and what was there stays as it was."""
    before = of(said)
    new = copy.deepcopy(said)
    new["connections"]["campus"] = {"system": "standard", "webhook": {"secrets": [{"env": "CAMPUS"}]}}
    new["routes"].append({"from": "campus", "to": "crm", "flows": {"completion": "weekly"}})
    after = of(new)
    assert [one.name for one in after.systems] == ["academy", "crm", "campus"]
    assert after.systems[:2] == before.systems
    assert after.routes[:-1] == before.routes
    assert (after.routes[-1].source, after.routes[-1].written) == ("campus", "on Sundays at 02:00 Europe/Berlin")
    assert after.systems[2].api is None
    assert {one.field for one in after.fields if one.source == "campus"} >= {"email", "progress"}


def test_nothing_that_opens_anything_is_shown(said: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither secrets, nor what an address holds beside its place."""
    hidden = "s3cr3t-value"
    for name in ("DEMO_ACADEMY_TOKEN", "DEMO_ACADEMY_SECRET", "DEMO_CRM_TOKEN", "DEMO_CRM_SECRET"):
        monkeypatch.setenv(name, hidden)
    crm = said["connections"]["crm"]
    crm["base_url"] = f"https://api.example.com/v1?key={hidden}#{hidden}"
    crm["webhook"]["public_url"] = f"https://user:{hidden}@hooks.example.com:8443/h?token={hidden}"
    crm["options"]["jwks_url"] = f"https://keys.example.com/jwks?sig={hidden}"
    inventory = of(said)
    assert all(hidden not in text for text in (*texts(inventory), mermaid.render(inventory)))
    system = inventory.systems[1]
    assert system.api is not None
    assert system.door is not None
    assert (system.api.address, system.door.public_url) == (
        "https://api.example.com/v1",
        "https://hooks.example.com:8443/h",
    )


def test_nobody_is_named(said: dict[str, Any], demo: Path) -> None:
    """Patterns that may be somebody's address or id are counted."""
    (demo / "rules" / "who.yaml").write_text(
        "connection: academy\nidentity:\n  exclude_emails: [zora@example.com]\n  exclude_ids: [zora-1, zora-2]\n"
        "  never_match: [zora.b@example.com]\n",
        "utf-8",
    )
    inventory = of(said)
    assert "zora" not in "".join(texts(inventory))
    found = {one.rule: one.says for one in inventory.matching if one.is_ruled}
    assert found == {"exclude_emails": "1 pattern", "exclude_ids": "2 patterns", "never_match": "1 pattern"}


def test_what_does_not_fit_is_said(said: dict[str, Any]) -> None:
    """Courses that are taught where no route carries roles, rules for nobody, and a role that stands nowhere."""
    said["routes"].pop()
    del said["connections"]["crm"]["options"]["role_property"]
    said["connections"]["campus"] = said["connections"]["academy"]
    said["routes"].append({"from": "crm", "to": "campus", "flows": {"role_change": "realtime"}})
    remarks = " ".join(of(said).remarks)
    assert "no route leads from campus" in remarks
    assert "pathways lead into courses of academy, though no route carries role changes there" in remarks
    assert "nothing says where a role stands" in remarks
