"""How the contacts of a connection are compared with the truth: put together from what they are written with."""

from dataclasses import dataclass

from sqlalchemy import Connection

from integration.config import Config
from integration.delivery.flush import Flusher
from integration.model.contacts import CONTACT
from integration.reconciliation.reading import Subject
from integration.reconciliation.sweep import Sweep
from integration.storage import events
from integration.storage.roles import Watching
from mappings import store
from mappings.canonical import LOOKED_UP_BY
from mappings.fields import properties

ABOUT_PEOPLE = ("email", "full_name", "employee_id", "lms_sync_status")
"""Fields that a contact may show without having been written by us."""


@dataclass(frozen=True, slots=True)
class Subjects:
    """Says it for every CRM; reads everything anew in the transaction it is given."""

    config: Config

    def of(self, db: Connection, connection: str) -> Subject:
        """Return what is read of the contacts of a CRM."""
        rules = store.active(db)
        filled = rules.field_rules(connection, self.config.connections[connection].system, CONTACT)
        keys = {
            "product": events.products(db),
            "connection": list(self.config.connections),
            "bucket": {course.bucket for one in rules.pathways.pathways.values() for course in one.courses},
        }
        ours = [rule for rule in filled if rule.source not in ABOUT_PEOPLE and rule.rule == "always"]
        named = {rule.source: rule.property for rule in filled if rule.owner == "lms"}
        return Subject(
            properties(filled, keys), properties(ours, keys), named.get(LOOKED_UP_BY), named.get("employee_id")
        )


def sweep_of(flusher: Flusher, config: Config, watching: Watching) -> Sweep:
    """Return what compares the contacts that this one writes; it shares their calls."""
    return Sweep(
        engine=flusher.engine,
        connection=flusher.connection,
        store=flusher.store,
        ring=flusher.ring,
        keys=flusher.keys,
        budget=flusher.budget,
        take_calls=flusher.take_calls,
        project=flusher.project,
        subject=Subjects(config).of,
        watching=watching,
        max_repairs=config.connections[flusher.connection].reconcile.repairs,
    )
