"""What is dead: listed by cause and by subject, corrected, put back with its history kept and the books in order."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine

from integration.errors import Reason
from integration.model.contacts import WRITE_CONTACT
from integration.observability.books import balance
from integration.pipeline import Pipeline
from integration.storage import attempts, dead, inbox, replays, sync_state
from integration.storage.attempts import Attempt
from integration.storage.dead import Chosen
from integration.storage.replays import By
from integration.storage.sync_state import BACKFILL, Settled
from tests.db.conftest import Put, event
from tests.db.test_pipeline import inbox_states, rows

BY = By("user:ada", "dead.replay")
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


def wrong(score: object = "n/a", **data: Any) -> dict[str, Any]:
    """A completion whose score is none."""
    return event(score=score, **data)


def die(engine: Engine, reason: Reason = Reason.INVALID_VALUE, detail: str | None = None, **changed: Any) -> list[int]:
    """Let whoever is due in the CRM end dead (or as `status` says); returns the ids of the rows."""
    lease, status = uuid4(), changed.pop("status", "dead")
    with engine.begin() as db:
        claimed = sync_state.claim(db, "crm", WRITE_CONTACT, lease, limit=100)
        ended = [Settled(row.id, status, reason, detail, projected=row.wanted, **changed) for row in claimed]
        sync_state.settle(db, lease, ended, rule_set=1)
        tries = [
            Attempt(row.id, row.person_id, status, reason, row.wanted, ("lms_source",), detail, was_sent=False)
            for row in claimed
        ]
        attempts.append(
            db, tries, connection="crm", operation=WRITE_CONTACT, batch=lease, started_at=LONG_AGO, rule_set=1
        )
    return [row.id for row in claimed]


def is_balanced(engine: Engine) -> bool:
    """Whether every accepted event is in exactly one state."""
    with engine.begin() as db:
        return balance(db).unaccounted == 0


def test_causes_count_rows_and_what_they_have_in_common(engine: Engine, pipeline: Pipeline, put: Put) -> None:
    """Forty events of one mistake and one of another are one line: 41 events, 2 mistakes; three people are another."""
    pipeline.sync("completion", put([event(user=f"u-{n}", email=f"u{n}@example.com") for n in range(3)]))
    ids = put([wrong(course=f"c-{n}") for n in range(40)] + [event(passed="perhaps")])
    pipeline.sync("completion", ids)
    die(engine, detail="PROPERTY: size")
    with engine.begin() as db:
        events, people = dead.causes(db, Chosen())
    assert (events.kind, events.connection, events.reason, events.rows, events.subjects) == (
        "event",
        "academy",
        "invalid_event",
        41,
        2,
    )
    assert events.example == ids[0]
    assert (people.kind, people.connection, people.reason, people.rows, people.subjects) == (
        "person",
        "crm",
        "invalid_value",
        3,
        3,
    )


def test_a_hundred_events_of_one_mistake_are_one_line(engine: Engine, pipeline: Pipeline, put: Put) -> None:
    """One line per mistake with its count, the most frequent first; a person is one line however much waits."""
    pipeline.sync("completion", put([wrong(course=f"c-{n}") for n in range(100)]))
    pipeline.sync("completion", put([event(passed="perhaps"), event(), event(course="two"), event(course="three")]))
    (row_id,) = die(engine)
    with engine.begin() as db:
        score, passed, ada = dead.items(db, Chosen(), limit=10)
        assert dead.behind(db, row_id)[0] == 3
    assert (score.events, score.detail) == (100, "data.score: must be a number")
    assert (passed.events, passed.detail) == (1, "data.passed: must be true or false")
    assert (ada.kind, ada.events) == ("person", 3)


@pytest.mark.parametrize(
    ("chosen", "number"),
    [
        (Chosen(), 3),
        (Chosen(reason="missing_field"), 1),
        (Chosen(connection="campus"), 1),
        (Chosen(connection="crm"), 0),
        (Chosen(since=datetime.now(UTC) + timedelta(hours=1)), 0),
        (Chosen(until=LONG_AGO), 0),
        (Chosen(status="parked"), 1),
    ],
)
def test_a_filter_takes_what_it_says(engine: Engine, pipeline: Pipeline, put: Put, chosen: Chosen, number: int) -> None:
    """By reason, connection, when it died, and whether it is dead or parked."""
    pipeline.sync("completion", put([wrong(), event(course=None), event(user="u-5", email="none")]))
    pipeline.sync("completion", put([wrong()], connection="campus"))
    with engine.begin() as db:
        assert sum(one.rows for one in dead.causes(db, chosen)) == number
        assert dead.extent(db, chosen, "event")[0] == number


def test_a_person_died_when_they_were_tried_last(engine: Engine, pipeline: Pipeline, put: Put) -> None:
    """`since` is about the last try, however long ago the person became due."""
    pipeline.sync("completion", put([event()]))
    die(engine)
    with engine.begin() as db:
        db.exec_driver_sql("UPDATE sync_state SET wanted_since = %(at)s", {"at": LONG_AGO})
        lately = datetime.now(UTC) - timedelta(minutes=5)
        assert dead.extent(db, Chosen(since=lately), "person")[0] == 1
        db.exec_driver_sql("UPDATE attempts SET finished_at = %(at)s", {"at": LONG_AGO})
        assert dead.extent(db, Chosen(since=lately), "person")[0] == 0


def test_an_event_put_back_starts_anew_and_keeps_its_history(engine: Engine, pipeline: Pipeline, put: Put) -> None:
    """Put back, it is old news with no tries; how it ended before and who put it back stay on record."""
    (inbox_id,) = put([wrong()])
    pipeline.sync("completion", [inbox_id])
    with engine.begin() as db:
        done = replays.put_back(db, "event", [inbox_id], BY)
    assert done.events == ((inbox_id, "completion", 0),)
    assert rows(engine, "SELECT status, reason, origin, attempts, deaths FROM inbox") == [
        ("received", None, "replay", 0, 0)
    ]
    assert is_balanced(engine)
    pipeline.sync("completion", [inbox_id])
    assert inbox_states(engine) == [("dead", "invalid_event")]
    with engine.begin() as db:
        (before,) = dead.history(db, inbox_id)
        (acted,) = dead.actions(db, ("inbox", inbox_id), "academy")
    assert (before.outcome, before.reason, before.detail) == ("dead", "invalid_event", "data.score: must be a number")
    assert (acted.actor, acted.action, acted.outcome) == ("user:ada", "dead.replay", "invalid_event")
    assert is_balanced(engine)


def test_a_person_put_back_starts_anew_behind_live_news(engine: Engine, pipeline: Pipeline, put: Put) -> None:
    """Due again in the backfill lane with no tries; the tries there were stay."""
    pipeline.sync("completion", put([event()]))
    (row_id,) = die(engine)
    with engine.begin() as db:
        db.exec_driver_sql("UPDATE sync_state SET attempts = 8, failing_since = now()")
        done = replays.put_back(db, "person", [row_id], BY)
    assert done.places == {("crm", WRITE_CONTACT)}
    found = rows(engine, "SELECT status, lane, attempts, deaths, failing_since, not_before <= now() FROM sync_state")
    assert found == [("due", BACKFILL, 0, 0, None, True)]
    assert rows(engine, "SELECT outcome, reason FROM attempts") == [("dead", "invalid_value")]
    said = rows(engine, "SELECT action, connection, subject_type, outcome FROM audit WHERE actor = 'user:ada'")
    assert said == [("dead.replay", "crm", "person", "invalid_value")]
    assert is_balanced(engine)
    with engine.begin() as db:
        assert len(sync_state.claim(db, "crm", WRITE_CONTACT, uuid4(), limit=9)) == 1


def test_old_news_makes_a_person_due_behind_live_news(engine: Engine, pipeline: Pipeline, put: Put) -> None:
    """What a replayed event leads to goes in the backfill lane (rule 9)."""
    ids = put([event()])
    with engine.begin() as db:
        db.exec_driver_sql("UPDATE inbox SET status = 'dead', reason = 'internal_error', settled_at = now()")
        replays.put_back(db, "event", ids, BY)
    pipeline.sync("completion", ids)
    assert rows(engine, "SELECT lane FROM sync_state") == [(BACKFILL,)]
    assert rows(engine, "SELECT origin FROM events") == [("replay",)]


def test_what_killed_its_workers_goes_on_alone(engine: Engine, pipeline: Pipeline, put: Put) -> None:
    """A crash loop put back takes no neighbours along, in the inbox and at the CRM."""
    poison, other = put([event(user="u-1"), event(user="u-2", email="b@example.com")])
    with engine.begin() as db:
        db.exec_driver_sql(
            "UPDATE inbox SET status = 'dead', reason = 'crash_loop', deaths = 3, settled_at = now() WHERE id = %(id)s",
            {"id": poison},
        )
        done = replays.put_back(db, "event", [poison], BY)
    assert done.events == ((poison, "completion", 1),)
    with engine.begin() as db:
        assert [row.id for row in inbox.claim(db, "completion", [poison], uuid4())] == [poison]
        assert [row.id for row in inbox.claim(db, "completion", [other], uuid4())] == [other]


def test_only_what_is_still_dead_is_put_back(engine: Engine, pipeline: Pipeline, put: Put) -> None:
    """A row that came back to life meanwhile is left alone, and nothing is said of it in the audit log."""
    ids = put([event(), wrong()])
    pipeline.sync("completion", ids)
    with engine.begin() as db:
        assert replays.put_back(db, "event", [*ids, 999], BY).events == ((ids[1], "completion", 0),)
        assert replays.put_back(db, "event", ids, BY).number == 0
    assert rows(engine, "SELECT count(*) FROM audit WHERE action = 'dead.replay'") == [(1,)]


def sent(body: dict[str, Any]) -> bytes:
    """A body as it is sent."""
    return json.dumps(body).encode()


def corrected(engine: Engine, pipeline: Pipeline, inbox_id: int, body: bytes) -> bool:
    """Give a dead event this payload, as `dead edit` does."""
    with engine.begin() as db:
        row = db.exec_driver_sql("SELECT payload, request_id FROM inbox WHERE id = %(id)s", {"id": inbox_id}).one()
        seen, sealed = row.payload, pipeline.ring.seal(body, inbox.payload_context("academy", row.request_id))
        stored = dead.correct(db, inbox_id, seen=bytes(seen), payload=sealed)
        assert not dead.correct(db, inbox_id, seen=bytes(seen), payload=sealed), "one that was changed meanwhile"
        return stored


def test_a_corrected_event_is_applied_and_the_original_stays(engine: Engine, pipeline: Pipeline, put: Put) -> None:
    """Corrected twice, the payload as received is still the first one; the event is applied, the books balance."""
    (inbox_id,) = put([wrong()])
    pipeline.sync("completion", [inbox_id])
    [(original,)] = rows(engine, "SELECT payload FROM inbox")
    assert corrected(engine, pipeline, inbox_id, sent(wrong("still wrong")))
    assert corrected(engine, pipeline, inbox_id, sent(wrong(92)))
    with engine.begin() as db:
        replays.put_back(db, "event", [inbox_id], BY)
    assert is_balanced(engine)
    pipeline.sync("completion", [inbox_id])
    assert inbox_states(engine) == [("done", "applied")]
    assert rows(engine, "SELECT score FROM events") == [(92.0,)]
    assert rows(engine, "SELECT original_payload FROM inbox") == [(original,)]
    assert is_balanced(engine)


def test_the_sender_s_resend_of_a_corrected_event_is_still_a_duplicate(
    engine: Engine, pipeline: Pipeline, put: Put
) -> None:
    """The for-ever key is that of what was received: the same body again is neither stored nor parked."""
    (inbox_id,) = put([wrong()], ids=["msg_1"])
    pipeline.sync("completion", [inbox_id])
    corrected(engine, pipeline, inbox_id, sent(wrong(92)))
    assert put([wrong()], ids=["msg_1"]) == []
    assert is_balanced(engine)


def plan_of(engine: Engine, query: str) -> str:
    """How the planner would run a query over many people of whom few are dead."""
    with engine.begin() as db:
        db.exec_driver_sql(
            "INSERT INTO sync_state (connection, object_type, operation, subject_id, wanted, status)"
            " SELECT 'crm', 'contact', 'contact.upsert', n, 1, 'in_step' FROM generate_series(1, 20000) n"
        )
        db.exec_driver_sql("ANALYZE sync_state")
        return "\n".join(row[0] for row in db.exec_driver_sql(f"EXPLAIN {query}"))


def test_the_dead_are_found_without_reading_everybody(engine: Engine) -> None:
    """Among many people in step, those who are dead are found by an index of their own."""
    assert "ix_sync_state_stuck" in plan_of(engine, "SELECT id FROM sync_state s WHERE s.status = 'dead'")


def names(found: Sequence[Any]) -> list[str]:
    """Return kinds, for a comparison."""
    return [one.kind for one in found]


def test_kinds_can_be_chosen(engine: Engine, pipeline: Pipeline, put: Put) -> None:
    """Only events, only people, or both."""
    pipeline.sync("completion", put([event(), wrong()]))
    die(engine)
    with engine.begin() as db:
        assert names(dead.causes(db, Chosen())) == ["event", "person"]
        assert names(dead.causes(db, Chosen(), ["person"])) == ["person"]
        assert names(dead.items(db, Chosen(), ["event"], limit=5)) == ["event"]
