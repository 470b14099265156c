"""The soak in small: `make chaos` is the same with fifty thousand events and a hundred kills."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import chaos
from tests.faults.chaos import Outcome, Plan
from tests.faults.history import Violation


@pytest.fixture
def place() -> Iterator[Path]:
    """An empty folder which the embedded database's account may pass through."""
    made = Path(tempfile.mkdtemp(prefix="coursewire-"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made)


@pytest.mark.parametrize("seed", [20261121])
def test_nothing_is_lost_doubled_or_wrong_when_everything_is_killed(place: Path, seed: int) -> None:
    """Kill -9 of each process, the database and the supervisor in a burst, and all other faults: I1 to I9 (F6)."""
    plan = Plan(events=400, kills=8, each=True, minutes=0.25, seed=seed, hasten=True)
    said: list[str] = []
    outcome = chaos.run(plan, place, said.append)
    assert outcome.violations == [], "\n".join(outcome.lines())
    assert set(outcome.kills) == {"web", "worker", "beat", "flower", "valkey-server", "postgres", "backend", "up"}
    assert outcome.accepted >= 400
    assert set(outcome.answers) - {"202"}, "the kills missed the burst"
    assert outcome.searched_bytes > 10_000
    assert any("kills" in one for one in said)


def test_the_report_says_what_was_lost_and_gives_no_bound_then() -> None:
    """A broken promise fails the run, is counted, and takes the rule of three with it."""
    plan = Plan(events=1, kills=4, minutes=1, seed=9)
    sound = Outcome(plan=plan, kills={"web": 3, "worker": 1}, accepted=3_000, answers={"202": 3_100, "503": 4})
    assert sound.lines()[-1] == "passed: 0 violations"
    assert any("under 0.1000% of events are lost, under 75.0% of kills" in line for line in sound.lines())
    lossy = Outcome(plan=plan, kills={"web": 4}, violations=[Violation("I1", "x"), Violation("I7", "y")])
    assert lossy.lines()[-1] == "FAILED: 2 violations"
    assert any("lost 1, doubled 0" in line and "I7 1" in line for line in lossy.lines())
    assert not any("3/N" in line for line in lossy.lines())
    assert lossy.document()["broken"] == {"I1": 1, "I7": 1}
