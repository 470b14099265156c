"""What was known when: the history of standings against those of each moment, and facts walked through again."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine

from integration.config import Config
from integration.model.events import EventType, Learner, LearningEvent, Subject
from integration.pipeline import Pipeline
from integration.security.seal import KeyRing
from integration.storage import events
from integration.storage.base import engine_for
from integration.storage.events import Fact, Standing
from mappings import store, transforms
from mappings.rules import FieldRule
from tasks.rehearsal import Asked, rehearsals
from tests.db.conftest import CONFIG, Put, event
from tests.db.test_rule_sets import with_rules

T0 = datetime(2026, 11, 1, tzinfo=UTC)
LATER = datetime.now(UTC) + timedelta(days=30)
SUBJECTS = [("course", "a"), ("course", "b"), ("course", "old"), ("certification", "c"), ("assessment", "d")]
TYPES = {
    "course": [EventType.COURSE_COMPLETED, EventType.ENROLLMENT_CANCELLED, EventType.ENROLLMENT_CREATED],
    "certification": [EventType.CERTIFICATION_ISSUED, EventType.CERTIFICATION_REVOKED],
    "assessment": [EventType.ASSESSMENT_GRADED],
}
Position = dict[int, set[Standing]]


@st.composite
def facts(draw: st.DrawFn) -> tuple[int, LearningEvent]:
    """Return whom something happened to, and what: late, twice, contradicting, with and without a product."""
    kind, name = draw(st.sampled_from(SUBJECTS))
    said = LearningEvent(
        type=draw(st.sampled_from(TYPES[kind])),
        occurred_at=T0 + timedelta(hours=draw(st.integers(0, 4))),
        learner=Learner(lms_user_id="u"),
        subject=Subject(type=kind, id=name, name=f"The {name}"),
        passed=draw(st.sampled_from([None, True, False])),
        product=draw(st.sampled_from([None, "alpha", "beta"])) if kind == "certification" else None,
        attempt=draw(st.sampled_from([None, "2"])),
    )
    return draw(st.integers(0, 1)), said


@pytest.fixture(scope="module")
def known(module_database_url: str) -> Iterator[Engine]:
    """A database in which the course `old` was replaced by `a`."""
    engine = engine_for(module_database_url)
    with engine.begin() as db:
        db.exec_driver_sql(
            "INSERT INTO courses (connection, external_id, seen_at) VALUES ('academy', 'a', now());"
            "INSERT INTO courses (connection, external_id, seen_at, replaced_by)"
            " SELECT 'academy', 'old', now(), id FROM courses"
        )
    yield engine
    engine.dispose()


def position(db: Connection, ids: list[int]) -> Position:
    """Return where people stand now."""
    found = events.standings(db, ids)
    return {person: {_comparable(one) for one in found.get(person, [])} for person in ids}


def _comparable(standing: Standing) -> Standing:
    return standing._replace(products=tuple(standing.products) if standing.products else None)  # type: ignore[arg-type]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(batches=st.lists(st.lists(facts(), min_size=1, max_size=4), min_size=1, max_size=5), skipped=st.integers(0, 4))
def test_the_history_passes_through_the_standings_of_every_moment(
    known: Engine, batches: list[list[tuple[int, LearningEvent]]], skipped: int
) -> None:
    """Whatever was recorded in whatever order: at each moment, what the one statement says of the facts so far."""
    with known.begin() as db:
        ids = [r[0] for r in db.exec_driver_sql("INSERT INTO people DEFAULT VALUES RETURNING id")]
        ids += [r[0] for r in db.exec_driver_sql("INSERT INTO people DEFAULT VALUES RETURNING id")]
    moments: list[tuple[datetime, Position]] = []
    for batch in batches:
        with known.begin() as db:
            events.append(db, [Fact(1, "academy", ids[who], f"u-{ids[who]}", said, LATER) for who, said in batch])
            now = db.exec_driver_sql("SELECT now()").scalar_one()
            moments.append((now, position(db, ids)))
    since = moments[min(skipped, len(moments) - 1)][0] if skipped else T0
    with known.begin() as db:
        history = events.history(db, ids, since)
    for at, expected in moments:
        if at < since:
            continue
        for person in ids:
            reached: dict[tuple[str, str, str], Standing] = {}
            for known_at, one in history.get(person, []):
                if known_at <= at:
                    reached[one.connection, one.subject_type, one.subject] = _comparable(one)
            assert set(reached.values()) == expected[person]


def put_back(engine: Engine, hours: int) -> None:
    """Let everything that was recorded so far have been recorded so long before."""
    with engine.begin() as db:
        for table in (
            "events SET recorded_at = recorded_at",
            "people SET created_at = created_at",
            "links SET created_at = created_at",
        ):
            db.exec_driver_sql(f"UPDATE {table} - %s * interval '1 hour'", (hours,))


@pytest.fixture
def told(engine: Engine, pipeline: Pipeline, put: Put) -> None:
    """Ada completes a course three days ago and one two days ago; Bob comes yesterday, with two in one batch."""
    pipeline.sync("completion", put([event(course="a", at=0)]))
    put_back(engine, 24)
    pipeline.sync("completion", put([event(course="b", at=5)]))
    put_back(engine, 24)
    bob: dict[str, Any] = {"user": "u-2", "email": "bob@example.com", "name": "Bob Byron"}
    pipeline.sync("completion", put([event(course="a", at=9, **bob), event(course="b", at=8, **bob)]))
    put_back(engine, 24)


@pytest.mark.usefixtures("processes")
@pytest.mark.parametrize(
    ("days", "people", "counts"), [(4, 2, (3, 2, 3)), (2.5, 2, (2, 1, 2)), (1.5, 1, (1, 1, 1)), (0.5, 0, None)]
)
def test_facts_are_walked_through_as_they_were_recorded(
    engine: Engine, told: None, keyring: KeyRing, days: float, people: int, counts: tuple[int, int, int] | None
) -> None:
    """The last course by name against its first letters, which are the same for all: written when somebody is new."""
    short = FieldRule(
        "last_course_completed",
        "last_course_completed",
        "last_course_completed",
        "string",
        transforms.parse([{"truncate": 6}]),
    )
    with engine.begin() as db:
        old = store.active(db)
        new = with_rules(db, short, without=("last_course_completed",))
        asked = Asked(old.read_at - timedelta(days=days))
        (found,) = rehearsals(db, Config.model_validate(CONFIG), keyring, old, new, asked)
    tally = found.properties.get("last_course_completed")
    assert found.people == people
    assert (tally and (tally.was, tally.becomes, tally.differ)) == counts


def test_a_certificate_that_expires_is_written_though_nothing_came(
    engine: Engine, pipeline: Pipeline, put: Put, keyring: KeyRing
) -> None:
    """The clock is news as well: nobody has told us, and both rule sets write it; one of them to another property."""
    expires = (datetime.now(UTC) - timedelta(hours=12)).isoformat()
    certificate = {"id": "c", "product": "alpha", "expires_at": expires}
    body = event("certification.issued", course=None, certification=certificate, at=-60 * 24 * 300)
    pipeline.sync("completion", put([body]))
    put_back(engine, 48)
    moved = FieldRule("certified", "certified", "held_{key}", "bool")
    with engine.begin() as db:
        old = store.active(db)
        new = with_rules(db, moved, without=("certified",))
        (found,) = rehearsals(
            db, Config.model_validate(CONFIG), keyring, old, new, Asked(old.read_at - timedelta(days=1), reveal=True)
        )
    assert found.people == 1
    assert [(one.was, one.becomes) for one in found.properties["certified_alpha"].examples] == [("false", None)]
    assert [(one.was, one.becomes) for one in found.properties["held_alpha"].examples] == [(None, "false")]
    assert (found.writes_was, found.writes_becomes) == (1, 1)


def test_a_second_lms_counts_from_when_it_was_known(
    engine: Engine, pipeline: Pipeline, put: Put, keyring: KeyRing
) -> None:
    """What the other system calls a person is written when it was linked, not from the beginning."""
    pipeline.sync("completion", put([event()]))
    put_back(engine, 48)
    pipeline.sync("completion", put([event(user="c-1")], connection="campus"))
    put_back(engine, 24)
    with engine.begin() as db:
        old = store.active(db)
        other = FieldRule("campus_id", "other_lms_user_id", "id_{key}", "string")
        new = with_rules(db, other)
        for days, writes in ((2, 1), (0.5, 0)):
            asked = Asked(old.read_at - timedelta(days=days))
            (found,) = rehearsals(db, Config.model_validate(CONFIG), keyring, old, new, asked)
            assert sum(tally.becomes for tally in found.properties.values()) == writes
