"""The tables of `integration` (architecture section 5). Alembic compares the database with these.

Text codes instead of enum types, so that a new state needs no lock; checks name the allowed ones.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

INBOX_STATES = ("received", "claimed", "done", "ignored", "parked", "dead", "enriching")
SYNC_STATES = ("in_step", "due", "sending", "waiting", "parked", "dead")
DELIVERY_STATES = ("pending", "sending", "delivered", "parked", "dead", "cancelled")
CONNECTION_STATES = ("active", "paused", "broken", "limited", "removed")

_NOW = func.now()


def _one_of(column: str, values: tuple[str, ...]) -> CheckConstraint:
    allowed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({allowed})", name=column)


class Base(DeclarativeBase):
    """Names every constraint by rule, so that a migration can find it again."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's own contract
        str: Text,
        int: BigInteger,
        bytes: LargeBinary,
        float: Double,
        bool: Boolean,
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB,
        list[str]: ARRAY(Text),
    }


class Connection(Base):
    """The state of one connection; its settings are in the connections file."""

    __tablename__ = "connections"
    __table_args__ = (_one_of("status", CONNECTION_STATES),)

    name: Mapped[str] = mapped_column(primary_key=True)
    system: Mapped[str]
    status: Mapped[str] = mapped_column(server_default="active")
    reason: Mapped[str | None]
    failures: Mapped[int] = mapped_column(server_default="0")
    paused_until: Mapped[datetime | None]
    updated_at: Mapped[datetime] = mapped_column(server_default=_NOW)


class IndexKey(Base):
    """A key of look-up hashes, sealed by the master keys (rule 18)."""

    __tablename__ = "index_keys"

    version: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    sealed: Mapped[bytes]
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)


class InboxKey(Base):
    """For-ever dedupe: 16-byte hash of the sender's id, and of the body to notice an id used twice (rules 12, 13)."""

    __tablename__ = "inbox_keys"

    connection: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[bytes] = mapped_column(primary_key=True)
    body_hash: Mapped[bytes]
    inbox_id: Mapped[int]


class Inbox(Base):
    """A raw event as received; the payload is sealed bytes, because valid JSON exists that jsonb refuses."""

    __tablename__ = "inbox"
    __table_args__ = (
        _one_of("status", INBOX_STATES),
        Index("ix_inbox_open", "kind", "id", postgresql_where=text("status IN ('received', 'claimed')")),
        Index("ix_inbox_park_keys", "park_keys", postgresql_using="gin", postgresql_where=text("status = 'parked'")),
        Index("ix_inbox_status", "status", "connection", "id"),
        Index("ix_inbox_person_id", "person_id", "id"),
        {
            "postgresql_with": {
                "fillfactor": "70",
                "autovacuum_vacuum_scale_factor": "0",
                "autovacuum_vacuum_threshold": "1000",
                "autovacuum_vacuum_cost_delay": "0",
            }
        },
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    connection: Mapped[str]
    key: Mapped[bytes]
    kind: Mapped[str]
    payload: Mapped[bytes | None]
    request_id: Mapped[str]
    origin: Mapped[str] = mapped_column(server_default="live")
    received_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    status: Mapped[str] = mapped_column(server_default="received")
    reason: Mapped[str | None]
    detail: Mapped[str | None]
    attempts: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    deaths: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    claimed_with: Mapped[int | None] = mapped_column(SmallInteger)
    max_batch: Mapped[int | None] = mapped_column(SmallInteger)
    lease: Mapped[Any | None] = mapped_column(UUID)
    lease_until: Mapped[datetime | None]
    rung_at: Mapped[datetime | None]
    park_keys: Mapped[list[bytes] | None] = mapped_column(ARRAY(LargeBinary))
    person_id: Mapped[int | None]
    person_version: Mapped[int | None]
    settled_at: Mapped[datetime | None]


class Person(Base):
    """One row per person; what is personal is sealed, `email_key` is for look-ups."""

    __tablename__ = "people"
    __table_args__ = (
        Index("uq_people_email_key", "email_key", unique=True, postgresql_where=text("email_key IS NOT NULL")),
        Index("uq_people_employee_key", "employee_key", unique=True, postgresql_where=text("employee_key IS NOT NULL")),
        Index("ix_people_next", "next_transition_at", postgresql_where=text("next_transition_at IS NOT NULL")),
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    version: Mapped[int] = mapped_column(server_default="0")
    profile: Mapped[bytes | None]
    email_key: Mapped[bytes | None]
    employee_key: Mapped[bytes | None]
    role: Mapped[str | None]
    attention: Mapped[str | None]
    next_transition_at: Mapped[datetime | None]
    merged_into: Mapped[int | None] = mapped_column(ForeignKey("people.id"))
    erased_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)


class Link(Base):
    """What another system calls one of our objects; `moved_to` is the merge journal. Never deleted."""

    __tablename__ = "links"
    __table_args__ = (Index("ix_links_object", "object_id", "object_type"),)

    connection: Mapped[str] = mapped_column(primary_key=True)
    object_type: Mapped[str] = mapped_column(primary_key=True)
    external_id: Mapped[str] = mapped_column(primary_key=True)
    object_id: Mapped[int]
    moved_to: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)


