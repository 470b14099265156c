"""What people are to learn: the pathways they are assigned, and the courses they are to be enrolled in."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Identity, Index, SmallInteger, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import UUID
from sqlalchemy.orm import Mapped, mapped_column

from integration.storage.tables.base import NOW, QUEUE, Base, one_of

ASSIGNMENT_STATES = ("live", "ended")
ENROLLMENT_STATES = ("in_step", "due", "sending", "waiting", "parked", "dead")
DESIRED = ("enrolled", "concluded", "removed")


class Assignment(Base):
    """A pathway that somebody deserves by a rule or an override, named by `cause`; it is never deleted, it ends.

    How far they are is not stored: that follows from the facts and the clock. `connection` is the CRM whose contact
    caused it, '' for an override.
    """

    __tablename__ = "assignments"
    __table_args__ = (
        one_of("status", ASSIGNMENT_STATES),
        Index("uq_assignments_live", "person_id", "pathway", unique=True, postgresql_where=text("status = 'live'")),
        Index("ix_assignments_due_at", "person_id", "due_at", postgresql_where=text("status = 'live'")),
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    person_id: Mapped[int] = mapped_column(ForeignKey("people.id"))
    pathway: Mapped[str]
    cause: Mapped[str]
    connection: Mapped[str] = mapped_column(server_default="")
    priority: Mapped[int] = mapped_column(server_default="0")
    on_leave: Mapped[str] = mapped_column(server_default="keep")
    in_progress: Mapped[str] = mapped_column(server_default="keep")
    rule_set: Mapped[int]
    status: Mapped[str] = mapped_column(server_default="live")
    assigned_at: Mapped[datetime] = mapped_column(server_default=NOW)
    due_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]


class Enrollment(Base):
    """What is wanted of one person in one course of one LMS: due while wanted > written (rule 15).

    `state`: what the LMS has, as far as we know; None = nothing is known. `is_ours`: it is there by our doing, so it is
    ours to end. `lost_at`: the answer to a write was lost then. The rest is as in sync_state.
    """

    __tablename__ = "enrollments"
    __table_args__ = (
        UniqueConstraint("person_id", "connection", "course_id"),
        one_of("status", ENROLLMENT_STATES),
        one_of("desired", DESIRED),
        Index(
            "ix_enrollments_due",
            "connection",
            "lane",
            "not_before",
            postgresql_where=text("not_before IS NOT NULL AND status <> 'sending'"),
        ),
        Index("ix_enrollments_lease", "lease_until", postgresql_where=text("status = 'sending'")),
        Index(
            "ix_enrollments_stuck", "status", "connection", "id", postgresql_where=text("status IN ('parked', 'dead')")
        ),
        QUEUE,
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    person_id: Mapped[int] = mapped_column(ForeignKey("people.id"))
    connection: Mapped[str]
    course_id: Mapped[str]
    desired: Mapped[str]
    due_at: Mapped[datetime | None]
    wanted: Mapped[int] = mapped_column(server_default="1")
    written: Mapped[int] = mapped_column(server_default="0")
    state: Mapped[str | None]
    is_ours: Mapped[bool] = mapped_column(server_default="false")
    remote_id: Mapped[str | None]
    status: Mapped[str] = mapped_column(server_default="due")
    reason: Mapped[str | None]
    detail: Mapped[str | None]
    lane: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    not_before: Mapped[datetime | None] = mapped_column(server_default=NOW)
    wanted_since: Mapped[datetime] = mapped_column(server_default=NOW)
    attempts: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    deaths: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    claimed_with: Mapped[int | None] = mapped_column(SmallInteger)
    max_batch: Mapped[int | None] = mapped_column(SmallInteger)
    lease: Mapped[Any | None] = mapped_column(UUID)
    lease_until: Mapped[datetime | None]
    failing_since: Mapped[datetime | None]
    lost_at: Mapped[datetime | None]
    written_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
