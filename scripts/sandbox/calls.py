"""Every call the portal saw: when, what, how many inputs, which answer, and whether the fault was ours."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["CallLog", "CallRecord"]

WINDOW_SECONDS = 10.0


@dataclass(slots=True)
class CallRecord:
    """One call; status 0 means the caller got no answer (yet)."""

    number: int
    at: float
    operation: str
    version: str
    inputs: int = 0
    status: int = 0
    injected: str | None = None
    processed: bool = False
    seconds: float = 0.0


@dataclass(slots=True)
class CallLog:
    """The calls since the last reset, in order of arrival."""

    records: list[CallRecord] = field(default_factory=list)

    def open(self, at: float, operation: str, version: str) -> CallRecord:
        """Note the arrival of a call."""
        record = CallRecord(len(self.records) + 1, at, operation, version)
        self.records.append(record)
        return record

    def documents(self, since: int = 0) -> list[dict[str, Any]]:
        """The calls after number `since`."""
        return [asdict(one) for one in self.records[since:]]

    def stats(self) -> dict[str, Any]:
        """Calls by operation and status, inputs, injected faults and the busiest ten seconds."""
        calls: dict[str, Counter[str]] = {}
        inputs: Counter[str] = Counter()
        injected: Counter[str] = Counter()
        for one in self.records:
            calls.setdefault(one.operation, Counter())[str(one.status)] += 1
            inputs[one.operation] += one.inputs
            if one.injected:
                injected[one.injected] += 1
        admitted = [one.at for one in self.records if one.status not in (401, 429) or one.injected]
        return {
            "total": len(self.records),
            "calls": calls,
            "inputs": inputs,
            "injected": injected,
            "limited": sum(1 for one in self.records if one.status == 429 and not one.injected),
            "max_calls_in_10s": busiest(one.at for one in self.records),
            "max_admitted_in_10s": busiest(admitted),
            "first_at": self.records[0].at if self.records else None,
            "last_at": self.records[-1].at if self.records else None,
        }


def busiest(arrivals: Iterable[float]) -> int:
    """The most arrivals in any ten seconds."""
    times = sorted(arrivals)
    start = most = 0
    for end, at in enumerate(times):
        while times[start] <= at - WINDOW_SECONDS:
            start += 1
        most = max(most, end - start + 1)
    return most
