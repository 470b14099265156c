"""Turns of work that can wait: one of a kind at a time, and none that holds a worker for ever."""

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from tasks import aside
from tests.processes import until

SLEEP = "import sys, time; open(sys.argv[1], 'a').write('x'); time.sleep(60)"


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Let turns be processes that note their beginning in a file, and sleep."""
    notes, real = tmp_path / "notes", subprocess.Popen

    def sleeping(_: Any, **how: Any) -> "subprocess.Popen[bytes]":
        return real([sys.executable, "-c", SLEEP, str(notes)], **how)

    monkeypatch.setattr(subprocess, "Popen", sleeping)
    return notes


def test_a_turn_is_not_begun_twice_and_ends_when_the_worker_stops(turns: Path) -> None:
    """Whoever rings meanwhile is told that nothing is left to do; a stopping worker does not wait for it."""
    found: list[bool] = []
    worker = threading.Thread(target=lambda: found.append(aside.work("crm", "contact.reconcile")))
    worker.start()
    until(lambda: turns.exists() and turns.read_text() == "x")
    assert not aside.work("crm", "contact.reconcile")
    assert turns.read_text() == "x"
    aside.end()
    worker.join(20)
    assert found == [False]


def test_a_turn_that_hangs_is_ended(turns: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the next one may begin."""
    monkeypatch.setattr(aside, "LONGEST_SECONDS", 0.5)
    assert not aside.work("crm", "contact.reconcile")
    assert not aside.work("crm", "contact.reconcile")


def test_where_no_process_can_be_started_the_sweeper_rings_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The task does not fail for that."""

    def refused(*_: Any, **__: Any) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refused)
    assert not aside.work("crm", "contact.reconcile")


@pytest.mark.parametrize(("code", "more"), [(aside.MORE, True), (0, False), (1, False)])
def test_the_exit_code_says_whether_there_is_more(monkeypatch: pytest.MonkeyPatch, code: int, *, more: bool) -> None:
    """One that was killed has nothing more to say."""
    real = subprocess.Popen

    def ending(_: Any, **how: Any) -> "subprocess.Popen[bytes]":
        return real([sys.executable, "-c", f"raise SystemExit({code})"], **how)

    monkeypatch.setattr(subprocess, "Popen", ending)
    assert aside.work("crm", "contact.reconcile") is more
