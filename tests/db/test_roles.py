"""A role that changes in the CRM leads to the right courses in the LMS, once, and to nothing where nothing changed."""

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from integration.delivery import policy
from integration.delivery.enrollments import Enroller
from integration.delivery.roles import RoleReader
from integration.model.roles import READ_ROLE
from integration.storage import people, roles
from mappings import overrides, store
from scripts.sandbox.academy import Academy
from scripts.sandbox.hubspot import HubSpotSandbox
from tasks import periodic
from tests.db.conftest import event
from tests.db.firm import Firm, Ground, found, ground, portal
from tests.db.test_pipeline import inbox_states, rows

__all__ = ["ground", "portal"]  # fixtures

WATCHED = ("onboarding_pathway", "onboarding_status", "onboarding_due_date")

RULES: dict[str, Any] = {
    "pathways": {
        "sdr": {"title": "SDR", "buckets": {"prospecting": {"required": ["academy:a", "academy:shared"]}}},
        "ae": {"title": "AE", "buckets": {"demo": {"required": ["academy:b", "academy:shared"]}}},
        "all": {"title": "Everybody", "buckets": {"law": {"required": ["academy:law"]}}},
    },
    "roles": {
        "sdr": {"role": "SDR", "pathway": "sdr", "onboarding_days": 30, "on_leave": "remove"},
        "ae": {"role": ["AE", "AE *"], "pathway": "ae", "onboarding_days": 60, "on_leave": "conclude"},
        "all": {"where": {"company": ["Berlin"]}, "pathway": "all", "on_leave": "keep"},
    },
}


@pytest.fixture
def firm(ground: Ground, portal: HubSpotSandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Firm]:
    """An installation with published roles, in which nobody is known."""
    monkeypatch.setattr(policy, "SHORT_PAUSE", 0.1)
    portal.reset()
    with Academy(courses=["a", "b", "shared", "law"]) as academy:
        made = found(ground, portal, academy)
        made.publish(RULES)
        yield made


def test_a_role_enrols_somebody_whom_no_lms_knew(firm: Firm) -> None:
    """A contact gets a role: a person, a user, the pathway and its courses come of it."""
    firm.hire(["ada@example.com"])
    firm.change("ada@example.com", "AE")
    firm.settle()
    assert firm.assigned() == {"ada@example.com": {"ae"}}
    assert firm.academy.enrolled() == {"ada@example.com": {"b", "shared"}}
    assert {state[0] for state in inbox_states(firm.engine)} == {"done"}


def completed(firm: Firm, user: str, course: str, kind: str = "course.completed", **data: Any) -> None:
    """Let the LMS say that somebody has done something."""
    body = event(kind, user=user, email=None, course=course, **data)
    body["timestamp"] = datetime.now(UTC).isoformat()
    ids = firm.put([body])
    firm.process.pipeline.sync("completion", ids)


def user_of(firm: Firm, email: str) -> str:
    """Return what the LMS calls somebody."""
    return next(user.id for user in firm.academy.users.values() if user.email == email)


def test_a_slip_that_is_mended_in_time_enrols_nobody(firm: Firm) -> None:
    """AE by mistake and back to SDR before it settled: one role is acted on, and the contact is read twice at most."""
    firm.hire(["ada@example.com"])
    firm.change("ada@example.com", "SDR")
    firm.change("ada@example.com", "AE")
    firm.change("ada@example.com", "SDR")
    firm.settle()
    assert firm.assigned() == {"ada@example.com": {"sdr"}}
    assert firm.academy.writes == [("u-1", "a", "enrolled"), ("u-1", "shared", "enrolled")]
    assert firm.reads() <= 2


