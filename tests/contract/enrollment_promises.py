"""What every LMS that people are enrolled in is held to: people found or made known once, enrolled once."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import count
from typing import Any, ClassVar

import pytest

from integration.config import ConnectionConfig
from integration.connectors import registry
from integration.errors import Reason, RetryLater, UnknownOutcome
from integration.model.contacts import Failed
from integration.model.enrollments import (
    Enrolled,
    EnrollmentState,
    EnrollmentWrite,
    NewUser,
    RemoteUser,
)
from integration.ports import EnrollmentStore
from tests.contract.called_promises import SERIAL, TROUBLES, CalledPromises, Place, Question
from tests.contract.quiet import MARK, error_of
from tests.contract.wire import Wire

Standing = Mapping[tuple[str, str], EnrollmentState]
ODD = [
    "",
    " ",
    "x/../y",
    "a,b",
    "%41",
    "*",
    "'",
    "\N{SNOWMAN}",
    "self",
    "0",
    "-1",
    "9" * 30,
    f"nobody-{MARK}@example.com",
]


class Lms(Place):
    """One LMS. `nobody` and `no_course` are ids as it gives them, of what is not there.

    `most_calls` says how many requests each method spends at most, for so many users and so many courses: all of them
    in each for `enrollments` and `write`.
    """

    nobody: ClassVar[str]
    no_course: ClassVar[str]

    @abstractmethod
    def serve(self) -> AbstractContextManager[str]:
        """As every place."""

    @abstractmethod
    def add_user(self, email: str, employee_id: str) -> str:
        """Let the LMS know somebody already; return the id."""

    @abstractmethod
    def add_course(self, name: str) -> str:
        """Add a course; return the id."""

    @abstractmethod
    def known(self, email: str) -> int:
        """Return how many users have this e-mail."""

    @abstractmethod
    def standing(self) -> Sequence[tuple[tuple[str, str], EnrollmentState]]:
        """Return each enrolment that is there, by user and course, with its state; what is there twice comes twice."""

    @abstractmethod
    def most_calls(self, method: str, users: int, courses: int) -> int:
        """Return the most requests of `users`, `create_users`, `enrollments` or `write`."""

    def later(self) -> None:
        """Let a minute pass over what is there, where the LMS says when things were made."""


class EnrollmentPromises(CalledPromises):
    """The port EnrollmentStore. Fill it by `class TestEnrollments(EnrollmentPromises): stage = ...`, an Lms."""

    stage: ClassVar[type[Lms]]

    @pytest.fixture
    def lms(self, laid: tuple[Lms, Wire]) -> Lms:
        """The LMS; what other promises left in it is still there."""
        return laid[0]

    def made(self, config: ConnectionConfig, on_call: Any = None, gate: Any = None) -> EnrollmentStore:
        """Return the connector as the registry makes it."""
        store = registry.enrollments(config, on_call, gate)
        assert store is not None
        return store

    def questions(self) -> Mapping[str, Question]:
        """Return every reading method."""
        user, course = "1", "1"
        return {
            "users": lambda store: store.users("email", [_email()]),
            "enrollments": lambda store: store.enrollments([(user, course)]),
            "courses": lambda store: list(store.courses()),
        }

    def commands(self) -> Mapping[str, Question]:
        """Return every writing method."""
        return {
            "create_users": lambda store: store.create_users([_new("t")]),
            "write": lambda store: store.write([EnrollmentWrite("t", "1", "1", "enrolled")]),
        }

    # --- users

    def test_users_are_found_by_each_key(self, lms: Lms, store: EnrollmentStore) -> None:
        """By what the LMS calls them, by e-mail in any spelling, and by employee id; each value has its own answer."""
        email, employee_id = _email(), _employee()
        number = lms.add_user(email, employee_id)
        asked = {"id": [number], "email": [email, email.upper(), email.title()], "employee_id": [employee_id]}
        assert "email" in store.user_keys
        for by in store.user_keys:
            found = store.users(by, [*asked[by], "nobody-of-the-suite"])
            assert {value: [one.id for one in users] for value, users in found.items()} == {
                value: [number] for value in asked[by]
            }

    def test_an_unknown_value_is_absent(self, lms: Lms, store: EnrollmentStore) -> None:
        """Whatever is asked for: who is not there has no entry, is no error, and costs nobody else the answer."""
        email = _email()
        number = lms.add_user(email, "")
        for by in store.user_keys:
            known = {"email": email, "id": number}.get(by)
            found = store.users(by, [*ODD, *([known] if known else [])])
            assert {value: [one.id for one in users] for value, users in found.items()} == (
                {known: [number]} if known else {}
            )
            assert store.users(by, []) == {}

    def test_who_is_made_known_is_found(self, lms: Lms, store: EnrollmentStore) -> None:
        """A new user has an id, and is found by it and by everything that was said of them."""
        new = _new("t1")
        made = store.create_users([new])
        assert made.keys() == {"t1"}
        user = made["t1"]
        assert isinstance(user, RemoteUser)
        values = {"id": user.id, "email": new.email, "employee_id": new.employee_id or ""}
        for by in store.user_keys:
            assert [one.id for one in store.users(by, [values[by]])[values[by]]] == [user.id]
        assert lms.known(new.email) == 1

    def test_nobody_is_made_twice(self, lms: Lms, store: EnrollmentStore) -> None:
        """A second time is a conflict or the same user, in one batch and in two; the others of the batch are made."""
        first, other = _new("t1"), _new("t2")
        twin = NewUser("t3", first.email.upper(), first.full_name, None)
        answers = store.create_users([first, other, twin])
        assert answers.keys() == {"t1", "t2", "t3"}
        again = store.create_users([first, other])
        for trace, one in (("t1", again["t1"]), ("t2", again["t2"]), ("t1", answers["t3"])):
            made = answers[trace]
            assert isinstance(made, RemoteUser)
            is_same = isinstance(one, RemoteUser) and one.id == made.id
            assert is_same or (isinstance(one, Failed) and one.reason is Reason.CONFLICT)
        assert (lms.known(first.email), lms.known(other.email)) == (1, 1)

    # --- enrolments

    def test_an_enrolment_from_beginning_to_end(self, lms: Lms, store: EnrollmentStore) -> None:
        """Made once, kept, ended, opened again and removed; what is so already is done, and is not ours."""
        pair = lms.add_user(_email(), ""), lms.add_course("Demo")
        before = len(lms.standing())
        steps: list[tuple[EnrollmentState, bool]] = [
            ("removed", False),
            ("concluded", False),
            ("enrolled", True),
            ("enrolled", False),
            ("concluded", False),
            ("concluded", False),
            ("enrolled", False),
            ("removed", False),
            ("removed", False),
        ]
        for state, is_new in steps:
            answer = store.write([_write(pair, state)])
            (done,) = answer.values()
            assert isinstance(done, Enrolled), done
            assert done.created is is_new, state
            there = _standing(store, [pair])
            assert there == _truth(lms, [pair])
            assert there.get(pair) in ((state,) if state == "enrolled" or pair in there else (None,))
            lms.later()
        assert len(lms.standing()) == before

    def test_a_bad_record_stands_alone(self, lms: Lms, store: EnrollmentStore) -> None:
        """A user or course that is not there is that record's failure, and the others are done."""
        users, courses = [lms.add_user(_email(), "") for _ in range(3)], [lms.add_course("A"), lms.add_course("B")]
        good = [(user, course) for user in users for course in courses]
        bad = [(lms.nobody, courses[0]), (users[0], lms.no_course), ("\N{SNOWMAN}/..", courses[0])]
        answers = store.write([_write(pair, "enrolled") for pair in [bad[0], *good[:3], bad[1], *good[3:], bad[2]]])
        assert {trace for trace, one in answers.items() if isinstance(one, Failed)} == {_trace(pair) for pair in bad}
        assert len(answers) == len(good) + len(bad)
        assert _standing(store, [*bad, *good]) == dict.fromkeys(good, "enrolled") == _truth(lms, good)

    def test_what_is_there_is_told(self, lms: Lms, store: EnrollmentStore) -> None:
        """The state of each pair, nothing for what is not there, and each pair once however often it is asked for."""
        users, courses = [lms.add_user(_email(), "") for _ in range(3)], [lms.add_course("A"), lms.add_course("B")]
        pairs = [(user, course) for user in users for course in courses]
        store.write([_write(pair, "enrolled") for pair in pairs[:4]])
        store.write([_write(pairs[0], "concluded"), _write(pairs[1], "removed")])
        found = _standing(store, [*pairs, *pairs, (lms.nobody, courses[0]), (users[0], lms.no_course)])
        assert found == _truth(lms, pairs)
        assert found.keys() >= {pairs[2], pairs[3]}
        assert store.enrollments([]) == {}
        assert store.write([]) == {}

    def test_a_whole_batch(self, lms: Lms, store: EnrollmentStore, wire: Wire) -> None:
        """As many as the capabilities say, in no more requests than were declared."""
        size = store.capabilities.batch_size
        half = size // 2
        new = [_new(f"t{place}") for place in range(half)]
        courses = [lms.add_course("A"), lms.add_course("B")]

        def spent(method: str, users: int, courses: int) -> None:
            assert wire.calls <= lms.most_calls(method, users, courses), method
            wire.heal()

        wire.heal()
        made = [one for one in store.create_users(new).values() if isinstance(one, RemoteUser)]
        assert len(made) == half
        spent("create_users", half, 0)
        assert len(store.users("email", [one.email for one in new])) == half
        spent("users", half, 0)
        pairs = [(user.id, course) for user in made for course in courses]
        answers = store.write([_write(pair, "enrolled") for pair in pairs])
        assert [one for one in answers.values() if isinstance(one, Enrolled)] == [*answers.values()]
        assert len(answers) == len(pairs)
        spent("write", half, 2)
        assert _standing(store, pairs) == dict.fromkeys(pairs, "enrolled")
        spent("enrollments", half, 2)

    def test_the_catalogue_is_whole(self, lms: Lms, store: EnrollmentStore) -> None:
        """Every course once, however many pages they are on."""
        added = {lms.add_course(f"Course {place}") for place in range(230)}
        listed = [one.id for one in store.courses()]
        assert added <= set(listed)
        assert len(listed) == len(set(listed))

    # --- trouble

    @pytest.mark.parametrize("trouble", TROUBLES)
    def test_trouble_in_the_middle_of_enrolling(
        self, lms: Lms, store: EnrollmentStore, wire: Wire, trouble: str
    ) -> None:
        """Whichever call it strikes: nobody fails for it, what is told is true, and what is repeated is done once."""
        for call in count(1):
            users, courses = [lms.add_user(_email(), "") for _ in range(2)], [lms.add_course("A"), lms.add_course("B")]
            pairs = [(user, course) for user in users for course in courses]
            store.write([_write(pair, "enrolled") for pair in pairs[:2]])
            states: list[EnrollmentState] = ["concluded", "removed", "enrolled", "enrolled"]
            wanted = [_write(pair, state) for pair, state in zip(pairs, states, strict=True)]
            before = _truth(lms, pairs)
            wire.strike(self._said(lms, trouble), call=call)
            answers: dict[str, Enrolled | Failed] = {}
            error = error_of(lambda: answers.update(store.write(wanted)))  # noqa: B023 - called at once
            struck = wire.struck
            wire.heal()
            assert error is None or isinstance(error, RetryLater)
            assert isinstance(error, UnknownOutcome) or answers or _truth(lms, pairs) == before
            assert _standing(store, pairs) == _truth(lms, pairs)
            answers |= store.write([one for one in wanted if one.trace not in answers])
            assert all(isinstance(one, Enrolled) for one in answers.values())
            assert answers.keys() == {one.trace for one in wanted}
            after = _truth(lms, pairs)
            assert [after.get(pair) for pair in pairs[1:]] == [None, "enrolled", "enrolled"]
            assert after.get(pairs[0]) in ("concluded", None)
            if not struck:
                return

    @pytest.mark.parametrize("trouble", TROUBLES)
    def test_trouble_in_the_middle_of_making_users(
        self, lms: Lms, store: EnrollmentStore, wire: Wire, trouble: str
    ) -> None:
        """Whichever call it strikes, it is said, since nobody can be enrolled before; each is there once in the end."""
        for call in count(1):
            new = [_new(f"t{place}") for place in range(3)]
            lms.add_user(new[1].email, "")
            wire.strike(self._said(lms, trouble), call=call)
            answers: dict[str, RemoteUser | Failed] = {}
            error = error_of(lambda: answers.update(store.create_users(new)))  # noqa: B023 - called at once
            struck = wire.struck
            wire.heal()
            assert isinstance(error, RetryLater) if error else answers.keys() == {one.trace for one in new}
            store.create_users([one for one in new if one.trace not in answers])
            assert [lms.known(one.email) for one in new] == [1, 1, 1]
            assert len(store.users("email", [one.email for one in new])) == len(new)
            if not struck:
                return


def _email() -> str:
    return f"{MARK}-ada-{next(SERIAL)}@example.com"


def _employee() -> str:
    return f"{MARK.upper()}-E.{next(SERIAL)}/b"


def _new(trace: str) -> NewUser:
    return NewUser(trace, _email(), f"Ada {MARK.title()}", _employee())


def _trace(pair: tuple[str, str]) -> str:
    return f"{pair[0]} in {pair[1]}"


def _write(pair: tuple[str, str], state: EnrollmentState) -> EnrollmentWrite:
    return EnrollmentWrite(_trace(pair), *pair, state)


def _standing(store: EnrollmentStore, pairs: Sequence[tuple[str, str]]) -> Standing:
    return {pair: one.state for pair, one in store.enrollments(pairs).items()}


def _truth(lms: Lms, pairs: Sequence[tuple[str, str]]) -> Standing:
    """Return what is really there; that nothing is there twice."""
    there = [(pair, state) for pair, state in lms.standing() if pair in pairs]
    assert len({pair for pair, _ in there}) == len(there)
    return dict(there)
