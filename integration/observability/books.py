"""What must survive any process is asked of Postgres: do the books balance, what waits, and for how long.

One exporter for all of it, so the figures stay right while workers or the broker are dead (reliability 2.11).
"""

from collections.abc import Iterator
from threading import Lock
from time import monotonic
from typing import NamedTuple

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from psycopg.errors import QueryCanceled
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from integration.errors import Reason
from integration.model.contacts import WRITE_CONTACT
from integration.model.enrollments import WRITE_ENROLLMENT
from integration.observability import nights
from integration.observability.metrics import REGISTRY

FRESH_SECONDS = 5.0
"""How long figures are served again before Postgres is asked anew: a scraper must not become a load."""

# An event is written when every system its person is routed to has reached the version it led to (rule 24). Counted
# from the exceptions: all events are summed by their index, and only people who are not in step are looked at.
_STATES = """
SELECT status, count(*) FROM inbox WHERE status IN ('received', 'claimed') GROUP BY status
UNION ALL SELECT status, count(*) FROM inbox WHERE status NOT IN ('received', 'claimed') GROUP BY status
"""

_BEHIND = """
SELECT state, count(*) FROM (
    SELECT CASE WHEN bool_or(s.status = 'dead') THEN 'dead' WHEN bool_or(s.status = 'parked') THEN 'parked'
                ELSE 'waiting' END AS state
    FROM sync_state s JOIN inbox i ON i.person_id = s.subject_id AND i.status = 'done' AND i.person_version > s.written
    WHERE s.status <> 'in_step' AND s.operation = %(write)s GROUP BY i.id) AS behind
GROUP BY state
"""

_IGNORED = """
SELECT count(*) FROM inbox i
WHERE i.status = 'done' AND i.person_id IN (
    SELECT subject_id FROM sync_state WHERE operation = %(write)s
    GROUP BY subject_id HAVING bool_and(status = 'in_step' AND reason = %(ignored)s))
"""

_HELD_NOWHERE = """
SELECT count(*) FROM people p JOIN inbox i ON i.person_id = p.id AND i.status = 'done'
WHERE NOT EXISTS (SELECT FROM sync_state s WHERE s.subject_id = p.id AND s.operation = %(write)s)
"""

# What waits for the night is not late before the night.
_DUE = """
SELECT connection, operation, status, count(*) AS rows,
       coalesce(max(extract(epoch FROM now() - CASE WHEN lane = 0 THEN wanted_since ELSE not_before END))
                FILTER (WHERE status IN ('due', 'sending', 'waiting')), 0) AS oldest
FROM sync_state WHERE status <> 'in_step' GROUP BY 1, 2, 3
UNION ALL
SELECT connection, operation, CASE status WHEN 'pending' THEN 'waiting' ELSE status END, count(*),
       coalesce(max(extract(epoch FROM now() - created_at))
                FILTER (WHERE status = 'sending' OR status = 'pending' AND not_before <= now()), 0)
FROM deliveries WHERE status NOT IN ('delivered', 'cancelled') GROUP BY 1, 2, 3
UNION ALL
SELECT connection, %(enroll)s, status, count(*),
       coalesce(max(extract(epoch FROM now() - greatest(wanted_since, not_before)))
                FILTER (WHERE status IN ('due', 'sending', 'waiting')), 0)
FROM enrollments WHERE status <> 'in_step' GROUP BY 1, 3
"""

_INBOX_AGE = """
SELECT coalesce(max(extract(epoch FROM now() - received_at)), 0)
FROM inbox WHERE status IN ('received', 'claimed')
"""

# Of the worker that heard its canary last: when even that one is long ago, no worker consumes.
_CANARY = "SELECT min(extract(epoch FROM now() - greatest(started_at, heard_at))) FROM heartbeats"

_CALLS = "SELECT connection, operation, outcome, sum(calls)::bigint, sum(seconds) FROM api_calls GROUP BY 1, 2, 3"

# The forecast of delivery/forecast.py for all connections at once; a day that is over has all of its calls again.
_LIMITS = """
SELECT c.name, coalesce(c.limits -> 'rates', '{}') AS rates, d.resets_at,
       CASE WHEN d.resets_at <= now() THEN c.daily_limit ELSE c.daily_remaining END AS remaining,
       coalesce((c.limits ->> 'alone_at')::float8 > extract(epoch FROM now()) - 90, false) AS is_alone,
       extract(epoch FROM d.resets_at - now())::float8 AS rest,
       coalesce(a.calls / greatest(300, extract(epoch FROM now() - a.since)), 0)::float8 AS per_second
FROM connections c
CROSS JOIN LATERAL (SELECT to_timestamp((c.limits ->> 'resets_at')::float8) AS resets_at) d
LEFT JOIN (SELECT connection, sum(calls) AS calls, min(minute) AS since FROM api_calls
           WHERE minute >= now() - interval '1 hour' AND outcome NOT IN ('network_error', '429')
           GROUP BY connection) a ON a.connection = c.name
"""

