"""The reading commands as an administrator runs them: real processes, against a database with a story in it."""

import base64
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import Engine
from typer.main import get_command

from integration import config as connections_file
from integration.connectors import registry
from integration.pipeline import Pipeline
from integration.security.seal import IndexKeys, KeyRing, new_key
from integration.storage import audit, connections, inbox
from scripts.sandbox.hubspot import HubSpotSandbox
from tasks.cli import app
from tasks.embedded.servers import EmbeddedServers
from tests.db.conftest import event
from tests.processes import environment, frozen, write_connections

Run = Callable[..., CompletedProcess[str]]
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
def run(folder: Path, database_url: str, master_keys: str, servers: EmbeddedServers) -> Run:
    """Run a `coursewire` command to its end; keyword arguments are settings."""
    ours = {"database_url": database_url, "broker_url": servers.broker_url, "master_keys": master_keys}

    def command(*words: str, typed: str = "", **settings: str) -> CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tasks.cli", *words],
            env=environment(folder, **(ours | settings)),
            cwd=folder,
            input=typed,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return command


@pytest.fixture
def pipeline(folder: Path, engine: Engine, keyring: KeyRing, keys: IndexKeys) -> Pipeline:
    """The pipeline of a worker on the same connections file."""
    config = connections_file.load(folder / "coursewire.yaml")
    academy = registry.inbound(config.connections["academy"])
    assert academy is not None
    return Pipeline(engine, config, {"academy": academy}, keyring, keys, lambda _: pytest.fail("nothing is nightly"))


@pytest.fixture
def fed(pipeline: Pipeline, keyring: KeyRing, database_url: str) -> list[int]:
    """Ada's completion (1) is done; two of u-2 came with her e-mail (2, 3) and are parked; one (4) is of no type."""
    bodies = [
        event(email=ADA[0], name=ADA[1], score=92.5, passed=True),
        event(user="u-2", email=ADA[0], course="two"),
        event(user="u-2", email=ADA[0], course="three"),
        event("no.such.type"),
    ]
    raws = [json.dumps(body).encode() for body in bodies]
    request = f"req_{uuid4().hex[:8]}"
    values: dict[str, Any] = {
        "connection": ["academy"] * len(raws),
        "key": [inbox.key_of(f"msg_{number}") for number in range(1, 1 + len(raws))],
        "body_hash": [inbox.hash_of(raw) for raw in raws],
        "kind": ["completion"] * len(raws),
        "payload": [keyring.seal(raw, inbox.payload_context("academy", request)) for raw in raws],
        "request_id": [request] * len(raws),
        "status": "received",
        "reason": None,
    }
    with psycopg.connect(database_url, autocommit=True) as db:
        ids = sorted(row[2] for row in db.execute(inbox.STORE, values).fetchall())
    for inbox_id in ids:
        pipeline.sync("completion", [inbox_id])
    return ids


def names_nobody(done: CompletedProcess[str]) -> bool:
    """Whether neither output holds Ada's name or address."""
    said = (done.stdout + done.stderr).lower()
    return "ada@" not in said and "byron" not in said


def audited(engine: Engine) -> list[tuple[str, str]]:
    """Who did what, as the audit log has it; writes of a worker left out."""
    with engine.begin() as db:
        found = db.exec_driver_sql("SELECT actor, action FROM audit WHERE actor <> 'coursewire' ORDER BY id")
        return [(row.actor, row.action) for row in found]


def test_events_list_shows_what_came_and_counts_it(run: Run, fed: list[int]) -> None:
    """The newest event first, each with its reason, and the counts below."""
    done = run("events", "list")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[1].startswith(f"{fed[3]} ")
    assert "unknown_type" in lines[1]
    assert "4 of 4 events of the last 24h." in lines
    assert "        2  parked (email_taken)" in lines
    assert names_nobody(done)


def test_events_list_finds_the_sender_s_id_and_says_when_there_is_none(run: Run, fed: list[int]) -> None:
    """The question "did you get msg_2?" is answered by yes and what became of it, or by no and exit code 1."""
    found = run("events", "list", "--id", "msg_2", "--json")
    assert [one["id"] for one in json.loads(found.stdout)["events"]] == [fed[1]]
    missing = run("events", "list", "--id", "msg_99")
    assert missing.returncode == 1
    assert "Nothing was ever accepted under this id" in missing.stderr


