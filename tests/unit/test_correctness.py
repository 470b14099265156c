"""docs/correctness.md: every rule has its line, and every test it names exists."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs/correctness.md").read_text("utf-8")
RULES = 26
LINES = [[cell.strip() for cell in line.split("|")[1:-1]] for line in TEXT.splitlines() if re.match(r"\| \d+ \|", line)]
NAMED = sorted(set(re.findall(r"`(\w+)/(test_\w+)::(test_\w+)`", TEXT)))


def test_every_rule_has_one_line() -> None:
    """Rules 1 to 26, in order."""
    assert [int(number) for number, *_ in LINES] == list(range(1, RULES + 1))


@pytest.mark.parametrize("line", LINES, ids=lambda line: f"rule {line[0]}")
def test_a_rule_is_proven_or_said_to_be_absent(line: list[str]) -> None:
    """A rule that applies names where it is decided and at least one test; the others say that they are not here."""
    _, _, place, proof = line
    assert (place == "not here yet") == (proof == "")
    assert proof == "" or re.search(r"`\w+/test_\w+::test_\w+`", proof)


@pytest.mark.parametrize(("folder", "file", "test"), NAMED, ids="::".join)
def test_a_test_that_is_named_exists(folder: str, file: str, test: str) -> None:
    """The file is there and has a test function of this name."""
    tree = ast.parse((ROOT / "tests" / folder / f"{file}.py").read_text("utf-8"))
    assert test in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_the_words_in_code_marks_exist() -> None:
    """A name of the code that stands beside a file is in that file, or in another one of the same line."""
    for _, _, place, _ in LINES:
        files = re.findall(r"\]\(\.\./([\w/.]+)\)", place)
        code = "".join((ROOT / file).read_text("utf-8") for file in files)
        known = code + (ROOT / "integration/storage/sync_state.py").read_text("utf-8")
        known += (ROOT / "integration/storage/events.py").read_text("utf-8")
        for name in re.findall(r"(?<!\[)`(\w+)`", place):
            assert name in known, name
