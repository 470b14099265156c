"""What writes to a connection: each drain put together from the connection's settings."""

from threading import BoundedSemaphore
from typing import TYPE_CHECKING

from integration.config import ConnectionConfig
from integration.connectors import registry
from integration.delivery.accounts import AccountWriter
from integration.delivery.activities import Poster
from integration.delivery.enrollments import Enroller
from integration.delivery.flush import Flusher
from integration.model.contacts import WRITE_CONTACT
from integration.storage import deliveries
from mappings import store as rules
from tasks.calls import CallLog, hearing
from tasks.projection import Projector

if TYPE_CHECKING:
    from tasks.assembly import Assembly


def flusher_of(process: "Assembly", connection: ConnectionConfig) -> Flusher | None:
    """Return what writes the contacts of a connection, None where it has none."""
    log, budget = CallLog(), process.budgets[connection.name]
    store = registry.contacts(connection, hearing(log, budget), budget.spend, process.grants)
    if store is None:
        return None
    return Flusher(
        engine=process.engine,
        connection=connection.name,
        operation=WRITE_CONTACT,
        store=store,
        ring=process.ring,
        keys=process.keys,
        project=Projector(process.config, process.ring).contacts,
        take_calls=log.take,
        budget=budget,
        places=BoundedSemaphore(max(1, process.settings.worker_concurrency // (len(process.budgets) + 1))),
        on_link=deliveries.wake if connection.options.activity != "none" else None,
        watching=process.curriculum.watch if connection.options.role_property else None,
    )


def account_writer_of(process: "Assembly", connection: ConnectionConfig) -> AccountWriter | None:
    """Return what writes the accounts of a connection, None where it has none; it shares its contacts' calls."""
    flusher = process.flushers.get((connection.name, WRITE_CONTACT))
    store = registry.accounts(connection, flusher.store) if flusher else None
    if flusher is None or store is None:
        return None
    return AccountWriter(
        engine=process.engine,
        connection=connection.name,
        store=store,
        take_calls=flusher.take_calls,
        budget=flusher.budget,
        ring=process.ring,
        project=Projector(process.config, process.ring).accounts,
        is_opening=rules.is_opening,
    )


def poster_of(process: "Assembly", connection: ConnectionConfig) -> Poster | None:
    """Return what writes the activities of a connection, None where its timelines show none."""
    log, budget = CallLog(), process.budgets[connection.name]
    store = registry.activities(connection, hearing(log, budget), budget.spend, process.grants)
    if store is None:
        return None
    return Poster(engine=process.engine, connection=connection.name, store=store, take_calls=log.take, budget=budget)


def enroller_of(process: "Assembly", connection: ConnectionConfig) -> Enroller | None:
    """Return what enrols people at a connection, None where nobody can be enrolled from here."""
    log, budget = CallLog(), process.budgets[connection.name]
    store = registry.enrollments(connection, hearing(log, budget), budget.spend, process.grants)
    if store is None:
        return None
    return Enroller(
        engine=process.engine,
        connection=connection.name,
        store=store,
        take_calls=log.take,
        budget=budget,
        ring=process.ring,
        may_create=connection.options.create_users,
    )
