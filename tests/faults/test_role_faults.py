"""Roles that change while webhooks are doubled and shuffled, the LMS loses answers and a worker is killed."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from mappings import loader, store
from scripts.sandbox.academy import TOKEN, Academy
from tests.faults.test_hint_faults import CLIENT_SECRET, PUBLIC_URL, with_webhooks
from tests.faults.wired import Wired, wired
from tests.processes import until

ROLES = {"SDR": {"a", "shared"}, "AE": {"b", "shared"}, "CSM": {"c"}}
IN_MOTION = """
SELECT (SELECT count(*) FROM enrollments WHERE status <> 'in_step')
     + (SELECT count(*) FROM sync_state WHERE status <> 'in_step')
     + (SELECT count(*) FROM inbox WHERE status IN ('received', 'claimed', 'enriching'))
"""


@pytest.fixture(scope="module")
def academy() -> Iterator[Academy]:
    """An LMS that knows nobody."""
    with Academy(courses=["a", "b", "c", "shared"]) as made:
        yield made


@pytest.fixture(scope="module")
def home(master_keys: str, academy: Academy) -> Iterator[Wired]:
    """One installation for all tests of this file, with rules of three roles."""

    def prepare(place: Path) -> None:
        with_webhooks(place)
        (place / "academy_token").write_text(TOKEN, "utf-8")
        (place / "academy_token").chmod(0o644)
        path = place / "coursewire.yaml"
        data: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))
        data["connections"]["academy"] |= {
            "base_url": academy.url,
            "credentials": {"token": {"file": str(place / "academy_token")}},
            "options": {"create_users": True},
        }
        data["connections"]["crm"]["options"]["role_property"] = "jobtitle"
        data["routes"].append({"from": "crm", "to": "academy", "flows": {"role_change": "realtime"}})
        path.write_text(yaml.safe_dump(data), "utf-8")

    with wired(master_keys, prepare=prepare) as made:
        publish(made)
        yield made


def publish(home: Wired) -> None:
    """Publish a pathway for each role; a role settles within a second."""
    pathways = {
        role.lower(): {"title": role, "buckets": {"all": {"required": sorted(f"academy:{one}" for one in courses)}}}
        for role, courses in ROLES.items()
    }
    roles = {role.lower(): {"role": role, "pathway": role.lower(), "on_leave": "remove", "settle": 1} for role in ROLES}
    folder = home.log.parent / "rules"
    folder.mkdir()
    (folder / "people.yaml").write_text(yaml.safe_dump({"pathways": pathways, "roles": roles}), "utf-8")
    engine = home.engine()
    with engine.begin() as db:
        rules = replace(store.active(db), id=0, pathways=loader.load(folder).pathways)
        store.publish(db, rules, author="user:test", comment="roles")
    engine.dispose()


def test_the_lms_shows_the_last_roles_whatever_happens_on_the_way(home: Wired, academy: Academy) -> None:
    """Within a settle time of the last word, and nobody is there twice."""
    names = [f"rep{n}@example.com" for n in range(30)]
    home.crm.seed([{"email": name, "firstname": "Ada", "lastname": "Byron"} for name in names])
    url = f"{home.url}/webhooks/crm"
    home.crm.send_webhooks(
        url, CLIENT_SECRET, public_url=PUBLIC_URL, properties=["jobtitle"], batch=5, duplicates=0.5, shuffled=True
    )
    last: dict[str, str] = {}
    for round_, order in enumerate((list(ROLES), list(ROLES)[::-1], list(ROLES)[1:] + list(ROLES)[:1])):
        for n, name in enumerate(names):
            last[name] = order[n % 3]
            home.crm.edit(name, {"jobtitle": last[name]})
        if round_ == 0:
            until(lambda: home.ask("SELECT count(*) FROM enrollments WHERE status = 'in_step'"), 60)
            academy.lose = 2
        if round_ == 1:
            home.kill_worker()
            academy.refuse = 1
    home.crm.webhooks_settled(60)
    until(lambda: home.ask(IN_MOTION) == 0, 120, 0.5)
    assert academy.enrolled() == {name: ROLES[role] for name, role in last.items()}
    assert len(academy.users) == len(names)
    contact = home.crm.contact(names[0])
    assert contact is not None
    assert contact["properties"]["onboarding_pathway"] == last[names[0]]
    assert contact["properties"]["onboarding_status"] == "assigned"
    assert home.ask("SELECT count(*) FROM inbox WHERE status IN ('dead', 'parked')") == 0
