"""The worker as it ships, but for one learner whose events end the process at once, as a crash in a C library does."""

import os
import signal
import sys

from integration.connectors.lms.standard import Standard
from integration.model.events import LearningEvent
from tasks.cli import main

POISON = b"u-poison"


_sound = Standard.translate


def _fragile(self: Standard, payload: bytes) -> list[LearningEvent]:
    """Translate anybody's event but one."""
    if POISON in payload:
        os.kill(os.getpid(), signal.SIGKILL)
    return _sound(self, payload)


if __name__ == "__main__":
    Standard.translate = _fragile  # type: ignore[method-assign]
    sys.argv = ["coursewire", "worker"]
    main()
