"""The tables of `integration` (architecture section 5). Alembic compares the database with these."""

from integration.storage.tables.base import Base
from integration.storage.tables.facts import Course, Event, Link, Person, Tombstone
from integration.storage.tables.intake import INBOX_STATES, Inbox, InboxKey
from integration.storage.tables.keeping import (
    REPLAY_STATES,
    Audit,
    Credential,
    Cursor,
    Heartbeat,
    IndexKey,
    Replay,
    Run,
)
from integration.storage.tables.learning import ASSIGNMENT_STATES, DESIRED, ENROLLMENT_STATES, Assignment, Enrollment
from integration.storage.tables.outgoing import (
    CONNECTION_STATES,
    DELIVERY_STATES,
    SYNC_STATES,
    ApiCall,
    Attempt,
    Breaker,
    Connection,
    Delivery,
    Loop,
    QuarantinedField,
    Ring,
    SyncState,
)

__all__ = [
    "ASSIGNMENT_STATES",
    "CONNECTION_STATES",
    "DELIVERY_STATES",
    "DESIRED",
    "ENROLLMENT_STATES",
    "INBOX_STATES",
    "REPLAY_STATES",
    "SYNC_STATES",
    "ApiCall",
    "Assignment",
    "Attempt",
    "Audit",
    "Base",
    "Breaker",
    "Connection",
    "Course",
    "Credential",
    "Cursor",
    "Delivery",
    "Enrollment",
    "Event",
    "Heartbeat",
    "Inbox",
    "InboxKey",
    "IndexKey",
    "Link",
    "Loop",
    "Person",
    "QuarantinedField",
    "Replay",
    "Ring",
    "Run",
    "SyncState",
    "Tombstone",
]
