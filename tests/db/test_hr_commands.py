"""What the commands tell of HR's words: fields, times and who said it; values only on request."""

from collections.abc import Callable
from types import ModuleType

import orjson
import pytest
from sqlalchemy import Engine
from typer.testing import CliRunner, Result

from integration.pipeline import Pipeline
from integration.storage import inbox
from integration.told import MARK
from tasks.cli import app
from tasks.commands import dead_edit, events, explaining, person, rules_shown
from tests.db.firm import Firm, ground
from tests.db.staff import Staff, employee
from tests.db.test_hr_to_crm import ADA, firm, say
from tests.db.test_pipeline import inbox_states, rows

__all__ = ["firm", "ground"]

Cli = Callable[..., Result]


@pytest.fixture
def cli(firm: Firm, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Run a command of this installation in this process."""
    modules: tuple[ModuleType, ...] = (dead_edit, events, explaining, person, rules_shown)
    for module in modules:
        monkeypatch.setattr(module, "this_process", lambda: firm.process)
        if hasattr(module, "quiet"):
            monkeypatch.setattr(module, "quiet", lambda: None)
    monkeypatch.setattr(dead_edit, "ring_back", lambda *_: None)
    return lambda *words: CliRunner().invoke(app, words)


def test_a_person_is_shown_with_what_hr_says(firm: Firm, cli: Cli) -> None:
    """The words without --reveal, their values with it."""
    firm.hire([ADA])
    say(firm, employee(job_title="Account Executive", status="active"))
    told = cli("person", "show", ADA)
    assert told.exit_code == 0, told.output
    assert "HR says (--reveal shows what)" in told.output
    assert "job_title" in told.output
    shown = orjson.loads(cli("person", "show", ADA, "--reveal", "--json").output)["work"]
    assert [(one["field"], one["value"], one["connection"]) for one in shown] == [
        ("job_title", "Account Executive", "hr"),
        ("employment_status", "active", "hr"),
    ]
    [(event_id,)] = rows(firm.engine, "SELECT id FROM inbox WHERE kind = 'employee'")
    told = cli("events", "show", str(event_id))
    assert told.exit_code == 0, told.output
    assert "employment_status" in told.output
    assert "Account Executive" not in told.output
    assert '"job_title": "Account Executive"' in cli("events", "show", str(event_id), "--reveal").output


def test_explain_names_hr_and_what_leavers_lose(firm: Firm, cli: Cli) -> None:
    """Who changes the role, and which pathway is withdrawn."""
    assert "as HR says it (hr, payroll)" in cli("rules", "explain", "jobtitle").output
    told = cli("rules", "explain", "--role", "AE").output
    assert told.count("Whoever leaves the company, as HR says, loses it.") == 1
    assert told.index("selling") < told.index("Whoever leaves") < len(told)


def test_a_dead_word_can_be_mended(engine: Engine, firm: Firm, cli: Cli) -> None:
    """Its fields are set one by one, and it goes on as the word of HR that it was."""
    staff = Staff(firm.engine, firm.process.pipeline)
    [event_id] = staff.put([employee(job_title="AE")])
    _break(engine, firm.process.pipeline, event_id)
    staff.pipeline.sync("employee", [event_id])
    assert inbox_states(engine) == [("dead", "invalid_event")]
    done = cli("dead", "edit", f"event:{event_id}", "--set", "employment.status=left", "--yes")
    assert done.exit_code == 0, done.output
    staff.pipeline.sync("employee", [event_id])
    assert inbox_states(engine) == [("done", "applied")]
    assert rows(engine, "SELECT status FROM employments") == [("left",)]


def _break(engine: Engine, pipeline: Pipeline, event_id: int) -> None:
    """Let a word have come with a status that nobody knows."""
    with engine.begin() as db:
        [(request,)] = db.exec_driver_sql("SELECT request_id FROM inbox WHERE id = %(id)s", {"id": event_id}).all()
        said = {"employment": {**employee().model_dump(mode="json", exclude_none=True), "status": "gone"}}
        sealed = pipeline.ring.seal(MARK + orjson.dumps(said), inbox.payload_context("hr", request))
        db.exec_driver_sql(
            "UPDATE inbox SET payload = %(sealed)s WHERE id = %(id)s", {"sealed": sealed, "id": event_id}
        )
