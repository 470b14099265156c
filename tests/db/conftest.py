"""A pipeline on a database of its own, fed with canonical events without HTTP in between."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import Engine

from integration.config import Config
from integration.connectors.lms.standard import Standard
from integration.model.events import Kind
from integration.model.hints import ContactHint
from integration.pipeline import Pipeline
from integration.ports import Inbound, Received
from integration.security.seal import IndexKeys, KeyRing
from integration.storage import inbox, shares

T0 = datetime(2026, 11, 20, 10, 0, tzinfo=UTC)

CONFIG: dict[str, Any] = {
    "connections": {
        "academy": {"system": "standard", "webhook": {"secrets": [{"env": "TEST_SECRET"}]}},
        "campus": {"system": "standard", "webhook": {"secrets": [{"env": "TEST_SECRET"}]}},
        "crm": {"system": "hubspot", "options": {"timezone": "Europe/Berlin"}},
    },
    "routes": [
        {
            "from": "academy",
            "to": "crm",
            "flows": {"enrollment": "realtime", "completion": "realtime", "progress": "nightly"},
            "unknown_person": "create",
        },
        {"from": "campus", "to": "crm", "flows": {"completion": "realtime"}, "unknown_person": "create"},
    ],
}

Put = Callable[..., list[int]]


def event(
    kind: str = "course.completed", user: str | None = "u-1", email: str | None = "ada@example.com", **data: Any
) -> dict[str, Any]:
    """Return the body of one event; `at` is minutes after T0, `course` an id."""
    minutes = data.pop("at", 0)
    course = data.pop("course", "demo-101")
    learner = {"lms_user_id": user, "email": email, "full_name": data.pop("name", "Ada Byron")}
    when = (T0 + timedelta(minutes=minutes)).isoformat()
    body: dict[str, Any] = {"type": kind, "timestamp": when, "data": {"learner": learner, **data}}
    if course is not None:
        body["data"]["course"] = {"id": course, "name": f"Course {course}"}
    return body


@pytest.fixture
def config() -> Config:
    """Two LMSs into one CRM."""
    return Config.model_validate(CONFIG)


@pytest.fixture
def put(database_url: str, keyring: KeyRing) -> Put:
    """Put bodies into the inbox as the endpoint does; returns their ids."""

    def put_bodies(
        bodies: Sequence[dict[str, Any] | bytes],
        connection: str = "academy",
        ids: Sequence[str] | None = None,
        kind: str = "completion",
    ) -> list[int]:
        raws = [body if isinstance(body, bytes) else json.dumps(body).encode() for body in bodies]
        request = f"req_{uuid4().hex[:8]}"
        keys = [inbox.key_of(one) for one in ids or [uuid4().hex for _ in raws]]
        with psycopg.connect(database_url, autocommit=True) as db:
            rows = db.execute(
                inbox.STORE,
                {
                    "connection": [connection] * len(raws),
                    "key": keys,
                    "body_hash": [inbox.hash_of(raw) for raw in raws],
                    "kind": [kind] * len(raws),
                    "payload": [keyring.seal(raw, inbox.payload_context(connection, request)) for raw in raws],
                    "request_id": [request] * len(raws),
                    "origin": "live",
                    "status": "received",
                    "reason": None,
                },
            ).fetchall()
        found = {bytes(key): row_id for _, key, row_id in rows}
        return [found[key] for key in keys if key in found]

    return put_bodies


class Telling:
    """A CRM whose payloads are hints as they are, so that a test can say whatever a CRM may say."""

    def verify(self, method: str, url: str, headers: Mapping[str, str], raw: bytes) -> None:
        """Believe everybody."""

    def split(self, headers: Mapping[str, str], raw: bytes) -> list[Received]:
        """Take the request as one hint."""
        return [Received(uuid4().hex, Kind.CONTACT, raw)]

    def translate(self, payload: bytes) -> list[ContactHint]:
        """Read a hint."""
        return [ContactHint.model_validate_json(payload)]


@pytest.fixture
def pipeline(
    engine: Engine, config: Config, keyring: KeyRing, keys: IndexKeys, monkeypatch: pytest.MonkeyPatch
) -> Pipeline:
    """The pipeline as a worker has it."""
    monkeypatch.setenv("TEST_SECRET", "whsec_" + "QUJD" * 8)
    inbound: dict[str, Inbound] = {name: Standard(config.connections[name]) for name in ("academy", "campus")}
    inbound["crm"] = Telling()
    return Pipeline(engine, config, inbound, keyring, keys, lambda _connection, _pace: T0 + timedelta(days=365))


@pytest.fixture(params=[1, 3])
def processes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let as many processes make a plan, however few people there are."""
    monkeypatch.setattr(shares, "number_for", lambda _people: request.param)
