"""Hundreds of contacts whose roles change again and again while four threads hear and two act: the last role counts."""

import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest

from integration.delivery import policy
from scripts.sandbox.academy import Academy
from scripts.sandbox.hubspot import HubSpotSandbox
from tests.db.firm import Firm, Ground, found, ground
from tests.db.test_pipeline import rows

__all__ = ["ground"]

ROLES = [f"Role {n}" for n in range(8)]
PEOPLE = 150
COURSES = {role: {f"c{n}", f"c{(n + 1) % 8}"} for n, role in enumerate(ROLES)}
"""Each role shares a course with the next one."""


@pytest.fixture
def firm(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> Iterator[Firm]:
    """An installation with a pathway for each role, whose courses are left with the role."""
    monkeypatch.setattr(policy, "SHORT_PAUSE", 0.1)
    pathways = {
        f"p{n}": {"title": role, "buckets": {"demo": {"required": sorted(f"academy:{one}" for one in COURSES[role])}}}
        for n, role in enumerate(ROLES)
    }
    roles = {
        f"r{n}": {"role": role, "pathway": f"p{n}", "on_leave": "remove", "in_progress": "same", "settle": 600}
        for n, role in enumerate(ROLES)
    }
    with (
        HubSpotSandbox(token="t0ken", rate=1_000_000, products="alpha") as portal,
        Academy(courses=[f"c{n}" for n in range(8)]) as academy,
    ):
        made = found(ground, portal, academy)
        made.publish({"pathways": pathways, "roles": roles})
        yield made


@pytest.mark.parametrize("known", [PEOPLE // 2, 0])
def test_the_lms_ends_with_the_last_role_s_courses_and_no_call_is_made_twice(firm: Firm, known: int) -> None:
    """Duplicates, disorder and threads change nothing of that; a contact is read twice, though nobody knew it."""
    names = [f"p{n}@example.com" for n in range(PEOPLE)]
    firm.hire(names, jobtitle=ROLES[0])
    firm.say(*[firm.hint(name, value=ROLES[0]) for name in names[:known]])
    firm.settle()
    before = firm.reads()
    last = storm(firm, names)
    firm.settle()
    assert firm.academy.enrolled() == {name: COURSES[role] for name, role in last.items()}
    assert firm.assigned() == {name: {f"p{ROLES.index(role)}"} for name, role in last.items()}
    assert firm.reads() - before <= 2 * PEOPLE
    states: dict[tuple[str, str], list[str]] = {}
    for user, course, state in firm.academy.writes:
        states.setdefault((user, course), []).append(state)
    assert not [one for one, of_it in states.items() if any(a == b for a, b in pairwise(of_it))], "written twice"
    assert not rows(firm.engine, "SELECT FROM inbox WHERE status IN ('dead', 'parked')")


def storm(firm: Firm, names: list[str]) -> dict[str, str]:
    """Change everybody's role eight times while it is heard and acted on; return the last ones."""
    dice = random.Random(500)
    last: dict[str, str] = {}
    is_over = threading.Event()

    def act() -> None:
        while not is_over.is_set():
            for look in firm.process.looks.values():
                look.run()
            for drain in firm.process.drains.values():
                drain.flush()

    with ThreadPoolExecutor(4) as ears, ThreadPoolExecutor(2) as hands:
        actors = [hands.submit(act) for _ in range(2)]
        heard = []
        for _ in range(8):
            told: list[dict[str, Any]] = []
            for name in names:
                last[name] = dice.choice(ROLES)
                firm.edit(name, jobtitle=last[name])
                told += [firm.hint(name, value=last[name])] * dice.choice([1, 1, 2])
            dice.shuffle(told)
            heard += [ears.submit(firm.say, *told[start : start + 40]) for start in range(0, len(told), 40)]
        for one in heard:
            one.result()
        is_over.set()
        for one in actors:
            one.result()
    return last
