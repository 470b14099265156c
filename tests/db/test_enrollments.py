"""Enrolments converge: whatever is lost, doubled or changed meanwhile, the LMS ends with what is wanted, once."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from integration.config import ConnectionConfig
from integration.connectors import registry
from integration.delivery import policy
from integration.delivery.enrollments import Enroller
from integration.errors import BatchRejected, Reason
from integration.model.people import LEARNER, Profile
from integration.security.seal import IndexKeys, KeyRing
from integration.storage import backlog, connections, enrollments, people
from integration.storage.base import single
from integration.storage.deliveries import ARRIVING_SECONDS
from integration.storage.enrollments import Wanted
from integration.storage.people import Person
from scripts.sandbox.academy import TOKEN, Academy
from tasks.calls import CallLog
from tests.db.test_flush import plenty
from tests.db.test_pipeline import rows

COURSES = ["demo", "discovery", "closing"]
SOON = datetime(2026, 12, 31, tzinfo=UTC)


@pytest.fixture
def academy() -> Iterator[Academy]:
    """An LMS with three courses that knows nobody."""
    with Academy(courses=list(COURSES)) as made:
        yield made


class School:
    """An installation connected to one LMS."""

    def __init__(self, engine: Engine, ring: KeyRing, keys: IndexKeys, academy: Academy, enroller: Enroller) -> None:
        """`enroller` writes to `academy`."""
        self.engine, self.ring, self.keys, self.academy, self.enroller = engine, ring, keys, academy, enroller

    def person(self, email: str | None, employee_id: str | None = None) -> int:
        """Make somebody known."""
        with self.engine.begin() as db:
            (new,) = people.new_ids(db, 1)
            profile = Profile(email=email, full_name="Ada Byron", employee_id=employee_id)
            people.save(db, [Person(new, 0, profile, is_new=True, is_changed=True)], self.ring, self.keys)
        return new

    def want(self, *wanted: Wanted) -> None:
        """Say what is wanted."""
        with self.engine.begin() as db:
            enrollments.want(db, wanted)

    def work(self) -> None:
        """Write what is due, without waiting for anything."""
        with self.engine.begin() as db:
            db.exec_driver_sql("UPDATE enrollments SET not_before = now() WHERE status IN ('due', 'waiting')")
            db.exec_driver_sql("DELETE FROM breakers")
            db.exec_driver_sql("UPDATE connections SET paused_until = NULL")
        self.enroller.flush()

    def states(self) -> list[tuple[Any, ...]]:
        """Return status, reason and whose it is, of every enrolment."""
        return rows(self.engine, "SELECT status, reason, is_ours FROM enrollments ORDER BY id")


Make = Callable[..., School]


@pytest.fixture
def make(engine: Engine, keyring: KeyRing, keys: IndexKeys, academy: Academy, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Build an installation that may create users, or not."""
    monkeypatch.setenv("ACADEMY_TOKEN", TOKEN)
    monkeypatch.setattr(policy, "SHORT_PAUSE", 0.1)

    def build(*, may_create: bool = True) -> School:
        config = ConnectionConfig.model_validate(
            {
                "name": "academy",
                "system": "standard",
                "base_url": academy.url,
                "credentials": {"token": {"env": "ACADEMY_TOKEN"}},
                "webhook": {"secrets": [{"env": "TEST_SECRET"}]},
            }
        )
        log = CallLog()
        store = registry.enrollments(config, log.note)
        assert store is not None
        with engine.begin() as db:
            connections.register(db, {"academy": "standard"})
        enroller = Enroller(
            engine=engine,
            connection="academy",
            store=store,
            take_calls=log.take,
            budget=plenty(),
            ring=keyring,
            may_create=may_create,
        )
        return School(engine, keyring, keys, academy, enroller)

    return build


@pytest.fixture
def school(make: Make) -> School:
    """An installation that may create users."""
    return make()


