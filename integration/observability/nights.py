"""What the comparisons of contacts say of themselves, as metrics: when the last one was well, and what it found."""

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from sqlalchemy import Connection

from integration.model.reconciliation import DRIFT

# Who has never been well is as old as the first run that began; one that made all calls of a night was well that night.
_AGES = """
SELECT connection, extract(epoch FROM now() - coalesce(
           greatest(max(finished_at) FILTER (WHERE status = 'done'), max(rested_at)), min(started_at)))::float8
FROM reconciliations WHERE NOT is_dry GROUP BY connection
"""

_LAST = """
SELECT DISTINCT ON (connection) connection, counts, extract(epoch FROM finished_at - started_at)::float8 AS seconds
FROM reconciliations WHERE status = 'done' AND NOT is_dry ORDER BY connection, id DESC
"""


def families(db: Connection) -> list[Metric]:
    """Return the metrics of the last comparison of each connection."""
    labels = ["connection"]
    age = GaugeMetricFamily(
        "coursewire_reconcile_success_seconds", "Since comparing contacts last went well.", labels=labels
    )
    for connection, seconds in db.exec_driver_sql(_AGES):
        age.add_metric([connection], max(0.0, seconds))
    contacts = GaugeMetricFamily("coursewire_reconcile_contacts", "Contacts the last run compared.", labels=labels)
    drift = GaugeMetricFamily(
        "coursewire_reconcile_drift_ratio", "Share of them that differed where our word counts.", labels=labels
    )
    took = GaugeMetricFamily("coursewire_reconcile_seconds", "How long the last run took.", labels=labels)
    calls = GaugeMetricFamily("coursewire_reconcile_calls", "Calls the last run made to compare.", labels=labels)
    for connection, counts, seconds in db.exec_driver_sql(_LAST):
        compared = counts.get("contacts", 0)
        contacts.add_metric([connection], compared)
        drift.add_metric([connection], sum(counts.get(kind.value, 0) for kind in DRIFT) / compared if compared else 0.0)
        took.add_metric([connection], seconds)
        calls.add_metric([connection], counts.get("calls", 0))
    return [age, contacts, drift, took, calls]
