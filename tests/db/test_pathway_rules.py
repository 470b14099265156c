"""Pathways, roles and overrides in Postgres: read as they were published, and never decided by a wrong version."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import partial

import pytest
from sqlalchemy import Connection, Engine

from integration.errors import Reason, RetryLater
from integration.model.enrollments import CourseRef
from integration.storage import erasure, merges
from mappings import overrides, store
from mappings.deals import DealCondition
from mappings.pathways import Override, Pathway, PathwayCourse, PathwayRules, RoleRule
from mappings.rules import FieldRule
from tests.db.test_pipeline import rows

NOW = datetime(2026, 11, 20, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)
COURSES = (
    PathwayCourse(CourseRef("academy", "z"), "demo", required=True),
    PathwayCourse(CourseRef("campus", "a:1"), "demo", required=False),
)
POLICY = PathwayRules(
    {"ae": Pathway("ae", "Account Executive", COURSES, "all"), "sdr": Pathway("sdr", "SDR", COURSES[:1])},
    (
        RoleRule("a", ("AE", "a*"), "ae", "crm", {"segment": ("x", ""), "size": ("?*",)}, 7, 30, 0),
        RoleRule("b", (), "sdr", where={"kind": ("p",)}, starts=date(2026, 1, 1), ends=date(2026, 12, 31)),
        RoleRule("c", ("SDR",), "sdr", on_leave="remove", in_progress="same"),
        RoleRule("d", (), "sdr", where={"kind": ("p",)}, deal=DealCondition(("won", "lost*"), ("default",))),
        RoleRule("e", (), "ae", deal=DealCondition(("won",))),
    ),
)


def publish(db: Connection, policy: PathwayRules = POLICY) -> int:
    """Publish a policy beside the rules that are there."""
    return store.publish(db, replace(store.active(db), pathways=policy), author="test", comment="a policy")


def person(db: Connection) -> int:
    """Return somebody new."""
    return int(db.exec_driver_sql("INSERT INTO people DEFAULT VALUES RETURNING id").scalar_one())


def test_what_was_published_is_read_and_comes_back_with_a_rollback(engine: Engine) -> None:
    """The order of courses stays; another version of the rules leaves each version as it is."""
    with engine.begin() as db:
        assert store.active(db).pathways == PathwayRules()
        made = publish(db)
        assert store.active(db).pathways == POLICY
        other = publish(db, PathwayRules({"sdr": POLICY.pathways["sdr"]}))
        assert (len(store.active(db).pathways.pathways), store.before(db)) == (1, made)
        store._kept.clear()
        store.publish(db, store.version(db, made), author="test", comment="back")
        assert store.active(db).pathways == POLICY
        assert list(store.version(db, other).pathways.pathways) == ["sdr"]


@pytest.mark.parametrize(
    ("table", "column"), [("pathways", "enroll"), ("role_pathways", "on_leave"), ("role_pathways", "in_progress")]
)
def test_what_a_newer_version_published_is_not_decided_by(engine: Engine, table: str, column: str) -> None:
    """Nobody is enrolled or withdrawn by a rule that is half understood."""
    with engine.begin() as db:
        publish(db)
        db.exec_driver_sql(f"ALTER TABLE {table} DROP CONSTRAINT ck_{table}_{column}")
        db.exec_driver_sql(f"UPDATE {table} SET {column} = 'hologram'")  # noqa: S608 - names of ours
        store._kept.clear()
        with pytest.raises(RetryLater, match=f"{column} hologram") as raised:
            store.active(db)
        assert raised.value.reason == Reason.RULES_UNREADABLE


def test_a_version_that_cannot_pick_one_product_does_not_know_the_field(engine: Engine) -> None:
    """So it writes nothing, where it would else bring any product's answer to the property of one."""
    rule = FieldRule("partner", "certified", "partner_status", "bool", of="Partner: Basics")
    with engine.begin() as db:
        old = store.active(db)
        fields = {scope: {"contact": (*objects["contact"], rule)} for scope, objects in old.fields.items()}
        store.publish(db, replace(old, fields=fields), author="test", comment="one product")
        store._kept.clear()
        assert rule in store.active(db).field_rules("crm", "hubspot", "contact")
    stored = "SELECT source FROM field_maps WHERE field = 'partner'"
    assert rows(engine, stored) == [("certified:Partner: Basics",)]


