"""HubSpot's two limits, calls in any ten seconds and calls a day, with their headers and bodies."""

import time
import uuid
from collections import deque
from dataclasses import dataclass, field
from typing import Any

__all__ = ["RateLimit"]

WINDOW_SECONDS = 10.0


@dataclass(slots=True)
class RateLimit:
    """A rolling window and a daily count; a refused call spends neither."""

    rate: int = 100
    daily: int = 250_000
    retry_after: int | None = None
    spent_today: int = 0
    _window: deque[float] = field(default_factory=deque)

    def admit(self) -> dict[str, Any] | None:
        """Spend one call, or return the body of the 429."""
        now = time.monotonic()
        self._forget(now)
        if self.spent_today >= self.daily:
            return _refused("DAILY", "You have reached your daily limit.")
        if len(self._window) >= self.rate:
            return _refused("TEN_SECONDLY_ROLLING", "You have reached your ten_secondly_rolling limit.")
        self._window.append(now)
        self.spent_today += 1
        return None

    def headers(self, *, refused: bool = False) -> dict[str, str]:
        """The limit headers as they stand, with Retry-After on a refusal where it is switched on."""
        self._forget(time.monotonic())
        answer = {
            "X-HubSpot-RateLimit-Max": str(self.rate),
            "X-HubSpot-RateLimit-Remaining": str(max(0, self.rate - len(self._window))),
            "X-HubSpot-RateLimit-Interval-Milliseconds": "10000",
            "X-HubSpot-RateLimit-Daily": str(self.daily),
            "X-HubSpot-RateLimit-Daily-Remaining": str(max(0, self.daily - self.spent_today)),
        }
        if refused and self.retry_after is not None:
            answer["Retry-After"] = str(self.retry_after)
        return answer

    def restart(self) -> None:
        """Give the whole budget back."""
        self._window.clear()
        self.spent_today = 0

    def _forget(self, now: float) -> None:
        while self._window and self._window[0] <= now - WINDOW_SECONDS:
            self._window.popleft()


def _refused(policy: str, message: str) -> dict[str, Any]:
    return {
        "status": "error",
        "message": message,
        "errorType": "RATE_LIMIT",
        "correlationId": str(uuid.uuid4()),
        "policyName": policy,
        "requestId": str(uuid.uuid4()),
    }
