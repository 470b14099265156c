"""Reading: lists, one event, what is parked, and one person's whole story, against real Postgres."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import orjson
import pytest
from sqlalchemy import Engine

from integration.config import Config
from integration.delivery.flush import CONTACT_KEY
from integration.errors import ConfigError, Reason
from integration.model.contacts import CONTACT, WRITE_CONTACT
from integration.pipeline import Pipeline
from integration.storage import attempts, connections, inbox, parked, quarantine, received, story, sync_state
from integration.storage.attempts import Attempt
from integration.storage.received import Chosen, Count
from integration.storage.sync_state import Settled
from tasks.holdings import Held
from tasks.saying import say_json
from tasks.story import Story, Teller
from tests.db.conftest import CONFIG, Put, event
from tests.db.test_pipeline import rows

WHEN = datetime(2026, 11, 21, 10, 0, tzinfo=UTC)


def tell(engine: Engine, pipeline: Pipeline, person_id: int | None = None, *, reveal: bool = False) -> Story:
    """The story of a person, or of the only one there is."""
    if person_id is None:
        [(person_id,)] = rows(engine, "SELECT id FROM people")
    with engine.begin() as db:
        row = story.person(db, person_id)
        assert row is not None
        return Teller(db, pipeline.config, pipeline.ring, pipeline.keys).tell(row, limit=20, reveal=reveal)


def settle(engine: Engine, pipeline: Pipeline, status: str, reason: Reason, **changed: Any) -> None:
    """Let the contact's row end a try like this; `values` are what the CRM is now known to hold."""
    lease, values = uuid4(), changed.pop("values", None)
    with engine.begin() as db:
        (row,) = sync_state.claim(db, "crm", WRITE_CONTACT, lease, limit=10)
        if values is not None:
            changed["remote_values"] = pipeline.ring.seal(orjson.dumps(values), sync_state.remote_context(row.id))
        sync_state.settle(db, lease, [Settled(row.id, status, reason, **changed)], rule_set=1)
        attempt = Attempt(row.id, row.person_id, status, reason, row.wanted, ("lms_source",), changed.get("detail"))
        attempts.append(
            db, [attempt], connection="crm", operation=WRITE_CONTACT, batch=lease, started_at=WHEN, rule_set=1
        )


def write(engine: Engine, pipeline: Pipeline, person_id: int | None = None, **values: str) -> None:
    """Let the CRM hold what it should, with these values instead."""
    wanted = {one.name: one.wanted for one in crm(tell(engine, pipeline, person_id)).fields}
    version = rows(engine, "SELECT max(version) FROM people")[0][0]
    place = {"remote_id": "551", "remote_origin": "sent", "values": wanted | values}
    settle(engine, pipeline, "in_step", Reason.WRITTEN, written=version, **place)


def crm(told: Story) -> Held:
    """What the CRM holds."""
    (held,) = told.written
    return held


# --- lists


def test_the_list_is_newest_first_and_counted_whole(engine: Engine, pipeline: Pipeline, put: Put) -> None:
    """A page shows the newest, the counts speak of everything chosen."""
    ids = put([event(user=f"u-{n}", email=f"u{n}@example.com") for n in range(5)] + [event("no.such.type")])
    pipeline.sync("completion", ids)
    with engine.begin() as db:
        assert [one.id for one in received.events(db, Chosen(), limit=2)] == [ids[5], ids[4]]
        assert received.counts(db, Chosen()) == [Count("done", "applied", 5), Count("ignored", "unknown_type", 1)]
        assert [one.id for one in received.events(db, Chosen(status="ignored"), limit=9)] == [ids[5]]
        assert received.counts(db, Chosen(reason="applied", connection="academy")) == [Count("done", "applied", 5)]
        assert received.events(db, Chosen(connection="campus"), limit=9) == []


@pytest.mark.parametrize("age", [0, 1, 7, 49, 50, 99])
def test_since_finds_its_place_among_many(engine: Engine, put: Put, age: int) -> None:
    """`--since` shows what came in that time and nothing older, wherever in the inbox that begins."""
    ids = put([event(course=f"c-{n}") for n in range(50)])
    with engine.begin() as db:
        change = "UPDATE inbox SET received_at = now() - (%(last)s - id) * interval '1 hour'"
        db.exec_driver_sql(change, {"last": ids[-1]})
        since = datetime.now(UTC) - timedelta(hours=age, minutes=30)
        found = [one.id for one in received.events(db, Chosen(since=since), limit=1_000)]
        assert found == ids[::-1][: age + 1]
        assert sum(one.events for one in received.counts(db, Chosen(since=since))) == len(found)


