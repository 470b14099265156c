"""`coursewire reconcile`: a run by hand, what it found as text, JSON and page, and what was overwritten given back."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner, Result

from integration.storage import reconciliations
from tasks.cli import app
from tasks.commands import reconcile as commands
from tasks.commands import reconcile_undo, reconciling
from tests.db.firm import Firm, ground
from tests.db.test_pipeline import rows
from tests.db.test_reconciliation import PEOPLE, field, firm

__all__ = ["firm", "ground"]

Cli = Callable[..., Result]
COUNT, LAST = "courses_completed_count", "last_course_completed"


@pytest.fixture
def rung() -> list[tuple[str, str]]:
    """Where the workers were told that there is something to do."""
    return []


@pytest.fixture
def cli(firm: Firm, rung: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Run a command of this installation in this process."""
    for module in (commands, reconcile_undo):
        monkeypatch.setattr(module, "this_process", lambda: firm.process)
        monkeypatch.setattr(module, "quiet", lambda: None)
    for module in (reconciling, reconcile_undo):
        monkeypatch.setattr(module, "ring", lambda events=(), places=(): rung.extend(sorted(places)))
    monkeypatch.setitem(firm.process.__dict__, "broker_url", "redis://nowhere")
    monkeypatch.setattr(reconciling, "LOOK_SECONDS", 0.01)
    return lambda *words, **more: CliRunner().invoke(app, ["reconcile", *words], **more)


def drift(firm: Firm) -> None:
    """Let people edit what is ours, and one contact be deleted."""
    firm.edit("p1@example.com", **{COUNT: "7", LAST: "Juggling"})
    firm.edit("p2@example.com", **{COUNT: "8"})
    firm.crm.archive(firm.ids["p4@example.com"])


def said(result: Result) -> str:
    """Return what was printed, each space one space, and without what the log says."""
    lines = [line for line in result.output.splitlines() if not re.match(r"\d{4}-\d\d-\d\d .*\[", line)]
    return " ".join(" ".join(lines).split())


def data(result: Result) -> Any:
    """Return what was printed as JSON, without what the log says."""
    return orjson.loads(result.stdout[result.stdout.index("{\n") :])


def test_a_run_by_hand_works_here_and_ends_with_its_report(firm: Firm, cli: Cli, rung: list[tuple[str, str]]) -> None:
    """Without a worker; those there are hear of the run, and of who is due because of it."""
    drift(firm)
    done = cli()
    assert done.exit_code == 0, done.output
    text = said(done)
    assert "Comparison 1 of crm has begun." in text
    assert "Comparison 1 of crm: done." in text
    assert f"{PEOPLE} contacts in" in text
    assert "drift 12.00 %" in text
    assert "3 people were made due" in text
    assert "Drifted: 2 A property that we own holds something else" in text
    assert "`coursewire reconcile undo 1` gives back" in text
    assert "Missing: 1" in text
    assert "Equal: 22" in text
    assert f"{firm.ids['p1@example.com']} #" in text
    assert "Juggling" not in text
    assert ("crm", "contact.reconcile") in rung
    assert ("crm", "contact.upsert") in rung
    firm.settle()
    assert field(firm, "p1@example.com", COUNT) == "1"


def test_a_dry_run_says_what_a_real_one_would_cost(firm: Firm, cli: Cli) -> None:
    """And writes nothing."""
    drift(firm)
    before = len(firm.crm.calls())
    text = said(cli("--dry-run", "--connection", "crm"))
    assert "done, a dry run that changed nothing" in text
    assert "reconcile undo" not in text
    assert "then about 2 that read and 1 that write, for 3 contacts" in text
    firm.settle()
    assert not [one for one in firm.crm.calls()[before:] if "update" in one["operation"]]
    assert field(firm, "p1@example.com", COUNT) == "7"
    [report] = data(cli("--dry-run", "--json"))["reports"]
    assert report["cost"] == {"repairs": 3, "put_off": 0, "reads": 2, "writes": 1}
    assert {group["kind"]: group["contacts"] for group in report["groups"]} == {"drifted": 2, "missing": 1, "equal": 22}


def test_a_run_that_is_under_way_is_followed(firm: Firm, cli: Cli) -> None:
    """Whoever began it; there is one at a time."""
    with firm.engine.begin() as db:
        reconciliations.begin(db, "crm", datetime.now(UTC), actor="coursewire", is_dry=True)
    text = said(cli())
    assert "Comparison 1 of crm is under way, a dry run; this follows it." in text
    assert rows(firm.engine, "SELECT id, status, is_dry FROM reconciliations") == [(1, "done", True)]


def test_detached_it_only_begins_and_can_be_stopped(firm: Firm, cli: Cli, rung: list[tuple[str, str]]) -> None:
    """The workers are told."""
    assert cli("--detach").exit_code == 0
    assert rung == [("crm", "contact.reconcile")]
    assert rows(firm.engine, "SELECT status FROM reconciliations") == [("running",)]
    assert cli("undo", "1", "--yes").exit_code == 1
    assert cli("stop", "1").exit_code == 0
    assert rows(firm.engine, "SELECT status FROM reconciliations") == [("stopped",)]
    again = cli("stop", "1")
    assert again.exit_code == 1
    assert "cannot be stopped: it is stopped" in said(again)


