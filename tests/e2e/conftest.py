"""An administrator's place: a connections file, a database with a story in it, and the `coursewire` command."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import Engine

from integration import config as connections_file
from integration.connectors import registry
from integration.pipeline import Pipeline
from integration.security.seal import IndexKeys, KeyRing
from integration.storage import inbox
from scripts.sandbox.hubspot import HubSpotSandbox
from tasks.embedded.servers import EmbeddedServers
from tests.db.conftest import event
from tests.forked import run_command
from tests.processes import environment, write_connections

Run = Callable[..., CompletedProcess[str]]
Take = Callable[[Sequence[dict[str, Any] | bytes]], list[int]]
ADA = ("ada@example.com", "Ada Byron")


@pytest.fixture(scope="module")
def portal() -> Iterator[HubSpotSandbox]:
    """A sandbox CRM with the properties that Coursewire writes."""
    with HubSpotSandbox(token="sandbox-token", products="alpha") as sandbox:
        yield sandbox


@pytest.fixture
def folder(tmp_path: Path, portal: HubSpotSandbox) -> Path:
    """A folder with a connections file: one LMS, and the sandbox CRM."""
    return write_connections(tmp_path, portal.url).parent


@pytest.fixture
def ours(folder: Path, database_url: str, master_keys: str, servers: EmbeddedServers) -> dict[str, str]:
    """The environment of a process of this installation."""
    settings = {"database_url": database_url, "broker_url": servers.broker_url, "master_keys": master_keys}
    return environment(folder, **settings)


@pytest.fixture
def run(folder: Path, ours: dict[str, str]) -> Run:
    """Run a `coursewire` command to its end; keyword arguments are settings, `variables` go into its environment."""

    def command(
        *words: str, typed: str = "", variables: dict[str, str] | None = None, **settings: str
    ) -> CompletedProcess[str]:
        changed = {f"COURSEWIRE_{name.upper()}": value for name, value in settings.items()}
        return run_command(words, env=ours | changed | (variables or {}), cwd=folder, typed=typed)

    return command


@pytest.fixture
def pipeline(folder: Path, engine: Engine, keyring: KeyRing, keys: IndexKeys) -> Pipeline:
    """The pipeline of a worker on the same connections file."""
    config = connections_file.load(folder / "coursewire.yaml")
    academy = registry.inbound(config.connections["academy"])
    assert academy is not None
    return Pipeline(engine, config, {"academy": academy}, keyring, keys, lambda *_: pytest.fail("nothing is nightly"))


@pytest.fixture
def take(pipeline: Pipeline, keyring: KeyRing, database_url: str) -> Take:
    """Take bodies in from the academy, as msg_1, msg_2 and so on, one after the other; returns their ids."""
    serial = iter(range(1, 1_000_000))

    def taken(bodies: Sequence[dict[str, Any] | bytes]) -> list[int]:
        raws = [body if isinstance(body, bytes) else json.dumps(body).encode() for body in bodies]
        request = f"req_{uuid4().hex[:8]}"
        values: dict[str, Any] = {
            "connection": ["academy"] * len(raws),
            "key": [inbox.key_of(f"msg_{next(serial)}") for _ in raws],
            "body_hash": [inbox.hash_of(raw) for raw in raws],
            "kind": ["completion"] * len(raws),
            "payload": [keyring.seal(raw, inbox.payload_context("academy", request)) for raw in raws],
            "request_id": [request] * len(raws),
            "origin": "live",
            "status": "received",
            "reason": None,
        }
        with psycopg.connect(database_url, autocommit=True) as db:
            ids = sorted(row[2] for row in db.execute(inbox.STORE, values).fetchall())
        for inbox_id in ids:
            pipeline.sync("completion", [inbox_id])
        return ids

    return taken


@pytest.fixture
def fed(take: Take) -> list[int]:
    """Ada's completion (1) is done; two of u-2 came with her e-mail (2, 3) and are parked; one (4) is of no type."""
    return take(
        [
            event(email=ADA[0], name=ADA[1], score=92.5, passed=True),
            event(user="u-2", email=ADA[0], course="two"),
            event(user="u-2", email=ADA[0], course="three"),
            event("no.such.type"),
        ]
    )


def names_nobody(done: CompletedProcess[str]) -> bool:
    """Whether neither output holds Ada's name or address."""
    said = (done.stdout + done.stderr).lower()
    return "ada@" not in said and "byron" not in said


def audited(engine: Engine) -> list[tuple[str, str]]:
    """Who did what, as the audit log has it; writes of a worker left out."""
    with engine.begin() as db:
        found = db.exec_driver_sql("SELECT actor, action FROM audit WHERE actor <> 'coursewire' ORDER BY id")
        return [(row.actor, row.action) for row in found]
