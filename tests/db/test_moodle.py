"""Moodle's thin events in the pipeline: whose they are is decided, or a person is asked; never guessed."""

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Engine

from integration.connectors.lms.moodle_webhooks import inbound
from integration.pipeline import Pipeline
from tests.db.conftest import T0, Put

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
