"""The calls that connectors make, on their way from the thread that made them into the database and the budget."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime

from integration.connectors.client import CallRecord
from integration.delivery.budget import Budget
from integration.storage.calls import Call


class CallLog(threading.local):
    """The calls a connector made in this thread, on their way into the database."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def note(self, record: CallRecord) -> None:
        """Take down one call; the connector's hook."""
        outcome = str(record.status) if record.status is not None else str(record.failure)
        self.calls.append(Call(record.operation, datetime.now(UTC), outcome, record.records, record.seconds))

    def take(self) -> list[Call]:
        """Hand over the calls made in this thread since the last time."""
        taken, self.calls = self.calls, []
        return taken


def hearing(log: CallLog, budget: Budget) -> Callable[[CallRecord], None]:
    """Return a connector's hook: each call is taken down, and its answer teaches the budget."""

    def hear(record: CallRecord) -> None:
        log.note(record)
        budget.learn(record.endpoint, record.limits, record.status, record.retry_after)

    return hear