def test_an_override_counts_until_its_time_or_until_it_is_ended(engine: Engine) -> None:
    """What was decided stays to be read, with who and why."""
    with engine.begin() as db:
        ada, bob, eve = person(db), person(db), person(db)
        decide = partial(overrides.add, actor="user:eva", comment="starts in June")
        add = decide(db, ada, "add", "ae", due_at=NOW, until=NOW + HOUR)
        exempt = decide(db, ada, "exempt", "sdr")
        deadline = decide(db, bob, "deadline", "ae", due_at=NOW)
        found = overrides.live(db, [ada, bob, eve], NOW)
        assert found == {
            ada: [Override(add, "add", "ae", NOW, NOW + HOUR), Override(exempt, "exempt", "sdr", None, None)],
            bob: [Override(deadline, "deadline", "ae", NOW, None)],
        }
        assert [one.id for one in overrides.live(db, [ada], NOW + HOUR)[ada]] == [exempt]
        assert overrides.end(db, exempt) == ada
        with pytest.raises(LookupError, match=f"no override {exempt} that could be ended"):
            overrides.end(db, exempt)
        assert overrides.live(db, [ada], NOW + HOUR) == {}
        story = overrides.of(db, ada)
        assert [(one.id, one.ended_at is None) for one in story] == [(exempt, False), (add, True)]
        assert (story[0].actor, story[0].comment) == ("user:eva", "starts in June")


def test_an_override_that_means_nothing_is_refused(engine: Engine) -> None:
    """A deadline without a moment, and one for somebody who is exempt."""
    with engine.begin() as db:
        ada = person(db)
        with pytest.raises(ValueError, match="needs the moment"):
            overrides.add(db, ada, "deadline", "ae", actor="a", comment="c")
        with pytest.raises(ValueError, match="has no deadline"):
            overrides.add(db, ada, "exempt", "ae", due_at=NOW, actor="a", comment="c")
        assert overrides.of(db, ada) == []


def test_a_kind_of_another_version_is_not_decided_by(engine: Engine) -> None:
    """What somebody decided is not left out silently."""
    with engine.begin() as db:
        ada = person(db)
        overrides.add(db, ada, "add", "ae", actor="a", comment="c")
        db.exec_driver_sql("ALTER TABLE overrides DROP CONSTRAINT ck_overrides_kind")
        db.exec_driver_sql("UPDATE overrides SET kind = 'pause'")
        with pytest.raises(RetryLater, match="of the kind pause"):
            overrides.live(db, [ada], NOW)


def test_overrides_go_with_the_person(engine: Engine) -> None:
    """To whom somebody became one with; and nothing is left of who was erased."""
    with engine.begin() as db:
        ada, twin = person(db), person(db)
        made = overrides.add(db, twin, "add", "ae", actor="a", comment="Ada asked")
        merges.move(db, ada, twin, 2, ["learner"])
        assert [one.id for one in overrides.of(db, ada)] == [made]
        assert erasure.remove(db, [ada], ["learner"])["overrides"] == 1
        assert overrides.of(db, ada) == []


def test_a_version_that_knows_no_deals_enrols_nobody_by_half_a_rule(engine: Engine) -> None:
    """To it the deal stands among the conditions, as properties that no contact can have."""
    with engine.begin() as db:
        publish(db)
        rows = db.exec_driver_sql("SELECT conditions FROM role_pathways WHERE name IN ('d', 'e') ORDER BY name").all()
    assert [sorted(row.conditions) for row in rows] == [["deal:pipeline", "deal:stage", "kind"], ["deal:stage"]]
    assert all(patterns and "" not in patterns for row in rows for patterns in row.conditions.values())
