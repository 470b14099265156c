"""What is done so that people's pathways are decided again, where something else than their contact has changed."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection

from integration.config import Config
from integration.model.contacts import CONTACT, WRITE_CONTACT
from integration.model.roles import READ_ROLE
from integration.storage import assignments, people, roles, story, sync_state
from integration.storage.roles import Heard
from integration.storage.sync_state import BACKFILL, Want
from tasks.pathways import Curriculum

Places = frozenset[tuple[str, str]]
"""(connection, operation) where somebody is due because of it."""

_RESTS = ("dead", "parked")


@dataclass(frozen=True, slots=True)
class Reconsidered:
    """Where somebody is due because of it; `missing` says why nothing is decided yet, where that is so."""

    places: Places = frozenset()
    missing: str | None = None


@dataclass(frozen=True, slots=True)
class Reconsideration:
    """Acts in the transaction that changed what counts."""

    config: Config
    curriculum: Curriculum

    def of_person(self, db: Connection, person_id: int) -> Reconsidered:
        """Let one person's pathways be decided again; the caller holds their row.

        What was read of their contacts is enough. A contact that was never read, or whose row rests, is read first.
        """
        watches = {name: watch for name in self.config.connections if (watch := self.curriculum.watch(db, name))}
        if not watches:
            return Reconsidered(
                missing="No connection's roles are read, so nothing follows from it yet. Set role_property under "
                "options: of the CRM, and add the flow role_change to the route from it, in the connections file."
            )
        rows = story.sync_rows(db, person_id)
        read = {
            row.connection
            for row in rows
            if row.operation == READ_ROLE and row.connection in watches and row.remote_id and row.status not in _RESTS
        }
        unread = {
            connection: contact_id
            for connection, contact_id, _ in people.linked(db, [person_id], [CONTACT]).get(person_id, [])
            if connection in watches and connection not in read
        }
        if not read and not unread:
            return Reconsidered(
                missing=f"No contact of theirs is known in {', '.join(sorted(watches))}, so nothing follows from it "
                "yet. It does as soon as the CRM says something of the contact's role."
            )
        due = roles.again(db, [person_id]) if read else frozenset()
        roles.hear(db, [Heard(connection, person_id, name, 0.0) for connection, name in sorted(unread.items())])
        return Reconsidered(frozenset((connection, READ_ROLE) for connection in due | unread.keys()))

    def of_courses(
        self, db: Connection, pathways: Collection[str], connection: str, courses: Collection[str]
    ) -> tuple[int, Places]:
        """Let everybody who has one of these pathways, or did these courses, be decided and shown again.

        They go behind all live news.

        Return how many they are, and where somebody is due because of it.
        """
        ids = assignments.hold(db, pathways, connection, courses)
        people.bump(db, ids)
        stores = sync_state.holders(db, ids, WRITE_CONTACT)
        shown = sync_state.want(db, CONTACT, WRITE_CONTACT, [Want(crm, who, BACKFILL) for crm, who in stores])
        decided = roles.again(db, ids, lane=BACKFILL)
        places = {(crm, WRITE_CONTACT) for crm in shown} | {(crm, READ_ROLE) for crm in decided}
        return len(ids), frozenset(places)
