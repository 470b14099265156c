"""Activities: each fact once on its contact's timeline, on a real Postgres and over HTTP against the strict sandbox."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine

from integration.config import Config
from integration.connectors import registry
from integration.connectors.crm import hubspot_event_definitions
from integration.connectors.lms.standard import Standard
from integration.delivery import policy
from integration.delivery.activities import Poster
from integration.delivery.flush import Flusher
from integration.model.activities import WRITE_ACTIVITY
from integration.observability import books
from integration.pipeline import WRITE_CONTACT, Pipeline
from integration.security.seal import IndexKeys, KeyRing
from integration.storage import backlog, breakers, connections, deliveries
from scripts.sandbox.faults import fault
from scripts.sandbox.hubspot import HubSpotSandbox
from tasks.assembly import CallLog
from tasks.projection import Projector
from tests.db.conftest import CONFIG, T0, Put, event
from tests.db.test_flush import plenty
from tests.db.test_pipeline import rows

KINDS = ("note", "custom_event")
DEFINITIONS = [hubspot_event_definitions.definition(kind) for kind in hubspot_event_definitions.EVENTS]


@pytest.fixture(scope="module")
def portal() -> Iterator[HubSpotSandbox]:
    """One sandbox CRM for all tests of this file."""
    with HubSpotSandbox(token="t0ken", rate=100_000) as sandbox:
        yield sandbox


@pytest.fixture
def crm(portal: HubSpotSandbox, monkeypatch: pytest.MonkeyPatch) -> HubSpotSandbox:
    """The sandbox as new, with our custom events defined."""
    monkeypatch.setenv("TEST_TOKEN", "t0ken")
    monkeypatch.setenv("TEST_SECRET", "whsec_" + "QUJD" * 8)
    monkeypatch.setattr(policy, "SHORT_PAUSE", 0.1)
    portal.reset()
    portal.configure(enterprise=True, repeated_events_refused=False, association_page=500, missing_scopes=[])
    if not portal.set_events():
        portal.set_events(add=DEFINITIONS)
    return portal


@dataclass
class Place:
    """One installation with one CRM connection, worked by hand."""

    engine: Engine
    crm: HubSpotSandbox
    pipeline: Pipeline
    flusher: Flusher
    poster: Poster
    put: Put

    def tell(self, *bodies: dict[str, Any], connection: str = "academy") -> None:
        """Take events to what is due."""
        self.pipeline.sync("completion", self.put(list(bodies), connection))

    def work(self) -> None:
        """Write contacts, then activities."""
        self.flusher.flush()
        self.poster.flush()

    def states(self) -> list[tuple[Any, ...]]:
        """Return (status, reason) of every activity."""
        return rows(self.engine, "SELECT status, reason FROM deliveries ORDER BY id")

    def later(self, **passed: float) -> None:
        """Let every wait be over."""
        del passed
        with self.engine.begin() as db:
            db.exec_driver_sql("UPDATE deliveries SET not_before = now() WHERE not_before IS NOT NULL")
            db.exec_driver_sql("UPDATE sync_state SET not_before = now() WHERE not_before IS NOT NULL")
            db.exec_driver_sql("UPDATE connections SET paused_until = now() WHERE paused_until IS NOT NULL")
            db.exec_driver_sql("UPDATE breakers SET open_until = now(), probe_until = NULL")

    def shown(self, email: str = "ada@example.com") -> list[dict[str, Any]]:
        """Return what is on the timeline of a contact, of either kind."""
        contact = self.crm.contact(email)
        assert contact is not None
        found = self.crm.timelines()[contact["id"]]
        return [*found["events"], *found["notes"]]

    def all_shown(self) -> list[dict[str, Any]]:
        """Return what is on all timelines."""
        return [one for found in self.crm.timelines().values() for one in (*found["events"], *found["notes"])]


Make = Callable[..., Place]


@pytest.fixture
def make(engine: Engine, keyring: KeyRing, keys: IndexKeys, crm: HubSpotSandbox, put: Put) -> Make:
    """Build an installation whose CRM connection shows activities."""

    def build(kind: str = "note", unknown_person: str = "create", **flows: str) -> Place:
        data = deepcopy(CONFIG)
        data["connections"]["crm"] |= {
            "base_url": crm.url,
            "credentials": {"token": {"env": "TEST_TOKEN"}},
            "options": {"timezone": "Europe/Berlin", "activity": kind},
        }
        for route in data["routes"]:
            route["unknown_person"] = unknown_person
            route["flows"] |= flows
        config = Config.model_validate(data)
        one, log = config.connections["crm"], CallLog()
        with engine.begin() as db:
            connections.register(db, {"crm": "hubspot"})
        contacts, activities = registry.contacts(one, log.note), registry.activities(one, log.note)
        assert contacts
        assert activities
        project = Projector(config, keyring).contacts
        inbound = {name: Standard(config.connections[name]) for name in ("academy", "campus")}
        night = lambda _: datetime.now(UTC) + timedelta(hours=8)  # noqa: E731
        return Place(
            engine,
            crm,
            Pipeline(engine, config, inbound, keyring, keys, night),
            replace(
                Flusher(engine, "crm", WRITE_CONTACT, contacts, keyring, project, log.take, plenty()),
                on_link=deliveries.wake,
            ),
            Poster(engine, "crm", activities, log.take, plenty()),
            put,
        )

    return build


@pytest.mark.parametrize("kind", KINDS)
def test_a_completion_is_shown_once_on_its_contact(make: Make, kind: str) -> None:
    """Course, score and date stand on the timeline; the same event again, or another revision, adds nothing."""
    place = make(kind)
    place.tell(event(score=92.5))
    place.work()
    (shown,) = place.shown()
    text = str(shown)
    assert "demo-101" in text
    assert "Course demo-101" in text
    assert "92.5" in text
    assert "2026-11-20" in text
    place.tell(event(score=92.5), event(score=95.0))
    place.work()
    assert len(place.shown()) == 1
    assert place.states() == [("delivered", "delivered")]
