"""What reads at a connection because something was heard of it: each put together from the connection's settings."""

from typing import TYPE_CHECKING

from sqlalchemy import Connection

from integration.config import ConnectionConfig
from integration.connectors import registry
from integration.delivery.deals import DealReader
from integration.delivery.enrollments import Enroller
from integration.delivery.flush import Flusher
from integration.delivery.lookup import Lookup
from integration.delivery.roles import RoleReader
from integration.enrichment import Enricher
from integration.model.contacts import WRITE_CONTACT
from integration.model.identity import Identity
from integration.storage.calls import Call
from mappings import store
from tasks.calls import CallLog, hearing

if TYPE_CHECKING:
    from tasks.assembly import Assembly


def identity_rules(db: Connection) -> Identity:
    """Return the published rules of who is matched with whom."""
    return store.active(db).identity


def role_reader_of(process: "Assembly", connection: ConnectionConfig) -> RoleReader | None:
    """Return what reads the roles of a connection's contacts, None where it shows none; it shares their calls."""
    flusher = process.flushers.get((connection.name, WRITE_CONTACT))
    if flusher is None or not connection.options.role_property:
        return None
    return RoleReader(
        engine=process.engine,
        connection=connection.name,
        store=flusher.store,
        take_calls=flusher.take_calls,
        budget=flusher.budget,
        ring=process.ring,
        keys=process.keys,
        watching=process.curriculum.watch,
        decide=process.curriculum.decide,
    )


def deal_reader_of(process: "Assembly", connection: ConnectionConfig) -> DealReader | None:
    """Return what reads the deals of a connection, None where it has none or its contacts lead to nothing."""
    flusher = process.flushers.get((connection.name, WRITE_CONTACT))
    if flusher is None or not connection.options.role_property:
        return None
    log, budget = CallLog(), process.budgets[connection.name]
    source = registry.deals(connection, hearing(log, budget), budget.spend, process.grants)
    if source is None:
        return None

    def take_calls() -> list[Call]:
        return [*log.take(), *flusher.take_calls()]

    return DealReader(
        engine=process.engine,
        connection=connection.name,
        source=source,
        store=flusher.store,
        take_calls=take_calls,
        budget=budget,
        ring=process.ring,
        keys=process.keys,
        watching=process.curriculum.watch,
        published=lambda db: store.active(db).id,
    )


def lookup_of(process: "Assembly", flusher: Flusher) -> Lookup:
    """Return what looks at contacts who stand for nobody here; it shares the calls of what writes contacts there."""
    return Lookup(
        engine=process.engine,
        connection=flusher.connection,
        store=flusher.store,
        system=process.listeners[flusher.connection],
        ring=process.ring,
        keys=process.keys,
        take_calls=flusher.take_calls,
        budget=flusher.budget,
        watching=process.curriculum.watch,
    )


def enricher_of(process: "Assembly", enroller: Enroller) -> Enricher:
    """Return what looks at learners whom nobody here is known by; it shares the calls of what enrols there."""
    return Enricher(
        engine=process.engine,
        connection=enroller.connection,
        store=enroller.store,
        system=process.listeners[enroller.connection],
        ring=process.ring,
        keys=process.keys,
        take_calls=enroller.take_calls,
        budget=enroller.budget,
        rules=identity_rules,
    )