def test_events_show_tells_the_facts_and_the_systems(run: Run, fed: list[int]) -> None:
    """One event: its row, the fact it became, and that it waits for a worker to write it."""
    done = run("events", "show", str(fed[0]))
    assert done.returncode == 0, done.stderr
    assert "The event became a fact about the person." in done.stdout
    assert "course.completed" in done.stdout
    assert "a worker takes it next" in done.stdout
    assert names_nobody(done)


def test_opening_a_payload_is_audited(run: Run, fed: list[int], engine: Engine) -> None:
    """Who reads what a sender sent is on record, and who does not ask for it sees nothing of it."""
    assert names_nobody(run("events", "show", str(fed[0]), "--json"))
    assert audited(engine) == []
    opened = run("events", "show", str(fed[0]), "--payload", "--json")
    assert json.loads(opened.stdout)["payload"]["data"]["learner"]["email"] == ADA[0]
    ((actor, action),) = audited(engine)
    assert actor.startswith("user:")
    assert action == "payload.read"


def test_person_show_tells_the_story(run: Run, fed: list[int]) -> None:
    """Received, decided, written and why not, found by e-mail, by number and by what the LMS calls her."""
    told = run("person", "show", "Ada@Example.com")
    assert told.returncode == 0, told.stderr
    heads = ("Received: 1 event; 2 may be theirs", "Decided (rule set 1)", "Written", "Why not")
    for head in heads:
        assert head in told.stdout
    assert f"coursewire parked resolve {fed[1]} --person" in told.stdout
    assert names_nobody(told)
    by_name = json.loads(run("person", "show", "academy:u-1", "--json").stdout)
    by_number = json.loads(run("person", "show", f"#{by_name['who']['person']}", "--json").stdout)
    assert by_name["who"] == by_number["who"]
    assert by_name["who"]["email"] == "a***@e***.com"


def test_revealing_a_person_is_audited(run: Run, fed: list[int], engine: Engine) -> None:
    """In clear only when asked, and then on record."""
    assert fed
    shown = run("person", "show", ADA[0], "--reveal")
    assert ADA[0] in shown.stdout
    assert ADA[1] in shown.stdout
    assert [action for _, action in audited(engine)] == ["person.read"]


def test_person_show_of_nobody_says_what_waits(run: Run, fed: list[int]) -> None:
    """An unknown name is exit code 1 and a sentence, which names the events that wait for a decision about it."""
    waiting = run("person", "show", "academy:u-2")
    assert waiting.returncode == 1
    assert f"coursewire parked resolve {fed[2]}" in waiting.stderr
    nobody = run("person", "show", "zoe@example.com")
    assert nobody.returncode == 1
    assert "Nobody is known by this e-mail." in nobody.stderr
    assert "zoe" not in nobody.stderr
    assert run("person", "show", "nonsense").returncode == 2


def test_parked_is_listed_and_resolved(run: Run, fed: list[int], pipeline: Pipeline, engine: Engine) -> None:
    """From the list to the decision: shown before, asked, done, audited, and the events go on."""
    listed = json.loads(run("parked", "list", "--json").stdout)
    (group,) = listed["events"]
    assert (group["reason"], group["count"], group["waiting"][0]["id"]) == ("email_taken", 2, fed[1])

    with engine.begin() as db:
        ada = db.exec_driver_sql("SELECT object_id FROM links WHERE external_id = 'u-1'").scalar_one()
    declined = run("parked", "resolve", str(fed[1]), "--person", str(ada), typed="n\n")
    assert declined.returncode == 1
    assert "2 events go on" in declined.stdout
    assert audited(engine) == []

    done = run("parked", "resolve", str(fed[1]), "--person", str(ada), typed="y\n")
    assert done.returncode == 0, done.stderr
    assert "Events released: 2." in done.stdout
    assert [action for _, action in audited(engine)] == ["parked.resolve"]
    pipeline.sync("completion", fed)
    assert "Nothing is parked." in run("parked", "list").stdout
    again = run("parked", "resolve", str(fed[1]), "--ignore", "--yes")
    assert again.returncode == 1
    assert "it is done" in again.stderr


def test_a_decision_does_not_need_the_broker(run: Run, fed: list[int]) -> None:
    """With the doorbell away the decision is taken all the same; the sweeper rings later."""
    done = run("parked", "resolve", str(fed[1]), "--new-person", "--yes", broker_url="redis://127.0.0.1:9/0")
    assert done.returncode == 0, done.stderr
    assert "Events released: 2." in done.stdout


