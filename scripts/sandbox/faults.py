"""Faults the portal injects on purpose: a seeded chance per call, a script call by call, or both."""

import random
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, cast, get_args

__all__ = ["Fault", "FaultKind", "FaultPlan", "fault"]

FaultKind = Literal[
    "rate_limited",  # 429 with Retry-After, not processed
    "error",  # `status` (500, 502, 503, 423, ...), not processed
    "drop",  # connection cut, not processed
    "processed_then_drop",  # connection cut after the work was done
    "hang",  # silence for `seconds`, then processed and answered, even if the caller is long gone
    "processed_then_hang",  # processed at once, the answer comes after `seconds`
    "drip",  # processed, the body trickles out over `seconds`
    "malformed",  # processed, the body is cut JSON
    "token_expired",  # 401, not processed
    "refuse_batch",  # 400 that names no record, not processed, where `word` stands in the body; else all is well
]


@dataclass(frozen=True, slots=True)
class Fault:
    """One way a call goes wrong; `probability`, `times` and `after` matter for chances, not for scripts.

    `after`: so many calls that it concerns pass first.

    Of a 429: `retry_after` in seconds (None: not said), written as a date where `as_date`, and the `policy` it names.
    """

    kind: FaultKind
    probability: float = 1.0
    times: int | None = None
    after: int = 0
    operations: tuple[str, ...] = ()
    status: int = 503
    retry_after: int | None = 1
    as_date: bool = False
    policy: str = "TEN_SECONDLY_ROLLING"
    seconds: float = 5.0
    word: str = ""

    @classmethod
    def of(cls, asked: Mapping[str, Any]) -> "Fault":
        """Read a fault from JSON; an unknown kind or name is an error."""
        if asked.get("kind") not in get_args(FaultKind):
            raise ValueError(f"unknown kind of fault: {asked.get('kind')!r}")
        return cls(**{**asked, "operations": tuple(asked.get("operations", ()))})

    def concerns(self, operation: str) -> bool:
        """Whether the fault may hit this operation; none named means all."""
        return not self.operations or operation in self.operations


@dataclass(slots=True)
class FaultPlan:
    """What goes wrong from now on: the script first, one entry per call it concerns, then the chances."""

    seed: int = 0
    script: deque[Fault | None] = field(default_factory=deque)
    chances: list[Fault] = field(default_factory=list)
    _random: random.Random = field(default_factory=lambda: random.Random(0))
    _struck: list[int] = field(default_factory=list)
    _met: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, asked: Mapping[str, Any]) -> "FaultPlan":
        """Read a plan from JSON: `seed`, `script` (null = this call is fine), `chances`."""
        seed = int(asked.get("seed", 0))
        script = [None if one is None else Fault.of(one) for one in asked.get("script", ())]
        chances = [Fault.of(one) for one in asked.get("chances", ())]
        return cls(seed, deque(script), chances, random.Random(seed), [0] * len(chances), [0] * len(chances))

    def strike(self, operation: str) -> Fault | None:
        """The fault for the call that just arrived, if any."""
        if self.script:
            following = self.script[0]
            if following is None or following.concerns(operation):
                return self.script.popleft()
        for n, fault in enumerate(self.chances):
            if not fault.concerns(operation) or (fault.times is not None and self._struck[n] >= fault.times):
                continue
            self._met[n] += 1
            if self._met[n] <= fault.after:
                continue
            if self._random.random() < fault.probability:
                self._struck[n] += 1
                return fault
        return None

    def document(self) -> dict[str, Any]:
        """The plan as it stands, for the control API."""
        return {
            "seed": self.seed,
            "script": [None if f is None else asdict(f) for f in self.script],
            "chances": [{**asdict(f), "struck": n} for f, n in zip(self.chances, self._struck, strict=True)],
        }


def fault(kind: str, **details: Any) -> dict[str, Any]:
    """Write a fault as the control API reads it, checked here so that a typing error fails in the test."""
    return asdict(Fault.of(cast("Mapping[str, Any]", {"kind": kind, **details})))
