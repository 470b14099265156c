"""A whole installation in one process: a CRM and an LMS over real HTTP, rules published, and everything in between."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import SecretStr
from sqlalchemy import Engine

from integration.security.seal import IndexKeys, KeyRing
from integration.settings import Settings
from mappings import loader, store
from scripts.sandbox.academy import TOKEN, Academy
from scripts.sandbox.hubspot import HubSpotSandbox
from tasks.assembly import Assembly
from tests.db.conftest import Put, Telling
from tests.db.test_flush import plenty
from tests.db.test_pipeline import rows

ROLE = "jobtitle"
CRM_TOKEN = "t0ken"

OPEN = """
SELECT 'sync_state', operation, status, reason FROM sync_state WHERE status IN ('due', 'sending', 'waiting')
UNION ALL SELECT 'enrollments', course_id, status, reason FROM enrollments WHERE status IN ('due', 'sending', 'waiting')
UNION ALL SELECT 'inbox', kind, status, reason FROM inbox WHERE status IN ('received', 'claimed', 'enriching')
"""
"""What is on its way."""


@dataclass(repr=False)
class Firm:
    """People, their roles in the CRM, and the courses they are in; `clock` is nobody's: settle times are waited out."""

    engine: Engine
    process: Assembly
    crm: HubSpotSandbox
    academy: Academy
    put: Put
    folder: Path
    ids: dict[str, str] = field(default_factory=dict)

    def publish(self, rules: Mapping[str, Any]) -> int:
        """Publish these pathways and roles."""
        files = self.folder / "rules"
        files.mkdir(exist_ok=True)
        (files / "people.yaml").write_text(yaml.safe_dump(dict(rules)), encoding="utf-8")
        new = loader.load(files)
        with self.engine.begin() as db:
            old = store.active(db)
            return store.publish(db, replace(old, id=0, pathways=new.pathways), author="user:test", comment="roles")

    def hire(self, emails: Iterable[str], **properties: str) -> None:
        """Let the CRM know these people, without a word to us."""
        wanted = [{"email": email, "firstname": "Ada", "lastname": "Byron", **properties} for email in emails]
        self.ids |= {one["email"]: contact_id for one, contact_id in zip(wanted, self.crm.seed(wanted), strict=True)}

    def edit(self, email: str, **properties: str) -> None:
        """Let a person in the CRM change a contact; nothing is said of it yet."""
        self.crm.edit(email, properties)

    def hint(self, email: str, name: str = ROLE, value: str | None = None) -> dict[str, Any]:
        """Return what the CRM says when a property changed."""
        return {
            "type": "contact.changed",
            "contact_id": self.ids[email],
            "property": name,
            "value": value,
            "occurred_at": datetime.now(UTC).isoformat(),
        }

    def say(self, *hints: Mapping[str, Any]) -> None:
        """Let the CRM's webhook say this, and take it as far as it goes at once."""
        ids = self.put([dict(one) for one in hints], connection="crm", kind="role_change")
        for start in range(0, len(ids), 100):
            self.process.pipeline.sync("role_change", ids[start : start + 100])

    def change(self, email: str, role: str) -> None:
        """Let a person change a role, and the CRM say so."""
        self.edit(email, **{ROLE: role})
        self.say(self.hint(email, value=role))

    def settle(self) -> None:
        """Let every settle time be over, and do everything that is due, until nothing is."""
        for _ in range(30):
            with self.engine.begin() as db:
                db.exec_driver_sql(
                    "UPDATE sync_state SET not_before = now() WHERE operation = 'contact.role' AND not_before > now()"
                    " AND status <> 'in_step'"
                )
                db.exec_driver_sql(
                    "UPDATE sync_state SET doubted_at = doubted_at - interval '1 hour',"
                    " wanted_since = wanted_since - interval '1 hour' WHERE operation = 'contact.role'"
                )
                db.exec_driver_sql("UPDATE rings SET rung_at = NULL")
            for look in self.process.looks.values():
                looked = look.run()
                for row_id, kind in looked.goes_on:
                    self.process.pipeline.sync(kind, [row_id])
            for drain in self.process.drains.values():
                drain.flush()
            for flusher in self.process.flushers.values():
                flusher.flush()
            if not rows(self.engine, OPEN):
                return
        raise AssertionError(rows(self.engine, OPEN))

    def assigned(self) -> dict[str, set[str]]:
        """Return the pathways that each person is assigned now, by what they were hired as."""
        found: dict[str, set[str]] = {}
        names = {contact_id: email for email, contact_id in self.ids.items()}
        for contact_id, pathway in rows(
            self.engine,
            "SELECT l.external_id, a.pathway FROM assignments a JOIN links l ON l.object_id = a.person_id"
            " AND l.object_type = 'contact' WHERE a.status = 'live'",
        ):
            found.setdefault(names[contact_id], set()).add(pathway)
        return found

    def reads(self) -> int:
        """Return how many contacts were read so far."""
        return sum(one["inputs"] for one in self.crm.calls() if "read" in one["operation"])


@dataclass(frozen=True)
class Ground:
    """What an installation stands on."""

    engine: Engine
    keyring: KeyRing
    keys: IndexKeys
    put: Put
    folder: Path
    database_url: str


def found(
    ground: Ground, crm: HubSpotSandbox, academy: Academy, *, per_hour: int | str = "unlimited", **options: Any
) -> Firm:
    """Return an installation that knows nobody; the guard stops no storm, unless it is given a number."""
    config = {
        "connections": {
            "academy": {
                "system": "standard",
                "base_url": academy.url,
                "credentials": {"token": {"env": "ACADEMY_TOKEN"}},
                "webhook": {"secrets": [{"env": "TEST_SECRET"}]},
                "options": {"create_users": True},
                "poll": {"every": "day"},
            },
            "crm": {
                "system": "hubspot",
                "base_url": crm.url,
                "credentials": {"token": {"env": "TEST_TOKEN"}},
                "options": {"role_property": ROLE, "timezone": "Europe/Berlin", **options},
            },
        },
        "routes": [
            {"from": "academy", "to": "crm", "flows": {"completion": "realtime", "progress": "realtime"}},
            {"from": "crm", "to": "academy", "flows": {"role_change": "realtime"}},
        ],
        "guard": {"per_hour": per_hour},
    }
    path = ground.folder / "coursewire.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    process = Assembly(Settings(config=path, database_url=SecretStr(ground.database_url), worker_concurrency=2))
    made: dict[str, Callable[[], Any] | Any] = process.__dict__
    made |= {"engine": ground.engine, "ring": ground.keyring, "keys": ground.keys}
    made["budgets"] = {"crm": plenty(), "academy": plenty()}
    process.inbound["crm"] = Telling()  # type: ignore[index]
    return Firm(ground.engine, process, crm, academy, ground.put, ground.folder)


@pytest.fixture
def ground(
    engine: Engine,
    keyring: KeyRing,
    keys: IndexKeys,
    put: Put,
    tmp_path: Path,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Ground:
    """A database of its own, a folder, and the secrets that the configuration names."""
    monkeypatch.setenv("TEST_TOKEN", CRM_TOKEN)
    monkeypatch.setenv("ACADEMY_TOKEN", TOKEN)
    monkeypatch.setenv("TEST_SECRET", "whsec_" + "QUJD" * 8)
    return Ground(engine, keyring, keys, put, tmp_path, database_url)


@pytest.fixture(scope="module")
def portal() -> Iterator[HubSpotSandbox]:
    """One CRM for all tests of a file."""
    with HubSpotSandbox(token=CRM_TOKEN, rate=100_000, products="alpha") as sandbox:
        yield sandbox
