"""Rule sets against Postgres and a CRM over HTTP: plan, publish, roll-out, rollback, and who owns a property."""

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Engine

from integration.config import Config
from integration.pipeline import Pipeline
from integration.security.seal import KeyRing
from mappings import store, transforms
from mappings.rules import FieldRule, RuleSet, Scope
from scripts.sandbox.hubspot import HubSpotSandbox
from tasks.effect import Effect, effects
from tests.db.conftest import CONFIG, Put
from tests.db.test_flush import Make, crm, make, no_waiting, people, portal, properties, sync
from tests.db.test_pipeline import rows

__all__ = ["crm", "make", "no_waiting", "portal"]  # fixtures

HUBSPOT = Scope("hubspot")
TEXT = {"type": "string", "fieldType": "text", "groupName": "lms_sync"}


def named(place: str, part: str, **more: Any) -> FieldRule:
    """Return a rule that fills a property with a part of the name."""
    steps = transforms.parse([{"split_name": part}])
    return FieldRule(f"{part}_name", "full_name", place, "string", steps, **more)


def with_rules(db: Any, *added: FieldRule, without: tuple[str, ...] = ()) -> RuleSet:
    """Return the published rules with some more, or less."""
    old = store.active(db)
    rules = [rule for rule in old.fields[HUBSPOT]["contact"] if rule.name not in without]
    return RuleSet(0, old.read_at, {HUBSPOT: {"contact": (*rules, *added)}})


def publish(engine: Engine, *added: FieldRule, without: tuple[str, ...] = ()) -> int:
    """Publish a change."""
    with engine.begin() as db:
        return store.publish(db, with_rules(db, *added, without=without), author="user:test", comment="a change")


def roll_out(engine: Engine, flush: Any) -> None:
    """Let everybody be looked at by the published rules."""
    for _ in range(20):
        with engine.begin() as db:
            store.roll_out(db, limit=3)
        flush()
        if rows(engine, "SELECT rolled_out_at IS NOT NULL FROM rule_sets WHERE status = 'published'") == [(True,)]:
            return
    raise AssertionError("the roll-out never ends")


@pytest.fixture
def ada(engine: Engine, pipeline: Pipeline, put: Put, crm: HubSpotSandbox) -> None:
    """Seven people of the academy; the CRM knows three of them, one without a first name."""
    crm.seed([{"email": f"u{n}@example.com", "firstname": "Known" if n else ""} for n in range(3)])
    sync(pipeline, put, people(7))


def test_a_published_rule_reaches_everybody(
    engine: Engine, ada: None, make: Make, crm: HubSpotSandbox, keyring: KeyRing
) -> None:
    """Those in step are written by the new rule, in batches; the plan has counted them."""
    flusher = make()
    flusher.flush()
    with engine.begin() as db:
        new = with_rules(db, named("jobtitle", "last"))
        (planned,) = effects(db, Config.model_validate(CONFIG), keyring, store.active(db), new)
    assert (planned.people, planned.changed, dict(planned.properties)) == (7, 7, {"jobtitle": 7})
    assert (planned.writes, planned.reads) == (1, 1)
    number = publish(engine, named("jobtitle", "last"))
    roll_out(engine, flusher.flush)
    assert {properties(crm, f"u{n}@example.com")["jobtitle"] for n in range(7)} == {"Byron"}
    assert rows(engine, "SELECT DISTINCT rule_set FROM sync_state") == [(number,)]


def test_a_change_that_changes_nobody_makes_no_call(engine: Engine, ada: None, make: Make, crm: HubSpotSandbox) -> None:
    """Everybody is looked at, and nobody is written or read."""
    flusher = make()
    flusher.flush()
    before = crm.stats()["total"]
    publish(engine, without=("certified_until",))
    roll_out(engine, flusher.flush)
    assert crm.stats()["total"] == before


def test_what_is_not_blank_stays_as_it_is(engine: Engine, ada: None, make: Make, crm: HubSpotSandbox) -> None:
    """only_if_blank: what a person typed stays, also what they typed a moment ago; a new contact gets it."""
    flusher = make()
    flusher.flush()
    publish(engine, named("firstname", "first", rule="only_if_blank"))
    crm.edit("u5@example.com", {"firstname": "Typed"})
    roll_out(engine, flusher.flush)
    found = {n: properties(crm, f"u{n}@example.com").get("firstname") for n in range(7)}
    assert found == {0: "Ada", 1: "Known", 2: "Known", 3: "Ada", 4: "Ada", 5: "Typed", 6: "Ada"}
    assert set(rows(engine, "SELECT status FROM sync_state")) == {("in_step",)}