def test_a_user_is_made_and_enrolled_once(school: School) -> None:
    """One look-up, one user, one write for all courses; asked again, nothing is sent."""
    ada = school.person("ada@example.com")
    school.want(*(Wanted(ada, "academy", course, "enrolled", SOON) for course in COURSES))
    school.work()
    assert school.academy.enrolled() == {"ada@example.com": set(COURSES)}
    assert school.academy.calls == {"/users/search": 1, "/users": 1, "/enrollments": 1}
    assert set(school.states()) == {("in_step", "enrolled", True)}
    school.want(*(Wanted(ada, "academy", course, "enrolled", SOON) for course in COURSES))
    school.work()
    assert sum(school.academy.calls.values()) == 3


def test_a_user_who_is_there_is_found_by_e_mail_or_employee_id(school: School) -> None:
    """Nobody is made twice, and the link is remembered."""
    school.academy.add_users(["ADA@example.com", "other@example.com"])
    list(school.academy.users.values())[1].employee_id = "E-7"
    ada, bob = school.person("ada@example.com"), school.person("bob@example.com", "e-7")
    school.want(Wanted(ada, "academy", "demo", "enrolled"), Wanted(bob, "academy", "demo", "enrolled"))
    school.work()
    assert len(school.academy.users) == 2
    with single(school.engine) as db:
        assert people.linked(db, [ada, bob], [LEARNER]) == {
            ada: [("academy", "u-1", LEARNER)],
            bob: [("academy", "u-2", LEARNER)],
        }


def test_without_leave_nobody_is_made(make: Make) -> None:
    """They wait with a reason, and are found when somebody has made them."""
    school = make(may_create=False)
    ada = school.person("ada@example.com")
    school.want(Wanted(ada, "academy", "demo", "enrolled"))
    school.work()
    assert school.states() == [("parked", "unknown_learner", False)]
    school.academy.add_users(["ada@example.com"])
    with school.engine.begin() as db:
        enrollments.wake(db, "academy", [ada])
    school.work()
    assert school.academy.enrolled() == {"ada@example.com": {"demo"}}


def test_two_users_of_one_e_mail_are_left_to_a_person(school: School) -> None:
    """Nobody is enrolled on a guess, and no third user is made."""
    school.academy.add_users(["ada@example.com", "ada@example.com"])
    school.want(Wanted(school.person("ada@example.com"), "academy", "demo", "enrolled"))
    school.work()
    assert school.states() == [("parked", "ambiguous_learner", False)]
    assert school.academy.writes == []
    assert len(school.academy.users) == 2


def test_a_user_who_stands_for_somebody_else_is_left_to_a_person(school: School) -> None:
    """The link is older than the e-mail, and wins."""
    school.academy.add_users(["ada@example.com"])
    ada, other = school.person("ada@example.com"), school.person("old@example.com")
    with school.engine.begin() as db:
        people.link(db, LEARNER, {("academy", "u-1"): other})
    school.want(Wanted(ada, "academy", "demo", "enrolled"))
    school.work()
    assert school.states() == [("parked", "ambiguous_learner", False)]


@pytest.mark.parametrize("leave", ["concluded", "removed"])
def test_only_what_we_made_is_ever_ended(school: School, leave: Any) -> None:
    """An enrolment that was there before stays, whatever the rules say (rule 15)."""
    school.academy.add_users(["ada@example.com"])
    ada = school.person("ada@example.com")
    school.want(Wanted(ada, "academy", "demo", "enrolled"))
    school.work()
    school.want(Wanted(ada, "academy", "discovery", "enrolled"))
    school.academy._written(
        {"trace": "", "user_id": "u-1", "course_id": "discovery", "state": "enrolled", "due_at": None}
    )
    school.work()
    school.want(*(Wanted(ada, "academy", course, leave) for course in ("demo", "discovery")))
    school.work()
    assert school.academy.enrollments["u-1", "demo"].state == leave
    assert school.academy.enrollments["u-1", "discovery"].state == "enrolled"
    assert school.states() == [("in_step", "enrolled", True), ("in_step", "not_ours", False)]


def test_what_was_taken_back_before_it_was_written_is_never_written(school: School) -> None:
    """A role that was set and changed in between leads to no call."""
    ada = school.person("ada@example.com")
    school.want(Wanted(ada, "academy", "demo", "enrolled"))
    school.want(Wanted(ada, "academy", "demo", "removed"))
    school.work()
    assert school.academy.calls == {}
    assert school.states() == [("in_step", "not_ours", False)]


