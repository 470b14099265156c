"""The thin tasks between the rings: each opens what it needs and calls one function."""

from collections.abc import Callable, Mapping
from functools import partial

from celery import shared_task

from integration.delivery.lookup import LOOK_UP
from integration.enrichment import LOOK_UP_LEARNERS
from integration.errors import Reason
from integration.hr.collector import COLLECT_FILES
from integration.model.accounts import WRITE_ACCOUNT
from integration.model.activities import WRITE_ACTIVITY
from integration.model.contacts import WRITE_CONTACT
from integration.model.deals import READ_DEAL
from integration.model.enrollments import WRITE_ENROLLMENT
from integration.model.events import Kind
from integration.model.reconciliation import RECONCILE_CONTACTS
from integration.model.results import POLL_RESULTS
from integration.model.roles import READ_ROLE
from integration.pipeline import Recorded
from integration.storage import outlook, rings
from integration.storage.base import single
from tasks import aside
from tasks.assembly import this_process
from tasks.ringing import ring_connections, ring_failed, ring_inbox, ring_looks


@shared_task(name="enrollment.sync")
def sync_enrollments(ids: list[int]) -> None:
    """Take enrolment events from the inbox to what is due."""
    _sync(Kind.ENROLLMENT, ids)


@shared_task(name="completion.sync")
def sync_completions(ids: list[int]) -> None:
    """Take completions, grades, progress and certifications from the inbox to what is due."""
    _sync(Kind.COMPLETION, ids)


@shared_task(name="role_change.sync")
def sync_role_changes(ids: list[int]) -> None:
    """Take role changes from the inbox to what is due."""
    _sync(Kind.ROLE_CHANGE, ids)


@shared_task(name="contact.sync")
def sync_contacts(ids: list[int]) -> None:
    """Take contact hints from the inbox to what is due."""
    _sync(Kind.CONTACT, ids)


@shared_task(name="employee.sync")
def sync_employees(ids: list[int]) -> None:
    """Take employee records from the inbox to what is due."""
    _sync(Kind.EMPLOYEE, ids)


@shared_task(name="delivery.flush")
def flush(connection: str, operation: str) -> None:
    """Write what is due in one system."""
    drain(connection, operation)


def drain(connection: str, operation: str) -> None:
    """Write what is due in one system, in this thread, and ring for what is left."""
    if operation in (LOOK_UP, LOOK_UP_LEARNERS):
        look_up(connection)
        return
    if operation in TURNS:
        turn(connection, operation)
        return
    process, place = this_process(), (connection, operation)
    drained = process.flushers.get(place) or process.drains.get(place)
    if drained is None:
        return
    flushed = drained.flush()
    if flushed.ring_again:
        ring_connections([connection], operation, at_once=True)
    for system, due in sorted(flushed.led_to):
        ring_connections([system], due)
    for reason, ids in flushed.dead.items():
        ring_failed(FAILED[operation], ids, reason)
    poster = process.drains.get((connection, WRITE_ACTIVITY))
    if operation == WRITE_CONTACT and poster and poster.is_due():
        ring_connections([connection], WRITE_ACTIVITY)  # what waited for a contact, or came with the news


def look_up(connection: str) -> None:
    """Look at the contacts and learners that webhooks named and nobody knows, in this thread, and go on with them."""
    look = this_process().looks.get(connection)
    if look is None:
        return
    looked = look.run()
    ring_inbox([(row_id, Kind(kind)) for row_id, kind in looked.goes_on])
    if looked.is_due:
        drain(connection, WRITE_CONTACT)


def turn(connection: str, operation: str) -> None:
    """Do a turn of work that can wait, beside this process, where the connection may be called."""
    process = this_process()
    with single(process.engine) as db:
        rings.heard(db, connection, operation)
        may_call = outlook.look(db, connection, operation).may_call
    if may_call and aside.work(connection, operation):
        ring_connections([connection], operation, at_once=True)


def reconcile(connection: str) -> bool:
    """Work on the open chunks of a run, in this thread, and ring for what was found; return whether there is more."""
    sweep = this_process().sweeps.get(connection)
    if sweep is None:
        return False
    ring = partial(ring_connections, [connection], RECONCILE_CONTACTS, at_once=True)
    swept = sweep.run(ring)
    ring_inbox([(row_id, Kind.ROLE_CHANGE) for row_id in swept.told])
    if swept.is_due:
        ring_connections([connection])
    return swept.is_more


def poll(connection: str) -> bool:
    """Work on an open poll of an LMS, in this thread, and ring for what was news; return whether there is more."""
    poller = this_process().pollers.get(connection)
    if poller is None:
        return False
    polled = poller.run()
    ring_inbox(polled.told)
    return polled.is_more


def collect(connection: str) -> bool:
    """Look at a folder of HR, in this thread; what it tells is rung for by the sweeper, and so is the next look."""
    collector = this_process().collectors.get(connection)
    if collector is not None:
        collector.run()
    return False


TURNS: Mapping[str, Callable[[str], bool]] = {
    RECONCILE_CONTACTS: reconcile,
    POLL_RESULTS: poll,
    COLLECT_FILES: collect,
}
"""Operations that can wait: each turn of them is done in a process of its own."""


FAILED = {
    WRITE_CONTACT: "delivery.failed",
    READ_ROLE: "delivery.failed",
    READ_DEAL: "delivery.failed",
    WRITE_ACCOUNT: "delivery.failed",
    WRITE_ACTIVITY: "delivery.activity_failed",
    WRITE_ENROLLMENT: "delivery.enrollment_failed",
}
"""The task that shows dead rows of an operation in Flower."""


class WorkFailed(Exception):
    """What Flower shows red: ids and a reason code; `coursewire dead list` tells the rest."""


@shared_task(name="delivery.failed")
def delivery_failed(ids: list[int], reason: str) -> None:
    """Show that rows of sync_state are dead."""
    raise WorkFailed(f"sync_state {ids}: {reason}")


@shared_task(name="delivery.activity_failed")
def activity_failed(ids: list[int], reason: str) -> None:
    """Show that rows of deliveries are dead."""
    raise WorkFailed(f"deliveries {ids}: {reason}")


@shared_task(name="delivery.enrollment_failed")
def enrollment_failed(ids: list[int], reason: str) -> None:
    """Show that rows of enrollments are dead."""
    raise WorkFailed(f"enrollments {ids}: {reason}")


@shared_task(name="sync.failed")
def sync_failed(ids: list[int], reason: str) -> None:
    """Show that rows of the inbox are dead."""
    raise WorkFailed(f"inbox {ids}: {reason}")


def _sync(kind: Kind, ids: list[int]) -> None:
    after(this_process().pipeline.sync(kind, ids))


def after(recorded: Recorded) -> None:
    """Go on with everything a batch led to: what failed and what may go on is rung for, what is due is written."""
    ring_inbox([(row_id, Kind(kind)) for row_id, kind in recorded.released])
    dead: dict[Reason, list[int]] = {}
    for outcome in recorded.outcomes:
        if outcome.status == "dead":
            dead.setdefault(outcome.reason, []).append(outcome.id)
    for reason, ids in dead.items():
        ring_failed("sync.failed", ids, reason)
    ring_looks(recorded.look_up_at)
    due = sorted(recorded.due_at)
    ring_connections(due[1:])
    if due:
        drain(due[0], WRITE_CONTACT)  # here and now: a ring would cost a live event another way through the broker
