"""A storm of role changes is acted on up to a number of people an hour; the others wait for somebody's word."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from integration.delivery import policy
from integration.delivery.drain import Turn
from integration.delivery.roles import RoleReader
from integration.model.roles import READ_ROLE
from integration.storage import roles, storm
from integration.storage.dead import Chosen
from integration.storage.replays import advance, start
from mappings import overrides, store
from scripts.sandbox.academy import Academy
from scripts.sandbox.hubspot import HubSpotSandbox
from tasks.checks import servers
from tasks.cli import app
from tasks.commands import parked as command
from tests.db.firm import Firm, Ground, found, ground, portal
from tests.db.test_pipeline import rows
from tests.db.test_roles import RULES

__all__ = ["ground", "portal"]  # fixtures

MOST = 3
MOVED: dict[str, Any] = {**RULES, "roles": {**RULES["roles"], "sdr": {**RULES["roles"]["sdr"], "pathway": "ae"}}}
ROLE_ROWS = "SELECT status, reason, guard FROM sync_state WHERE operation = 'contact.role' ORDER BY subject_id"
PARKED = ("parked", "storm_guard", "held")
DECIDED = ("in_step", "decided", None)


@pytest.fixture
def firm(ground: Ground, portal: HubSpotSandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Firm]:
    """An installation with published roles that acts on three people an hour."""
    monkeypatch.setattr(policy, "SHORT_PAUSE", 0.1)
    portal.reset()
    with Academy(courses=["a", "b", "shared", "law"]) as academy:
        made = found(ground, portal, academy, per_hour=MOST)
        made.publish(RULES)
        yield made


def hire(firm: Firm, number: int, role: str) -> list[str]:
    """Let so many people get their first role at once."""
    names = [f"p{n}@example.com" for n in range(number)]
    firm.hire(names, jobtitle=role)
    firm.say(*[firm.hint(name, value=role) for name in names])
    firm.settle()
    return names


def move(firm: Firm, names: Sequence[str], role: str) -> None:
    """Let a workflow in the CRM give all of them another role."""
    for name in names:
        firm.edit(name, jobtitle=role)
    firm.say(*[firm.hint(name, value=role) for name in names])
    firm.settle()


def let_pass(firm: Firm, minutes: int = 66) -> None:
    """Let so much time pass for the guard."""
    with firm.engine.begin() as db:
        ago = "UPDATE sync_state SET acted_at = acted_at - %(minutes)s * interval '1 minute'"
        db.exec_driver_sql(ago, {"minutes": minutes})


def staffed(firm: Firm, number: int) -> list[str]:
    """Return so many SDRs, hired long ago."""
    firm.process.config.guard.__dict__["per_hour"] = "unlimited"
    names = hire(firm, number, "SDR")
    firm.process.config.guard.__dict__["per_hour"] = MOST
    return names


def counted(firm: Firm) -> int:
    """Return how many people the guard has counted within the hour."""
    within = "SELECT count(*) FROM sync_state WHERE acted_at > now() - interval '1 hour'"
    return int(rows(firm.engine, within)[0][0])


def with_pathway(firm: Firm, pathway: str) -> set[str]:
    """Return who is assigned it."""
    return {name for name, pathways in firm.assigned().items() if pathway in pathways}


def release(firm: Firm) -> int:
    """Do what the command does: let all of them through; return how many were put back."""
    with firm.engine.begin() as db:
        replay = start(db, "person", Chosen("parked", reason="storm_guard"), actor="user:test")
        assert replay is not None
        return advance(db, replay.id).number


def test_an_import_of_new_people_stops_at_the_number_and_waits(firm: Firm) -> None:
    """A first role is a change as well; whoever is stopped is enrolled in nothing and not lost."""
    names = hire(firm, 8, "AE")
    assert len(with_pathway(firm, "ae")) == MOST
    assert set(firm.academy.enrolled()) == with_pathway(firm, "ae")
    found = rows(firm.engine, ROLE_ROWS)
    assert sorted(found) == [DECIDED] * MOST + [PARKED] * (len(names) - MOST)


def test_a_wrong_workflow_stops_at_the_number_and_the_others_keep_what_they_have(firm: Firm) -> None:
    """Nobody of the others is enrolled anew or withdrawn; the next look at their contact finds them waiting still."""
    names = staffed(firm, 7)
    before = firm.academy.enrolled()
    move(firm, names, "AE")
    moved = with_pathway(firm, "ae")
    assert len(moved) == MOST
    assert with_pathway(firm, "sdr") == set(names) - moved
    assert {who: courses for who, courses in firm.academy.enrolled().items() if who not in moved} == {
        who: courses for who, courses in before.items() if who not in moved
    }


def test_threads_that_settle_at_one_moment_pass_no_more_together(firm: Firm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six workers that each hold a batch, whatever they believe of each other: nobody counts before another is done."""
    names = staffed(firm, 24)
    for name in names:
        firm.edit(name, jobtitle="AE")
    firm.say(*[firm.hint(name, value="AE") for name in names])
    with firm.engine.begin() as db:
        db.exec_driver_sql("UPDATE sync_state SET not_before = now(), doubted_at = now() - interval '1 hour'")
    reader = firm.process.drains["crm", READ_ROLE]
    assert isinstance(reader, RoleReader)
    turns = [Turn(uuid4(), datetime.now(UTC), reader.look(0)) for _ in range(6)]
    batches = []
    for turn in turns:
        with firm.engine.begin() as db:
            batches.append(reader.claim(db, turn.lease, limit=4, first=0, suspects=None).rows)
    assert [len(batch) for batch in batches] == [4] * 6
    read = [reader.work(batch, turn) for batch, turn in zip(batches, turns, strict=True)]
    # Whoever has counted waits for the others to have counted too, which only a guard that is none lets them.
    count, at_once = storm.let_through, threading.Barrier(6)

    def let_through(*args: Any, **kwargs: Any) -> frozenset[int]:
        passed = count(*args, **kwargs)
        with suppress(threading.BrokenBarrierError):
            at_once.wait(timeout=1)
        return passed

    monkeypatch.setattr(storm, "let_through", let_through)

    def settle(n: int) -> None:
        reader.settle(read[n], batches[n], turns[n])

    with ThreadPoolExecutor(6) as hands:
        list(hands.map(settle, range(6)))
    assert len(with_pathway(firm, "ae")) == MOST
    assert sorted(rows(firm.engine, ROLE_ROWS)) == [DECIDED] * MOST + [PARKED] * 21


