"""What keeps the installation: checkpoints, runs, keys, tokens, and the audit log."""

from datetime import datetime
from typing import Any

from sqlalchemy import Identity, Index, SmallInteger, text
from sqlalchemy.dialects.postgresql import UUID
from sqlalchemy.orm import Mapped, mapped_column

from integration.storage.tables.base import NOW, Base, one_of

REPLAY_STATES = ("active", "paused", "done", "cancelled")


class Cursor(Base):
    """How far a poll, backfill or reconciliation came; advances only after a confirmed record."""

    __tablename__ = "cursors"

    name: Mapped[str] = mapped_column(primary_key=True)
    position: Mapped[dict[str, Any]]
    updated_at: Mapped[datetime] = mapped_column(server_default=NOW)


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


class Replay(Base):
    """Dead work that a person sends once more, in slices: up to `up_to_id`, of which `last_id` is done."""

    __tablename__ = "replays"
    __table_args__ = (
        one_of("kind", ("event", "person", "activity", "enrollment")),
        one_of("status", REPLAY_STATES),
        Index("ix_replays_open", "id", postgresql_where=text("status = 'active'")),
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    kind: Mapped[str]
    filter: Mapped[dict[str, Any]]
    actor: Mapped[str]
    status: Mapped[str] = mapped_column(server_default="active")
    total: Mapped[int]
    replayed: Mapped[int] = mapped_column(server_default="0")
    last_id: Mapped[int] = mapped_column(server_default="0")
    up_to_id: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    updated_at: Mapped[datetime] = mapped_column(server_default=NOW)
    finished_at: Mapped[datetime | None]


class Heartbeat(Base):
    """A worker's canary: sent to the broker, heard again by the worker itself."""

    __tablename__ = "heartbeats"

    node: Mapped[str] = mapped_column(primary_key=True)
    started_at: Mapped[datetime]
    sent_at: Mapped[datetime | None]
    heard_at: Mapped[datetime | None]


class IndexKey(Base):
    """A key of look-up hashes, sealed by the master keys (rule 18)."""

    __tablename__ = "index_keys"

    version: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    sealed: Mapped[bytes]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)


class Credential(Base):
    """OAuth tokens, sealed; refreshed by the one who holds the lease. `origin`: which app and seed they belong to."""

    __tablename__ = "credentials"

    connection: Mapped[str] = mapped_column(primary_key=True)
    sealed: Mapped[bytes | None]
    expires_at: Mapped[datetime | None]
    updated_at: Mapped[datetime] = mapped_column(server_default=NOW)
    origin: Mapped[bytes | None]
    lease: Mapped[Any | None] = mapped_column(UUID)
    lease_until: Mapped[datetime | None]


class Audit(Base):
    """Who read or wrote what where; append only, chained by hash in the order of commits (`seal` of `audit.py`)."""

    __tablename__ = "audit"
    __table_args__ = (
        Index("ix_audit_subject", "subject_type", "subject_id", "id"),
        Index("ix_audit_unsealed", "id", postgresql_where=text("row_hash IS NULL")),
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=NOW)
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