def test_a_lost_answer_is_looked_up_and_nothing_is_sent_twice(school: School) -> None:
    """The enrolment arrived: it is found, and it is ours to end."""
    ada = school.person("ada@example.com")
    school.academy.add_users(["ada@example.com"])
    school.want(Wanted(ada, "academy", "closing", "enrolled"))
    school.work()
    school.want(Wanted(ada, "academy", "demo", "enrolled"))
    school.academy.lose = 1
    school.work()
    assert school.states()[1][0] == "waiting"
    school.work()
    assert school.academy.writes.count(("u-1", "demo", "enrolled")) == 1
    assert school.states() == [("in_step", "enrolled", True)] * 2
    school.want(Wanted(ada, "academy", "demo", "removed"))
    school.work()
    assert school.academy.enrolled() == {"ada@example.com": {"closing"}}


def test_a_lost_answer_about_a_new_user_makes_no_second_one(school: School) -> None:
    """The user is found by e-mail the next time."""
    school.want(Wanted(school.person("ada@example.com"), "academy", "demo", "enrolled"))
    real = school.academy._create_users

    def losing(body: dict[str, Any]) -> dict[str, Any]:
        school.academy.lose = 1
        return real(body)

    school.academy._create_users = losing  # type: ignore[method-assign]
    school.work()
    school.work()
    school.work()
    assert len(school.academy.users) == 1
    assert school.academy.enrolled() == {"ada@example.com": {"demo"}}


def test_what_may_still_be_arriving_is_left_alone_for_long_enough(school: School) -> None:
    """Sent again too soon, the second answer would say that it was there before, and it would not be ours (rule 11)."""
    school.academy.add_users(["ada@example.com"])
    school.want(Wanted(school.person("ada@example.com"), "academy", "demo", "enrolled"))
    real = school.academy._write

    def losing(body: dict[str, Any]) -> dict[str, Any]:
        school.academy.lose = 1
        return real(body)

    school.academy._write = losing  # type: ignore[method-assign]
    school.work()
    waits = "SELECT status, not_before - now() > %(long)s * interval '1 second' FROM enrollments"
    assert rows(school.engine, waits, long=ARRIVING_SECONDS - 5) == [("waiting", True)]


