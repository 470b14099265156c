"""The rows of the table, in the order in which they are shown."""

from collections.abc import Mapping

from scripts.bench.figures import Row
from scripts.bench.rows import accept, beside, burst, history, limited, live, memory, night, plan, recovery

__all__ = ["ROWS"]

MEASURED = (
    accept.ROW,
    burst.ROW,
    live.ROW,
    limited.ROW,
    memory.ROW,
    recovery.ROW,
    plan.ROW,
    night.ROW,
    beside.ROW,
    history.ROW,
)

ROWS: Mapping[str, Row] = {row.key: row for row in MEASURED}
