"""More people than the guard allows are not enrolled or withdrawn by a publish or a rollback that nobody approved."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from integration.config import Guard
from mappings import export, store
from tasks.cli import app
from tasks.commands import rules as command
from tests.db.firm import Firm, ground, portal
from tests.db.test_roles import RULES, firm

__all__ = ["firm", "ground", "portal"]  # fixtures

MOVED: dict[str, Any] = {**RULES, "roles": {**RULES["roles"], "sdr": {**RULES["roles"]["sdr"], "pathway": "ae"}}}


@pytest.fixture
def staffed(firm: Firm, monkeypatch: pytest.MonkeyPatch) -> Firm:
    """Two SDRs in their courses, where one person may be moved unasked; commands work in this process."""
    monkeypatch.setattr(command, "this_process", lambda: firm.process)
    firm.process.__dict__["config"] = firm.process.config.model_copy(update={"guard": Guard(people=1)})
    firm.hire(["ada@example.com", "bob@example.com"])
    firm.change("ada@example.com", "SDR")
    firm.change("bob@example.com", "SDR")
    firm.settle()
    return firm


def files(firm: Firm, rules: dict[str, Any]) -> Path:
    """Return the published rules as files, with these pathways and roles instead of theirs."""
    folder = firm.folder / "edited"
    with firm.engine.begin() as db:
        export.write(store.active(db), folder, force=True)
    for name in ("pathways", "roles"):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({name: rules[name]}), encoding="utf-8")
    return folder


def run(*words: str) -> Result:
    """Run a command."""
    return CliRunner().invoke(app, ["rules", *words])


def number(firm: Firm) -> int:
    """Return which rule set is published."""
    with firm.engine.begin() as db:
        return store.active(db).id


def test_a_publish_of_too_many_asks_for_approval(staffed: Firm) -> None:
    """It says how many, where, and what to type; a rollback is held to the same."""
    folder, before = files(staffed, MOVED), number(staffed)
    held = run("publish", str(folder), "--offline", "--yes")
    assert held.exit_code == 2
    said = " ".join(held.output.split())
    assert "nothing was published: it would enrol 2 people and withdraw 2, in academy:a (2), academy:b (2)." in said
    assert "That is more than 1 (`guard: {people: 1}`" in said
    assert f"`coursewire rules publish {folder} --approve`" in said
    assert number(staffed) == before
    assert run("publish", str(folder), "--offline", "--yes", "--approve").exit_code == 0
    assert number(staffed) == before + 1
    with staffed.engine.begin() as db:
        store.roll_out(db, limit=100)
    staffed.settle()
    assert staffed.academy.enrolled() == {name: {"b", "shared"} for name in ("ada@example.com", "bob@example.com")}
    back = run("rollback", "--yes")
    assert (back.exit_code, number(staffed)) == (2, before + 1)
    assert f"`coursewire rules rollback {before} --approve`" in " ".join(back.output.split())
    assert run("rollback", "--yes", "--approve").exit_code == 0
    assert number(staffed) == before + 2


def test_what_the_guard_allows_needs_no_word(staffed: Firm) -> None:
    """As many as it says are not too many, and a change of words moves nobody."""
    staffed.process.__dict__["config"] = staffed.process.config.model_copy(update={"guard": Guard(people=2)})
    assert run("publish", str(files(staffed, MOVED)), "--offline", "--yes").exit_code == 0


def test_a_plan_shows_pathways_and_courses(staffed: Firm) -> None:
    """For people as tables, for programs as numbers."""
    folder = str(files(staffed, MOVED))
    shown = [" ".join(line.split()) for line in run("plan", folder, "--offline").stdout.splitlines()]
    assert "Courses: of 2 people this would enrol 2 people and withdraw 2, in academy:a (2), academy:b (2)." in shown
    assert {"ae 2", "sdr 2", "academy a 2", "academy b 2"} <= set(shown)
    found = json.loads(run("plan", folder, "--offline", "--json").stdout)["pathway_effects"]
    assert (found["concerned"], found["unread"]) == (2, 0)
    assert found["pathways"] == [
        {"pathway": "ae", "starts": 2, "ends": 0, "deadlines": 0},
        {"pathway": "sdr", "starts": 0, "ends": 2, "deadlines": 0},
    ]
    assert found["courses"] == [
        {"connection": "academy", "course": "a", "enrolled": 0, "concluded": 0, "removed": 2, "kept": 0},
        {"connection": "academy", "course": "b", "enrolled": 2, "concluded": 0, "removed": 0, "kept": 0},
    ]
