"""A command that is forked is the command that the interpreter starts, and nothing of it is left for the next one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.forked import run_command
from tests.processes import environment


@pytest.mark.parametrize(("words", "code"), [(["--help"], 0), (["events", "nonsense"], 2), (["check"], 1)])
def test_it_says_and_ends_as_one_that_was_started(tmp_path: Path, words: list[str], code: int) -> None:
    """Output, error output and exit code are the same, to the letter."""
    env = environment(tmp_path, database_url="postgresql://u:p@127.0.0.1:9/x", broker_url="redis://127.0.0.1:9/0")
    started = subprocess.run(
        [sys.executable, "-m", "tasks.cli", *words], env=env, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    forked = run_command(words, env=env, cwd=tmp_path)
    assert (forked.returncode, forked.stdout, forked.stderr) == (started.returncode, started.stdout, started.stderr)
    assert forked.returncode == code


def test_environment_and_folder_are_its_own(tmp_path: Path) -> None:
    """What one command is told, the next one does not know, nor do the tests."""
    before, here = dict(os.environ), Path.cwd()
    plain = environment(tmp_path)
    first, narrow, last = (
        run_command(["--help"], env=env, cwd=tmp_path).stdout for env in (plain, plain | {"COLUMNS": "44"}, plain)
    )
    assert len(narrow.splitlines()) > len(first.splitlines()), "a narrow terminal needs more lines"
    assert last == first
    assert (dict(os.environ), Path.cwd()) == (before, here)