_STREAMS = "SELECT connection, kind, state, last_heard_at FROM streams WHERE state <> 'unwatched'"

_STREAMS_AGE = "SELECT extract(epoch FROM now() - max(looked_at)) FROM streams"


class Books(NamedTuple):
    """Where every accepted event is. `unaccounted` is 0 whenever the system is quiet, or we have lost one."""

    accepted: int
    written: int
    ignored: int
    parked: int
    dead: int
    waiting: int

    @property
    def unaccounted(self) -> int:
        """What was accepted and is in no state."""
        return self.accepted - (self.written + self.ignored + self.parked + self.dead + self.waiting)


def balance(db: Connection) -> Books:
    """Return the books as one transaction sees them."""
    of = {"write": WRITE_CONTACT}
    accepted = db.exec_driver_sql("SELECT count(*) FROM inbox_keys").scalar_one()
    states: dict[str, int] = {state: count for state, count in db.exec_driver_sql(_STATES)}  # noqa: C416 - rows
    behind: dict[str, int] = {state: count for state, count in db.exec_driver_sql(_BEHIND, of)}  # noqa: C416 - rows
    ignored = db.exec_driver_sql(_IGNORED, of | {"ignored": Reason.PERSON_IGNORED.value}).scalar_one()
    nowhere = db.exec_driver_sql(_HELD_NOWHERE, of).scalar_one()
    return Books(
        accepted=accepted,
        written=states.get("done", 0) - sum(behind.values()) - ignored - nowhere,
        ignored=states.get("ignored", 0) + ignored,
        parked=states.get("parked", 0) + behind.get("parked", 0),
        dead=states.get("dead", 0) + behind.get("dead", 0),
        waiting=sum(states.get(open_, 0) for open_ in ("received", "claimed", "enriching")) + behind.get("waiting", 0),
    )


class _PostgresCollector:
    """Asks Postgres at most every FRESH_SECONDS; without Postgres it reports that, and nothing else."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = Lock()
        self._asked_at = -FRESH_SECONDS
        self._families: list[Metric] = []

    def collect(self) -> Iterator[Metric]:
        # One scrape asks; the others get what is known, or a frozen Postgres would hold a thread for each of them.
        if self._lock.acquire(blocking=False):
            try:
                if monotonic() - self._asked_at >= FRESH_SECONDS:
                    self._families = self._ask()
                    self._asked_at = monotonic()
            finally:
                self._lock.release()
        yield from self._families

    def _ask(self) -> list[Metric]:
        up = GaugeMetricFamily("coursewire_database_up", "Whether Postgres answered.")
        try:
            with self._engine.connect().execution_options(isolation_level="REPEATABLE READ") as db, db.begin():
                families = [
                    *_books_families(balance(db)),
                    *_due_families(db),
                    *_call_families(db),
                    *_limit_families(db),
                    *nights.families(db),
                    *_stream_families(db),
                ]
        except (DBAPIError, PoolTimeout) as error:
            # A count that took too long is no outage: the last figures stand.
            took_too_long = isinstance(getattr(error, "orig", None), QueryCanceled)
            up.add_metric([], int(took_too_long))
            return [up, *(self._families[1:] if took_too_long else [])]
        up.add_metric([], 1)
        return [up, *families]


def render(engine: Engine) -> tuple[bytes, str]:
    """Return the metrics of this process and of Postgres as text, and the text's media type."""
    registry = _registries.get(engine)
    if registry is None:
        registry = CollectorRegistry()
        registry.register(_PostgresCollector(engine))
        _registries[engine] = registry
    return generate_latest(REGISTRY) + generate_latest(registry), CONTENT_TYPE_LATEST


_registries: dict[Engine, CollectorRegistry] = {}


def _books_families(books: Books) -> list[Metric]:
    events = GaugeMetricFamily("coursewire_events", "Accepted events by where they are.", labels=["state"])
    for state, count in zip(Books._fields[1:], books[1:], strict=True):
        events.add_metric([state], count)
    accepted = GaugeMetricFamily("coursewire_accepted_events", "Events answered with 202.")
    accepted.add_metric([], books.accepted)
    missing = GaugeMetricFamily("coursewire_unaccounted_events", "Accepted events in no state; 0, or one is lost.")
    missing.add_metric([], books.unaccounted)
    return [events, accepted, missing]