def test_an_echo_costs_no_read_and_a_b_a_is_not_swallowed(firm: Firm) -> None:
    """What was acted on is compared, not the message: a role that is set back is acted on again (rule 16)."""
    firm.hire(["ada@example.com"])
    firm.change("ada@example.com", "SDR")
    firm.settle()
    before = firm.reads()
    firm.say(firm.hint("ada@example.com", value="SDR"))
    firm.settle()
    assert inbox_states(firm.engine)[-1] == ("ignored", "echo")
    assert firm.reads() == before
    firm.change("ada@example.com", "AE")
    firm.settle()
    assert firm.academy.enrolled() == {"ada@example.com": {"b", "shared"}}
    firm.change("ada@example.com", "SDR")
    firm.settle()
    assert firm.academy.enrolled() == {"ada@example.com": {"a", "shared"}}


def test_without_rules_nobody_is_read_or_made_known(firm: Firm) -> None:
    """A CRM that says much costs nothing where its roles lead to nothing."""
    firm.publish({"pathways": {}})
    firm.hire(["ada@example.com"])
    firm.change("ada@example.com", "AE")
    firm.settle()
    assert inbox_states(firm.engine) == [("ignored", "unknown_contact")]
    assert firm.reads() == 0


def test_the_hint_s_value_is_never_believed(firm: Firm) -> None:
    """A forged or late value leads to a read, and the contact is the word."""
    firm.hire(["ada@example.com"], jobtitle="SDR")
    firm.say(firm.hint("ada@example.com", value="AE"))
    firm.settle()
    assert firm.assigned() == {"ada@example.com": {"sdr"}}