@pytest.mark.parametrize("call", ["users", "create_users", "enrollments"])
def test_a_question_that_one_record_breaks_is_halved_until_it_stands_alone(
    school: School, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else waits for it, and the connection does not rest."""
    if call == "enrollments":
        school.academy.add_users([f"p{n}@example.com" for n in range(4)])
    who = [school.person(f"p{n}@example.com") for n in range(4)]
    school.want(*(Wanted(one, "academy", "demo", "enrolled") for one in who))
    if call == "enrollments":
        with school.engine.begin() as db:
            db.exec_driver_sql("UPDATE enrollments SET lost_at = now() - interval '1 hour'")
            people.link(db, LEARNER, {("academy", f"u-{n + 1}"): one for n, one in enumerate(who)})
    real = getattr(school.enroller.store, call)

    def refusing(*asked: Any) -> Any:
        if "p2@" in str(asked) or "'u-3'" in str(asked):
            raise BatchRejected(Reason.BATCH_REJECTED, "400")
        return real(*asked)

    monkeypatch.setattr(school.enroller.store, call, refusing)
    for _ in range(4):
        school.work()
    assert sorted(state[:2] for state in school.states()) == [
        ("dead", "batch_rejected"),
        *[("in_step", "enrolled")] * 3,
    ]
    assert rows(school.engine, "SELECT FROM breakers WHERE failures > 0") == []


def test_whom_an_answer_does_not_name_is_looked_for_again(school: School, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user may be there: they are found the next time, and nobody has to release anything."""
    school.want(Wanted(school.person("ada@example.com"), "academy", "demo", "enrolled"))
    real = school.enroller.store.create_users

    def forgetful(users: Any) -> Any:
        real(users)
        return {}

    monkeypatch.setattr(school.enroller.store, "create_users", forgetful)
    school.work()
    assert school.states() == [("waiting", "unknown_outcome", False)]
    school.work()
    assert school.academy.enrolled() == {"ada@example.com": {"demo"}}
    assert len(school.academy.users) == 1


def test_a_course_that_is_not_there_stops_nobody_else(school: School) -> None:
    """It waits with its reason, the other one goes through."""
    ada = school.person("ada@example.com")
    school.want(Wanted(ada, "academy", "gone", "enrolled"), Wanted(ada, "academy", "demo", "enrolled"))
    school.work()
    assert school.academy.enrolled() == {"ada@example.com": {"demo"}}
    assert sorted(state[:2] for state in school.states()) == [("in_step", "enrolled"), ("parked", "unknown_course")]


def test_what_changes_while_it_is_written_is_written_again(school: School) -> None:
    """The settlement of the older wish leaves the row due (rule 1)."""
    ada = school.person("ada@example.com")
    school.want(Wanted(ada, "academy", "demo", "enrolled"))
    real = school.academy._write

    def changing(body: dict[str, Any]) -> dict[str, Any]:
        school.academy._write = real  # type: ignore[method-assign]
        school.want(Wanted(ada, "academy", "demo", "removed"))
        return real(body)

    school.academy._write = changing  # type: ignore[method-assign]
    school.work()
    assert school.academy.writes == [("u-1", "demo", "enrolled"), ("u-1", "demo", "removed")]


def test_what_waits_is_backlog_of_the_lms(make: Make) -> None:
    """Due, parked and done are told apart, as for all other work."""
    school = make(may_create=False)
    school.academy.add_users(["ada@example.com"])
    ada, bob = school.person("ada@example.com"), school.person("bob@example.com")
    school.want(Wanted(ada, "academy", "demo", "enrolled"), Wanted(bob, "academy", "demo", "enrolled"))
    with school.engine.begin() as db:
        assert backlog.by_connection(db)["academy"][:4] == (2, 0, 0, 0)
    school.work()
    with school.engine.begin() as db:
        assert backlog.by_connection(db)["academy"][:4] == (0, 0, 1, 0)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    story=st.lists(
        st.tuples(
            st.integers(0, 2),
            st.sampled_from(COURSES),
            st.sampled_from(["enrolled", "concluded", "removed"]),
            st.sampled_from(["", "", "lose", "refuse", "die", "work"]),
        ),
        max_size=20,
    )
)
def test_whatever_goes_wrong_the_lms_ends_with_what_is_wanted(
    make: Make, story: list[tuple[int, str, Any, str]]
) -> None:
    """Lost answers, outages and dead workers between wishes that change: the last wish is what the LMS shows."""
    school = make()
    with school.engine.begin() as db:
        db.exec_driver_sql("DELETE FROM enrollments")
    school.academy.users.clear()
    school.academy.enrollments.clear()
    school.academy.lose = school.academy.refuse = 0
    who = [school.person(f"{uuid4().hex}@example.com") for _ in range(3)]
    wanted: dict[tuple[int, str], str] = {}
    for number, course, state, mischief in story:
        if state == "enrolled" or (number, course) in wanted:
            wanted[number, course] = state
            school.want(Wanted(who[number], "academy", course, state))
        if mischief in ("lose", "refuse"):
            setattr(school.academy, mischief, 1)
        if mischief == "die":
            with school.engine.begin() as db:
                enrollments.claim(db, "academy", uuid4(), limit=2)
                db.exec_driver_sql("UPDATE enrollments SET lease_until = now() WHERE status = 'sending'")
        elif mischief:
            school.work()
        with school.engine.begin() as db:
            enrollments.expire(db)
    for _ in range(8):
        school.work()
    assert {state[0] for state in school.states()} <= {"in_step"}
    with single(school.engine) as db:
        names = people.linked(db, who, [LEARNER])
    for (number, course), state in wanted.items():
        links = names.get(who[number], [])
        there = school.academy.enrollments.get((links[0][1], course)) if links else None
        assert (there is not None and there.state == "enrolled") == (state == "enrolled")
