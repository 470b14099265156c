"""`coursewire inventory` as an auditor types it: in each format, with the database and without."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from tasks.assembly import this_process
from tests.e2e.test_dead_commands import cli
from tests.unit.test_inventory_mermaid import read

__all__ = ["cli"]  # a fixture

Cli = Callable[..., Result]


def test_each_format_tells_of_the_same_connections(cli: Cli) -> None:
    """Tables for people, a page, a chart that parses, and JSON; all by the published rules."""
    table = cli("inventory")
    assert table.exit_code == 0, table.output
    assert table.stdout.startswith("By rule set 1, published ")
    assert "env HUBSPOT_TOKEN" in table.stdout
    assert "sandbox-token" not in table.stdout
    page, chart = cli("inventory", "--format", "markdown"), cli("inventory", "--format", "mermaid")
    said = json.loads(cli("inventory", "--json").stdout)
    names = [one["name"] for one in said["systems"]]
    assert page.stdout.startswith("# What talks to what\n")
    assert chart.stdout in page.stdout
    assert [text.partition(",")[0] for node, text in read(chart.stdout).nodes.items() if "system" in node] == names
    assert all(f"## Fields, Coursewire to {name}" in page.stdout for name in names if name == "crm")
    assert said["basis"]["rules"] == "published"


def test_without_the_database_it_goes_by_the_files(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is asked who does not answer; with the database that is a sentence, and no traceback."""
    monkeypatch.setenv("COURSEWIRE_DATABASE_URL", "postgresql://nobody@127.0.0.1:9/none")
    this_process.cache_clear()
    done = cli("inventory", "--offline")
    assert (done.exit_code, done.stdout.partition(".")[0]) == (
        0,
        "By the rules that ship: the connections file names no `rules:`",
    )
    asked = cli("inventory")
    assert (asked.exit_code, "the database does not answer" in asked.output) == (2, True)


def test_a_wrong_word_is_a_sentence(cli: Cli, folder: Path) -> None:
    """Two formats at once, and a connections file with a mistake."""
    assert cli("inventory", "--json", "--format", "mermaid").exit_code == 2
    (folder / "coursewire.yaml").write_text("connections: {x: {system: nothing}}\n", "utf-8")
    this_process.cache_clear()
    done = cli("inventory", "--offline")
    assert (done.exit_code, "'nothing' is not known" in done.output) == (2, True)
