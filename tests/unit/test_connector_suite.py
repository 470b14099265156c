"""A registered system that is not held to the suite, or not explained, fails the build."""

import re
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from integration.connectors.registry import TABLE, System
from integration.ports import Capabilities
from tests.contract import suite, test_suite_canvas, test_suite_hubspot

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs/connectors.md").read_text("utf-8")
CANVAS = next(system for system in TABLE if system.name == "canvas")
DEADLINES = {"native": "shown", "access_window": "never sent", "none": ""}
LISTED = {"nothing": "", "changes": "changes", "everything": "everything"}


def test_every_system_is_run_through_the_suite() -> None:
    """Each port of each registered system has its class of promises, whole."""
    assert suite.missing(TABLE) == []
    # Whose users are pushed in has no connector that could keep a promise: tests/db/test_scim_requests.py has its own.
    assert all(suite.demanded(system) or system.tokens for system in TABLE)


def test_a_system_without_its_test_is_named() -> None:
    """A new line of the table alone is not enough, and says which file is missing."""
    newcomer = CANVAS._replace(name="newcomer")
    assert suite.missing([*TABLE, newcomer]) == ["newcomer: there is no tests/contract/test_suite_newcomer.py"]


def test_each_port_has_its_own_promises() -> None:
    """A system that learns a new port needs that port's promises too."""
    able = CANVAS._replace(contacts=TABLE[1].contacts)
    assert suite.missing([able]) == ["canvas: test_suite_canvas.py has no Test class of ContactPromises"]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"test_the_catalogue_is_whole": None}, "test_the_catalogue_is_whole"),
        ({"test_users_are_found_by_each_key": lambda _: None}, "test_users_are_found_by_each_key"),
        ({"pytestmark": [pytest.mark.skip]}, "what its mark skips"),
        ({"__test__": False}, "what its mark skips"),
    ],
)
def test_no_promise_is_left_out(monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], line: str) -> None:
    """A class that replaces, skips or drops one of them is named with it."""
    filled = test_suite_canvas.TestEnrollments
    monkeypatch.setattr(test_suite_canvas, "TestEnrollments", type("TestEnrollments", (filled,), change))
    assert suite.missing([CANVAS]) == [f"canvas: TestEnrollments leaves out {line}"]


@pytest.mark.parametrize(("module", "name"), [(test_suite_canvas, "TestInbound"), (test_suite_hubspot, "TestContacts")])
def test_what_is_not_collected_does_not_count(monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str) -> None:
    """A class that pytest does not find by its name keeps nothing."""
    monkeypatch.setattr(module, f"Former{name}", getattr(module, name), raising=False)
    monkeypatch.delattr(module, name)
    assert len(suite.missing(TABLE)) == 1


def test_each_system_has_a_page() -> None:
    """The guide leads to a page of every system's own, and shows what it can do as the code declares it."""
    for system in TABLE:
        (row,) = re.findall(rf"^\| `{system.name}` \|.*$", GUIDE, re.MULTILINE)
        assert row == _row(system, pages=re.findall(r"\(([\w-]+\.md)\)", row))
    named = re.findall(r"^\| `(\w+)` \| \[", GUIDE, re.MULTILINE)
    assert named == [system.name for system in TABLE]


def test_the_guide_explains_every_capability() -> None:
    """Each field of Capabilities, each factory of a system, each method of the suite's stages is in the guide."""
    factories = [name for name in System._fields if name not in ("name", "title", "capabilities")]
    stages: Sequence[type[Any]] = (suite.Sender, suite.Lms, suite.Results, suite.Crm)
    methods = [name for stage in stages for name in stage.__abstractmethods__]
    for name in (*Capabilities._fields, *factories, *methods):
        assert f"`{name}" in GUIDE, name


def test_the_guide_is_found() -> None:
    """The read-me and the architecture lead to it."""
    assert "docs/connectors.md" in (ROOT / "README.md").read_text("utf-8")
    assert "(connectors.md)" in (ROOT / "docs/architecture.md").read_text("utf-8")


def _row(system: System, pages: Sequence[str]) -> str:
    """Return a system's line of the table, with the pages that it names itself; at least one of them is its own."""
    own = [page for page in pages if page.startswith(system.name.replace("_", "-"))]
    assert any((ROOT / "docs" / page).exists() for page in own)
    able = system.capabilities
    links = ", ".join(f"[{page.removesuffix('.md')}]({page})" for page in pages)
    cells = [
        links,
        "yes" if able.receives_webhooks else "",
        "yes" if able.enrolls else "",
        DEADLINES[able.due_dates] if able.enrolls else "",
        LISTED[able.lists_results],
        "yes" if able.holds_contacts else "",
        str(able.batch_size) if able.enrolls or able.holds_contacts else "",
        "; ".join(f"{name}: {rate.calls} in {rate.seconds:g} s" for name, rate in able.rates.items()),
    ]
    return f"| `{system.name}` | " + " | ".join(cells) + " |"