def test_a_connection_that_is_paused_makes_nobody_wait(firm: Firm, cli: Cli) -> None:
    """The command says what to do, and the run stays."""
    assert firm.process.pipeline
    with firm.engine.begin() as db:
        db.exec_driver_sql("UPDATE connections SET status = 'paused' WHERE name = 'crm'")
    done = cli()
    assert done.exit_code == 1
    assert "goes on after `coursewire connections resume crm`" in said(done)
    assert rows(firm.engine, "SELECT status FROM reconciliations") == [("running",)]


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["--connection", "academy"], 2, "'academy' is no connection that holds contacts; there are: crm."),
        (["report"], 1, "Nothing was compared yet."),
        (["report", "7"], 1, "There is no comparison 7."),
        (["stop", "7"], 1, "There is no comparison 7."),
        (["undo", "7", "--yes"], 1, "There is no comparison 7."),
        (["undo", "7", "--json"], 2, "--json cannot ask; add --yes."),
        (["list"], 0, "Nothing was compared yet."),
    ],
)
def test_mistakes_are_said_in_a_sentence(cli: Cli, words: list[str], code: int, sentence: str) -> None:
    """With the exit code that they have elsewhere."""
    done = cli(*words)
    assert done.exit_code == code
    assert sentence in said(done)


def test_values_are_shown_to_who_asks_and_it_is_written_down(firm: Firm, cli: Cli) -> None:
    """Numbers and names of properties are for everybody."""
    drift(firm)
    cli()
    plain = said(cli("report"))
    assert COUNT in plain
    assert "Juggling" not in plain
    assert rows(firm.engine, "SELECT count(*) FROM audit WHERE action = 'person.read'") == [(0,)]
    assert f"{LAST}: Juggling -> Course demo-101" in said(cli("report", "1", "--reveal"))
    assert rows(
        firm.engine, "SELECT count(DISTINCT subject_id), min(reference) FROM audit WHERE action = 'person.read'"
    ) == [(2, "reconciliation:1")]


def test_the_page_is_one_file_that_loads_nothing(firm: Firm, cli: Cli, tmp_path: Path) -> None:
    """Escaped, with the drift of each run as a bar."""
    firm.edit("p1@example.com", **{LAST: "<script>alert(1)</script>"})
    cli()
    firm.settle()
    cli("--dry-run")
    page = tmp_path / "report.html"
    assert cli("report", "1", "--html", str(page), "--reveal").exit_code == 0
    text = page.read_text(encoding="utf-8")
    assert "&lt;script&gt;alert(1)" in text
    assert not re.search(r"<script|src=|href=|url\(|@import", text)
    assert "prefers-color-scheme: dark" in text
    assert text.count("<title>Run ") == 1
    assert "Run 1, " in text
    assert "4.00 % of 25 contacts" in text
    cli("report", "--html", str(page))
    newest = page.read_text(encoding="utf-8")
    assert newest.count("<title>Run ") == 2
    assert "a dry run" in newest
    assert cli("report", "--html", str(tmp_path / "no" / "where")).exit_code == 2


def test_the_list_shows_each_run(firm: Firm, cli: Cli) -> None:
    """The newest first, with its drift."""
    drift(firm)
    cli("--dry-run")
    cli()
    text = said(cli("list"))
    assert text.index("2 crm done") < text.index("1 crm dry, done")
    assert "12.00 %" in text
    listed = data(cli("list", "--json"))["runs"]
    assert [(one["id"], one["drift"]) for one in listed] == [(2, 12.0), (1, 12.0)]


def test_an_undo_says_what_it_will_do_and_what_it_did(firm: Firm, cli: Cli, rung: list[tuple[str, str]]) -> None:
    """It asks first; a second one has nothing to do."""
    drift(firm)
    cli()
    firm.settle()
    declined = cli("undo", "1", input="n\n")
    assert declined.exit_code == 1
    assert "Comparison 1 repaired 3 properties of 2 contacts in crm." in said(declined)
    assert "1 call to read, at most 1 to write. It then stays for 30 days." in said(declined)
    assert field(firm, "p1@example.com", COUNT) == "1"
    firm.edit("p2@example.com", **{COUNT: "9"})
    rung.clear()
    done = cli("undo", "1", "--yes", "--days", "3")
    assert done.exit_code == 0, done.output
    assert "2 properties given back in 2 contacts, with 2 calls; left to the CRM for 3 days." in said(done)
    assert "1 property changed since the run, and left as they are." in said(done)
    assert rung == [("crm", "contact.upsert")]
    assert field(firm, "p1@example.com", LAST) == "Juggling"
    assert rows(firm.engine, "SELECT round(extract(epoch FROM max(held_until) - now()) / 86400) FROM loops") == [(3,)]
    report = said(cli("report", "1"))
    assert "2 properties of 2 contacts given back, 1 left as they were" in report
    assert "left, touched since" in report
    again = cli("undo", "1", "--yes")
    assert again.exit_code == 1
    assert "has nothing to undo" in said(again)
    assert rows(firm.engine, "SELECT outcome, reference FROM audit WHERE action = 'reconcile.undo'") == [
        ("begun", "reconciliation:1")
    ]
