"""Identity rules as an admin uses them: in files, planned and published, and as what a decision becomes."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine

from integration.pipeline import Pipeline
from mappings import store
from tasks.assembly import this_process
from tests.db.conftest import event
from tests.db.test_identity_rules import partition
from tests.db.test_pipeline import inbox_states, rows
from tests.e2e.conftest import ADA, Take, audited
from tests.e2e.test_dead_commands import Cli, cli, is_masked
from tests.e2e.test_rules_commands import rules

__all__ = ["cli", "rules"]  # fixtures


@pytest.fixture
def pipeline(pipeline: Pipeline) -> Pipeline:
    """The worker's, which decides by the published rules."""
    return replace(pipeline, rules=lambda db: store.active(db).identity)


@pytest.fixture
def twins(take: Take) -> list[int]:
    """Ada is u-1; u-2 came twice with her e-mail and u-3 once, Bob's u-5 with that of u-4; all of them are parked."""
    bob = [event(user=user, email="bob@acme.com", course=f"b-{user}") for user in ("u-4", "u-5")]
    ada = [event(user="u-2", email=ADA[0], course=course) for course in ("two", "three")]
    return take([event(email=ADA[0], name=ADA[1]), *ada, event(user="u-3", email=ADA[0], course="four"), *bob])


def identity(folder: Path, text: str) -> None:
    """Write the academy's identity rules."""
    (folder / "identity").mkdir(exist_ok=True)
    (folder / "identity" / "academy.yaml").write_text(f"connection: academy\nidentity:\n{text}")


def person_of(engine: Engine, user: str) -> int:
    """The number of the person whom the academy calls so."""
    [(person,)] = rows(engine, "SELECT object_id FROM links WHERE external_id = %(user)s", user=user)
    return int(person)


def flush_and_roll_out(engine: Engine) -> None:
    """Let everybody be looked at by the published rules."""
    for _ in range(3):
        with engine.begin() as db:
            store.roll_out(db, limit=100)
        this_process().flushers["crm", "contact.upsert"].flush()


def test_staff_are_left_out_and_taken_back(cli: Cli, rules: Path, take: Take, engine: Engine) -> None:
    """The plan counts them, the publish does it, their story says why, explain says the rule, rollback undoes it."""
    take([event(email=ADA[0], name=ADA[1]), event(user="u-4", email="bob@acme.com", name="Bob")])
    flush_and_roll_out(engine)
    identity(rules, "  exclude_domains: [acme.com]\n")
    planned = cli("rules", "plan", str(rules), "--offline")
    assert "exclude_domains: nobody -> acme.com" in planned.stdout, planned.output
    assert "crm: 1 of 2 people left out" in planned.stdout
    assert "crm: a contact of 1 of them stays as it is" in planned.stdout
    as_json = json.loads(cli("rules", "plan", str(rules), "--offline", "--json").stdout)
    assert [one["left_out"] for one in as_json["identity_effects"] if one["connection"] == "crm"] == [1]
    assert cli("rules", "publish", str(rules), "--offline", typed="y\n").exit_code == 0
    flush_and_roll_out(engine)
    told = cli("person", "show", "bob@acme.com")
    assert "academy leaves them out: exclude_domains: acme.com" in told.stdout, told.output
    assert "in step (excluded)" in told.stdout
    assert "exclude_domains" in cli("rules", "explain", "academy").stdout
    again = rules.parent / "again"
    assert cli("rules", "export", str(again)).exit_code == 0
    assert "exclude_domains: [acme.com]" in (again / "identity" / "academy.yaml").read_text()
    assert "Nothing changes" in cli("rules", "plan", str(again), "--offline").stdout
    back = cli("rules", "rollback", "--yes")
    assert "left out until now, and taken from then" in back.stdout
    flush_and_roll_out(engine)
    assert "Everything is where it should be." in cli("person", "show", "bob@acme.com").stdout


def test_a_mistake_in_the_identity_rules_publishes_nothing(cli: Cli, rules: Path, engine: Engine) -> None:
    """File, line and sentence, though the field rules beside it are right."""
    identity(rules, "  same_email: same_person\n  exclude_ids: ['*']\n")
    done = cli("rules", "publish", str(rules), "--yes")
    assert done.exit_code == 2
    assert "academy.yaml:4: identity.exclude_ids.0: '*' is a pattern that everybody meets" in " ".join(
        done.output.split()
    )
    assert rows(engine, "SELECT count(*) FROM rule_sets") == [(1,)]