def _due_families(db: Connection) -> list[Metric]:
    rows = GaugeMetricFamily(
        "coursewire_sync_rows",
        "People not in step, and activities not written, by state.",
        labels=["connection", "operation", "state"],
    )
    oldest = GaugeMetricFamily(
        "coursewire_sync_oldest_seconds", "The longest wait of a person.", labels=["connection", "operation", "state"]
    )
    for connection, operation, status, count, age in db.exec_driver_sql(_DUE, {"enroll": WRITE_ENROLLMENT}):
        rows.add_metric([connection, operation, status], count)
        oldest.add_metric([connection, operation, status], max(0.0, float(age)))
    inbox = GaugeMetricFamily("coursewire_inbox_oldest_seconds", "The longest wait of an event in the inbox.")
    inbox.add_metric([], float(db.exec_driver_sql(_INBOX_AGE).scalar_one()))
    canary = GaugeMetricFamily("coursewire_worker_canary_seconds", "How long no worker has heard its canary.")
    if (unheard := db.exec_driver_sql(_CANARY).scalar_one()) is not None:
        canary.add_metric([], float(unheard))
    return [rows, oldest, inbox, canary]


def _call_families(db: Connection) -> list[Metric]:
    labels = ["connection", "operation", "outcome"]
    calls = CounterMetricFamily("coursewire_api_calls", "Calls to other systems.", labels=labels)
    seconds = CounterMetricFamily("coursewire_api_seconds", "Time those calls took.", labels=labels)
    for connection, operation, outcome, count, took in db.exec_driver_sql(_CALLS):
        calls.add_metric([connection, operation, outcome], count)
        seconds.add_metric([connection, operation, outcome], took)
    return [calls, seconds]


def _limit_families(db: Connection) -> list[Metric]:
    limit = GaugeMetricFamily(
        "coursewire_call_limit", "Calls per second that an answer allowed.", labels=["connection", "class"]
    )
    alone = GaugeMetricFamily(
        "coursewire_budget_alone", "Whether a process had to count its calls by itself.", labels=["connection"]
    )
    remaining = GaugeMetricFamily(
        "coursewire_daily_calls_remaining", "Calls the account has left today.", labels=["connection"]
    )
    hit = GaugeMetricFamily(
        "coursewire_daily_cap_hit_seconds",
        "Until the daily cap is hit at the pace of the last hour; absent where that is not today.",
        labels=["connection"],
    )
    for row in db.exec_driver_sql(_LIMITS):
        for endpoint, (calls, seconds) in row.rates.items():
            limit.add_metric([row.name, endpoint], calls / seconds)
        alone.add_metric([row.name], int(row.is_alone))
        if row.remaining is None:
            continue
        remaining.add_metric([row.name], row.remaining)
        if row.remaining <= 0 or row.per_second * (row.rest or 0.0) > row.remaining:
            hit.add_metric([row.name], max(0.0, row.remaining / row.per_second) if row.per_second else 0.0)
    return [limit, alone, remaining, hit]


def _stream_families(db: Connection) -> list[Metric]:
    labels = ["connection", "kind"]
    silent = GaugeMetricFamily(
        "coursewire_silent_streams", "Whether a stream of webhooks is quiet that should talk.", labels=labels
    )
    heard = GaugeMetricFamily(
        "coursewire_stream_last_heard_timestamp_seconds", "When a stream of webhooks was last heard.", labels=labels
    )
    quiet = GaugeMetricFamily(
        "coursewire_all_quiet", "Whether nothing is heard of several connections that should talk: holiday or outage."
    )
    age = GaugeMetricFamily("coursewire_streams_looked_at_seconds", "How long ago streams were last looked at.")
    is_all_quiet = False
    for connection, kind, state, last_heard_at in db.exec_driver_sql(_STREAMS):
        silent.add_metric([connection, kind], int(state == "silent"))
        if last_heard_at:
            heard.add_metric([connection, kind], last_heard_at.timestamp())
        is_all_quiet = is_all_quiet or state == "all_quiet"
    quiet.add_metric([], int(is_all_quiet))
    if (looked := db.exec_driver_sql(_STREAMS_AGE).scalar_one()) is not None:
        age.add_metric([], max(0.0, float(looked)))
    return [silent, heard, quiet, age]
