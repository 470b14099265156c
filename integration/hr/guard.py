"""What a file may not do before somebody was asked: a file that was cut off looks like everybody leaving."""

from integration.files.pickup import PickupGuard
from integration.storage.hr_rows import Counted

_WHOLE = 100


def stops(counted: Counted, before: int | None, guard: PickupGuard) -> list[str]:
    """Return why a file must wait, a sentence each; `before`: how many the last full file named, None = no matter."""
    found = []
    if counted.leavers > guard.leavers:
        found.append(f"{counted.leavers} people would become leavers, {guard.leavers} may")
    if before and counted.employees * _WHOLE < before * (_WHOLE - guard.percent):
        fell = (before - counted.employees) * _WHOLE // before
        found.append(f"it names {counted.employees}, the last one {before}: {fell} percent fewer, {guard.percent} may")
    return found