def test_one_human_decided_once_is_decided_for_good(
    cli: Cli, twins: list[int], engine: Engine, pipeline: Pipeline
) -> None:
    """The plan is shown, asked, published with who and why; the rule decides what was parked alike, and what comes."""
    ada = person_of(engine, "u-1")
    words = ("parked", "resolve", f"event:{twins[1]}", "--person", str(ada), "--always", "same_email")
    declined = cli(*words, typed="n\n")
    assert declined.exit_code == 1
    assert "same_email: park -> same_person" in declined.stdout
    assert "It decides 2 more parked events of 2 learners" in declined.stdout
    assert is_masked(declined)
    assert rows(engine, "SELECT count(*) FROM rule_sets") == [(1,)]
    assert audited(engine) == []
    done = cli(*words, typed="y\n")
    assert done.exit_code == 0, done.output
    assert "Events released: 2." in done.stdout
    assert "Rule set 2 is published; by it these go on as well: 2 events." in done.stdout
    pipeline.sync("completion", twins)
    assert [reason for _, reason in inbox_states(engine)] == ["applied"] * 6
    learners = {frozenset({"academy:u-1", "academy:u-2", "academy:u-3"}), frozenset({"academy:u-4", "academy:u-5"})}
    assert partition(engine) == learners
    [(author, why)] = rows(engine, "SELECT author, comment FROM rule_sets WHERE status = 'published'")
    assert why == f"parked resolve event:{twins[1]} --person {ada} --always same_email"
    assert {action for _, action in audited(engine)} == {"parked.resolve", "rules.publish"}
    assert {who for who, _ in audited(engine)} == {author}


@pytest.mark.parametrize(
    ("word", "part"),
    [("domain", "exclude_domains: nobody -> acme.com"), ("id", "exclude_ids: nobody -> u-5")],
)
def test_an_ignored_event_can_stand_for_all_like_it(
    cli: Cli, twins: list[int], engine: Engine, pipeline: Pipeline, take: Take, word: str, part: str
) -> None:
    """By domain or by id: those and no others end as excluded, now and from then on; nothing of them is written."""
    more = take([event(user="u-5", email="bob@acme.com", course="more"), event(user="u-6", email="bob@acme.com")])
    done = cli("parked", "resolve", f"event:{twins[5]}", "--ignore", "--always", word, "--yes")
    assert done.exit_code == 0, done.output
    assert part in done.stdout
    pipeline.sync("completion", [*twins, *more])
    states = inbox_states(engine)
    assert states[5] == ("ignored", "ignored_by_decision")
    assert states[6] == ("ignored", "excluded")
    assert states[7] == (("ignored", "excluded") if word == "domain" else ("parked", "email_taken"))
    assert states[1:4] == [("parked", "email_taken")] * 3
    flush_and_roll_out(engine)
    bob = person_of(engine, "u-4")
    assert rows(engine, "SELECT reason = 'excluded' FROM sync_state WHERE subject_id = %(id)s", id=bob) == [
        (word == "domain",)
    ]


def test_a_decision_that_no_rule_would_have_taken_stays_one(
    cli: Cli, twins: list[int], take: Take, engine: Engine
) -> None:
    """Another person than the e-mail's, another reason, a second time; words that do not fit the decision."""
    other = person_of(engine, "u-4")
    parked = f"event:{twins[1]}"
    wrong = cli("parked", "resolve", parked, "--person", str(other), "--always", "same_email", "--yes")
    assert "the person whose e-mail it is" in " ".join(wrong.output.split())
    (nobody,) = take([event(user="u-9", email=None)])
    for words in (("--new-person", "--always", "same_email"), ("--ignore", "--always", "domain")):
        assert cli("parked", "resolve", f"event:{nobody}", *words, "--yes").exit_code == 1
    for misfit in (("--ignore", "--always", "same_email"), ("--release", "--always", "id"), ("--always", "id")):
        assert cli("parked", "resolve", parked, *misfit, "--yes").exit_code == 2
    assert rows(engine, "SELECT count(*) FROM rule_sets") == [(1,)]
    assert [status for status, _ in inbox_states(engine)].count("parked") == 5
    (alone,) = take([event(user="u-1", email=None), event(user="u-77", email="u-77@")])[1:]
    last = cli("parked", "resolve", f"event:{alone}", "--ignore", "--always", "id", "--yes")
    assert "No other parked event is decided by it" in last.stdout, last.output
    assert cli("parked", "resolve", parked, "--new-person", "--always", "same_email", "--yes").exit_code == 0
    assert "same_email" in cli("rules", "explain", "same_email").stdout


def test_old_ids_stay_in_the_story(cli: Cli, take: Take, engine: Engine) -> None:
    """What a system called the person before it merged that away is shown, and leads to them."""
    take([event(email=ADA[0], name=ADA[1])])
    with engine.begin() as db:
        db.exec_driver_sql(
            "INSERT INTO links (connection, object_type, external_id, object_id, moved_to) "
            "SELECT 'crm', 'contact', '501', object_id, '503' FROM links WHERE external_id = 'u-1'"
        )
    told = cli("person", "show", ADA[0])
    assert "contact 501 in crm, merged into 503" in told.stdout, told.output
    assert "merged into 503" in cli("person", "show", "crm:501").stdout
