"""Comparisons of a CRM with the truth: the runs, their chunks, whom they have seen and what they found."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Identity, Index, Integer, SmallInteger, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import UUID
from sqlalchemy.orm import Mapped, mapped_column

from integration.storage.tables.base import NOW, Base, one_of

RECONCILIATION_STATES = ("running", "resting", "done", "stopped", "failed")
CHUNK_STATES = ("open", "claimed", "done")
PHASES = ("list", "missing")


class Reconciliation(Base):
    """One run; unique by its time, so that two beats make one, and only one at a time of a connection.

    `counts` by class, and of what was done because of it. `is_dry`: nothing is repaired. `rests_at` so many calls it
    waits for the next night, from `rested_at` on; `resumed_for` is the time at which that was due.
    """

    __tablename__ = "reconciliations"
    __table_args__ = (
        UniqueConstraint("connection", "scheduled_for"),
        one_of("status", RECONCILIATION_STATES),
        Index("uq_reconciliations_running", "connection", unique=True, postgresql_where=text("status = 'running'")),
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    connection: Mapped[str]
    scheduled_for: Mapped[datetime]
    actor: Mapped[str]
    is_dry: Mapped[bool] = mapped_column(server_default="false")
    status: Mapped[str] = mapped_column(server_default="running")
    reason: Mapped[str | None]
    started_at: Mapped[datetime] = mapped_column(server_default=NOW)
    finished_at: Mapped[datetime | None]
    counts: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    expected: Mapped[int | None]
    rests_at: Mapped[int | None]
    rested_at: Mapped[datetime | None]
    resumed_for: Mapped[datetime | None]


class ReconciliationChunk(Base):
    """Some pages of one run, worked on under a lease; the next one is there as soon as its cursor is known."""

    __tablename__ = "reconciliation_chunks"
    __table_args__ = (
        one_of("status", CHUNK_STATES),
        one_of("phase", PHASES),
        Index("ix_reconciliation_chunks_open", "reconciliation_id", postgresql_where=text("status <> 'done'")),
    )

    reconciliation_id: Mapped[int] = mapped_column(
        ForeignKey("reconciliations.id", ondelete="CASCADE"), primary_key=True
    )
    phase: Mapped[str] = mapped_column(primary_key=True)
    place: Mapped[int] = mapped_column(Integer, primary_key=True)
    cursor: Mapped[str | None]
    status: Mapped[str] = mapped_column(server_default="open")
    lease: Mapped[Any | None] = mapped_column(UUID)
    lease_until: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(SmallInteger, server_default="0")


class ReconciliationSighting(Base):
    """A contact that a run has seen; removed when it ends."""

    __tablename__ = "reconciliation_sightings"

    reconciliation_id: Mapped[int] = mapped_column(
        ForeignKey("reconciliations.id", ondelete="CASCADE"), primary_key=True
    )
    contact_id: Mapped[str] = mapped_column(primary_key=True)


class ReconciliationFinding(Base):
    """A contact that was not as it should be; the values are sealed, the names of the properties are not.

    `repairs`: somebody was made due because of it. `undone_fields`: which of them an undo gave back; the rest was left.
    """

    __tablename__ = "reconciliation_findings"
    __table_args__ = (
        UniqueConstraint("reconciliation_id", "kind", "contact_id"),
        Index("ix_reconciliation_findings_person", "person_id", postgresql_where=text("person_id IS NOT NULL")),
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    reconciliation_id: Mapped[int] = mapped_column(ForeignKey("reconciliations.id", ondelete="CASCADE"))
    kind: Mapped[str]
    contact_id: Mapped[str]
    person_id: Mapped[int | None]
    fields: Mapped[list[str]] = mapped_column(server_default="{}")
    sealed: Mapped[bytes | None]
    repairs: Mapped[bool] = mapped_column(server_default="false")
    found_at: Mapped[datetime] = mapped_column(server_default=NOW)
    undone_at: Mapped[datetime | None]
    undone_fields: Mapped[list[str] | None]