def test_what_is_released_goes_on_however_full_the_hour_is(firm: Firm) -> None:
    """All of them, once: the next change of one of them is stopped again. It is no ordinary change of the hour."""
    names = staffed(firm, 7)
    move(firm, names, "AE")
    assert release(firm) == 7 - MOST
    assert {row[0] for row in rows(firm.engine, "SELECT lane FROM sync_state WHERE guard = 'approved'")} == {1}
    firm.settle()
    assert with_pathway(firm, "ae") == set(names)
    assert rows(firm.engine, ROLE_ROWS) == [DECIDED] * 7
    assert counted(firm) == MOST
    move(firm, names, "SDR")
    assert len(with_pathway(firm, "sdr")) == MOST


def test_a_word_that_was_given_outlives_trouble(firm: Firm) -> None:
    """The CRM is away while the released are read: they need no second word."""
    names = staffed(firm, 5)
    move(firm, names, "AE")
    release(firm)
    with firm.engine.begin() as db:
        db.exec_driver_sql(
            "UPDATE sync_state SET status = 'due', reason = 'network_error', not_before = now()"
            " WHERE guard = 'approved'"
        )
    firm.say(*[firm.hint(name, value="AE") for name in names])
    firm.settle()
    assert with_pathway(firm, "ae") == set(names)


def test_whose_role_went_back_leaves_without_an_enrolment(firm: Firm) -> None:
    """Nobody has to say anything about a mistake that was mended."""
    names = staffed(firm, 7)
    move(firm, names, "AE")
    waiting = set(names) - with_pathway(firm, "ae")
    writes = len(firm.academy.writes)
    move(firm, sorted(waiting), "SDR")
    assert rows(firm.engine, ROLE_ROWS) == [DECIDED] * 7
    assert with_pathway(firm, "sdr") == waiting
    assert len(firm.academy.writes) == writes


def test_new_people_whose_role_is_taken_away_leave_too(firm: Firm) -> None:
    """Of whom nothing was ever acted on, nothing is."""
    names = hire(firm, 5, "AE")
    waiting = sorted(set(names) - with_pathway(firm, "ae"))
    move(firm, waiting, "")
    assert rows(firm.engine, ROLE_ROWS) == [DECIDED] * 5
    assert set(firm.assigned()) == set(names) - set(waiting)


def test_a_role_that_went_back_without_a_word_is_seen_at_the_next_look(firm: Firm) -> None:
    """The webhook was lost: who waits is read again by itself, also who was never decided before."""
    names = hire(firm, 5, "AE")
    for name in names:
        firm.edit(name, jobtitle="")
    firm.settle()
    assert rows(firm.engine, ROLE_ROWS) == [DECIDED] * 5
    assert len(firm.assigned()) == MOST