class Course(Base):
    """The catalogue as seen per LMS; `replaced_by` is the lineage that counts as one course."""

    __tablename__ = "courses"
    __table_args__ = (
        UniqueConstraint("connection", "external_id"),
        _one_of("status", ("active", "retired")),
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    connection: Mapped[str]
    external_id: Mapped[str]
    name: Mapped[str | None]
    version: Mapped[str | None]
    status: Mapped[str] = mapped_column(server_default="active")
    replaced_by: Mapped[int | None] = mapped_column(ForeignKey("courses.id"))
    seen_at: Mapped[datetime]


class Event(Base):
    """A fact. Append only: a changed content is a new revision. No personal data."""

    __tablename__ = "events"
    __table_args__ = (
        UniqueConstraint("fact_key", "content_hash"),
        UniqueConstraint("fact_key", "revision"),
        Index("ix_events_person_id", "person_id", "subject_type", "subject_id", "occurred_at"),
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    fact_key: Mapped[bytes]
    revision: Mapped[int] = mapped_column(Integer)
    content_hash: Mapped[bytes]
    connection: Mapped[str]
    type: Mapped[str]
    rank: Mapped[int] = mapped_column(SmallInteger)
    person_id: Mapped[int] = mapped_column(ForeignKey("people.id"))
    person_version: Mapped[int]
    subject_type: Mapped[str]
    subject_id: Mapped[str]
    subject_name: Mapped[str | None]
    course_id: Mapped[str | None]
    course_name: Mapped[str | None]
    module_id: Mapped[str | None]
    product: Mapped[str | None]
    score: Mapped[float | None]
    score_max: Mapped[float | None]
    passed: Mapped[bool | None]
    progress: Mapped[float | None]
    attempt: Mapped[str | None]
    expires_at: Mapped[datetime | None]
    occurred_at: Mapped[datetime]
    clamped: Mapped[bool] = mapped_column(server_default="false")
    origin: Mapped[str] = mapped_column(server_default="live")
    inbox_id: Mapped[int | None]
    recorded_at: Mapped[datetime] = mapped_column(server_default=_NOW)


class SyncState(Base):
    """What one system should hold of one person: due while wanted > written, whatever happened in between.

    `not_before` NULL = nothing to claim. `max_batch` set = a suspect: claimed only in batches of that size (rule 20).
    """

    __tablename__ = "sync_state"
    __table_args__ = (
        UniqueConstraint("connection", "object_type", "operation", "subject_id"),
        _one_of("status", SYNC_STATES),
        Index(
            "ix_sync_state_due",
            "connection",
            "operation",
            "lane",
            "not_before",
            postgresql_where=text("not_before IS NOT NULL AND status <> 'sending'"),
        ),
        Index("ix_sync_state_lease", "lease_until", postgresql_where=text("status = 'sending'")),
        Index("ix_sync_state_subject_id", "subject_id"),
        {
            "postgresql_with": {
                "fillfactor": "70",
                "autovacuum_vacuum_scale_factor": "0",
                "autovacuum_vacuum_threshold": "1000",
                "autovacuum_vacuum_cost_delay": "0",
            }
        },
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    connection: Mapped[str]
    object_type: Mapped[str]
    operation: Mapped[str]
    subject_id: Mapped[int]
    wanted: Mapped[int]
    written: Mapped[int] = mapped_column(server_default="0")
    status: Mapped[str] = mapped_column(server_default="due")
    reason: Mapped[str | None]
    detail: Mapped[str | None]
    lane: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    not_before: Mapped[datetime | None]
    wanted_since: Mapped[datetime] = mapped_column(server_default=_NOW)
    attempts: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    deaths: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    claimed_with: Mapped[int | None] = mapped_column(SmallInteger)
    max_batch: Mapped[int | None] = mapped_column(SmallInteger)
    lease: Mapped[Any | None] = mapped_column(UUID)
    lease_until: Mapped[datetime | None]
    remote_id: Mapped[str | None]
    remote_values: Mapped[bytes | None]
    remote_at: Mapped[datetime | None]
    remote_origin: Mapped[str | None]
    rule_set: Mapped[int | None]
    written_at: Mapped[datetime | None]


class Delivery(Base):
    """A fact to write to a system once, by idempotency key."""

    __tablename__ = "deliveries"
    __table_args__ = (
        UniqueConstraint("connection", "idempotency_key"),
        _one_of("status", DELIVERY_STATES),
        Index("ix_deliveries_due", "connection", "not_before", postgresql_where=text("status = 'pending'")),
        Index("ix_deliveries_person_id", "person_id"),
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    connection: Mapped[str]
    operation: Mapped[str]
    idempotency_key: Mapped[bytes]
    person_id: Mapped[int] = mapped_column(ForeignKey("people.id"))
    event_id: Mapped[int] = mapped_column(ForeignKey("events.id"))
    needs: Mapped[str | None]
    status: Mapped[str] = mapped_column(server_default="pending")
    reason: Mapped[str | None]
    not_before: Mapped[datetime | None] = mapped_column(server_default=_NOW)
    attempts: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    lease: Mapped[Any | None] = mapped_column(UUID)
    lease_until: Mapped[datetime | None]
    remote_id: Mapped[str | None]
    rule_set: Mapped[int | None]
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)


class Attempt(Base):
    """One try to write one record, of either kind; field names only, never values."""

    __tablename__ = "attempts"
    __table_args__ = (Index("ix_attempts_subject", "subject_type", "subject_id", "id"),)

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    subject_type: Mapped[str]
    subject_id: Mapped[int]
    connection: Mapped[str]
    operation: Mapped[str]
    batch: Mapped[Any] = mapped_column(UUID)
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    outcome: Mapped[str]
    reason: Mapped[str]
    detail: Mapped[str | None]
    version: Mapped[int]
    fields: Mapped[list[str]]
    remote_id: Mapped[str | None]
    rule_set: Mapped[int | None]


class Ring(Base):
    """Who was told about due work of one kind, and who is at it: one outstanding ring, one drain (rule 21)."""

    __tablename__ = "rings"

    connection: Mapped[str] = mapped_column(primary_key=True)
    operation: Mapped[str] = mapped_column(primary_key=True)
    rung_at: Mapped[datetime | None]
    lease: Mapped[Any | None] = mapped_column(UUID)
    lease_until: Mapped[datetime | None]


class QuarantinedField(Base):
    """A property the other side refuses: left out for the connection until it is there again (rule 22)."""

    __tablename__ = "quarantined_fields"

    connection: Mapped[str] = mapped_column(primary_key=True)
    object_type: Mapped[str] = mapped_column(primary_key=True)
    field: Mapped[str] = mapped_column(primary_key=True)
    reason: Mapped[str]
    since: Mapped[datetime] = mapped_column(server_default=_NOW)
    retry_at: Mapped[datetime]


class ApiCall(Base):
    """Calls per minute, kind and outcome: rates, forecasts and success figures that survive a worker."""

    __tablename__ = "api_calls"

    connection: Mapped[str] = mapped_column(primary_key=True)
    operation: Mapped[str] = mapped_column(primary_key=True)
    minute: Mapped[datetime] = mapped_column(primary_key=True)
    outcome: Mapped[str] = mapped_column(primary_key=True)
    calls: Mapped[int]
    records: Mapped[int]
    seconds: Mapped[float]


class Cursor(Base):
    """How far a poll, backfill or reconciliation came; advances only after a confirmed record."""

    __tablename__ = "cursors"

    name: Mapped[str] = mapped_column(primary_key=True)
    position: Mapped[dict[str, Any]]
    updated_at: Mapped[datetime] = mapped_column(server_default=_NOW)


class Run(Base):
    """One scheduled run; the unique row is what makes it happen exactly once, however many beats tick."""

    __tablename__ = "runs"

    job: Mapped[str] = mapped_column(primary_key=True)
    scheduled_for: Mapped[datetime] = mapped_column(primary_key=True)
    started_at: Mapped[datetime | None]
    heartbeat_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    outcome: Mapped[str | None]
    counts: Mapped[dict[str, Any] | None]


class Credential(Base):
    """OAuth tokens, sealed; refreshed by one worker at a time."""

    __tablename__ = "credentials"

    connection: Mapped[str] = mapped_column(primary_key=True)
    sealed: Mapped[bytes]
    expires_at: Mapped[datetime | None]
    updated_at: Mapped[datetime] = mapped_column(server_default=_NOW)


class Audit(Base):
    """Who read or wrote what where; append only, chained by hash in id order (`seal` of `audit.py`)."""

    __tablename__ = "audit"
    __table_args__ = (
        Index("ix_audit_subject", "subject_type", "subject_id", "id"),
        Index("ix_audit_unsealed", "id", postgresql_where=text("row_hash IS NULL")),
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=_NOW)
    actor: Mapped[str]
    action: Mapped[str]
    connection: Mapped[str | None]
    subject_type: Mapped[str | None]
    subject_id: Mapped[int | None]
    fields: Mapped[list[str]] = mapped_column(server_default="{}")
    outcome: Mapped[str]
    reference: Mapped[str | None]
    chain: Mapped[int | None] = mapped_column(unique=True)
    row_hash: Mapped[bytes | None]
