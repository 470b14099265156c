"""The documents say what the program does: variables, commands, reasons, metrics, tables and links."""

import re
from pathlib import Path
from typing import get_args

import pytest
import typer
import yaml

import mappings.tables
from integration.config import UnknownPerson
from integration.errors import Reason
from integration.model.events import EventType
from integration.model.identity import DeletedContact, LookUp, SameEmail
from integration.settings import Settings
from integration.storage.tables import Base
from mappings.canonical import CANONICAL, UNIQUE
from mappings.identity import ENTRIES, Side
from mappings.rules import WriteRule
from tasks.cli import app

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def page(name: str) -> str:
    """Return a page's text."""
    return (ROOT / name).read_text(encoding="utf-8")


def test_every_variable_is_explained() -> None:
    """The operations page names each setting, and none that does not exist."""
    named = set(re.findall(r"COURSEWIRE_[A-Z_]+[A-Z]", page("docs/operations.md")))
    assert named == {f"COURSEWIRE_{name.upper()}" for name in Settings.model_fields}


def test_the_defaults_named_are_the_defaults() -> None:
    """Port and concurrency on the page are those of the settings."""
    text = page("docs/operations.md")
    fields = Settings.model_fields
    assert f"`{fields['port'].default}`" in text
    assert f"`COURSEWIRE_WORKER_CONCURRENCY` | `{fields['worker_concurrency'].default}`" in text


def test_commands_in_the_documents_exist() -> None:
    """Every `coursewire …` a reader is told to type is a command, with the sub-command it is told with."""
    root = typer.main.get_command(app)
    names = root.list_commands(typer.Context(root))  # type: ignore[attr-defined]
    known = {name: getattr(root.get_command(typer.Context(root), name), "commands", {}) for name in names}  # type: ignore[attr-defined]
    for path in PAGES:
        for name, sub in re.findall(r"`(?:\.venv/bin/)?coursewire ([a-z-]+)(?: ([a-z]+))?", path.read_text("utf-8")):
            assert name in known, f"{path.name}: coursewire {name}"
            if known[name] and sub:
                assert sub in known[name], f"{path.name}: coursewire {name} {sub}"


def test_answers_and_types_on_the_events_page_exist() -> None:
    """Reasons of the endpoint and event types on the page are those of the code, all of them."""
    text = page("docs/events.md")
    answers = text[text.index("## Answers") :]
    named = set(re.findall(r"`([a-z]+_[a-z_]+)`", answers))
    assert named <= {reason.value for reason in Reason}
    for member in EventType:
        assert member.value.rpartition(".")[2] in text


def test_metrics_on_the_operations_page_exist() -> None:
    """Each metric to alert on is one the exporter has."""
    code = "".join(page(f"integration/observability/{name}.py") for name in ("books", "metrics", "nights"))
    for name in set(re.findall(r"coursewire_[a-z_]+", page("docs/operations.md"))):
        assert name.removesuffix("_total") in code, name


def test_every_table_is_in_the_architecture() -> None:
    """The table of tables names each one there is."""
    assert mappings.tables
    text = page("docs/architecture.md")
    assert [name for name in Base.metadata.tables if f"`{name}`" not in text] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    """Links to files of the project are not broken."""
    for target in re.findall(r"\]\(([^)#]+)", path.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_every_identity_rule_is_explained() -> None:
    """Each key of both sides, and each answer it takes, is on the page; each YAML block there is one that loads."""
    text = page("docs/identity.md")
    for entry in ENTRIES.values():
        assert all(f"| `{name}` |" in text for name in entry.model_fields)
    answers = {*get_args(LookUp), *get_args(SameEmail), *get_args(UnknownPerson), *get_args(DeletedContact), *UNIQUE}
    assert all(f"`{answer}`" in text for answer in answers)
    for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL):
        said = yaml.safe_load(block)
        side: Side = "contacts" if said.get("connection") == "crm" else "learners"
        ENTRIES[side].model_validate(said["identity"])


def test_the_canonical_fields_on_the_rules_page_are_the_code_s() -> None:
    """Every field with its type and meaning, and every rule of ownership."""
    text = page("docs/rules.md")
    for name, known in CANONICAL.items():
        each = f", for each {known.key}" if known.key else ""
        assert f"| `{name}` | {known.type}{each} | {known.meaning} |" in text
    assert all(f"`{rule}`" in text for rule in get_args(WriteRule))