def test_since_on_an_empty_inbox_finds_nothing(engine: Engine) -> None:
    """The first command on a fresh installation answers, too."""
    with engine.begin() as db:
        assert received.events(db, Chosen(since=WHEN), limit=5) == []
        assert received.counts(db, Chosen(since=WHEN)) == []


def test_the_sender_s_id_finds_every_body_that_came_under_it(engine: Engine, put: Put) -> None:
    """The first body, and one that was parked because the id was used before, are both found; others are not."""
    (first,) = put([event()], ids=["msg_1"])
    second = orjson.dumps(event(course="other"))
    # As intake keeps it: under a key made of the id's key and the body.
    [(known,)] = rows(engine, "SELECT key FROM inbox_keys")
    own = inbox.hash_of(bytes(known) + inbox.hash_of(second))
    values = {
        "connection": ["academy"], "key": [own], "body_hash": [inbox.hash_of(second)], "kind": ["completion"],
        "payload": [b"sealed"], "request_id": ["req_2"], "origin": "live", "status": "parked", "reason": "id_reuse",
    }  # fmt: skip
    with engine.begin() as db:
        (stored,) = db.exec_driver_sql(inbox.STORE, values)
        put([event(course="third")], ids=["msg_2"])
        key = inbox.key_of("msg_1")
        assert received.by_key(db, key, ["academy", "crm"]) == [("academy", first), ("academy", stored.id)]
        assert received.by_key(db, key, ["campus"]) == []
        assert received.by_key(db, inbox.key_of("msg_3"), ["academy"]) == []


def test_a_purged_event_is_still_known_by_its_id(engine: Engine, put: Put) -> None:
    """The keys outlive the rows: a sender's question can be answered years later."""
    (first,) = put([event()], ids=["msg_1"])
    with engine.begin() as db:
        db.exec_driver_sql("DELETE FROM inbox")
        assert received.by_key(db, inbox.key_of("msg_1"), ["academy"]) == [("academy", first)]
        assert received.by_id(db, [first]) == []


def test_an_event_s_facts_are_its_own(engine: Engine, pipeline: Pipeline, put: Put) -> None:
    """The fact is shown with the event that brought it, not with the one that repeated it."""
    first, again = put([event(score=92.5, passed=True), event(score=92.5, passed=True)])
    pipeline.sync("completion", [first, again])
    with engine.begin() as db:
        newest, oldest = received.by_id(db, [first, again])
        (fact,) = received.facts(db, oldest)
        assert (fact.type, fact.score, fact.passed, fact.revision) == ("course.completed", 92.5, True, 1)
        assert received.facts(db, newest) == []


def test_parked_events_are_one_line_per_learner(engine: Engine, pipeline: Pipeline, put: Put) -> None:
    """Forty events of one learner are one decision, and the group counts events."""
    pipeline.sync("completion", put([event()]))
    ids = put([event(user="u-2", course=f"c-{n}") for n in range(40)] + [event(user="u-3", course="x")])
    pipeline.sync("completion", ids)
    with engine.begin() as db:
        two, three = parked.learners(db, limit=5)
        assert (two.id, two.events, two.in_group, two.reason) == (ids[0], 40, 41, "email_taken")
        assert (three.id, three.events, three.in_group) == (ids[40], 1, 41)
        assert "u-1" in (two.detail or "")
        assert len(parked.learners(db, limit=1)) == 1


def test_people_who_wait_are_listed_with_their_evidence(engine: Engine, pipeline: Pipeline, put: Put) -> None:
    """Somebody the CRM does not know is in the list, with when they are looked for again."""
    pipeline.sync("completion", put([event()]))
    settle(engine, pipeline, "parked", Reason.UNKNOWN_PERSON, detail="the CRM does not know this person", after=3600.0)
    with engine.begin() as db:
        (waits,) = parked.people(db, limit=5)
    assert (waits.connection, waits.reason, waits.in_group) == ("crm", "unknown_person", 1)
    assert waits.not_before is not None


# --- the story


