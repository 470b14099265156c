"""The output of several processes as one stream."""

import io
import os
import time

import pytest

from tasks import console
from tasks.console import Console


def test_a_paused_terminal_costs_lines_and_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """When nobody reads, lines are dropped and counted, and who speaks is not held up."""
    monkeypatch.setattr(console, "BACKLOG", 10)
    monkeypatch.setattr(console, "PATIENCE", 0.1)
    reading, writing = os.pipe()
    with os.fdopen(writing, "w", encoding="utf-8") as out, os.fdopen(reading, "rb", buffering=0) as terminal:
        printed = Console(out, ["web"])
        began = time.monotonic()
        for _ in range(200):
            printed.say("web", "x" * 4096)
        assert time.monotonic() - began < 5
        seen = b""
        while b"lines were not printed" not in seen:
            seen += terminal.read(1 << 16)
            printed.say("web", "more")
        printed.close()


def test_names_are_coloured_for_people_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Colour on a terminal, none in a file or where NO_COLOR is set."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    def shown(out: io.StringIO) -> str:
        printed = Console(out, ["web"])
        printed.say("web", "hello")
        printed.close()
        return out.getvalue()

    monkeypatch.delenv("NO_COLOR", raising=False)
    assert shown(Terminal()) == "\x1b[36mweb |\x1b[0m hello\n"
    assert shown(io.StringIO()) == "web | hello\n"
    monkeypatch.setenv("NO_COLOR", "1")
    assert shown(Terminal()) == "web | hello\n"
