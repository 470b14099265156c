"""What the CRM of the benchmark must show in the end, looked at with every write: since when is each contact right?"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from scripts.sandbox.truth import Properties

__all__ = ["Expectation"]


@dataclass(slots=True)
class Expectation:
    """Expected properties by e-mail, who is not right yet, and since when each of the others is.

    Times are `time.monotonic`, of the arrival of the call that made a contact right.
    """

    expected: dict[str, Properties] = field(default_factory=dict)
    wrong: set[str] = field(default_factory=set)
    right_since: dict[str, float] = field(default_factory=dict)
    spoilt: int = 0

    @classmethod
    def of(cls, expected: dict[str, Properties]) -> "Expectation":
        """Expect this; nobody is right before somebody writes."""
        return cls(expected, set(expected))

    def see(self, properties: Mapping[str, str], at: float) -> None:
        """Look at a contact that was just written."""
        email = properties.get("email", "")
        expected = self.expected.get(email)
        if expected is None:
            return
        if all(properties.get(name, "") == value for name, value in expected.items()):
            if email in self.wrong:
                self.wrong.discard(email)
                self.right_since[email] = at
        elif email not in self.wrong:
            self.wrong.add(email)
            self.spoilt += 1  # it was right, and an older state was written over it

    def right_at(self) -> float | None:
        """When the last contact became right; None while one is not."""
        return None if self.wrong else max(self.right_since.values(), default=0.0)
