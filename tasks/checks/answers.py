"""One answer of `coursewire check`, and how a question is asked so that it can neither hang nor spoil the others."""

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

SECONDS = 20.0
"""How long a question may take; connectors give up earlier by themselves."""

Level = Literal["ok", "warning", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class Line:
    """One answer; `advice` says what to do next where something is not well."""

    level: Level
    about: str
    what: str
    advice: str = ""


Answer = Callable[[], list[Line]]


def begin(about: str, question: Callable[[], list[Line]]) -> Answer:
    """Ask in a thread that the end of the program does not wait for; the result waits for the answer."""
    answers: queue.SimpleQueue[list[Line]] = queue.SimpleQueue()
    deadline = time.monotonic() + SECONDS

    def ask() -> None:
        try:
            answers.put(question())
        except Exception as error:  # noqa: BLE001 - a fault of one check must not end the others
            name = type(error).__name__
            answers.put([Line("failed", about, f"the check itself failed ({name})", "Report this, it is our fault.")])

    def wait() -> list[Line]:
        try:
            return answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            advice = "Look at the network, and whether the other side is frozen."
            return [Line("failed", about, f"there was no answer within {SECONDS:g} seconds", advice)]

    threading.Thread(target=ask, name=f"check-{about}", daemon=True).start()
    return wait
