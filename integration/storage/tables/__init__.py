"""The tables of `integration` (architecture section 5). Alembic compares the database with these."""

from integration.storage.tables.accounts import Account, AccountPerson
from integration.storage.tables.base import Base
from integration.storage.tables.deals import Deal, DealContact, DealStage
from integration.storage.tables.employees import Employment
from integration.storage.tables.facts import Course, Event, Link, Person, Tombstone
from integration.storage.tables.hr_files import HR_FILE_STATES, HrFile, HrLook, HrRow, HrStaged
from integration.storage.tables.importing import IMPORT_STATES, Import
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
from integration.storage.tables.listening import STREAM_STATES, Attendance, Stream, Volume
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
from integration.storage.tables.polling import POLL_STATES, Poll
from integration.storage.tables.reconciling import (
    Reconciliation,
    ReconciliationChunk,
    ReconciliationFinding,
    ReconciliationSighting,
)
from integration.storage.tables.scim import ScimUser

__all__ = [
    "ASSIGNMENT_STATES",
    "CONNECTION_STATES",
    "DELIVERY_STATES",
    "DESIRED",
    "ENROLLMENT_STATES",
    "HR_FILE_STATES",
    "IMPORT_STATES",
    "INBOX_STATES",
    "POLL_STATES",
    "REPLAY_STATES",
    "STREAM_STATES",
    "SYNC_STATES",
    "Account",
    "AccountPerson",
    "ApiCall",
    "Assignment",
    "Attempt",
    "Attendance",
    "Audit",
    "Base",
    "Breaker",
    "Connection",
    "Course",
    "Credential",
    "Cursor",
    "Deal",
    "DealContact",
    "DealStage",
    "Delivery",
    "Employment",
    "Enrollment",
    "Event",
    "Heartbeat",
    "HrFile",
    "HrLook",
    "HrRow",
    "HrStaged",
    "Import",
    "Inbox",
    "InboxKey",
    "IndexKey",
    "Link",
    "Loop",
    "Person",
    "Poll",
    "QuarantinedField",
    "Reconciliation",
    "ReconciliationChunk",
    "ReconciliationFinding",
    "ReconciliationSighting",
    "Replay",
    "Ring",
    "Run",
    "ScimUser",
    "Stream",
    "SyncState",
    "Tombstone",
    "Volume",
]
