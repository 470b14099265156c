"""`coursewire check` says whether the rule files are what is published."""

from pathlib import Path

import pytest
from sqlalchemy import Engine

from integration.config import Config
from mappings import export, store
from tasks.checks import rules
from tasks.checks.answers import Line


@pytest.fixture
def folder(engine: Engine, tmp_path: Path) -> Path:
    """The published rules as files."""
    with engine.begin() as db:
        export.write(store.active(db), tmp_path / "rules")
    return tmp_path / "rules"


def said(engine: Engine, config: Config, folder: Path | None) -> list[Line]:
    """What is said of a folder."""
    with engine.begin() as db:
        return rules.lines(db, config.model_copy(update={"rules": folder}))


def test_files_that_were_published_are_well(engine: Engine, config: Config, folder: Path) -> None:
    """And of an installation without files nothing is said."""
    assert [(one.level, one.what) for one in said(engine, config, folder)] == [
        ("ok", "the files in rules/ say what is published")
    ]
    assert said(engine, config, None) == []


def test_files_that_were_not_published_are_named(engine: Engine, config: Config, folder: Path) -> None:
    """Only those that differ, with what to run; an entry that no file has any more counts, too."""
    own = folder / "crm.yaml"
    own.write_text("connection: crm\ncontact:\n  email: {property: work_email, type: string}\n")
    [line] = said(engine, config, folder)
    assert (line.level, line.what) == ("warning", "not published: rules/crm.yaml (1 entry other than in rule set 1)")
    assert "`coursewire rules plan`" in line.advice
    own.unlink()
    hubspot = folder / "hubspot.yaml"
    kept = [line for line in hubspot.read_text().splitlines() if not line.startswith("  last_course_completed:")]
    assert len(kept) == len(hubspot.read_text().splitlines()) - 1
    hubspot.write_text("\n".join(kept) + "\n")
    assert [one.what for one in said(engine, config, folder)] == [
        "not published: rules/ (1 entry other than in rule set 1)"
    ]


def test_rules_of_identity_are_compared_as_well(engine: Engine, config: Config, folder: Path) -> None:
    """They are no fields, and stand in the same files."""
    (folder / "academy.yaml").write_text("connection: academy\nidentity: {exclude_domains: [acme.com]}\n")
    [line] = said(engine, config, folder)
    assert line.what == "not published: rules/ (1 entry other than in rule set 1)"


def test_files_that_cannot_be_read_are_said_with_their_lines(engine: Engine, config: Config, folder: Path) -> None:
    """What is published stays in force, so nothing has failed."""
    (folder / "crm.yaml").write_text("connection: nobody\ncontact: {}\n")
    [line] = said(engine, config, folder)
    assert line.level == "warning"
    assert "crm.yaml:1" in line.what
    assert "rule set 1 stays in force" in line.advice
