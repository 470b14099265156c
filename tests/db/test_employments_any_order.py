"""HR's words in any order, any cut and any repetition, from two systems: the same is kept, and the same is shown."""

from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from integration.model.employees import Employment, Work
from integration.pipeline import Pipeline
from integration.storage import people
from mappings import store
from mappings.rules import FieldRule
from tasks.projection import Projector
from tests.db.conftest import T0
from tests.db.staff import Staff, employee
from tests.db.test_employments import in_step
from tests.db.test_pipeline import rows

NAMES = ("job_title", "department", "status", "hired_on", "manager_id", "employee_id")
FIELDS = (*(name for name in NAMES if name != "status"), "employment_status", "manager_email", "manager_name")
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "job_title": st.sampled_from(["AE", "SE", ""]),
    "department": st.sampled_from(["Sales", ""]),
    "status": st.sampled_from(["active", "leave", "left"]),
    "hired_on": st.sampled_from(["2024-02-01", "2025-02-01", ""]),
    "manager_id": st.sampled_from(["m", "n", ""]),
}
SAYING = st.tuples(
    st.sampled_from(["hr", "payroll"]),
    st.sampled_from(["e", "m"]),  # an employee and a manager, who is one like all others
    st.integers(0, 4),
    st.fixed_dictionaries({}, optional=VALUES),
    st.sampled_from([None, "Ada", "Grace"]),
)
Saying = tuple[str, str, int, dict[str, Any], str | None]


@pytest.fixture
def staff(pipeline: Pipeline) -> Staff:
    """An installation with two HR systems, whose contacts show everything that HR says."""
    rules = [FieldRule(name, name, f"p_{name}", "string") for name in FIELDS if name != "hired_on"]
    rules.append(FieldRule("hired_on", "hired_on", "p_hired_on", "date"))
    with pipeline.engine.begin() as db:
        old = store.active(db)
        (scope,) = old.fields
        fields = {scope: {"contact": (*old.fields[scope]["contact"], *rules)}}
        store.publish(db, replace(old, id=0, fields=fields), author="test", comment="test")
    return Staff.of(pipeline)


def word(saying: Saying, tag: str) -> Employment:
    """Return what is said of somebody of this tag."""
    _, who, at, said, name = saying
    given = {**said, "manager_id": f"{said['manager_id']}-{tag}"} if said.get("manager_id") else said
    return employee(f"{who}-{tag}", f"{who}-{tag}@example.com", at=at, name=name, **given)


def shown(staff: Staff, tag: str) -> list[tuple[Any, ...]]:
    """Return what is kept, and what contacts show, of the two people, without what tells tags apart."""
    found: list[tuple[Any, ...]] = []
    for who in ("e", "m"):
        email = f"{who}-{tag}@example.com"
        with staff.engine.begin() as db:
            person_id = people.by_email(db, [email], staff.pipeline.keys).get(email)
            if person_id is None:
                found.append(())
                continue
            projector = Projector(staff.pipeline.config, staff.pipeline.ring)
            wanted = dict(projector.contacts(db, "crm", [person_id]).targets[person_id].wanted)
        kept = {name: (at, value.replace(tag, ""), by) for name, (at, value, by) in staff.kept(person_id).items()}
        found.append((kept, {name: value.replace(tag, "") for name, value in wanted.items()}))
    return found


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sayings=st.lists(SAYING, min_size=1, max_size=8), data=st.data())
def test_order_repetition_and_batches_never_matter(
    engine: Engine, staff: Staff, sayings: list[Saying], data: st.DataObject
) -> None:
    """One after the other, or shuffled, doubled and cut: and whoever is shown otherwise than they were is due."""
    one, other = uuid4().hex[:8], uuid4().hex[:8]
    for saying in sayings:
        staff.say(word(saying, one), connection=saying[0])
    mixed = data.draw(st.permutations(sayings))
    mixed += data.draw(st.lists(st.sampled_from(mixed), max_size=4))
    while mixed:
        size = data.draw(st.integers(1, len(mixed)))
        before = shown(staff, other)
        in_step(engine)
        for connection in ("hr", "payroll"):
            if these := [word(saying, other) for saying in mixed[:size] if saying[0] == connection]:
                staff.say(*these, connection=connection)
        for who, was, now in zip(("e", "m"), before, shown(staff, other), strict=True):
            if was[1:] != now[1:]:
                assert f"{who}-{other}@example.com" in due(staff, other)
        mixed = mixed[size:]
    assert shown(staff, one) == shown(staff, other)


def due(staff: Staff, tag: str) -> set[str]:
    """Return the addresses of the people of a tag who are due."""
    emails = [f"{who}-{tag}@example.com" for who in ("e", "m")]
    with staff.engine.begin() as db:
        known = people.by_email(db, emails, staff.pipeline.keys)
    ids = {who for (who,) in rows(staff.engine, "SELECT subject_id FROM sync_state WHERE wanted > written")}
    return {email for email, who in known.items() if who in ids}


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sayings=st.lists(SAYING, min_size=1, max_size=6))
def test_what_is_said_again_makes_nobody_due(engine: Engine, staff: Staff, sayings: list[Saying]) -> None:
    """The whole file of yesterday, row by row or at once, leads to no call."""
    tag = uuid4().hex[:8]
    for saying in sayings:
        staff.say(word(saying, tag), connection=saying[0])
    in_step(engine)
    for saying in sayings:
        assert staff.say(word(saying, tag), connection=saying[0]).due_at == frozenset()
    for connection in ("hr", "payroll"):
        these = [word(saying, tag) for saying in sayings if saying[0] == connection]
        if these:
            assert staff.say(*these, connection=connection).due_at == frozenset()
    assert rows(engine, "SELECT count(*) FROM sync_state WHERE wanted > written") == [(0,)]


WORKS = st.lists(
    st.builds(
        lambda by, at, value: Work.said(by, employee(job_title=value, at=at), T0.replace(minute=at)),
        st.sampled_from(["hr", "payroll"]),
        st.integers(0, 2),
        st.sampled_from(["a", "b"]),
    ),
    min_size=3,
    max_size=3,
)


@given(WORKS)
def test_joining_has_no_order(works: list[Work]) -> None:
    """It is commutative, associative and idempotent, and what is kept reads back as it was."""
    a, b, c = works
    assert a.joined(b) == b.joined(a)
    assert a.joined(b).joined(c) == a.joined(b.joined(c))
    assert a.joined(a) == a
    both = a.joined(b)
    assert Work.parse(both.dump(), both.connections) == both