@pytest.mark.parametrize("words", [(), ("--new-person", "--ignore"), ("--person", "0")])
def test_a_decision_is_exactly_one(run: Run, words: tuple[str, ...]) -> None:
    """None at all, two that contradict, or nobody's number: refused before anything is read."""
    assert run("parked", "resolve", "1", *words).returncode == 2


def test_a_changed_audit_log_is_found(run: Run, engine: Engine) -> None:
    """The audit log verifies as it was written, and no more once somebody has changed an entry."""
    with engine.begin() as db:
        audit.append(db, actor="test", action="a", outcome="ok")
        audit.append(db, actor="test", action="b", outcome="ok")
        audit.seal(db)
    assert run("verify-audit").returncode == 0
    with engine.begin() as db:
        db.exec_driver_sql("UPDATE audit SET outcome = 'other' WHERE action = 'a'")
    done = run("verify-audit")
    assert done.returncode == 1
    assert "was changed" in done.stderr


def test_check_is_content_with_a_whole_installation(run: Run) -> None:
    """Everything there: exit code 0, and a line for each part."""
    done = run("check", "--json")
    checks = json.loads(done.stdout)
    assert done.returncode == 0, [one for one in checks["checks"] if one["level"] != "ok"]
    assert checks["ok"]
    assert {"configuration", "keys", "database", "rules", "broker", "academy", "crm"} == {
        one["about"] for one in checks["checks"]
    }


def test_check_names_what_is_broken_and_goes_on(run: Run, engine: Engine) -> None:
    """A wrong key, a broker that is away and a broken connection are three lines, each with what to do."""
    with engine.begin() as db:
        connections.register(db, {"crm": "hubspot"})
        db.exec_driver_sql("UPDATE connections SET status = 'broken', reason = 'credentials_refused'")
    other = f"other:{base64.b64encode(new_key()).decode()}"
    done = run("check", "--json", master_keys=other, broker_url="redis://127.0.0.1:9/0")
    assert done.returncode == 1
    failed = {one["about"]: one for one in json.loads(done.stdout)["checks"] if one["level"] == "failed"}
    assert set(failed) == {"keys", "broker", "crm"}
    assert all(one["advice"].endswith(".") for one in failed.values())


def test_check_works_while_everything_is_down(run: Run, folder: Path) -> None:
    """No database, no broker, no file: every part has its sentence, no part a traceback, and no secret is shown."""
    (folder / "coursewire.yaml").unlink()
    done = run("check", database_url="postgresql://u:geheim@127.0.0.1:9/x", broker_url="redis://:geheim@127.0.0.1:9/0")
    assert done.returncode == 1
    for sentence in ("No such file", "PostgreSQL does not answer", "it does not answer"):
        assert sentence in done.stdout
    assert "Traceback" not in done.stderr
    assert "geheim" not in done.stdout + done.stderr


def test_check_does_not_wait_for_frozen_servers(run: Run, servers: EmbeddedServers) -> None:
    """A database and a broker that take connections and say nothing cost seconds, not the other answers."""
    assert servers.valkey is not None
    assert servers.postgres is not None
    with frozen(servers.valkey.pid), frozen(servers.postgres.pid):
        done = run("check")
    assert done.returncode == 1
    assert "database: PostgreSQL does not answer" in done.stdout
    assert "broker: it does not answer" in done.stdout
    assert "crm: the token is accepted" in done.stdout


@pytest.mark.parametrize("words", [("events", "list"), ("person", "show", "1"), ("parked", "list")])
def test_a_database_that_is_away_is_one_sentence(run: Run, words: tuple[str, ...]) -> None:
    """What a paged engineer types first says what is wrong, with exit code 2 and without the password."""
    done = run(*words, database_url="postgresql://u:geheim@127.0.0.1:9/x")
    assert done.returncode == 2
    assert done.stderr == "coursewire: the database does not answer. Run `coursewire check`.\n"


def test_every_command_and_option_is_explained_in_sentences() -> None:
    """Help is written for people: each group, each command and each option."""
    whole: Any = get_command(app)
    for group in ("events", "person", "parked"):
        assert whole.commands[group].help.endswith(".")
        for command in whole.commands[group].commands.values():
            assert command.help.endswith(".")
            for parameter in command.params:
                assert parameter.help.endswith("."), (group, command.name, parameter.name)
    assert whole.commands["check"].help.endswith(".")
