"""What leaves: who should hold what, every try, and the state of each connection."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Identity, Index, SmallInteger, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import UUID
from sqlalchemy.orm import Mapped, mapped_column

from integration.storage.tables.base import NOW, QUEUE, Base, one_of

CONNECTION_STATES = ("active", "paused", "broken", "limited", "removed")
GUARD_STATES = ("held", "approved")
SYNC_STATES = ("in_step", "due", "sending", "waiting", "parked", "dead")
DELIVERY_STATES = ("pending", "sending", "delivered", "parked", "dead", "cancelled")


class Connection(Base):
    """The state of one connection; its settings are in the connections file."""

    __tablename__ = "connections"
    __table_args__ = (one_of("status", CONNECTION_STATES),)

    name: Mapped[str] = mapped_column(primary_key=True)
    system: Mapped[str]
    status: Mapped[str] = mapped_column(server_default="active")
    reason: Mapped[str | None]
    paused_until: Mapped[datetime | None]
    updated_at: Mapped[datetime] = mapped_column(server_default=NOW)
    limits: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    daily_limit: Mapped[int | None]
    daily_remaining: Mapped[int | None]
    daily_seen_at: Mapped[datetime | None]


class Breaker(Base):
    """Whether one operation of a connection is tried at all: closed, open until, or half-open with one probe."""

    __tablename__ = "breakers"

    connection: Mapped[str] = mapped_column(primary_key=True)
    operation: Mapped[str] = mapped_column(primary_key=True)
    failures: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    failing_since: Mapped[datetime | None]
    open_until: Mapped[datetime | None]
    probe: Mapped[Any | None] = mapped_column(UUID)
    probe_until: Mapped[datetime | None]
    reason: Mapped[str | None]
    succeeded_at: Mapped[datetime | None]
    updated_at: Mapped[datetime] = mapped_column(server_default=NOW)


class SyncState(Base):
    """What one system should hold of one person: due while wanted > written, whatever happened in between.

    `doubted_at`: the contact may have changed since it was last seen. `not_before` NULL = nothing to claim.
    `max_batch` set = a suspect: claimed only in batches of that size (rule 20). Of roles alone: `guard` says that a
    change waits for somebody's word, or has it; `acted_at` when one was acted on that counts in the hour of the guard.
    """

    __tablename__ = "sync_state"
    __table_args__ = (
        UniqueConstraint("connection", "object_type", "operation", "subject_id"),
        one_of("status", SYNC_STATES),
        one_of("guard", GUARD_STATES),
        Index(
            "ix_sync_state_due",
            "connection",
            "operation",
            "lane",
            "not_before",
            postgresql_where=text("not_before IS NOT NULL AND status <> 'sending'"),
        ),
        Index("ix_sync_state_lease", "lease_until", postgresql_where=text("status = 'sending'")),
        Index(
            "ix_sync_state_stuck", "status", "connection", "id", postgresql_where=text("status IN ('parked', 'dead')")
        ),
        Index("ix_sync_state_subject_id", "subject_id"),
        Index("ix_sync_state_acted_at", "connection", "acted_at", postgresql_where=text("acted_at IS NOT NULL")),
        QUEUE,
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
    wanted_since: Mapped[datetime] = mapped_column(server_default=NOW)
    attempts: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    deaths: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    claimed_with: Mapped[int | None] = mapped_column(SmallInteger)
    max_batch: Mapped[int | None] = mapped_column(SmallInteger)
    lease: Mapped[Any | None] = mapped_column(UUID)
    lease_until: Mapped[datetime | None]
    remote_id: Mapped[str | None]
    remote_values: Mapped[bytes | None]
    remote_at: Mapped[datetime | None]
    claimed_at: Mapped[datetime | None]
    remote_origin: Mapped[str | None]
    rule_set: Mapped[int | None]
    written_at: Mapped[datetime | None]
    failing_since: Mapped[datetime | None]
    doubted_at: Mapped[datetime | None]
    guard: Mapped[str | None]
    acted_at: Mapped[datetime | None]


class Loop(Base):
    """How often in a while somebody put a property back that we had written; `held_until`: it is left to them."""

    __tablename__ = "loops"

    connection: Mapped[str] = mapped_column(primary_key=True)
    person_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    field: Mapped[str] = mapped_column(primary_key=True)
    rewrites: Mapped[int] = mapped_column(SmallInteger)
    since: Mapped[datetime]
    held_until: Mapped[datetime | None]


class Delivery(Base):
    """A fact to write to a system once, by idempotency key; not claimed before the link that it `needs` exists.

    `not_before` and `max_batch` mean what they do in sync_state. `lost_at`: an answer was lost then, or its worker was,
    so the entry may be there already.
    """

    __tablename__ = "deliveries"
    __table_args__ = (
        UniqueConstraint("connection", "idempotency_key"),
        one_of("status", DELIVERY_STATES),
        Index(
            "ix_deliveries_due",
            "connection",
            "operation",
            "lane",
            "not_before",
            postgresql_where=text("not_before IS NOT NULL AND status IN ('pending', 'parked')"),
        ),
        Index("ix_deliveries_lease", "lease_until", postgresql_where=text("status = 'sending'")),
        Index(
            "ix_deliveries_open",
            "status",
            "connection",
            "id",
            postgresql_where=text("status NOT IN ('delivered', 'cancelled')"),
        ),
        Index("ix_deliveries_event_id", "event_id"),
        Index("ix_deliveries_person_id", "person_id"),
        QUEUE,
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
    not_before: Mapped[datetime | None] = mapped_column(server_default=NOW)
    attempts: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    lease: Mapped[Any | None] = mapped_column(UUID)
    lease_until: Mapped[datetime | None]
    remote_id: Mapped[str | None]
    rule_set: Mapped[int | None]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    detail: Mapped[str | None]
    lane: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    deaths: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    claimed_with: Mapped[int | None] = mapped_column(SmallInteger)
    max_batch: Mapped[int | None] = mapped_column(SmallInteger)
    failing_since: Mapped[datetime | None]
    lost_at: Mapped[datetime | None]
    delivered_at: Mapped[datetime | None]


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
    finished_at: Mapped[datetime] = mapped_column(server_default=NOW)
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
    since: Mapped[datetime] = mapped_column(server_default=NOW)
    retry_at: Mapped[datetime]
    back_at: Mapped[datetime | None]


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