def test_saying_it_again_is_no_way_round(firm: Firm) -> None:
    """Neither within the hour nor after it, nor with a third role; and looking by itself passes nobody."""
    names = staffed(firm, 5)
    move(firm, names, "AE")
    waiting = sorted(set(names) - with_pathway(firm, "ae"))
    for role in ("AE", "AE 2", "CSM"):
        let_pass(firm)
        move(firm, waiting, role)
        assert with_pathway(firm, "sdr") == set(waiting)
    assert rows(firm.engine, ROLE_ROWS).count(PARKED) == 2
    of_them = "SELECT not_before > now() + interval '30 minutes', lane FROM sync_state WHERE guard = 'held'"
    assert rows(firm.engine, of_them) == [(True, 1)] * 2


def test_the_hour_rolls(firm: Firm) -> None:
    """Whoever was acted on an hour ago counts no more; others go through as before, and who was stopped waits."""
    names = staffed(firm, 9)
    move(firm, names[:4], "AE")
    assert len(with_pathway(firm, "ae")) == 3
    let_pass(firm, 54)
    move(firm, names[4:6], "AE")
    assert len(with_pathway(firm, "ae")) == 3
    let_pass(firm, 12)
    move(firm, names[6:9], "AE")
    assert with_pathway(firm, "ae") >= set(names[6:9])
    assert len(with_pathway(firm, "ae")) == 6


def test_one_person_is_one_however_often_their_role_changes(firm: Firm) -> None:
    """People are counted, not changes: five of one person leave room for two others."""
    names = staffed(firm, 4)
    for role in ("AE", "SDR", "AE", "SDR", "AE"):
        move(firm, names[:1], role)
    move(firm, names[1:], "AE")
    assert len(with_pathway(firm, "ae")) == MOST
    assert names[0] in with_pathway(firm, "ae")
    move(firm, names[:1], "SDR")
    assert names[0] in with_pathway(firm, "sdr"), "whose way back would wait, though they are one of the hour"


def test_what_changes_nothing_does_not_count(firm: Firm) -> None:
    """A role of no rule, and two roles of one rule, are nobody's storm."""
    names = staffed(firm, 5)
    move(firm, names[:3], "AE")
    move(firm, names[:3], "AE 2")
    firm.hire(["new@example.com"], jobtitle="Chef")
    firm.say(firm.hint("new@example.com", value="Chef"))
    move(firm, names[:3], "AE")
    assert rows(firm.engine, ROLE_ROWS) == [DECIDED] * 5


def test_a_publish_is_not_stopped_by_it(firm: Firm) -> None:
    """It has an approval of its own: whoever it moves is moved, while others wait, and they by their old role."""
    names = staffed(firm, 6)
    move(firm, names[:4], "AE")
    let_pass(firm)
    firm.publish(MOVED)
    for _ in range(3):
        with firm.engine.begin() as db:
            store.roll_out(db, limit=100)
        firm.settle()
    assert with_pathway(firm, "ae") == set(names)
    assert counted(firm) == 0
    assert sorted(rows(firm.engine, ROLE_ROWS)) == [DECIDED] * 5 + [PARKED], "by the new role the deadline is another"


def test_a_publish_that_asks_about_another_property_is_not_stopped_by_it(firm: Firm) -> None:
    """Everybody is read for it; what nobody had read before has not changed."""
    names = [f"p{n}@example.com" for n in range(6)]
    firm.hire(names, lifecyclestage="customer")
    firm.process.config.guard.__dict__["per_hour"] = "unlimited"
    move(firm, names, "SDR")
    firm.process.config.guard.__dict__["per_hour"] = MOST
    asking = {**RULES["roles"], "more": {"where": {"lifecyclestage": ["customer"]}, "pathway": "ae"}}
    firm.publish({**RULES, "roles": asking})
    for _ in range(3):
        with firm.engine.begin() as db:
            store.roll_out(db, limit=100)
        firm.settle()
    assert with_pathway(firm, "ae") == set(names)
    assert counted(firm) == 0


def test_an_override_counts_at_once_also_for_whoever_waits(firm: Firm) -> None:
    """Somebody decided about one person; the role waits on."""
    names = staffed(firm, 5)
    move(firm, names[:4], "AE")
    (stopped,) = set(names[:4]) - with_pathway(firm, "ae")
    for name in (stopped, names[4]):
        with firm.engine.begin() as db:
            [(who,)] = db.exec_driver_sql(
                "SELECT object_id FROM links WHERE object_type = 'contact' AND external_id = %(id)s",
                {"id": firm.ids[name]},
            ).all()
            overrides.add(db, who, "add", "all", due_at=None, until=None, actor="user:test", comment="because")
            assert not firm.process.reconsideration.of_person(db, who).missing
    firm.settle()
    assert firm.assigned()[stopped] == {"sdr", "all"}
    assert firm.assigned()[names[4]] == {"sdr", "all"}
    assert rows(firm.engine, ROLE_ROWS).count(PARKED) == 1


