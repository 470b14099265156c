"""What beat ticks: the sweeper, which rings what nobody rang, and the audit chain. Beat only ticks."""

from itertools import groupby
from typing import Any

from amqp.exceptions import ChannelError
from celery import shared_task
from sqlalchemy import Connection

from integration.enqueue import IDS
from integration.errors import Reason
from integration.hr.collector import COLLECT_FILES
from integration.model.contacts import CONTACT, WRITE_CONTACT
from integration.model.events import Kind
from integration.model.reconciliation import RECONCILE_CONTACTS
from integration.model.results import POLL_RESULTS
from integration.storage import (
    audit,
    connections,
    deliveries,
    enrollments,
    hr_looks,
    inbox,
    outlook,
    people,
    polls,
    quarantine,
    reconciliations,
    replays,
    sync_state,
)
from integration.storage.sync_state import BACKFILL, Want
from mappings import store
from tasks import asking, collecting, forsaken
from tasks.app import SYNC, app
from tasks.assembly import this_process
from tasks.listening import look
from tasks.nights import begin_due
from tasks.ringing import ring_connections, ring_failed, ring_inbox, ring_looks
from tasks.schedule import TICK_SECONDS, tick

SWEEP_SECONDS = 2.0
"""How often the sweeper looks: what a lost ring costs at most, beside QUIET_SECONDS."""
QUIET_SECONDS = 5.0
"""How long a row may wait unclaimed before it is rung for; the web process has rung before."""
UNHEARD_SECONDS = 30.0
"""How long the sweeper waits for its own ring to be heard before it rings again."""
HIGH_WATER = 500
"""Most messages waiting in a queue; beyond that the backlog stays in Postgres (rule 21)."""
ROWS = 2_000
"""Most rows one sweep rings for; the next one follows SWEEP_SECONDS later."""
LISTEN_SECONDS = 300.0
"""How often silences are judged; they are judged by whole hours."""

app.conf.beat_schedule = {
    # `expires`: after a broker outage one tick is enough, not one for every tick missed.
    "sweep": {"task": "periodic.sweep", "schedule": SWEEP_SECONDS, "options": {"expires": SWEEP_SECONDS * 5}},
    "chain": {"task": "periodic.chain", "schedule": 5.0, "options": {"expires": 25.0}},
    "schedule": {"task": "periodic.schedule", "schedule": TICK_SECONDS, "options": {"expires": TICK_SECONDS * 2}},
    "listen": {"task": "periodic.listen", "schedule": LISTEN_SECONDS, "options": {"expires": LISTEN_SECONDS}},
}


@shared_task(name="periodic.sweep")
def sweep() -> None:
    """Take back what dead workers held, make due what the clock changed, ring what nobody rang."""
    assembly = this_process()
    with assembly.engine.begin() as db:
        ended = [row_id for row_id, status in inbox.expire(db) if status == "dead"]
        given_up = [row_id for row_id, status in sync_state.expire(db) if status == "dead"]
        unwritten = [row_id for row_id, status in deliveries.expire(db) if status == "dead"]
        not_enrolled = [row_id for row_id, status in enrollments.expire(db) if status == "dead"]
    with assembly.engine.begin() as db:
        # A transaction of its own: rows of people are never waited for while rows of sync_state are held.
        _wake(db, people.due_transitions(db, limit=ROWS))
    with assembly.engine.begin() as db:
        connections.end_pauses(db)
        quarantine.doubt(db, limit=ROWS)
        store.roll_out(db, limit=ROWS)
    replays.work(assembly.engine)  # before it is rung for below
    ring_failed("sync.failed", ended, Reason.CRASH_LOOP)
    ring_failed("delivery.failed", given_up, Reason.CRASH_LOOP)
    ring_failed("delivery.activity_failed", unwritten, Reason.CRASH_LOOP)
    ring_failed("delivery.enrollment_failed", not_enrolled, Reason.CRASH_LOOP)
    if _waiting_messages(SYNC) < HIGH_WATER:
        with assembly.engine.begin() as db:
            unrung = inbox.unrung(db, quiet=QUIET_SECONDS, unheard=UNHEARD_SECONDS, limit=ROWS)
        for (kind, size), rows in groupby(unrung, key=lambda row: (row.kind, row.max_batch)):
            ring_inbox([(row.id, Kind(kind)) for row in rows], size=size or IDS)
    with assembly.engine.begin() as db:
        unseen = inbox.enriching(db)
        looks = {key: outlook.look(db, *key) for key in assembly.flushers}
        looks |= {key: outlook.look(db, *key, queue=drain.queue) for key, drain in assembly.drains.items()}
        open_runs = {run.connection for run in reconciliations.running(db) if run.is_open}
        open_polls = set(polls.waiting(db))
        folders = set(hr_looks.waiting(db))
    due = [key for key, look in looks.items() if look.may_call and look.lane is not None]
    for connection, operation in due:
        ring_connections([connection], operation)
    ring_looks(unseen)
    ring_connections(open_runs & assembly.sweeps.keys(), RECONCILE_CONTACTS)
    ring_connections(open_polls & assembly.pollers.keys(), POLL_RESULTS)
    ring_connections(folders & assembly.collectors.keys(), COLLECT_FILES)


@shared_task(name="periodic.chain")
def chain() -> None:
    """Seal what the audit log took in since the last time."""
    with this_process().engine.begin() as db:
        audit.seal(db)


@shared_task(name="periodic.schedule")
def schedule() -> None:
    """Start what is due by the clock, and work on it for a while."""
    assembly = this_process()
    tick(assembly.engine, assembly.config)
    with assembly.engine.begin() as db:
        begin_due(db, assembly.config, assembly.sweeps)
        asking.begin_due(db, assembly.config, assembly.pollers)
        collecting.begin_due(db, assembly.config, assembly.collectors)
        forsaken.give_up(db, compared=assembly.sweeps, asked=assembly.pollers)


@shared_task(name="periodic.listen")
def listen() -> None:
    """Notice the streams of webhooks that have gone quiet."""
    assembly = this_process()
    look(assembly.engine, assembly.config, assembly.inbound)


def _wake(db: Connection, ids: list[int]) -> None:
    """Make people due whose projection changed by the clock alone: a certificate has expired (rule 6)."""
    if ids:
        people.bump(db, ids)
        holders = sync_state.holders(db, ids, WRITE_CONTACT)
        sync_state.want(db, CONTACT, WRITE_CONTACT, [Want(connection, who, BACKFILL) for connection, who in holders])


def _waiting_messages(queue: str) -> int:
    """Return how many messages wait at the broker, by the one call that Redis and AMQP share."""
    with app.connection_for_read() as broker:
        channel: Any = broker.default_channel
        try:
            return int(channel.queue_declare(queue, passive=True).message_count)
        except ChannelError:  # Redis keeps no empty list
            return 0
