"""A bulk is a plan: references are found wherever they point, and what cannot be resolved fails alone."""

from itertools import permutations
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integration.scim.bulk import MOST_OPERATIONS, Plan, plan
from integration.scim.refusal import Refusal


def post(bulk_id: str | None, manager: str | None = None) -> dict[str, Any]:
    """Return an operation that makes a user, whose manager is another one of the request."""
    data: dict[str, Any] = {"userName": bulk_id}
    if manager:
        data["x"] = {"manager": [{"value": f"bulkId:{manager}"}]}
    return {"method": "post", "path": "/users", "bulkId": bulk_id, "data": data}


def planned(*operations: Any, **more: Any) -> Plan:
    """Plan these."""
    return plan({"schemas": [], "Operations": list(operations), **more}, uuid4)


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_whom_others_refer_to_comes_first(order: tuple[int, ...]) -> None:
    """Forward and backward references are the same; ids stand where references stood."""
    chain = [post("a"), post("b", "a"), post("c", "b")]
    found = planned(*(chain[place] for place in order))
    assert [step.bulk_id for step in found.steps] == ["a", "b", "c"]
    first, second, _ = found.steps
    assert second.data["x"]["manager"] == [{"value": str(first.id)}]


def test_a_circle_is_resolved() -> None:
    """Two users who refer to each other have ids before either is made (RFC 7644 section 3.7.1)."""
    found = planned(post("a", "b"), post("b", "a"))
    ids = {step.bulk_id: str(step.id) for step in found.steps}
    assert [step.data["x"]["manager"][0]["value"] for step in found.steps] == [ids["b"], ids["a"]]
    assert not any(step.refusal for step in found.steps)


def test_a_bulk_id_of_two_stands_for_neither() -> None:
    """Microsoft's own sample repeats one: both users are made, and only who refers to it is refused."""
    found = planned(post("twice"), post("twice"), post("c", "twice"), post("d", "nobody"))
    assert [step.refusal is None for step in found.steps] == [True, True, False, False]
    assert len({step.id for step in found.steps if step.id}) == 2


def test_paths_refer_too() -> None:
    """A user can be changed in the request that makes it."""
    change = {"method": "PATCH", "path": "/Users/bulkId:a", "data": {}}
    made, changed = planned(change, post("a")).steps
    assert (made.method, changed.method, made.id) == ("POST", "PATCH", changed.id)


def test_what_is_done_to_one_user_keeps_its_order() -> None:
    """Though the first of them waits for somebody who comes later."""
    who = uuid4()
    waits = {"method": "PATCH", "path": f"/Users/{who}", "data": {"value": "bulkId:late"}}
    then = {"method": "DELETE", "path": f"/Users/{who}"}
    assert [step.method for step in planned(waits, then, post("late")).steps] == ["POST", "PATCH", "DELETE"]


@pytest.mark.parametrize(
    "operation",
    [
        {"method": "GET", "path": "/Users"},
        {"method": "POST", "path": "/Groups", "data": {}},
        {"method": "POST", "path": f"/Users/{UUID(int=1)}", "data": {}},
        {"method": "PUT", "path": "/Users", "data": {}},
        {"method": "DELETE", "path": "/Users/nobody"},
        {"path": 5},
        "nonsense",
    ],
)
def test_an_operation_that_is_none_fails_alone(operation: Any) -> None:
    """Its neighbour is done all the same."""
    found = planned(operation, post("a"))
    assert [step.refusal is None for step in sorted(found.steps, key=lambda step: step.place)] == [False, True]


@pytest.mark.parametrize(("said", "meant"), [(None, None), (3, 3), (0, None)])
def test_after_how_many_errors_to_stop(said: int | None, meant: int | None) -> None:
    """Microsoft's sample says null, which is never."""
    assert planned(failOnErrors=said).most_errors == meant


def test_what_is_no_bulk_is_refused() -> None:
    """No list, a word for a number, or more operations than are promised."""
    bodies: list[Any] = [[], {}, {"Operations": {}}, {"Operations": [], "failOnErrors": "many"}]
    for body in bodies:
        with pytest.raises(Refusal) as raised:
            plan(body, uuid4)
        assert raised.value.status == 400
    with pytest.raises(Refusal) as raised:
        planned(*[post(None)] * (MOST_OPERATIONS + 1))
    assert raised.value.status == 413


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.sampled_from(["", *"abcdex"])), max_size=8))
def test_every_operation_is_planned_once_after_whom_it_needs(pairs: list[tuple[str, str]]) -> None:
    """Whatever refers to whom: each has its step, and without a circle nobody comes before whom they refer to."""
    found = planned(*(post(name, manager) for name, manager in pairs))
    assert sorted(step.place for step in found.steps) == list(range(len(pairs)))
    seen: set[int] = set()
    late = set()
    for step in found.steps:
        late |= {step.place} if step.waits_for - seen else set()
        seen.add(step.place)
    for place in late:
        assert _in_a_circle(place, {step.place: step.waits_for for step in found.steps})


def _in_a_circle(place: int, waits: dict[int, frozenset[int]]) -> bool:
    """Say whether a step is in a circle, or waits for one."""
    return any(one in _reached(one, waits) for one in {place, *_reached(place, waits)})


def _reached(place: int, waits: dict[int, frozenset[int]]) -> set[int]:
    reached: set[int] = set()
    todo = list(waits[place])
    while todo:
        one = todo.pop()
        if one not in reached:
            reached.add(one)
            todo += waits[one]
    return reached
