"""The parent's side of the benchmark's CRM."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import requests

from scripts.bench.crm import CONTROL
from scripts.bench.process import BenchFailed, Process
from scripts.sandbox.truth import Properties, compare

__all__ = ["Crm", "State"]

LISTENING = re.compile(r"^listening (\d+)$", re.MULTILINE)
WRITES = ("contacts.batch_update", "contacts.batch_upsert")
READS = ("contacts.batch_read", "contacts.list")


@dataclass(frozen=True, slots=True)
class State:
    """How far the CRM is: who is not right, when the last one became so (`time.monotonic`), calls by answer."""

    wrong: int
    right_at: float | None
    spoilt: int
    calls: Mapping[str, int]
    last_call_at: float | None

    def count(self, operations: Iterable[str], *, status: str = "2") -> int:
        """How many calls of these operations were answered with a status that begins so."""
        wanted = tuple(f"{operation} {status}" for operation in operations)
        return sum(times for name, times in self.calls.items() if name.startswith(wanted))

    @property
    def writes(self) -> int:
        """Calls that wrote contacts."""
        return self.count(WRITES)

    @property
    def reads(self) -> int:
        """Calls that read contacts."""
        return self.count(READS)

    @property
    def refused(self) -> int:
        """Calls answered with 429."""
        return sum(times for name, times in self.calls.items() if name.endswith(" 429"))


class Crm:
    """Steers a CRM that runs in `process`."""

    def __init__(self, process: Process) -> None:
        process.await_(lambda: LISTENING.search(process.said()), "listening")
        found = LISTENING.search(process.said())
        assert found  # noqa: S101 - just seen
        self.process = process
        self.url = f"http://127.0.0.1:{found[1]}"
        self._truth: dict[str, Properties] = {}
        self._session = requests.Session()
        self._session.trust_env = False

    def begin(
        self,
        expected: Mapping[str, Properties],
        *,
        seeds: Iterable[Mapping[str, str]] = (),
        rate: int = 0,
        latency_ms: float = 40,
    ) -> None:
        """Forget everything; know `seeds`, wait for `expected`; allow `rate` calls in ten seconds (0: any number)."""
        self._truth = dict(expected)
        self._ask("begin", expected=expected, seeds=list(seeds), rate=rate, latency_ms=latency_ms)

    def expect(self, expected: Mapping[str, Properties]) -> None:
        """Keep the contacts, forget the calls, and wait for this as well."""
        self._truth |= expected
        self._ask("expect", expected=expected)

    def limit(self, rate: int) -> None:
        """Allow `rate` calls in ten seconds from now on, with a fresh budget."""
        self._ask("limit", rate=rate)

    def state(self) -> State:
        """How far it is."""
        return State(**self._ask("state"))

    def right_since(self) -> dict[str, float]:
        """By e-mail: when the call came that made the contact right."""
        found: dict[str, float] = self._ask("right")["right"]
        return found

    def require_truth(self) -> None:
        """Compare every contact with all that was ever expected; raises BenchFailed where one differs."""
        found = compare(self._truth, self._ask("contacts")["contacts"])
        if found:
            one = found[0]
            raise BenchFailed(
                f"wrong result: {len(found):,} properties differ from the truth, first {one.property} of "
                f"{one.email}: {one.actual!r} instead of {one.expected!r}"
            )

    def _ask(self, name: str, **body: Any) -> dict[str, Any]:
        answer = self._session.post(f"{self.url}{CONTROL}{name}", json=body, timeout=60)
        answer.raise_for_status()
        document: dict[str, Any] = answer.json()
        return document
