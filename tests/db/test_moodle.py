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
from integration.storage import connections, enrollments, people
from integration.storage.enrollments import Wanted
from integration.storage.people import Person
from scripts.sandbox.moodle import MoodleSite, serving
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