def test_a_new_contact_gets_what_is_only_written_where_blank(
    engine: Engine, pipeline: Pipeline, put: Put, make: Make, crm: HubSpotSandbox
) -> None:
    """With its second write, because the first one may meet a contact that somebody has just made."""
    publish(engine, named("firstname", "first", rule="only_if_blank"))
    sync(pipeline, put, people(2))
    flusher = make()
    for _ in range(3):
        flusher.flush()
    assert {properties(crm, f"u{n}@example.com")["firstname"] for n in range(2)} == {"Ada"}
    assert set(rows(engine, "SELECT status FROM sync_state")) == {("in_step",)}


def test_what_the_crm_owns_is_never_written(engine: Engine, ada: None, make: Make, crm: HubSpotSandbox) -> None:
    """Not by a rule of ours, nor with the first write."""
    publish(engine, named("firstname", "first", owner="crm"))
    make().flush()
    assert properties(crm, "u1@example.com")["firstname"] == "Known"
    assert "firstname" not in properties(crm, "u5@example.com")


def test_a_required_value_that_is_missing_is_said_on_the_contact(
    engine: Engine, pipeline: Pipeline, put: Put, make: Make, crm: HubSpotSandbox
) -> None:
    """The rest is written, and the admin finds the person by a filter."""
    publish(engine, named("firstname", "first", required=True))
    sync(
        pipeline,
        put,
        [
            *people(1),
            *[
                body | {"data": {**body["data"], "learner": {"lms_user_id": "u-9", "email": "u9@example.com"}}}
                for body in people(1)
            ],
        ],
    )
    make().flush()
    assert properties(crm, "u0@example.com")["lms_sync_status"] == "ok"
    assert properties(crm, "u9@example.com")["lms_sync_status"] == "attention: no first_name"
    assert properties(crm, "u9@example.com")["courses_completed_count"] == "1"


@pytest.mark.usefixtures("processes")
def test_a_plan_counts_what_publish_then_does(
    engine: Engine, ada: None, make: Make, crm: HubSpotSandbox, keyring: KeyRing
) -> None:
    """For a transform that changes some people only, by one process or by three."""
    flusher = make()
    flusher.flush()
    before = {n: properties(crm, f"u{n}@example.com") for n in range(7)}
    publish(engine, replace(named("jobtitle", "last"), rule="never_clear"))
    roll_out(engine, flusher.flush)
    with engine.begin() as db:
        old = store.active(db)
        lookup = transforms.parse([{"split_name": "last"}, {"lookup": {"Byron": "Lovelace"}}])
        new = with_rules(db, FieldRule("last_name", "full_name", "jobtitle", "string", lookup), without=("last_name",))
        found: list[Effect] = list(effects(db, Config.model_validate(CONFIG), keyring, old, new))
        store.publish(db, new, author="user:test", comment="again", expected=old.id)
    writes = crm.stats()["writes"]["total"]
    roll_out(engine, flusher.flush)
    assert [(one.changed, one.people) for one in found] == [(7, 7)]
    assert crm.stats()["writes"]["total"] - writes == 7
    after = {n: properties(crm, f"u{n}@example.com") for n in range(7)}
    assert {p["jobtitle"] for p in after.values()} == {"Lovelace"}
    assert before.keys() == after.keys()


def test_two_admins_cannot_publish_over_each_other(engine: Engine) -> None:
    """A plan is good for the version it was made against."""
    with engine.begin() as db:
        first = store.active(db).id
    publish(engine, named("jobtitle", "last"))
    with engine.begin() as db, pytest.raises(LookupError, match="was published meanwhile"):
        store.publish(db, with_rules(db), author="user:late", comment="", expected=first)


def test_a_rollback_is_a_new_version_of_the_old_rules(engine: Engine) -> None:
    """The history stays one line, and says what repeats what."""
    with engine.begin() as db:
        first = store.active(db)
    publish(engine, named("jobtitle", "last"))
    with engine.begin() as db:
        assert store.before(db) == first.id
        made = store.publish(db, store.version(db, first.id), author="user:test", comment="back")
        assert store.active(db).fields == first.fields
        newest = store.history(db, limit=1)[0]
    assert (newest.id, newest.status, newest.origin_id) == (made, "published", first.id)