def test_what_is_said_while_a_contact_is_read_is_read_again(firm: Firm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Back to the role that was acted on last, in the very moment in which the other one is read: it is no echo."""
    firm.hire(["ada@example.com"])
    firm.change("ada@example.com", "SDR")
    firm.settle()
    reader = firm.process.drains["crm", READ_ROLE]
    assert isinstance(reader, RoleReader)
    read = reader.store.read

    def reading(*asked: Any) -> Any:
        found = read(*asked)
        monkeypatch.undo()
        firm.change("ada@example.com", "SDR")
        return found

    monkeypatch.setattr(reader.store, "read", reading)
    monkeypatch.setenv("TEST_TOKEN", "t0ken")
    firm.change("ada@example.com", "AE")
    firm.settle()
    assert firm.assigned() == {"ada@example.com": {"sdr"}}


def test_each_rule_has_a_settle_time_of_its_own(firm: Firm) -> None:
    """Read when the shortest is over; who must wait longer waits without another read."""
    slow = {**RULES["roles"]["ae"], "settle": 3600}
    firm.publish({**RULES, "roles": {"sdr": {**RULES["roles"]["sdr"], "settle": 0}, "ae": slow}})
    firm.hire(["ada@example.com"])
    firm.change("ada@example.com", "SDR")
    firm.settle()
    firm.change("ada@example.com", "AE")
    firm.process.drains["crm", READ_ROLE].flush()
    of_role = (
        "SELECT status, reason, not_before > now() + interval '50 minutes' FROM sync_state WHERE operation = %(is)s"
    )
    assert rows(firm.engine, of_role, **{"is": READ_ROLE}) == [("waiting", "settling", True)]
    assert firm.assigned() == {"ada@example.com": {"sdr"}}
    before = firm.reads()
    firm.settle()
    assert firm.assigned() == {"ada@example.com": {"ae"}}
    assert firm.reads() == before


def test_a_database_that_is_away_while_a_role_is_read_forgets_no_role(firm: Firm) -> None:
    """Nobody is settled by a moment in which nothing could be known."""
    firm.hire(["ada@example.com"])
    firm.change("ada@example.com", "SDR")
    firm.settle()
    firm.change("ada@example.com", "AE")
    with firm.engine.begin() as db:
        db.exec_driver_sql("UPDATE sync_state SET not_before = now()")
    reader = firm.process.drains["crm", READ_ROLE]
    assert isinstance(reader, RoleReader)
    falls = [OperationalError("SELECT 1", {}, Exception("gone"))]

    def falling(db: Connection, connection: str) -> Any:
        if falls:
            raise falls.pop()
        return reader.watching(db, connection)

    replace(reader, watching=falling).flush()
    firm.settle()
    assert firm.assigned() == {"ada@example.com": {"ae"}}


def test_on_leaving_each_rule_s_way_counts(firm: Firm) -> None:
    """SDR removes, AE concludes, and what everybody in Berlin has stays; a shared course is never left in between."""
    firm.hire(["ada@example.com"], company="Berlin")
    firm.change("ada@example.com", "SDR")
    firm.settle()
    firm.change("ada@example.com", "AE 2")
    firm.settle()
    place = {course: one.state for (_, course), one in firm.academy.enrollments.items()}
    assert place == {"a": "removed", "shared": "enrolled", "law": "enrolled", "b": "enrolled"}
    firm.edit("ada@example.com", jobtitle="", company="Rome")
    firm.say(firm.hint("ada@example.com"), firm.hint("ada@example.com", "company"))
    firm.settle()
    place = {course: one.state for (_, course), one in firm.academy.enrollments.items()}
    assert place == {"a": "removed", "shared": "concluded", "law": "enrolled", "b": "concluded"}
    assert firm.assigned() == {}


def test_people_who_have_begun_are_not_removed(firm: Firm) -> None:
    """Unless the rule says so, which this one does not."""
    firm.hire(["ada@example.com"])
    firm.change("ada@example.com", "SDR")
    firm.settle()
    completed(firm, user_of(firm, "ada@example.com"), "a", "course.progressed", progress=10)
    firm.change("ada@example.com", "")
    firm.settle()
    place = {course: one.state for (_, course), one in firm.academy.enrollments.items()}
    assert place == {"a": "enrolled", "shared": "removed"}


def test_nobody_is_enrolled_in_what_they_have_completed(firm: Firm) -> None:
    """A completion from before the role counts."""
    firm.academy.add_users(["ada@example.com"])
    ids = firm.put([event(user="u-1", email="ada@example.com", course="b")])
    firm.process.pipeline.sync("completion", ids)
    firm.hire(["ada@example.com"])
    firm.change("ada@example.com", "AE")
    firm.settle()
    assert firm.academy.enrolled() == {"ada@example.com": {"shared"}}


def test_a_retired_course_is_replaced_and_one_without_successor_left_out(firm: Firm) -> None:
    """Nobody is put into what is over."""
    with firm.engine.begin() as db:
        db.exec_driver_sql(
            "INSERT INTO courses (connection, external_id, status, seen_at) VALUES ('academy', 'law', 'active', now());"
            "INSERT INTO courses (connection, external_id, status, seen_at, replaced_by)"
            " SELECT 'academy', 'a', 'retired', now(), id FROM courses;"
            "INSERT INTO courses (connection, external_id, status, seen_at)"
            " VALUES ('academy', 'shared', 'retired', now())"
        )
    firm.hire(["ada@example.com"])
    firm.change("ada@example.com", "SDR")
    firm.settle()
    assert firm.academy.enrolled() == {"ada@example.com": {"law"}}


def test_a_publish_reaches_everybody_without_a_read(firm: Firm) -> None:
    """Who was read is decided again by the new rules; nobody asks the CRM."""
    firm.hire([f"p{n}@example.com" for n in range(3)])
    for n in range(3):
        firm.change(f"p{n}@example.com", "SDR")
    firm.settle()
    before = firm.reads()
    changed = {**RULES, "roles": {**RULES["roles"], "sdr": {**RULES["roles"]["sdr"], "pathway": "ae"}}}
    firm.publish(changed)
    for _ in range(3):
        with firm.engine.begin() as db:
            store.roll_out(db, limit=100)
        firm.settle()
    assert firm.assigned() == {f"p{n}@example.com": {"ae"} for n in range(3)}
    assert firm.academy.enrolled() == {f"p{n}@example.com": {"b", "shared"} for n in range(3)}
    assert firm.reads() == before


def test_two_contacts_that_become_one_have_the_one_role(firm: Firm) -> None:
    """What the merged contact shows counts; what the other was assigned ends, and nobody is enrolled for two."""
    firm.hire(["ada@example.com", "bob@example.com"])
    firm.change("ada@example.com", "SDR")
    firm.change("bob@example.com", "AE")
    firm.settle()
    before = [firm.ids["ada@example.com"], firm.ids["bob@example.com"]]
    survivor = firm.crm.merge(*before)
    firm.ids["one"] = survivor
    merged = {"type": "contact.merged", "contact_id": survivor, "merged_ids": before}
    firm.say({**merged, "occurred_at": datetime.now(UTC).isoformat()})
    firm.settle()
    of_living = (
        "SELECT a.pathway FROM assignments a JOIN people p ON p.id = a.person_id"
        " WHERE a.status = 'live' AND p.merged_into IS NULL"
    )
    found = firm.crm.contact("ada@example.com")
    assert found is not None
    assert found["properties"]["jobtitle"] == "SDR"
    assert rows(firm.engine, of_living) == [("sdr",)]
    assert rows(firm.engine, "SELECT count(*) FROM assignments WHERE status = 'live'") == [(1,)]


def test_a_contact_that_is_gone_does_not_keep_a_publish_from_ending(firm: Firm) -> None:
    """Whoever cannot be read any more was looked at by the new rules as well, and keeps what they have."""
    firm.hire(["ada@example.com"])
    firm.change("ada@example.com", "SDR")
    firm.settle()
    firm.crm.archive(firm.ids["ada@example.com"])
    firm.say({**firm.hint("ada@example.com"), "value": None})
    firm.settle()
    firm.publish(RULES)
    for _ in range(4):
        with firm.engine.begin() as db:
            store.roll_out(db, limit=100)
        firm.settle()
    assert rows(firm.engine, "SELECT rolled_out_at IS NOT NULL FROM rule_sets WHERE status = 'published'") == [(True,)]
    assert firm.assigned() == {"ada@example.com": {"sdr"}}


@pytest.mark.parametrize("kind", ["add", "exempt", "deadline"])
def test_an_override_wins_over_the_rules(firm: Firm, kind: Any) -> None:
    """Somebody decided otherwise for one person."""
    firm.hire(["ada@example.com"])
    firm.change("ada@example.com", "SDR")
    firm.settle()
    [(who,)] = rows(firm.engine, "SELECT id FROM people")
    pathway = {"add": "ae", "exempt": "sdr", "deadline": "sdr"}[kind]
    due = datetime(2027, 1, 1, tzinfo=UTC) if kind == "deadline" else None
    with firm.engine.begin() as db:
        overrides.add(db, who, kind, pathway, due_at=due, until=None, actor="user:test", comment="because")
        roles.again(db, [who])
    firm.settle()
    assert (
        firm.assigned().get("ada@example.com", set())
        == {"add": {"sdr", "ae"}, "exempt": set(), "deadline": {"sdr"}}[kind]
    )
    if kind == "deadline":
        assert rows(firm.engine, "SELECT due_at FROM assignments WHERE status = 'live'") == [(due,)]


def test_the_contact_says_how_far_somebody_is(firm: Firm) -> None:
    """Assigned, begun, overdue at its minute, and completed late stays visible."""

    def shown() -> dict[str, str]:
        found = firm.crm.contact("ada@example.com")
        assert found is not None
        return {name: found["properties"].get(name) or "" for name in WATCHED}

    firm.hire(["ada@example.com"])
    firm.change("ada@example.com", "SDR")
    firm.settle()
    [(due,)] = rows(firm.engine, "SELECT due_at FROM assignments")
    day = due.astimezone(ZoneInfo("Europe/Berlin")).date().isoformat()
    assert shown() == {"onboarding_pathway": "SDR", "onboarding_status": "assigned", "onboarding_due_date": day}
    completed(firm, user_of(firm, "ada@example.com"), "a")
    firm.settle()
    assert shown()["onboarding_status"] == "in_progress"
    with firm.engine.begin() as db:
        db.exec_driver_sql("UPDATE assignments SET due_at = now() - interval '1 minute'")
        db.exec_driver_sql("UPDATE people SET next_transition_at = now() - interval '1 minute'")
        periodic._wake(db, people.due_transitions(db, limit=10))
    firm.settle()
    assert shown()["onboarding_status"] == "overdue"
    completed(firm, user_of(firm, "ada@example.com"), "shared")
    firm.settle()
    assert shown()["onboarding_status"] == "completed_late"
    assert rows(firm.engine, "SELECT next_transition_at FROM people") == [(None,)]


def test_a_deadline_is_a_moment_at_which_somebody_is_looked_at(firm: Firm) -> None:
    """The clock wakes whoever has an open deadline."""
    firm.hire(["ada@example.com"])
    firm.change("ada@example.com", "AE")
    firm.settle()
    assert rows(firm.engine, "SELECT p.next_transition_at = a.due_at FROM people p, assignments a") == [(True,)]


def test_whoever_waits_for_a_user_goes_on_when_the_lms_names_one(firm: Firm) -> None:
    """A first event of the learner is enough; nobody has to release anything (rule 10)."""
    enroller = firm.process.drains["academy", "enrollment.write"]
    assert isinstance(enroller, Enroller)
    firm.process.__dict__["drains"]["academy", "enrollment.write"] = replace(enroller, may_create=False)
    firm.hire(["ada@example.com"])
    firm.change("ada@example.com", "AE")
    firm.settle()
    assert {row[0] for row in rows(firm.engine, "SELECT reason FROM enrollments")} == {"unknown_learner"}
    firm.academy.add_users(["ada@example.com"])
    firm.process.pipeline.sync("completion", firm.put([event(user="u-1", email="ada@example.com", course="c")]))
    firm.settle()
    assert firm.academy.enrolled() == {"ada@example.com": {"b", "shared"}}


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    story=st.lists(
        st.tuples(
            st.integers(0, 2),
            st.sampled_from(["SDR", "AE", "AE 2", "CSM", ""]),
            st.sampled_from(["Berlin", "Rome"]),
            st.sampled_from(["say", "say", "twice", "lost", "say and settle"]),
        ),
        min_size=1,
        max_size=12,
    ),
    seed=st.integers(0, 1_000),
)
def test_a_storm_ends_in_what_the_rules_say_of_the_last_roles(firm: Firm, story: Any, seed: int) -> None:
    """Whatever was said how often and in which order: assignments and enrolments are those of what the CRM shows.

    The expectation is a reading of the rules by hand. A change of which nothing was said counts from the next word.
    """
    stamp, order = uuid4().hex, random.Random(seed)
    names = [f"{stamp}-{n}@example.com" for n in range(3)]
    firm.hire(names)
    pending: list[dict[str, Any]] = []
    for who, role, city, how in story:
        firm.edit(names[who], jobtitle=role, company=city)
        told = [firm.hint(names[who], value=role), firm.hint(names[who], "company", city)]
        pending += {"lost": [], "twice": told * 2}.get(how, told)
        if how == "say and settle":
            order.shuffle(pending)
            firm.say(*pending)
            pending = []
            firm.settle()
    pending += [firm.hint(name) for name in names]
    order.shuffle(pending)
    firm.say(*pending)
    firm.settle()
    last = {names[who]: (role, city) for who, role, city, _ in story}
    expected = {}
    for name, (role, city) in last.items():
        pathways = ({"sdr"} if role == "SDR" else {"ae"} if role in ("AE", "AE 2") else set()) | (
            {"all"} if city == "Berlin" else set()
        )
        if pathways:
            expected[name] = pathways
    assigned = {name: found for name, found in firm.assigned().items() if name in names}
    assert assigned == expected
    enrolled = firm.academy.enrolled()
    courses = {"sdr": {"a", "shared"}, "ae": {"b", "shared"}, "all": {"law"}}
    for name in names:
        wanted = set().union(*(courses[pathway] for pathway in expected.get(name, ())))
        assert enrolled.get(name, set()) - {"law"} == wanted - {"law"}
        assert "law" in enrolled.get(name, set()) or "law" not in wanted
