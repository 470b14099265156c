"""Whatever the identity rules and the order of events: the same people, and nobody joined by what must not join."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import NamedTuple
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from integration.model.identity import IdentityPolicy, LookUp
from integration.pipeline import Pipeline
from tests.db.conftest import Put
from tests.db.test_identity_rules import learner
from tests.db.test_pipeline import rows

EVERY: list[tuple[LookUp, ...]] = [
    ("link", "email"),
    ("link", "employee_id"),
    ("link", "employee_id", "email"),
    ("link", "email", "employee_id"),
]
NEVER = st.sampled_from([(), ("info@*",), ("*@school.example",), ("info@s*l.example", "nobody@*")])


class Account(NamedTuple):
    """What one LMS calls a human; `human` has one employee id, and an e-mail that is their own or a shared one."""

    connection: str
    number: int
    human: int
    shares: bool

    def id(self, tag: str) -> str:
        """Return what the LMS calls them."""
        return f"{tag}-{self.number}"

    def email(self, tag: str) -> str:
        """Return their address: that of the office, or their own."""
        return "info@school.example" if self.shares else f"h{self.human}.{tag}@school.example2"

    def employee_id(self, tag: str) -> str:
        """Return their number."""
        return f"E-{self.human}-{tag}"


RULES = st.one_of(
    st.builds(IdentityPolicy, look_up=st.sampled_from(EVERY[2:]), never_match=NEVER, same_email=st.just("same_person")),
    st.builds(IdentityPolicy, look_up=st.just(EVERY[0]), never_match=NEVER, same_email=st.just("same_person")),
    st.builds(IdentityPolicy, look_up=st.just(EVERY[2]), never_match=NEVER, same_email=st.just("new_person")),
    st.builds(IdentityPolicy, look_up=st.sampled_from([("link",), EVERY[1]]), never_match=NEVER),
)
ALONE = st.builds(IdentityPolicy, look_up=st.just(EVERY[0]), never_match=NEVER, same_email=st.just("new_person"))


def expected(policy: IdentityPolicy, accounts: Sequence[Account], tag: str) -> set[frozenset[str]]:
    """Return who is one person, by the plain reading of the rules."""
    groups = [{account} for account in accounts]

    def are_one(one: Account, other: Account) -> bool:
        if "employee_id" in policy.look_up and one.human == other.human:
            return True
        if "email" not in policy.look_up or one.email(tag) != other.email(tag) or policy.is_nobodys(one.email(tag)):
            return False
        return policy.same_email == "same_person"

    for one, other in combinations(accounts, 2):
        if are_one(one, other):
            first = next(group for group in groups if one in group)
            second = next(group for group in groups if other in group)
            if first is not second:
                groups.remove(second)
                first |= second
    return {frozenset(f"{a.connection}:{a.id(tag)}" for a in group) for group in groups}


def found(engine: Engine, tag: str) -> set[frozenset[str]]:
    """Return who is one person in the database."""
    query = """SELECT array_agg(connection || ':' || external_id) FROM links
               WHERE external_id LIKE %(tag)s AND object_type = 'learner' GROUP BY object_id"""
    return {frozenset(names) for (names,) in rows(engine, query, tag=f"{tag}-%")}


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), is_alone=st.booleans())
def test_the_same_events_in_any_order_give_the_same_people(
    engine: Engine, pipeline: Pipeline, put: Put, data: st.DataObject, is_alone: bool
) -> None:
    """Any accounts, any rules that leave nothing to a person, any order, batches and duplicates: as the rules read."""
    policy = data.draw(ALONE if is_alone else RULES)
    connections = st.just("academy") if is_alone else st.sampled_from(["academy", "campus"])
    shares = data.draw(st.lists(st.sampled_from([True, True, False]), min_size=3, max_size=3))
    chosen = data.draw(st.lists(st.tuples(connections, st.integers(0, 2)), min_size=2, max_size=6))
    accounts = [Account(where, n, human, shares[human]) for n, (where, human) in enumerate(chosen)]
    tag = uuid4().hex[:8]
    with engine.begin() as db:  # the office is another one in each story
        db.exec_driver_sql("UPDATE people SET email_key = NULL")
    ruled = replace(pipeline, rules=lambda _: {"academy": policy, "campus": policy})
    order = data.draw(st.permutations(accounts)) + data.draw(st.lists(st.sampled_from(accounts), max_size=3))
    for size in iter(lambda: data.draw(st.integers(1, 4)), 0):
        batch, order = order[:size], order[size:]
        for where in sorted({account.connection for account in batch}):
            bodies = [
                learner(a.id(tag), a.email(tag), a.employee_id(tag), course=f"c-{at}", at=at)
                for at, a in enumerate(batch)
                if a.connection == where
            ]
            outcomes = ruled.sync("completion", put(bodies, connection=where)).outcomes
            assert {one.status for one in outcomes} == {"done"}
        if not order:
            break
    assert found(engine, tag) == expected(policy, accounts, tag)


@pytest.mark.parametrize("look_up", EVERY)
def test_the_first_look_up_that_finds_somebody_decides(
    engine: Engine, pipeline: Pipeline, put: Put, look_up: tuple[LookUp, ...]
) -> None:
    """One is found by employee id, another by e-mail: the order says who it is; the other look-up takes nobody away."""
    known = [learner("u-1", "one@example.com", "E-1"), learner("u-2", "two@example.com", "E-2")]
    pipeline.sync("completion", put(known))
    ruled = replace(pipeline, rules=lambda _: {"campus": IdentityPolicy(look_up=look_up)})
    ruled.sync("completion", put([learner("c-1", "two@example.com", "E-1", at=1)], connection="campus"))
    query = "SELECT o.external_id FROM links o JOIN links l USING (object_id) WHERE l.external_id = 'c-1' AND o <> l"
    assert rows(engine, query) == [("u-1" if look_up[1] == "employee_id" else "u-2",)]
    assert rows(engine, "SELECT count(*) FROM people") == [(2,)]