def test_other_rules_bring_back_whom_a_value_killed(engine: Engine, ada: None, make: Make, crm: HubSpotSandbox) -> None:
    """A name in a number kills everybody; the rollback lets them live, and is over when they were looked at."""
    flusher = make()
    with engine.begin() as db:
        first = store.active(db)
    publish(
        engine,
        FieldRule("wrong", "full_name", "courses_completed_count", "string"),
        without=("courses_completed_count",),
    )
    flusher.flush()
    assert set(rows(engine, "SELECT status, reason FROM sync_state")) == {("dead", "invalid_value")}
    with engine.begin() as db:
        store.publish(db, store.version(db, first.id), author="user:test", comment="back")
        assert store.roll_out(db, limit=100) == 7
        assert store.roll_out(db, limit=100) == 0
        assert store.history(db, limit=1)[0].rolled_out_at is None  # nobody was looked at yet
    roll_out(engine, flusher.flush)
    assert set(rows(engine, "SELECT status FROM sync_state")) == {("in_step",)}


def test_what_the_crm_holds_is_not_taken_for_empty(
    engine: Engine, pipeline: Pipeline, put: Put, make: Make, crm: HubSpotSandbox, keyring: KeyRing
) -> None:
    """A property that rules begin to fill with nothing is read first, and cleared where something is there."""
    crm.seed([{"email": "u0@example.com", "jobtitle": "Old"}])
    nameless = people(1)[0]
    nameless["data"]["learner"].pop("full_name")
    sync(pipeline, put, [nameless])
    flusher = make()
    flusher.flush()
    publish(engine, named("jobtitle", "last"))
    roll_out(engine, flusher.flush)
    assert properties(crm, "u0@example.com").get("jobtitle", "") == ""


def test_a_plan_counts_whom_a_looser_rule_takes_over(
    engine: Engine, ada: None, make: Make, crm: HubSpotSandbox, keyring: KeyRing
) -> None:
    """From only_if_blank to always: what people typed is about to be overwritten, and the plan says so."""
    publish(engine, named("firstname", "first", rule="only_if_blank"))
    make().flush()
    with engine.begin() as db:
        new = with_rules(db, named("firstname", "first"), without=("first_name",))
        (found,) = effects(db, Config.model_validate(CONFIG), keyring, store.active(db), new)
    assert found.changed == 7


@pytest.mark.parametrize(
    "future",
    [
        "transform = '[\"from_the_future\"]'",
        'transform = \'[{"truncate": {"to": 5}}]\'',
        "source = 'shoe_size'",
        "type = 'money'",
    ],
)
def test_rules_of_a_newer_version_stop_the_connection_and_end_nobody(
    engine: Engine, ada: None, make: Make, crm: HubSpotSandbox, future: str
) -> None:
    """After a downgrade everybody stays due as they were, with the reason; the right version goes on by itself."""
    with engine.begin() as db:
        place = "FROM field_maps WHERE field = 'courses_completed_count'"
        before = db.exec_driver_sql(f"SELECT source, type, transform::text {place}").one()
        db.exec_driver_sql(f"UPDATE field_maps SET {future} WHERE field = 'courses_completed_count'")  # noqa: S608
    store._kept.clear()
    flusher, calls = make(), crm.stats()["total"]
    flusher.flush()
    assert set(rows(engine, "SELECT status, reason, attempts FROM sync_state")) == {("due", "rules_unreadable", 0)}
    assert rows(engine, "SELECT status, reason, paused_until > now() FROM connections WHERE name = 'crm'") == [
        ("active", "rules_unreadable", True)
    ]
    assert crm.stats()["total"] == calls
    with engine.begin() as db:
        db.exec_driver_sql(
            "UPDATE field_maps SET source = %s, type = %s, transform = %s::jsonb"
            " WHERE field = 'courses_completed_count'",
            tuple(before),
        )
        db.exec_driver_sql("UPDATE connections SET paused_until = now() - interval '1 s'")
    flusher.flush()
    assert set(rows(engine, "SELECT status FROM sync_state")) == {("in_step",)}
