"""An LMS that signs and sends Standard Webhooks, and like a real one tries again until somebody says 2xx.

The signer is written from the published scheme alone: it judges the product's verifier.
"""

import base64
import hashlib
import heapq
import hmac
import random
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Unpack

import requests

from scripts.sandbox.catalogue import Course
from scripts.sandbox.deliveries import Delivery, Details, Learner, compose

__all__ = ["Attempt", "LmsSandbox", "SendReport", "sign"]


def sign(secret: str, webhook_id: str, timestamp: int, body: bytes) -> str:
    """The `webhook-signature` of a body, for a secret written as `whsec_` and base64."""
    key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    content = b".".join((webhook_id.encode(), str(timestamp).encode(), body))
    return "v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to deliver: the status, or 0 and the name of the error where no answer came."""

    webhook_id: str
    number: int
    at: float
    seconds: float
    status: int
    error: str | None = None
    body: str = ""


@dataclass(slots=True)
class SendReport:
    """What became of one `send`."""

    attempts: list[Attempt] = field(default_factory=list)
    accepted: list[Delivery] = field(default_factory=list)
    given_up: list[Delivery] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def statuses(self) -> dict[str, int]:
        """How often each status, or each error, came back."""
        return dict(Counter(one.error or str(one.status) for one in self.attempts))

    @property
    def rate(self) -> float:
        """Accepted deliveries a second."""
        return len(self.accepted) / self.seconds if self.seconds else 0.0

    def latency(self, percent: float) -> float:
        """The seconds within which this per cent of the answers came; 0 when none came."""
        answered = sorted(one.seconds for one in self.attempts if one.status)
        return answered[min(len(answered) - 1, int(len(answered) * percent / 100))] if answered else 0.0


class LmsSandbox:
    """One LMS connected to Coursewire: composes events, signs them, sends them and remembers the answers."""

    def __init__(
        self,
        base_url: str,
        connection: str,
        secret: str,
        *,
        max_attempts: int = 12,
        first_wait: float = 0.2,
        longest_wait: float = 5.0,
    ) -> None:
        self.url = f"{base_url.rstrip('/')}/webhooks/{connection}"
        self.connection = connection
        self.secret = secret
        self.log: list[Attempt] = []
        self.accepted: dict[str, Delivery] = {}
        self._max_attempts = max_attempts
        self._first_wait = first_wait
        self._longest_wait = longest_wait

    def event(
        self, event_type: str, learner: Learner, course: Course | None = None, **details: Unpack[Details]
    ) -> Delivery:
        """Write one event, ready to be sent."""
        return compose(event_type, learner, course, **details)

    def headers(self, delivery: Delivery, at: float | None = None) -> dict[str, str]:
        """The signed headers of one delivery, stamped now or at the given Unix time."""
        stamp = int(time.time() if at is None else at)
        return {
            "content-type": "application/json",
            "webhook-id": delivery.webhook_id,
            "webhook-timestamp": str(stamp),
            "webhook-signature": sign(self.secret, delivery.webhook_id, stamp, delivery.body),
        }

    def send(self, deliveries: Iterable[Delivery], concurrency: int = 16, timeout: float = 10.0) -> SendReport:
        """Send in the given order over so many connections; failures are sent again later, freshly signed."""
        report = SendReport()
        started = time.monotonic()
        outbox = _Outbox(deliveries)
        threads = [
            threading.Thread(target=self._work, args=(outbox, report, timeout, random.Random(n)), daemon=True)
            for n in range(concurrency)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        report.seconds = time.monotonic() - started
        self.log += report.attempts
        self.accepted.update((one.webhook_id, one) for one in report.accepted)
        return report

    def _work(self, outbox: "_Outbox", report: SendReport, timeout: float, dice: random.Random) -> None:
        with requests.Session() as session:
            session.trust_env = False
            while (taken := outbox.take()) is not None:
                delivery, number = taken
                attempt = self._try(session, delivery, number, timeout)
                report.attempts.append(attempt)
                if 200 <= attempt.status < 300:
                    report.accepted.append(delivery)
                    outbox.done()
                elif number >= self._max_attempts:
                    report.given_up.append(delivery)
                    outbox.done()
                else:
                    wait = min(self._longest_wait, self._first_wait * 2 ** (number - 1))
                    outbox.again(delivery, number + 1, wait * dice.uniform(0.5, 1.0))

    def _try(self, session: requests.Session, delivery: Delivery, number: int, timeout: float) -> Attempt:
        at, started = time.time(), time.perf_counter()
        try:
            answer = session.post(
                self.url,
                data=delivery.body,
                headers=self.headers(delivery),
                timeout=timeout,
                allow_redirects=False,
            )
        except requests.RequestException as error:
            name = type(error).__name__
            return Attempt(delivery.webhook_id, number, at, time.perf_counter() - started, 0, name)
        took = time.perf_counter() - started
        return Attempt(delivery.webhook_id, number, at, took, answer.status_code, None, answer.text[:500])


class _Outbox:
    """Deliveries waiting for their time; empty only when none waits and none is on its way."""

    def __init__(self, deliveries: Iterable[Delivery]) -> None:
        self._heap: list[tuple[float, int, Delivery, int]] = [(0.0, n, one, 1) for n, one in enumerate(deliveries)]
        self._counter = len(self._heap)
        self._open = len(self._heap)
        self._changed = threading.Condition()

    def take(self) -> tuple[Delivery, int] | None:
        """The next delivery that is due and the number of the try; None when all is over."""
        with self._changed:
            while self._open:
                wait = self._heap[0][0] - time.monotonic() if self._heap else None
                if wait is not None and wait <= 0:
                    _, _, delivery, number = heapq.heappop(self._heap)
                    return delivery, number
                self._changed.wait(wait)
            return None

    def done(self) -> None:
        """Count a delivery as settled."""
        with self._changed:
            self._open -= 1
            if not self._open:
                self._changed.notify_all()

    def again(self, delivery: Delivery, number: int, wait: float) -> None:
        """Put a delivery back for another try after `wait` seconds."""
        with self._changed:
            self._counter += 1
            heapq.heappush(self._heap, (time.monotonic() + wait, self._counter, delivery, number))
            self._changed.notify_all()
