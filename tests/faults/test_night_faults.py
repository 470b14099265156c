"""A comparison that is killed again and again while live events flow: the same end, and nothing of them undone."""

import os
import random
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial

import psutil
import pytest

from integration.model.reconciliation import RECONCILE_CONTACTS
from integration.storage import reconciliations
from scripts.sandbox.catalogue import COURSES
from scripts.sandbox.deliveries import Learner, compose
from tasks import aside
from tests.faults.wired import Wired, wired
from tests.processes import gone, until

PEOPLE = int(os.environ.get("NIGHT_PEOPLE", "200"))
STRANGERS = int(os.environ.get("NIGHT_STRANGERS", "3000"))
KILLS = int(os.environ.get("NIGHT_KILLS", "3"))
SEED = int(os.environ.get("NIGHT_SEED", "20261122"))
PLACE = "SELECT coalesce(max(place), 0) FROM reconciliation_chunks"
OPEN = """
SELECT (SELECT count(*) FROM sync_state WHERE status NOT IN ('in_step', 'parked'))
     + (SELECT count(*) FROM inbox WHERE status IN ('received', 'claimed', 'enriching'))
"""


@pytest.fixture(scope="module")
def home(master_keys: str) -> Iterator[Wired]:
    """One installation whose CRM takes a moment for each call."""
    with wired(master_keys) as made:
        yield made


def complete(home: Wired, learners: list[Learner], course: int) -> None:
    """Let people complete a course."""
    begun = datetime.now(UTC).replace(microsecond=0) - timedelta(days=9 - course)
    home.accept([compose("course.completed", one, COURSES[course], passed=True, occurred_at=begun) for one in learners])


def test_a_night_that_is_killed_again_and_again_ends_in_the_same(home: Wired) -> None:
    """What drifted is named and repaired, what live events say meanwhile stands, and the next night finds nothing."""
    dice = random.Random(SEED)
    learners = [Learner(f"n-{n}", f"n{n}@example.com", f"Night {n}") for n in range(PEOPLE)]
    home.crm.seed([{"email": one.email} for one in learners])
    home.crm.seed([{"email": f"stranger{n}@example.com"} for n in range(STRANGERS)])
    for start in range(0, PEOPLE, 1000):
        complete(home, learners[start : start + 1000], 0)
    until(lambda: home.ask(OPEN) == 0, 60 + PEOPLE / 20)
    drifted = dice.sample(range(KILLS, PEOPLE), 30)  # nobody who learns meanwhile
    for n in drifted[:25]:
        home.crm.edit(learners[n].email, {"courses_completed_count": str(dice.randint(5, 99))})
    for n in drifted[25:]:
        contact = home.crm.contact(learners[n].email)
        assert contact is not None
        home.crm.archive(contact["id"])
    home.crm.configure(latency_ms=60)
    begin(home)
    live = 0
    for _ in range(KILLS):
        place = home.ask(PLACE)
        complete(home, [learners[live]], 1)
        live += 1
        until(partial(moved, home, place), 60)
        if dice.random() < 0.5 and (beside := working(home)):
            kill(home, beside)
            continue
        home.kill_worker()
    until(lambda: ended(home), 120 + PEOPLE / 50)
    until(lambda: home.ask(OPEN) == 0, 90)
    counts = home.ask("SELECT counts FROM reconciliations ORDER BY id DESC LIMIT 1")
    assert isinstance(counts, dict)
    assert counts["contacts"] == PEOPLE + STRANGERS  # five of the people are missing, and were counted as that
    assert (counts["drifted"], counts["missing"]) == (25, 5)
    home.crm.configure(latency_ms=0)
    shown = {one["properties"]["email"]: one["properties"] for one in home.crm.contacts()}
    for n, one in enumerate(learners):
        if n not in drifted[25:]:
            assert shown[one.email]["courses_completed_count"] == ("2" if n < live else "1"), n
    begin(home)
    until(lambda: ended(home), 120 + PEOPLE / 50)
    again = home.ask("SELECT counts FROM reconciliations ORDER BY id DESC LIMIT 1")
    assert isinstance(again, dict)
    assert not again["repaired"]
    assert not again.get("drifted")


def test_a_night_yields_to_live_events_and_ends_with_its_worker(home: Wired) -> None:
    """It is worked on by a process that stands behind every other one, and that nobody has to look for."""
    home.crm.seed([{"email": f"someone{n}@example.com"} for n in range(2_000)])
    home.crm.configure(latency_ms=200)
    begin(home)
    until(lambda: working(home))
    [beside] = working(home)
    until(lambda: beside.nice() == aside.NICE)  # it is seen before its first line has run
    assert psutil.Process(home.pid("worker")).nice() == 0
    home.kill_worker()
    until(lambda: not beside.is_running())
    home.crm.configure(latency_ms=0)
    until(lambda: ended(home), 120)
    assert '"ring.lost"' not in home.output  # the broker was there all the time


def working(home: Wired) -> list[psutil.Process]:
    """Return the process in which a comparison is worked on, none where there is none."""
    with suppress(psutil.NoSuchProcess):
        started = psutil.Process(home.pid("worker")).children()
        return [one for one in started if RECONCILE_CONTACTS in one.cmdline()]
    return []


def kill(home: Wired, beside: list[psutil.Process]) -> None:
    """Kill -9 a process that may be over, and let its lease end at once."""
    for one in beside:
        with suppress(psutil.NoSuchProcess):
            one.kill()
            until(lambda one=one: gone(one.pid))  # type: ignore[misc]
    with home.database() as db:
        db.execute("UPDATE reconciliation_chunks SET lease_until = now() WHERE status = 'claimed'")
        db.commit()


def begin(home: Wired) -> None:
    """Let a run begin as the command does."""
    engine = home.engine()
    with engine.begin() as db:
        assert reconciliations.begin(db, "crm", datetime.now(UTC), actor="user:test")
    engine.dispose()


def moved(home: Wired, place: object) -> bool:
    """Say whether the run has come further, or to its end."""
    return ended(home) or home.ask(PLACE) != place


def ended(home: Wired) -> bool:
    """Say whether no run is under way."""
    return home.ask("SELECT count(*) FROM reconciliations WHERE status = 'running'") == 0
