"""Moodle's thin events in the pipeline: whose they are is decided, or a person is asked; never guessed."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import SecretStr
from sqlalchemy import Engine

from integration.connectors.lms.moodle_webhooks import inbound
from integration.model.enrollments import WRITE_ENROLLMENT
from integration.model.people import Profile
from integration.pipeline import Pipeline
from integration.security.seal import IndexKeys, KeyRing
from integration.settings import Settings
from integration.storage import connections, enrollments, people, polls, runs
from integration.storage.enrollments import Wanted
from integration.storage.people import Person
from scripts.sandbox.moodle import MoodleSite, serving
from tasks import asking
from tasks.assembly import Assembly
from tests.db.conftest import T0, Put
from tests.db.test_flush import plenty
from tests.processes import until

TOKEN = "0123456789abcdef0123456789abcdef"
GRADED = r"\mod_assign\event\submission_graded"


@pytest.fixture
def moodle(pipeline: Pipeline) -> Pipeline:
    """The pipeline, with a Moodle where the campus was."""
    found = inbound(pipeline.config.connections["campus"])
    assert found is not None
    return replace(pipeline, inbound={**pipeline.inbound, "campus": found})


def said(name: str = r"\core\event\course_completed", **fields: Any) -> dict[str, Any]:
    """One event of Moodle."""
    body = {"eventname": name, "userid": 2, "relateduserid": 7, "courseid": 12, "contextinstanceid": 44, "objectid": 9}
    return body | {"timecreated": int(T0.timestamp())} | fields


def test_an_event_of_nobody_known_waits_for_a_person(engine: Engine, moodle: Pipeline, put: Put) -> None:
    """A learner whom nothing has linked yet, and a grade that names only its grader, are parked beside good news."""
    bodies = [said(), said(GRADED, relateduserid=None), said(r"\core\event\course_viewed")]
    recorded = moodle.sync("completion", put(bodies, "campus"))
    found = sorted((one.status, str(one.reason)) for one in recorded.outcomes)
    assert found == [("ignored", "unknown_type"), ("parked", "no_identity"), ("parked", "no_identity")]
    with engine.begin() as db:
        assert db.exec_driver_sql("SELECT count(*) FROM people").scalar() == 0


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> MoodleSite:
    """A site with two courses, one of which takes nobody."""
    monkeypatch.setenv("TEST_MOODLE_WS", TOKEN)
    found = MoodleSite(TOKEN, {12: "Algebra", 13: "Closed"})
    found.closed = {13}
    return found


@pytest.fixture
def process(
    site: MoodleSite, engine: Engine, keyring: KeyRing, keys: IndexKeys, database_url: str, tmp_path: Path
) -> Iterator[Assembly]:
    """A worker that is connected to the site."""
    with serving(site) as url:
        academy = {
            "system": "moodle",
            "base_url": url,
            "credentials": {"token": {"env": "TEST_MOODLE_WS"}},
            "webhook": {"secrets": [{"env": "TEST_MOODLE_WS"}]},
            "options": {"create_users": True},
        }
        crm = {"system": "hubspot", "credentials": {"token": {"env": "TEST_MOODLE_WS"}}}
        routes = [{"from": "academy", "to": "crm", "flows": {"completion": "nightly"}}]
        path = tmp_path / "coursewire.yaml"
        path.write_text(yaml.safe_dump({"connections": {"academy": academy, "crm": crm}, "routes": routes}), "utf-8")
        made = Assembly(Settings(config=path, database_url=SecretStr(database_url), worker_concurrency=2))
        parts: dict[str, Any] = made.__dict__
        parts |= {"engine": engine, "ring": keyring, "keys": keys, "budgets": {"academy": plenty(), "crm": plenty()}}
        with engine.begin() as db:
            connections.register(db, {"academy": "moodle", "crm": "hubspot"})
        yield made


def test_a_stranger_s_event_makes_them_known(site: MoodleSite, process: Assembly, put: Put, engine: Engine) -> None:
    """The site is asked who its learner is, and the event goes the usual way; somebody it does not know is parked."""
    ada = site.add_user("Ada@example.com")
    ids = put([said(relateduserid=ada), said(relateduserid=999)], "academy")
    process.pipeline.sync("completion", ids)
    goes_on: list[tuple[int, str]] = []

    def looked() -> bool:
        goes_on.extend(process.looks["academy"].run().goes_on)
        return bool(goes_on)

    until(looked)
    for row_id, kind in goes_on:
        process.pipeline.sync(kind, [row_id])
    with engine.begin() as db:
        states = db.exec_driver_sql("SELECT status, reason FROM inbox ORDER BY id").all()
        assert [tuple(one) for one in states] == [("done", "applied"), ("parked", "no_identity")]
    assert site.calls["core_user_get_users_by_field"] == 1


def test_people_are_enrolled_once(site: MoodleSite, process: Assembly, engine: Engine) -> None:
    """Somebody is made known and enrolled; a course that takes nobody waits for its teacher."""
    with engine.begin() as db:
        (person,) = people.new_ids(db, 1)
        profile = Profile(email="ada@example.com", full_name="Ada Byron")
        people.save(db, [Person(person, 0, profile, is_new=True, is_changed=True)], process.ring, process.keys)
        enrollments.want(db, [Wanted(person, "academy", course, "enrolled") for course in ("12", "13")])
    for _ in range(3):
        process.drains["academy", WRITE_ENROLLMENT].flush()
    with engine.begin() as db:
        states = db.exec_driver_sql("SELECT status, reason, is_ours FROM enrollments ORDER BY course_id").all()
    assert [tuple(one) for one in states] == [("in_step", "enrolled", True), ("parked", "unknown_course", False)]
    (user,) = site.users
    assert site.writes == [(user, 12, 0)]


def hear_of(process: Assembly, put: Put, user: int) -> None:
    """Let the plugin tell of a completion, by somebody whom the site is asked about."""
    process.pipeline.sync("completion", put([said(relateduserid=user)], "academy"))
    goes_on: list[tuple[int, str]] = []

    def looked() -> bool:
        goes_on.extend(process.looks["academy"].run().goes_on)
        return bool(goes_on)

    until(looked)
    for row_id, kind in goes_on:
        process.pipeline.sync(kind, [row_id])


def polled(process: Assembly, engine: Engine) -> tuple[str, str | None, dict[str, int]]:
    """Ask the site what happened, and record it; return how the poll ended and what it counted."""
    with engine.begin() as db:
        assert asking.begin(db, process.config, "academy", runs.clock(db), actor="user:test") is not None
    for row_id, kind in process.pollers["academy"].run().told:
        process.pipeline.sync(kind, [row_id])
    with engine.begin() as db:
        [poll] = polls.latest(db, limit=1)
    return poll.status, poll.reason, {name: number for name, number in poll.counts.items() if number}


def test_completions_that_the_plugin_lost_are_asked_for_once(
    site: MoodleSite, process: Assembly, put: Put, engine: Engine
) -> None:
    """Of three who completed a course one was told of; in the second night nobody is asked about who is known."""
    people = [site.add_user(f"p{n}@example.com") for n in range(4)]
    for number in people:
        site.enrolments[number, 12] = 0
    site.completed = {(number, 12): int(T0.timestamp()) - 60 for number in people[:3]}
    hear_of(process, put, people[0])
    assert polled(process, engine) == ("done", None, {"seen": 2, "new": 2, "calls": 4, "pages": 1})
    assert polled(process, engine) == ("done", None, {"calls": 2, "pages": 1})
    with engine.begin() as db:
        facts = db.exec_driver_sql("SELECT origin, occurred_at FROM events ORDER BY id").all()
        states = db.exec_driver_sql("SELECT status FROM inbox").scalars().all()
    assert [one[0] for one in facts] == ["live", "poll", "poll"]
    assert facts[1][1] < facts[0][1]
    assert set(states) == {"done"}


def test_a_token_that_may_not_list_enrols_on(
    site: MoodleSite, process: Assembly, put: Put, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The poll fails with the permission that lacks; the connection is not broken."""
    site.enrolments[site.add_user("ada@example.com"), 12] = 0
    hear_of(process, put, 2)
    site.enrolments[site.add_user("bob@example.com"), 12] = 0
    monkeypatch.delattr(MoodleSite, "_core_completion_get_course_completion_status")
    assert polled(process, engine)[:2] == ("failed", "scope_missing")
    with engine.begin() as db:
        assert db.exec_driver_sql("SELECT status FROM connections WHERE name = 'academy'").scalar() == "active"
