"""The reading commands as an administrator runs them: real processes, against a database with a story in it."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine
from typer.main import get_command
from typer.testing import CliRunner

from integration.pipeline import Pipeline
from integration.security.seal import new_key
from integration.storage import audit, connections
from tasks.cli import app
from tasks.embedded.servers import EmbeddedServers
from tests.e2e.conftest import ADA, Run, audited, names_nobody
from tests.processes import frozen


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
    assert "The event became a fact about the person" in done.stdout
    assert "course.completed" in done.stdout
    assert "a worker takes it next" in done.stdout
    assert names_nobody(done)


def test_opening_a_payload_is_audited(run: Run, fed: list[int], engine: Engine) -> None:
    """Who reads what a sender sent is on record, and who does not ask for it sees nothing of it."""
    assert names_nobody(run("events", "show", str(fed[0]), "--json"))
    assert audited(engine) == []
    opened = run("events", "show", str(fed[0]), "--reveal", "--json")
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
    assert (group["reason"], group["count"], group["waiting"][0]["id"]) == (
        "email_taken",
        2,
        f"event:{fed[1]}",
    )

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
    assert {"configuration", "keys", "database", "rules", "broker", "budget", "academy", "crm"} == {
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


READING = [("events", "list"), ("person", "show", "1"), ("parked", "list"), ("dead", "list"), ("connections", "list")]


@pytest.mark.parametrize("words", READING)
def test_a_database_that_is_away_is_one_sentence(run: Run, words: tuple[str, ...]) -> None:
    """What a paged engineer types first says what is wrong, with exit code 2 and without the password."""
    done = run(*words, database_url="postgresql://u:geheim@127.0.0.1:9/x")
    assert done.returncode == 2
    assert done.stderr == "coursewire: the database does not answer. Run `coursewire check`.\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("reconcile", "report", "abc"), "'[RUN]': must be a whole number"),
        (("reconcile", "report", "1.5"), "'[RUN]': must be a whole number"),
        (("hr", "show", "abc"), "'FILE': must be a whole number"),
        (("hr", "list", "--limit", "0"), "'--limit': must be greater than or equal to 1"),
        (("dead", "list", "--reason", "none"), "'none' is no reason"),
    ],
)
def test_a_word_that_cannot_be_meant_is_refused_in_our_words(words: tuple[str, ...], said: str) -> None:
    """Which one it is, and what it must be."""
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2
    assert said in " ".join(done.output.split())
    assert "Input" not in done.output


def test_every_command_and_option_is_explained_in_sentences() -> None:
    """Help is written for people: each group, each command and each option."""
    whole: Any = get_command(app)
    known = {name: whole.get_command(None, name) for name in whole.list_commands(None)}
    for group in ("events", "person", "parked", "dead", "connections"):
        assert known[group].help.endswith(".")
        for command in known[group].commands.values():
            assert command.help.endswith(".")
            for parameter in command.params:
                assert parameter.help.endswith("."), (group, command.name, parameter.name)
    assert known["check"].help.endswith(".")
