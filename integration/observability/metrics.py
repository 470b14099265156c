"""Prometheus metrics of this process; what must survive a process is asked of Postgres by `books`."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY = CollectorRegistry()

ANSWERS = Counter(
    "coursewire_webhook_answers", "Answers of the endpoint.", ("connection", "status", "reason"), registry=REGISTRY
)
ANSWER_SECONDS = Histogram(
    "coursewire_webhook_answer_seconds",
    "Time from a request's head to its answer.",
    ("connection",),
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
    registry=REGISTRY,
)
RECONCILE_INTERVAL = Gauge(
    "coursewire_reconcile_interval_seconds",
    "How often contacts are to be compared; absent where they never are.",
    ("connection",),
    registry=REGISTRY,
)
