"""Enrolments that are parked or dead: listed with their cause, shown, and put back, one or all of a reason."""

from collections.abc import Callable

import orjson
import pytest
from typer.testing import CliRunner, Result

from integration.storage import replays
from integration.storage.replays import PutBack
from tasks.cli import app
from tasks.commands import dead, dead_replay, parked, replaying
from tests.db.firm import Firm, ground, portal
from tests.db.test_learning import ADA, firm, make_ae
from tests.db.test_pipeline import rows

__all__ = ["firm", "ground", "portal"]

Cli = Callable[..., Result]


@pytest.fixture
def rung() -> list[PutBack]:
    """What the workers were told of."""
    return []


@pytest.fixture
def cli(firm: Firm, rung: list[PutBack], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Run a command of this installation in this process."""
    for module in (dead, dead_replay, parked):
        monkeypatch.setattr(module, "this_process", lambda: firm.process)
        monkeypatch.setattr(module, "quiet", lambda: None)
    for module in (dead_replay, parked, replaying):
        monkeypatch.setattr(module, "ring_back", rung.append)
    return lambda *words: CliRunner().invoke(app, words)


@pytest.fixture
def stuck(firm: Firm) -> int:
    """Ada's enrolment in a course that the LMS did not have, and has now."""
    firm.academy.courses.remove("law")
    make_ae(firm)
    firm.academy.courses.append("law")
    assert firm.academy.enrolled() == {ADA: {"b"}}
    [(number,)] = rows(firm.engine, "SELECT id FROM enrollments WHERE status = 'parked'")
    return int(number)


def die(firm: Firm) -> None:
    """Let what is parked be dead."""
    with firm.engine.begin() as db:
        db.exec_driver_sql("UPDATE enrollments SET status = 'dead', not_before = NULL WHERE status = 'parked'")


def test_what_is_parked_is_listed_shown_and_tried_again(firm: Firm, cli: Cli, stuck: int, rung: list[PutBack]) -> None:
    """The list names it with its cause, `show` tells of the person and the course, `resolve` tries it at once."""
    listed = orjson.loads(cli("parked", "list", "--json").output)["enrollments"]
    assert [(one["reason"], one["rows"], one["example"]) for one in listed] == [
        ("unknown_course", 1, f"enrollment:{stuck}")
    ]
    assert "1 enrolment" in cli("parked", "list").output
    shown = cli("parked", "show", f"enrollment:{stuck}").output
    assert "law" in shown
    assert "does not have this course" in shown
    done = cli("parked", "resolve", f"enrollment:{stuck}", "--yes")
    assert done.exit_code == 0, done.output
    assert rung[0].places == {("academy", "enrollment.write")}
    firm.settle()
    assert firm.academy.enrolled() == {ADA: {"b", "law"}}
    assert f"enrollment:{stuck} is not parked: it is in step." in cli("parked", "show", f"enrollment:{stuck}").output


def test_all_of_a_reason_are_released(firm: Firm, cli: Cli, stuck: int) -> None:
    """What docs/reasons.md tells to type works: the reason goes on, behind all live news, and is in the audit log."""
    done = cli("parked", "release", "--reason", "unknown_course", "--yes")
    assert done.exit_code == 0, done.output
    assert rows(firm.engine, "SELECT status, lane, attempts FROM enrollments WHERE course_id = 'law'") == [
        ("due", 1, 0)
    ]
    assert rows(firm.engine, "SELECT kind, status, replayed FROM replays") == [("enrollment", "done", 1)]
    said = rows(firm.engine, "SELECT action, outcome, subject_id FROM audit WHERE subject_type = 'enrollment'")
    assert ("parked.release", "unknown_course", stuck) in said
    firm.settle()
    assert firm.academy.enrolled() == {ADA: {"b", "law"}}


def test_what_is_dead_is_listed_shown_and_replayed(firm: Firm, cli: Cli, stuck: int) -> None:
    """Like events and people: by cause, one by one, and once more; there is nothing to edit and no payload."""
    die(firm)
    assert f"enrollment:{stuck}" in cli("dead", "list").output
    assert f"enrollment:{stuck}" in cli("dead", "list", "--kind", "enrollment").output
    assert "dead (unknown_course)" in cli("dead", "show", f"enrollment:{stuck}").output
    assert cli("dead", "show", f"enrollment:{stuck}", "--reveal").exit_code == 2
    assert cli("dead", "edit", f"enrollment:{stuck}").exit_code == 2
    done = cli("dead", "replay", f"enrollment:{stuck}", "--yes")
    assert done.exit_code == 0, done.output
    firm.settle()
    assert firm.academy.enrolled() == {ADA: {"b", "law"}}


def test_what_may_still_be_arriving_is_not_put_back_too_early(firm: Firm, stuck: int) -> None:
    """A call whose answer was lost a moment ago is waited for, whoever is in a hurry."""
    die(firm)
    with firm.engine.begin() as db:
        db.exec_driver_sql("UPDATE enrollments SET lost_at = now()")
        replays.put_back(db, "enrollment", [stuck], replays.By("user:bob", "dead.replay"))
        [waits] = db.exec_driver_sql("SELECT not_before > now() FROM enrollments WHERE course_id = 'law'").scalars()
    assert waits
