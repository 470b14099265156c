"""`coursewire hr`, and the clock: files are looked for by hand or when it is time, and held ones are decided about."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from pydantic import SecretStr
from typer.testing import CliRunner

from integration.settings import Settings
from integration.storage import hr_looks
from tasks import collecting
from tasks.assembly import Assembly
from tasks.checks import hr as checks
from tasks.cli import app
from tasks.commands import hr as commands
from tests.db.firm import Ground, ground
from tests.db.office import MAPPING, staff_file
from tests.db.test_pipeline import rows
from tests.sftp import Drop

__all__ = ["ground"]


@pytest.fixture
def drop(tmp_path: Path) -> Iterator[Drop]:
    """HR's server."""
    (tmp_path / "server").mkdir()
    with Drop(tmp_path / "server").running() as running:
        yield running


@pytest.fixture
def process(ground: Ground, drop: Drop, monkeypatch: pytest.MonkeyPatch) -> Assembly:
    """An installation that collects from it, each hour."""
    (ground.folder / "hr.yaml").write_text(MAPPING)
    files = {"host_key": drop.pin, "mapping": "hr.yaml", "marker": ".ok", "guard": {"leavers": 0}}
    hr = {"system": "hr_files", "base_url": drop.url, "credentials": {"key": {"file": str(drop.key_file)}}}
    path = ground.folder / "coursewire.yaml"
    path.write_text(yaml.safe_dump({"connections": {"hr": {**hr, "files": files, "poll": {"every": "hour"}}}}))
    made = Assembly(Settings(config=path, database_url=SecretStr(ground.database_url)))
    made.__dict__.update({"engine": ground.engine, "ring": ground.keyring, "keys": ground.keys})
    monkeypatch.setattr(commands, "this_process", lambda: made)
    return made


def run(*words: str) -> str:
    """Return what a command prints."""
    result = CliRunner().invoke(app, ["hr", *words])
    assert result.exit_code == 0, result.output
    return result.output


def test_files_are_collected_held_and_decided_about_by_hand(process: Assembly, drop: Drop) -> None:
    """From looking to the word of a person; who said it is on record."""
    assert "nothing new" in run("collect")
    for name, text in (("a.csv", staff_file(3)), ("b.csv", staff_file(3, state="Gone"))):
        drop.put(name, text)
        drop.put(f"{name}.ok", "")
    said = run("collect")
    assert "applied" in said
    assert "3 people would become leavers, 0 may" in said
    with process.engine.begin() as db:
        [line] = checks.lines(db, process.config.connections)
    assert (line.level, "file 2 is held" in line.what) == ("warning", True)
    assert "b.csv" in run("show", "2")
    assert "released" in run("release", "2", "--yes")
    with process.engine.begin() as db:
        assert hr_looks.waiting(db) == ["hr"]
    process.collectors["hr"].run()
    assert '"status": "applied"' in run("list", "--json")
    assert rows(process.engine, "SELECT action, outcome FROM audit") == [("hr.file", "released")]
    assert CliRunner().invoke(app, ["hr", "reject", "2", "--yes"]).exit_code == 1


def test_a_folder_is_due_once_at_each_of_its_times(process: Assembly) -> None:
    """Whichever beat notices, and late rather than never."""
    with process.engine.begin() as db:
        db.exec_driver_sql("UPDATE rule_sets SET published_at = '2026-01-01'")
    for _ in range(2):
        with process.engine.begin() as db:
            collecting.begin_due(db, process.config, process.collectors, datetime(2026, 11, 21, 3, 40, tzinfo=UTC))
            assert hr_looks.waiting(db) == ["hr"]
    assert process.collectors["hr"].run().trouble is None
    with process.engine.begin() as db:
        collecting.begin_due(db, process.config, process.collectors, datetime(2026, 11, 21, 3, 50, tzinfo=UTC))
        assert hr_looks.waiting(db) == []
        collecting.begin_due(db, process.config, process.collectors, datetime(2026, 11, 21, 4, 40, tzinfo=UTC))
        assert hr_looks.waiting(db) == ["hr"]


def test_what_is_wrong_with_a_folder_is_said_by_check(process: Assembly, drop: Drop) -> None:
    """The look's own sentence, and what is wrong with the mapping by its line."""
    drop.permitted.clear()
    assert CliRunner().invoke(app, ["hr", "collect"]).exit_code == 1
    with process.engine.begin() as db:
        [line] = checks.lines(db, process.config.connections)
    assert (line.level, "credentials_refused" in line.what) == ("failed", True)
    folder = process.settings.config.parent
    (folder / "hr.yaml").write_text("fields: {employee_id: A, job_tilte: B}\n")
    [line] = checks.mapping(folder, process.config.connections["hr"])
    assert (line.level, "hr.yaml:1" in line.what) == ("failed", True)