def test_a_role_that_must_settle_longer_is_no_way_round(firm: Firm) -> None:
    """It is read, put off, and acted on later without another read: it counts then."""
    slow = {**RULES["roles"]["ae"], "settle": 3600}
    firm.publish({**RULES, "roles": {**RULES["roles"], "ae": slow}})
    names = staffed(firm, 6)
    for name in names:
        firm.edit(name, jobtitle="AE")
    firm.say(*[firm.hint(name, value="AE") for name in names])
    with firm.engine.begin() as db:
        db.exec_driver_sql(
            "UPDATE sync_state SET not_before = now(), doubted_at = now() - interval '1 minute'"
            " WHERE operation = 'contact.role'"
        )
    firm.process.drains["crm", READ_ROLE].flush()
    assert {row[1] for row in rows(firm.engine, ROLE_ROWS)} == {"settling"}
    firm.settle()
    assert len(with_pathway(firm, "ae")) == MOST
    assert with_pathway(firm, "sdr") == set(names) - with_pathway(firm, "ae")
    assert rows(firm.engine, ROLE_ROWS).count(PARKED) == 3
    move(firm, sorted(with_pathway(firm, "sdr")), "SDR")
    assert rows(firm.engine, ROLE_ROWS) == [DECIDED] * 6


def test_it_is_said_where_people_look(firm: Firm, monkeypatch: pytest.MonkeyPatch) -> None:
    """In `parked list` with what to do, in `check`, and in the count of who waits."""
    hire(firm, 5, "AE")
    monkeypatch.setattr(command, "this_process", lambda: firm.process)
    said = " ".join(CliRunner().invoke(app, ["parked", "list"]).output.split())
    assert "2 people in crm: storm_guard" in said
    assert "coursewire parked release --reason storm_guard" in said
    with firm.engine.begin() as db:
        assert storm.waiting(db) == {"crm": 2}
        lines = servers._states(db, ["crm"])
    assert [(one.level, one.what) for one in lines] == [("warning", "2 people wait for a word on their new role")]


def test_without_a_number_nobody_is_stopped_and_who_was_goes_on(firm: Firm) -> None:
    """`unlimited` is the word for it."""
    names = hire(firm, 5, "AE")
    firm.process.config.guard.__dict__["per_hour"] = "unlimited"
    firm.say(*[firm.hint(name, value="AE") for name in names])
    firm.settle()
    assert with_pathway(firm, "ae") == set(names)
    assert rows(firm.engine, ROLE_ROWS) == [DECIDED] * 5


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    story=st.lists(
        st.one_of(
            st.tuples(st.integers(0, 4), st.sampled_from(["SDR", "AE", ""])), st.sampled_from(["release", "hour"])
        ),
        min_size=4,
        max_size=16,
    )
)
def test_whatever_happens_nobody_is_lost_and_no_hour_has_more(firm: Firm, story: Any) -> None:
    """Whoever is not stopped has what their role deserves; whoever is has what they had, until it is released."""
    stamp = uuid4().hex
    names = [f"{stamp}-{n}@example.com" for n in range(5)]
    firm.hire(names)
    let_pass(firm)
    shown, acted, held, hour = dict.fromkeys(names, ""), dict.fromkeys(names, ""), set[str](), set[str]()
    for what in story:
        if what == "hour":
            let_pass(firm)
            hour.clear()
        elif what == "release":
            if held:
                assert release(firm) == len(held)
                firm.settle()
                acted |= {who: shown[who] for who in held}
                held.clear()
        else:
            who, role = names[what[0]], what[1]
            shown[who] = role
            move(firm, [who], role)
            if role == acted[who]:
                held.discard(who)
            elif who not in held and (who in hour or len(hour) < MOST):
                hour.add(who)
                acted[who] = role
            else:
                held.add(who)
        pathways = {who: {role.lower()} for who, role in acted.items() if role}
        assert {who: of_them for who, of_them in firm.assigned().items() if who in names} == pathways
    release(firm) if held else None
    firm.settle()
    assert {who: one for who, one in firm.assigned().items() if who in names} == {
        who: {role.lower()} for who, role in shown.items() if role
    }


def test_deciding_again_without_news_is_never_stopped(firm: Firm) -> None:
    """The clock and retired courses are no change of a role, however full the hour is."""
    names = staffed(firm, 6)
    move(firm, names[:3], "AE")
    with firm.engine.begin() as db:
        ids = [row.id for row in db.exec_driver_sql("SELECT id FROM people")]
        db.exec_driver_sql("UPDATE assignments SET status = 'ended'")
        roles.again(db, ids)
    let_pass(firm)
    firm.settle()
    assert counted(firm) == 0
    assert with_pathway(firm, "ae") | with_pathway(firm, "sdr") == set(names)