def test_the_story_is_told_without_personal_data(
    engine: Engine, pipeline: Pipeline, put: Put, capsys: pytest.CaptureFixture[str]
) -> None:
    """A story that is pasted into a ticket names nobody, not even where the LMS uses e-mails as user ids."""
    pipeline.sync("completion", put([event(user="ada@example.com"), event(user="u-2", course="other")]))
    write(engine, pipeline)
    told = tell(engine, pipeline)
    assert told.who.email == "a***@e***.com"
    assert told.who.full_name == "A*** B***"
    assert told.waiting
    say_json(told)
    shown = capsys.readouterr().out.lower()
    assert "a***@e***.com" in shown
    assert "ada@" not in shown
    assert "byron" not in shown


def test_the_story_can_be_told_in_clear(engine: Engine, pipeline: Pipeline, put: Put) -> None:
    """Asked to, it shows who the person is."""
    pipeline.sync("completion", put([event()]))
    who = tell(engine, pipeline, reveal=True).who
    assert (who.email, who.full_name) == ("ada@example.com", "Ada Byron")


def test_received_decided_written(engine: Engine, pipeline: Pipeline, put: Put) -> None:
    """A person whose contact is right: each part of the story is there, and no cause why not."""
    pipeline.sync("completion", put([event(passed=True), event(course="two", at=5)]))
    write(engine, pipeline)
    told = tell(engine, pipeline)
    assert told.counts == [Count("done", "applied", 2)]
    assert {(one.subject, one.type) for one in told.decided} == {
        ("demo-101", "course.completed"),
        ("two", "course.completed"),
    }
    held = crm(told)
    assert (held.status, held.reason, held.wanted, held.written, held.remote_id) == ("in_step", "written", 1, 1, "551")
    assert {one.name: one.there for one in held.fields}["courses_completed_count"] == "2"
    assert [one.reason for one in held.tries] == ["written"]
    assert (held.why_not, told.why_not) == ([], [])


def test_a_number_that_the_crm_writes_otherwise_is_no_difference(engine: Engine, pipeline: Pipeline, put: Put) -> None:
    """What the flush would not write again is not told as different."""
    pipeline.sync("completion", put([event()]))
    write(engine, pipeline, courses_completed_count="1.0")
    assert crm(tell(engine, pipeline)).why_not == []


def test_news_that_is_on_its_way_is_the_only_difference(engine: Engine, pipeline: Pipeline, put: Put) -> None:
    """Between the event and the write, the story shows both values and says that a worker takes it next."""
    pipeline.sync("completion", put([event()]))
    write(engine, pipeline)
    pipeline.sync("completion", put([event(course="two", at=5)]))
    held = crm(tell(engine, pipeline))
    count = {one.name: one for one in held.fields}["courses_completed_count"]
    assert (count.there, count.wanted, count.differs) == ("1", "2", True)
    (cause,) = held.why_not
    assert cause.fields == ("courses_completed_count", "last_course_completed")
    assert "(version 2, written 1)" in cause.happened


def test_a_refused_value_is_told_with_what_the_crm_said(engine: Engine, pipeline: Pipeline, put: Put) -> None:
    """A dead row names the reason, the detail and the next step."""
    pipeline.sync("completion", put([event()]))
    settle(engine, pipeline, "dead", Reason.INVALID_VALUE, detail="lms_source: academy is no option")
    (cause,) = crm(tell(engine, pipeline)).why_not
    assert "Given up for crm after 1 try" in cause.happened
    assert "lms_source: academy is no option" in cause.happened


def test_a_refused_property_and_a_refused_key_are_told(engine: Engine, pipeline: Pipeline, put: Put) -> None:
    """What the connection leaves out for everybody is in the story of the person it concerns."""
    pipeline.sync("completion", put([event()]))
    settle(engine, pipeline, "parked", Reason.UNKNOWN_PERSON, after=3600.0)
    with engine.begin() as db:
        quarantine.add(db, "crm", CONTACT, ["lms_source", "certified_other"], Reason.UNKNOWN_PROPERTY)
        quarantine.add(db, "crm", CONTACT_KEY, ["lms_user_id"], Reason.UNKNOWN_PROPERTY)
    told = [str(cause) for cause in crm(tell(engine, pipeline)).why_not]
    assert len(told) == 3
    assert "does not know this person" in told[0]
    assert "refuses the property lms_source" in told[1]
    assert "cannot look contacts up by lms_user_id" in told[2]


