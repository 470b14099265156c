"""Calls to other systems per minute and outcome: figures that survive the worker that made them."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from integration.storage.statement import execute

_ADD = """
INSERT INTO api_calls AS c (connection, operation, minute, outcome, calls, records, seconds)
SELECT %(connection)s, t.operation, date_trunc('minute', t.minute), t.outcome, t.calls, t.records, t.seconds
FROM unnest(%(operation)s::text[], %(minute)s::timestamptz[], %(outcome)s::text[], %(calls)s::bigint[],
            %(records)s::bigint[], %(seconds)s::float8[]) AS t(operation, minute, outcome, calls, records, seconds)
ORDER BY 2, 3, 4
ON CONFLICT (connection, operation, minute, outcome) DO UPDATE
SET calls = c.calls + excluded.calls, records = c.records + excluded.records, seconds = c.seconds + excluded.seconds
"""


@dataclass(frozen=True, slots=True)
class Call:
    """One request: `outcome` is the HTTP status, or the reason why there was none; `seconds` it took."""

    operation: str
    at: datetime
    outcome: str
    records: int
    seconds: float


def add(db: Connection, connection: str, calls: Iterable[Call]) -> None:
    """Count calls."""
    sums: dict[tuple[str, datetime, str], list[float]] = defaultdict(lambda: [0, 0, 0.0])
    for call in calls:
        total = sums[call.operation, call.at.replace(second=0, microsecond=0), call.outcome]
        total[0], total[1], total[2] = total[0] + 1, total[1] + call.records, total[2] + call.seconds
    if sums:
        values = {
            "connection": connection,
            "operation": [operation for operation, _, _ in sums],
            "minute": [minute for _, minute, _ in sums],
            "outcome": [outcome for _, _, outcome in sums],
            "calls": [int(total[0]) for total in sums.values()],
            "records": [int(total[1]) for total in sums.values()],
            "seconds": [total[2] for total in sums.values()],
        }
        execute(db, _ADD, values)