def test_a_broken_connection_is_told_before_the_person_s_own_wait(engine: Engine, pipeline: Pipeline, put: Put) -> None:
    """Credentials that were refused explain every wait behind them."""
    pipeline.sync("completion", put([event()]))
    with engine.begin() as db:
        connections.register(db, {"crm": "hubspot"})
        connections.break_off(db, "crm", Reason.CREDENTIALS_REFUSED)
    broken, due = crm(tell(engine, pipeline)).why_not
    assert "crm is broken" in broken.happened
    assert "Put a valid token" in broken.next
    assert due.next == "It goes out then."


def test_parked_events_behind_the_same_e_mail_are_in_the_story(engine: Engine, pipeline: Pipeline, put: Put) -> None:
    """What may be theirs is shown beside what is theirs, with the decision to take."""
    pipeline.sync("completion", put([event()]))
    ids = put([event(user="u-2", course=f"c-{n}") for n in range(2)])
    pipeline.sync("completion", ids)
    told = tell(engine, pipeline)
    assert [one.id for one in told.waiting] == ids[::-1]
    (cause,) = told.why_not
    assert f"Events {ids[0]}, {ids[1]} from academy" in cause.happened
    assert f"coursewire parked resolve {ids[0]} --person {told.who.person}" in cause.next


def test_an_e_mail_that_belongs_to_another_person_is_told(engine: Engine, pipeline: Pipeline, put: Put) -> None:
    """A parked e-mail change is in the story of who wanted it."""
    pipeline.sync("completion", put([event(), event(user="u-2", email="bob@example.com")]))
    pipeline.sync("completion", put([event(user="u-2", email="ada@example.com", course="two", at=5)]))
    [(bob,)] = rows(engine, "SELECT object_id FROM links WHERE external_id = 'u-2'")
    assert "belongs to another person" in tell(engine, pipeline, bob).why_not[0].happened


def test_a_route_that_is_missing_is_told(engine: Engine, pipeline: Pipeline, put: Put) -> None:
    """A learner of an LMS that no route leads away from: the story names the missing route."""
    config = Config.model_validate({**CONFIG, "routes": []})
    alone = Pipeline(engine, config, pipeline.inbound, pipeline.ring, pipeline.keys, pipeline.later)
    alone.sync("completion", put([event()]))
    told = tell(engine, alone)
    held = crm(told)
    assert (held.status, held.fields) == ("nothing due", [])
    assert "No route leads from academy to crm" in held.why_not[0].happened
    assert told.counts == [Count("ignored", "no_route", 1)]


def test_a_system_that_left_the_configuration_is_told(engine: Engine, pipeline: Pipeline, put: Put) -> None:
    """What was due in a CRM that is not configured any more is explained, not hidden."""
    pipeline.sync("completion", put([event()]))
    left = {name: one for name, one in CONFIG["connections"].items() if name != "crm"}
    config = Config.model_validate({"connections": left})
    without = Pipeline(engine, config, pipeline.inbound, pipeline.ring, pipeline.keys, pipeline.later)
    assert "crm is not in the connections file" in crm(tell(engine, without)).why_not[0].happened


def test_a_lost_key_costs_the_values_and_not_the_story(engine: Engine, pipeline: Pipeline, put: Put) -> None:
    """Remote values that do not open are shown as not known, as the flush treats them."""
    pipeline.sync("completion", put([event()]))
    write(engine, pipeline)
    with engine.begin() as db:
        db.exec_driver_sql("UPDATE sync_state SET remote_values = '\\x0103616263'")
    held = crm(tell(engine, pipeline))
    assert {one.there for one in held.fields} == {None}
    assert held.why_not == []


def test_an_erased_person_has_a_story_without_a_name(engine: Engine, pipeline: Pipeline, put: Put) -> None:
    """After an erasure the ids still explain what happened."""
    pipeline.sync("completion", put([event()]))
    with engine.begin() as db:
        db.exec_driver_sql("UPDATE people SET profile = NULL, email_key = NULL, erased_at = now()")
    told = tell(engine, pipeline, reveal=True)
    assert (told.who.email, told.who.full_name) == (None, None)
    assert "was erased" in told.why_not[0].happened


def test_without_rules_the_story_is_a_sentence(engine: Engine, pipeline: Pipeline, put: Put) -> None:
    """A database whose rules were never published says which command is missing."""
    pipeline.sync("completion", put([event()]))
    with engine.begin() as db:
        db.exec_driver_sql("UPDATE rule_sets SET status = 'retired'")
    with pytest.raises(ConfigError, match="coursewire migrate"):
        tell(engine, pipeline)
